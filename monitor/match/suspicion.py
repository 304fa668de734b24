"""Which hits may be the beginning of an airing: the latest of them, and what each says if nothing else is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from monitor.match.rivals import Rivals
from monitor.match.score import Calibration, Likeness
from monitor.types import Hit, Neighbour

#: Hits so far back can still start a candidate.
_MEMORY_S = 10.0


class Suspicion:
    """The latest hits of one stream."""

    def __init__(self, *, rivals: Rivals, calibration: Calibration, hop_s: float) -> None:
        self._rivals, self._calibration, self._hop_s = rivals, calibration, hop_s
        #: The latest hits, oldest first, by reference and reading.
        self._hits: dict[tuple[str, int], deque[Hit]] = {}

    def hear(self, start_s: float, neighbours: Sequence[Neighbour]) -> list[tuple[Hit, float]]:
        """Take a window's neighbours, which the rivals know of. Returns its hits and the nats of each alone.

        The nearest comes first: what there is room for is what is most like the stream, at whatever pitch.
        """
        self._forget_until(start_s - _MEMORY_S)
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
        for hit in hits:
            self._hits.setdefault((hit.reference_id, hit.reading), deque()).append(hit)
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

    def forget(self) -> None:
        """No hit so far starts anything: what comes lies on another clock."""
        self._hits.clear()

    def _forget_until(self, until_s: float) -> None:
        for key, hits in list(self._hits.items()):
            while hits and hits[0].window_start_s < until_s:
                hits.popleft()
            if not hits:
                del self._hits[key]

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
