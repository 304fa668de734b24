"""Where an airing begins and ends, more finely than windows lie apart.

A window that an airing only partly covers is the less like the recording the less is covered; so is one in which the
next piece is already heard. A small network, one for each embedder, was shown many transitions of known place (cuts,
overlaps, fades) and gives, for the windows around the outermost that still sounds like the recording, how probable each
place of the edge is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: What is claimed was played is so sure at its very edge: a second too many is worse than one too few.
_SURE = 0.8
#: The level is the median of so many windows, beginning so many inwards of the outermost.
_LEVEL_WINDOWS, _LEVEL_FROM = 7, 3
_LEAST_LEVEL, _UNKNOWN_LEVEL = 0.2, 0.6
_RATIOS = (-0.5, 1.3)


@dataclass(frozen=True, kw_only=True)
class EdgeModel:
    """Probabilities of an edge's place, from the similarities of the windows around it.

    Places are seconds from the inner end of the outermost window that sounds like the recording, outwards.
    """

    #: Windows that are looked at, inwards and outwards of the outermost.
    inwards: int
    outwards: int
    #: The first place and the width of each.
    low_s: float
    step_s: float
    #: Weights (in, out) and biases (out,); between them max(0, x).
    layers: tuple[tuple[Floats, Floats], ...]

    def probabilities(self, similarities: Floats) -> Floats:
        """Of each place, (places,), from (inwards + 1 + outwards,) similarities ordered outwards, NaN where unknown."""
        values = features(similarities, inwards=self.inwards)
        for weights, biases in self.layers[:-1]:
            values = np.maximum(values @ weights + biases, 0.0)
        weights, biases = self.layers[-1]
        values = values @ weights + biases
        likely = np.exp(values - values.max())
        return np.asarray(likely / likely.sum(), dtype=np.float64)


def features(similarities: Floats, *, inwards: int) -> Floats:
    """What the network is shown, (..., 2 * windows + 1): ratios to the level, 1 where one is unknown, the level."""
    inner = similarities[..., max(inwards - _LEVEL_FROM - _LEVEL_WINDOWS + 1, 0) : inwards - _LEVEL_FROM + 1]
    known = np.sort(inner, axis=-1)  # NaN last
    count = np.sum(~np.isnan(inner), axis=-1, keepdims=True)
    middle = np.take_along_axis(known, np.maximum(count - 1, 0) // 2, axis=-1)
    level = np.where(count > 0, np.maximum(np.nan_to_num(middle), _LEAST_LEVEL), _UNKNOWN_LEVEL)
    unknown = np.isnan(similarities)
    ratios = np.clip(np.nan_to_num(similarities / level), *_RATIOS)
    return np.concatenate([ratios, unknown, level], axis=-1)


def around(
    windows: Sequence[tuple[float, float]], number: int, *, model_windows: tuple[int, int], hop_s: float
) -> Floats:
    """The similarities of the windows around the one of a `number`, (inwards + 1 + outwards,); NaN where there is none.

    `windows` are (place of the inner end, similarity), places ascending outwards.
    """
    inwards, outwards = model_windows
    found = np.full(inwards + 1 + outwards, np.nan)
    for place_s, similarity in windows:
        index = inwards + round((place_s - windows[number][0]) / hop_s)
        if 0 <= index < len(found):
            found[index] = similarity
    return found


def place_edge(
    windows: Sequence[tuple[float, float]],
    *,
    outermost_s: float,
    window_s: float,
    hop_s: float,
    model: EdgeModel,
    ending: bool,
) -> float:
    """Stream time at which the airing ends (or begins).

    `windows` are (start, similarity on the airing's line) in order, without those beyond the airing's other edge;
    `outermost_s` is the start of the outermost that sounds like the recording. The edge lies within the windows.
    """
    outwards = list(windows) if ending else [(-start - window_s, value) for start, value in reversed(windows)]
    sought_s = outermost_s if ending else -outermost_s - window_s
    number = min(range(len(outwards)), key=lambda each: abs(outwards[each][0] - sought_s))
    seen = around(outwards, number, model_windows=(model.inwards, model.outwards), hop_s=hop_s)
    passed = np.append(0.0, np.cumsum(model.probabilities(seen)))
    places_s = model.low_s + model.step_s * np.arange(len(passed))
    # Of the places where the edge may lie, the one inside which the airing is sure enough to be claimed.
    place_s = outwards[number][0] + float(np.interp(1 - _SURE, passed, places_s))
    place_s = min(max(place_s, outwards[0][0]), outwards[-1][0] + window_s)
    return place_s if ending else -place_s
