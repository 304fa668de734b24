"""The time axis of one run of a source: which instant each of its samples belongs to. Pure; wall times are arguments.

Sound is anchored to the wall clock once and then counted. The anchor is the earliest instant at which sample 0 can have
sounded: the smallest `arrival - samples so far / rate` seen until arrival has settled to real time. So the newest
sample is *now*, the past audio that a server sends in a burst on connect lies before it, and a delayed packet shifts
nothing. Until then audio is held; afterwards a sample is given out only once the clock has reached it.
"""

from __future__ import annotations

import math
from collections import deque

from monitor.types import Chunk, Samples

#: Arrivals further apart than this belong to different bursts (a segment, a block).
_QUIET_S = 0.3
#: A burst that does not end is judged in parts of this length.
_PART_S = 1.0
#: By less than this an earlier anchor is jitter, not the rest of a burst.
_JITTER_S = 0.1
#: Late audio is drift, and not a hiccup, once this many bursts in a row over this time were late.
_LATE_BURSTS = 3
_LATE_S = 5.0


class Timeline:
    """`push` what arrives, `pull` what is due.

    What is pulled never lies after the wall clock, and each chunk continues the one before unless it says
    `discontinuity`: the first, and the first after the axis was anchored anew because it had drifted over
    `drift_limit_s` from the wall clock. Late (audio was lost on the way) moves it forward. Early (the source sent audio
    from before again, or the wall clock was set back) starts it afresh with the newest sample now, so that audio may
    overlap what was heard before, as after a reconnect.

    A source that fills `hold_limit_s` is no live one (a file behind a URL): it is played in real time from then on,
    and the caller stops reading while `full`.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        settle_s: float = 2.0,
        settle_limit_s: float = 20.0,
        drift_limit_s: float = 2.0,
        hold_limit_s: float = 40.0,
    ) -> None:
        self._rate = sample_rate_hz
        self._settle_s = settle_s
        self._settle_limit_s = settle_limit_s
        self._drift_limit_s = drift_limit_s
        self._hold_limit_s = hold_limit_s
        self._held: deque[Samples] = deque()
        self._received = 0
        self._released = 0
        self._anchor_s: float | None = None
        self._earliest_s = math.inf
        self._improved_s = -math.inf
        self._first_s = math.inf
        self._last_s = -math.inf
        self._flow_s = -math.inf
        self._part_s = -math.inf
        self._part_anchor_s = math.inf
        self._late_bursts = 0
        self._late_since_s = math.inf
        self._late_anchor_s = math.inf
        self._leading_s: float | None = None
        self._discontinuity = True
        self._paced = False
        self._closed = False
        #: How often the axis was anchored anew after the first time.
        self.reanchored_total = 0

    @property
    def held_s(self) -> float:
        """Seconds of audio that have arrived and are not due yet."""
        return (self._received - self._released) / self._rate

    @property
    def full(self) -> bool:
        """True when nothing more should be read before something was pulled."""
        return self.held_s >= self._hold_limit_s

    def push(self, samples: Samples, arrived_s: float) -> None:
        """Takes samples that continue the ones before, and the wall time at which the last of them arrived."""
        if arrived_s - self._last_s > _QUIET_S:
            self._judge(quiet=True)
            self._flow_s = self._part_s = arrived_s
        elif not 0 <= arrived_s - self._part_s < _PART_S:
            self._judge(quiet=False)
            self._part_s = arrived_s
        self._held.append(samples)
        self._received += samples.size
        self._last_s = arrived_s
        self._first_s = min(self._first_s, arrived_s)
        anchor_s = arrived_s - self._received / self._rate
        self._part_anchor_s = min(self._part_anchor_s, anchor_s)
        if self._anchor_s is None:
            if anchor_s < self._earliest_s - _JITTER_S:
                self._improved_s = arrived_s
            self._earliest_s = min(self._earliest_s, anchor_s)
        if self.full:
            self._paced = True

    def close(self) -> None:
        """Nothing more will arrive: what is held becomes due without waiting for arrival to settle."""
        self._closed = True

    def pull(self, now_s: float) -> list[Chunk]:
        """The chunks that have become due, oldest first."""
        if self._anchor_s is None:
            if not self._held or not self._settled(now_s):
                return []
            self._anchor_s = self._earliest_s
            self._part_anchor_s = math.inf
        elif now_s - self._last_s > _QUIET_S:
            self._judge(quiet=True)
        chunks = []
        while self._held and self._end_s(self._held[0]) <= now_s:
            samples = self._held.popleft()
            chunks.append(
                Chunk(
                    start_s=self._anchor_s + self._released / self._rate,
                    samples=samples,
                    sample_rate_hz=self._rate,
                    discontinuity=self._discontinuity,
                )
            )
            self._discontinuity = False
            self._released += samples.size
        return chunks

    def due_s(self, now_s: float) -> float | None:
        """The next wall time at which `pull` may give something though nothing arrives; None if only arrivals help."""
        if not self._held:
            return None
        if self._anchor_s is not None:
            return self._end_s(self._held[0])
        if now_s <= self._last_s + _QUIET_S:
            return self._last_s + 1.01 * _QUIET_S
        return self._first_s + self._settle_limit_s

    def _end_s(self, samples: Samples) -> float:
        assert self._anchor_s is not None  # noqa: S101
        return self._anchor_s + (self._released + samples.size) / self._rate

    def _settled(self, now_s: float) -> bool:
        # The last arrival brought nothing that the clock had not waited for, and it was whole: playlists bring a
        # segment at a time, whose first samples alone say nothing.
        whole = now_s - self._last_s > _QUIET_S or self._last_s - self._flow_s >= self._settle_s
        return (
            self._closed
            or self._paced
            or now_s - self._first_s >= self._settle_limit_s
            or (whole and self._last_s - self._improved_s >= self._settle_s)
        )

    def _judge(self, *, quiet: bool) -> None:
        """Looks at the burst (or the part of one) that has ended, and anchors anew if the axis has drifted."""
        anchor_s, self._part_anchor_s = self._part_anchor_s, math.inf
        if self._anchor_s is None or anchor_s == math.inf:
            return
        drift_s = anchor_s - self._anchor_s
        # A source played in real time is ahead by what is held; only a clock that was set back makes it more.
        lead_limit_s = self._hold_limit_s + 5.0 if self._paced else self._drift_limit_s
        if drift_s < -lead_limit_s:
            # A burst that goes on would move the axis again: wait for its end.
            if quiet or (self._leading_s is not None and anchor_s > self._leading_s - _JITTER_S):
                self._anchor_anew(anchor_s)
            else:
                self._leading_s = anchor_s
            return
        self._leading_s = None
        if drift_s <= self._drift_limit_s:
            self._late_bursts = 0
            self._late_anchor_s = math.inf
            return
        if self._late_bursts == 0:
            self._late_since_s = self._last_s
        self._late_bursts += 1
        self._late_anchor_s = min(self._late_anchor_s, anchor_s)
        if self._late_bursts >= _LATE_BURSTS and self._last_s - self._late_since_s >= _LATE_S:
            self._anchor_anew(self._late_anchor_s)

    def _anchor_anew(self, anchor_s: float) -> None:
        self._anchor_s = anchor_s
        self._discontinuity = True
        self._late_bursts = 0
        self._late_anchor_s = math.inf
        self._leading_s = None
        self.reanchored_total += 1
