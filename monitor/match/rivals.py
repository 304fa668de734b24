"""How near the other recordings are to each window: what is near to many is no news of one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.types import Neighbour


@dataclass(frozen=True, kw_only=True, slots=True)
class _Nearest:
    """Which recording is nearest to a window."""

    reference_id: str
    similarity: float
    #: Of the nearest window of any other recording, or, if none was found, a bound to it.
    next_reference_id: str
    next_similarity: float


#: A window that was not searched at some pitch has the rivals that the one before it has there, if it is so near.
_BESIDE_S = 1.0


class Rivals:
    """The nearest recordings of the latest windows, by the pitch at which they were read."""

    def __init__(self, *, look_back_s: float) -> None:
        self._look_back_s = look_back_s
        self._nearest: OrderedDict[float, dict[int, _Nearest]] = OrderedDict()
        #: What the latest window was searched at, and when it was heard.
        self._latest: dict[int, _Nearest] = {}
        self._latest_s = -np.inf

    def hear(self, start_s: float, neighbours: Sequence[Neighbour]) -> None:
        """Take the neighbours of the window that starts at `start_s`, the latest; what is out of reach is forgotten."""
        found: dict[int, _Nearest] = {}
        for reading in {neighbour.reading for neighbour in neighbours}:
            first, *others = sorted(
                (neighbour for neighbour in neighbours if neighbour.reading == reading),
                key=lambda neighbour: -neighbour.similarity,
            )
            another = (other for other in others if other.reference_id != first.reference_id)
            then = next(another, [first, *others][-1])
            found[reading] = _Nearest(
                reference_id=first.reference_id,
                similarity=first.similarity,
                next_reference_id=then.reference_id,
                next_similarity=then.similarity,
            )
        beside = self._latest if found and 0 < start_s - self._latest_s <= _BESIDE_S else {}
        self._nearest[start_s] = {**beside, **found}
        self._latest, self._latest_s = found, start_s
        while next(iter(self._nearest)) < start_s - self._look_back_s:
            self._nearest.popitem(last=False)

    def nearest(self, start_s: float) -> tuple[Neighbour, ...]:
        """Of each reading of a window the nearest neighbour and the one that bounds all others: to be heard again."""
        return tuple(
            Neighbour(reference_id=name, reference_start_s=0.0, similarity=similarity, reading=reading)
            for reading, nearest in self._nearest.get(start_s, {}).items()
            for name, similarity in (
                (nearest.reference_id, nearest.similarity),
                (nearest.next_reference_id, nearest.next_similarity),
            )
        )

    def similarity(self, reference_id: str, reading: int, start_s: float) -> float:
        """Of a window with the nearest recording but one; NaN where that is not known."""
        nearest = self._nearest.get(start_s, {}).get(reading)
        if nearest is None:
            return np.nan
        return nearest.similarity if nearest.reference_id != reference_id else nearest.next_similarity
