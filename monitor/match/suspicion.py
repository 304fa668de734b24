"""Which hits may be the beginning of an airing: the latest of them, what each says if nothing else is known, and which
recordings they point at one after another, even if none of them says anything.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np

from monitor.match.rivals import Rivals
from monitor.match.score import Calibration, Likeness
from monitor.types import Hit, Neighbour

#: Hits so far back can still start a candidate.
_MEMORY_S = 10.0
#: So many of the windows of so long that have a recording's right second among their neighbours point at it.
_POINTING_WINDOWS, _POINTING_S = 2, 14.0
#: One so long before the next of more than enough is a stray.
_STRAY_S = 4.0
#: Windows so far apart may belong to two airings, or to none and one.
_APART_S = 1.6
#: Having found a place, so many of them must point there.
_CONFIRMING_WINDOWS = 2


class Suspicion:
    """The latest hits of one stream."""

    def __init__(self, *, rivals: Rivals, calibration: Calibration, hop_s: float) -> None:
        self._rivals, self._calibration, self._hop_s = rivals, calibration, hop_s
        #: The latest hits, oldest first, by reference and reading.
        self._hits: dict[tuple[str, int], deque[Hit]] = {}
        #: When windows pointed at a recording, by the origin that they point at, in half hops.
        self._pointed: dict[str, dict[int, deque[float]]] = {}
        self._pointed_now: list[tuple[str, int]] = []
        #: What of both was heard when, in order: what is to be forgotten comes first.
        self._heard_hits: deque[tuple[float, tuple[str, int]]] = deque()
        self._heard_pointing: deque[tuple[float, tuple[str, int]]] = deque()

    def hear(self, start_s: float, neighbours: Sequence[Neighbour]) -> list[tuple[Hit, float]]:
        """Take a window's neighbours, which the rivals know of. Returns its hits and the nats of each alone.

        The nearest comes first: what there is room for is what is most like the stream, at whatever pitch.
        """
        self._forget(start_s)
        hits = [
            Hit(
                window_start_s=start_s,
                reference_id=neighbour.reference_id,
                reference_start_s=neighbour.reference_start_s,
                similarity=neighbour.similarity,
                reading=neighbour.reading,
            )
            for neighbour in neighbours
        ]
        self._pointed_now = []
        for hit in hits:
            key = hit.reference_id, hit.reading
            self._hits.setdefault(key, deque()).append(hit)
            self._heard_hits.append((start_s, key))
            if hit.reading == 0:
                self._point(hit)
        hits.sort(key=lambda hit: -hit.similarity)
        return list(zip(hits, self._alone(hits), strict=True))

    def is_supported(self, hit: Hit, *, tempo_max_ratio: float) -> bool:
        """Whether an earlier hit lies on a line with this one."""
        for earlier in reversed(self._hits.get((hit.reference_id, hit.reading), ())):
            stream_s = hit.window_start_s - earlier.window_start_s
            reference_s = hit.reference_start_s - earlier.reference_start_s
            if stream_s > 0 and abs(reference_s - stream_s) <= self._hop_s + tempo_max_ratio * stream_s:
                return True
        return False

    def pointed_at(self) -> dict[str, list[float]]:
        """The recordings at which the latest window and enough before it point, at their own tempo and pitch, with the
        start of the first such window and of the first since none has pointed there for long; those that most windows
        point at come first.
        """
        found: dict[str, list[float]] = {}
        for reference_id, number in self._pointed_now:
            windows = self._windows(reference_id, number)
            while len(windows) > _POINTING_WINDOWS and windows[1] - windows[0] > _STRAY_S:
                del windows[0]
            if len(windows) >= max(_POINTING_WINDOWS, len(found.get(reference_id, ()))):
                found[reference_id] = windows
        names = sorted(found, key=lambda name: -len(found[name]))
        return {name: sorted({found[name][0], self._latest_row(found[name])}) for name in names}

    def _latest_row(self, windows: Sequence[float]) -> float:
        """The first of the last windows that lie close to one another."""
        gaps = [later - start_s > _APART_S for start_s, later in itertools.pairwise(windows)]
        return windows[len(gaps) - gaps[::-1].index(True)] if any(gaps) else windows[0]

    def origins_s(self, reference_id: str) -> list[float]:
        """When a recording that windows point at would have begun."""
        numbers = self._pointed.get(reference_id, ())
        return [
            number * self._hop_s / 2
            for number in numbers
            if len(self._windows(reference_id, number)) >= _CONFIRMING_WINDOWS
        ]

    def forget(self) -> None:
        """No hit so far starts anything: what comes lies on another clock."""
        self._hits.clear()
        self._pointed.clear()
        self._heard_hits.clear()
        self._heard_pointing.clear()
        self._pointed_now = []

    def _forget(self, now_s: float) -> None:
        while self._heard_hits and self._heard_hits[0][0] < now_s - _MEMORY_S:
            _, key = self._heard_hits.popleft()
            hits = self._hits[key]
            hits.popleft()
            if not hits:
                del self._hits[key]
        while self._heard_pointing and self._heard_pointing[0][0] < now_s - _POINTING_S:
            _, (name, number) = self._heard_pointing.popleft()
            origins = self._pointed[name]
            origins[number].popleft()
            if not origins[number]:
                del origins[number]
            if not origins:
                del self._pointed[name]

    def _point(self, hit: Hit) -> None:
        number = self._number(hit.window_start_s - hit.reference_start_s)
        self._pointed.setdefault(hit.reference_id, {}).setdefault(number, deque()).append(hit.window_start_s)
        self._pointed_now.append((hit.reference_id, number))
        self._heard_pointing.append((hit.window_start_s, (hit.reference_id, number)))

    def _number(self, origin_s: float) -> int:
        return round(2 * origin_s / self._hop_s)

    def _windows(self, reference_id: str, number: int) -> list[float]:
        """Starts of the windows that point at about that origin, ascending."""
        origins = self._pointed.get(reference_id, {})
        return sorted({start_s for beside in (-1, 0, 1) for start_s in origins.get(number + beside, ())})

    def _alone(self, hits: Sequence[Hit]) -> list[float]:
        if not hits:
            return []
        unknown = np.full(len(hits), np.nan)
        rivals = [self._rivals.similarity(hit.reference_id, hit.reading, hit.window_start_s) for hit in hits]
        likeness = Likeness(
            own=np.array([hit.similarity for hit in hits]), rival=np.array(rivals), beside=unknown, around=unknown
        )
        nats: list[float] = self._calibration.log_likelihood_ratio(self._calibration.margins(likeness)).tolist()
        return nats
