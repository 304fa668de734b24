"""Whether a stream's interruptions are blips, an outage or flapping: one alarm at a time, and none for a blip. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from monitor.types import StreamAlarm


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What is no alarm."""

    #: Seconds not heard up to which an interruption is a blip.
    blip_s: float = 10.0
    #: More interruptions than this within `window_s` are flapping.
    failures: int = 6
    window_s: float = 600.0


class Stability:
    """Told of each failure and of sound; times are seconds on any one clock that never runs backwards."""

    def __init__(self, tolerance: Tolerance, *, began_s: float) -> None:
        self._tolerance = tolerance
        self._heard_s = began_s
        self._lost = False
        #: When the latest interruptions began, oldest first: one more than are tolerated tell all.
        self._interruptions: deque[float] = deque(maxlen=tolerance.failures + 1)
        self._blips = 0

    def failed(self, at_s: float) -> None:
        """Listening failed; not heard since the last sound."""
        if not self._lost:
            self._lost = True
            self._interruptions.append(at_s)

    def heard(self, at_s: float) -> None:
        """Sound came."""
        if self._lost and at_s - self._heard_s <= self._tolerance.blip_s:
            self._blips += 1
        self._lost = False
        self._heard_s = max(at_s, self._heard_s)

    def take_blips(self) -> int:
        """Interruptions that have ended as blips since this was asked last."""
        taken, self._blips = self._blips, 0
        return taken

    def alarm(self, now_s: float) -> StreamAlarm | None:
        """The alarm that holds now. Flapping goes before down: what comes and goes is one alarm until it settles."""
        ends_s = self._flapping_until_s()
        if ends_s is not None and now_s < ends_s:
            return StreamAlarm.FLAPPING
        return StreamAlarm.DOWN if self._lost and now_s - self._heard_s > self._tolerance.blip_s else None

    def due_s(self, now_s: float) -> float | None:
        """When the alarm may change although nothing is told meanwhile; None if it will not."""
        ends_s = self._flapping_until_s()
        if ends_s is not None and now_s < ends_s:
            return ends_s
        down_s = self._heard_s + self._tolerance.blip_s
        return down_s if self._lost and now_s <= down_s else None

    def _flapping_until_s(self) -> float | None:
        if len(self._interruptions) <= self._tolerance.failures:
            return None
        return self._interruptions[0] + self._tolerance.window_s
