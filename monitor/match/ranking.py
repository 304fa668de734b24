"""References in the order of how much they sound like a clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from monitor.types import Neighbour


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """A reference that sounds like a clip."""

    reference_id: str
    #: Mean over the clip's windows of the best inner product in each.
    mean_similarity: float
    #: The single best neighbour, and which of the clip's windows it is near to.
    best: Neighbour
    window: int


def rank(neighbours: Sequence[Sequence[Neighbour]]) -> list[Ranked]:
    """References by their mean best inner product over the clip's windows, each with its single best neighbour.

    A window whose top k does not hold the reference counts as 0.
    """
    total: dict[str, float] = defaultdict(float)
    best: dict[str, tuple[Neighbour, int]] = {}
    for window, near in enumerate(neighbours):
        nearest: dict[str, float] = {}
        for neighbour in near:
            name = neighbour.reference_id
            nearest[name] = max(nearest.get(name, 0.0), neighbour.similarity)
            if name not in best or neighbour.similarity > best[name][0].similarity:
                best[name] = (neighbour, window)
        for name, similarity in nearest.items():
            total[name] += similarity
    return [
        Ranked(reference_id=name, mean_similarity=value / len(neighbours), best=best[name][0], window=best[name][1])
        for name, value in sorted(total.items(), key=lambda item: -item[1])
    ]
