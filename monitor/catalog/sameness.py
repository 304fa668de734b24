"""How much of a recording sounds like the rest of it: drones, test tones and loops, told of when they are loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.types import Vectors

#: Windows further apart than this share no sound and hardly a bar.
_FAR_S = 4.0
_LEAST_WINDOWS = 16
#: Of longer recordings so many windows are compared, evenly spread.
_MOST_WINDOWS = 1500
#: Rows that are compared at once, and every how many comparisons one goes into the median: memory is bounded.
_BLOCK = 128
_SHOWN = 7
#: From here on a recording is told of.
_UNIFORM = 0.85
_REPEATED = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Sameness:
    """Measured against how alike neighbouring windows are, which share most of their sound: no scale of one model's."""

    #: How alike any two windows far from each other are: 1 for a tone, about 0.3 for music.
    uniform_ratio: float
    #: Share of windows that have their like far from them: 1 for a loop.
    repeated_ratio: float

    @property
    def warning(self) -> str | None:
        """One sentence for whoever loads such a recording; None for most."""
        if self.uniform_ratio >= _UNIFORM:
            return "all of it sounds alike: other tones, noises or drones of its kind may be taken for it"
        if self.repeated_ratio >= _REPEATED:
            return (
                f"{self.repeated_ratio:.0%} of it is heard again elsewhere in it: of exact repetitions the one that"
                " plays cannot be told"
            )
        return None


def sameness(kept: NDArray[np.int64], vectors: Vectors, *, hop_s: float) -> Sameness:
    """Compare the windows `kept` (n,) with each other; `vectors` (n, dimension) have norm 1. Too few tell nothing."""
    near = np.diff(kept) == 1
    adjacent = np.einsum("ij,ij->i", vectors[:-1], vectors[1:])[near]
    step = -(-len(kept) // _MOST_WINDOWS)
    some, starts_s = vectors[::step], kept[::step] * hop_s
    if len(some) < _LEAST_WINDOWS or not len(adjacent) or starts_s[-1] - starts_s[0] < 2 * _FAR_S:
        return Sameness(uniform_ratio=0.0, repeated_ratio=0.0)
    likeness = float(np.median(adjacent))
    nearest, between = [], []
    for first in range(0, len(some), _BLOCK):
        block = slice(first, first + _BLOCK)
        similarities = some[block] @ some.T
        near_too = np.abs(starts_s[block, np.newaxis] - starts_s) < _FAR_S
        between.append(similarities[~near_too][::_SHOWN])
        similarities[near_too] = -1.0
        nearest.append(similarities.max(axis=1))
    return Sameness(
        uniform_ratio=float(np.clip(np.median(np.concatenate(between)) / max(likeness, 1e-3), 0.0, 1.0)),
        repeated_ratio=float(np.mean(np.concatenate(nearest) >= likeness)),
    )
