"""The clock that stream time follows: Unix time that never runs back, however the machine's clock is set."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

#: The machine's clock may differ by so much, as it does where it is slewed; sources drift as much before they count.
_TOLERATED_S = 2.0
#: A leap is believed once it has lasted so long: a clock that is set wrong and right again moves nothing.
_BELIEVED_AFTER_S = 30.0


def steady() -> float:
    """Seconds that pass also while the machine sleeps, where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class StreamClock:
    """Call it for Unix seconds: the wall clock's when it was made, advanced by the steady clock.

    Where the wall clock is set forward, it follows by one step after half a minute. Where it is set back, time goes on
    without a step, ahead of the wall clock, until that has caught up or another clock is made: what was heard keeps its
    order, and nothing is heard twice at one instant.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady) -> None:
        self._wall, self._steady = wall, steady
        self._offset_s = wall() - steady()
        self._strayed_since_s: float | None = None
        self._said_ahead = False
        #: Times that a forward leap of the wall clock was followed.
        self.steps_total = 0

    def __call__(self) -> float:
        """Unix seconds, never less than before."""
        steady_s = self._steady()
        ahead_s = self._offset_s + steady_s - self._wall()
        if abs(ahead_s) <= _TOLERATED_S:
            self._strayed_since_s = None
            self._said_ahead = False
        elif self._strayed_since_s is None:
            self._strayed_since_s = steady_s
        elif steady_s - self._strayed_since_s >= _BELIEVED_AFTER_S:
            self._believe(ahead_s)
        return self._offset_s + steady_s

    def ahead_s(self) -> float:
        """How far stream time is ahead of the wall clock; negative before a forward leap is believed."""
        return self() - self._wall()

    def _believe(self, ahead_s: float) -> None:
        if ahead_s < 0:
            self._offset_s -= ahead_s
            self._strayed_since_s = None
            self.steps_total += 1
            log.warning(
                "the clock was set forward by %.1f s; so is stream time", -ahead_s, extra={"action": "clock_step"}
            )
        elif not self._said_ahead:
            self._said_ahead = True
            log.warning(
                "the clock was set back: stream time goes on, %.1f s ahead of it; restart the daemon to follow it",
                ahead_s,
                extra={"action": "clock_behind"},
            )
