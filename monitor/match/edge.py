"""Where an airing begins and ends, more finely than windows lie apart.

A window that an airing only partly covers is the less like the recording the less is covered. How much less is
measured once for each model; the edge is placed where that slope explains the windows around it best (least squares of
standardised residuals, each limited, so that a single odd window, or a cross-fade, cannot carry the edge away).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: How far from the guess the edge is sought, and in what steps.
_REACH_S = 0.5
_STEP_S = 0.032
#: So many of the nearest windows that are covered whole say how like the recording a whole window is.
_LEVEL_WINDOWS = 6
_LEAST_LEVEL = 0.25
_LARGEST_RESIDUAL = 3.0
#: What is claimed was played is so sure at its very edge: a second too many is worse than one too few.
_SURE = 0.7
#: Evidence of a guess: an edge further away must explain the windows better.
_GUESS_DEVIATION_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Similarity by the share of a window that is covered, over that of a whole window: mean and deviation.

    `shares` ascend from below 0 (before the airing) to above 1 (well inside).
    """

    shares: Floats
    ratios: Floats
    deviations: Floats


def place_edge(
    windows: Sequence[tuple[float, float]], *, guess_s: float, window_s: float, slope: Slope, ending: bool
) -> float:
    """Stream time at which the airing ends (or begins), near `guess_s`, which is returned where nothing is known.

    `windows` are (start, similarity on the airing's line).
    """
    if len(windows) < 3:
        return guess_s
    starts, similarities = np.array(windows, dtype=np.float64).T
    inside_s = guess_s - starts if ending else starts + window_s - guess_s
    whole = np.flatnonzero(inside_s >= window_s)
    if len(whole) < 2:
        return guess_s
    level = float(np.median(similarities[whole[np.argsort(inside_s[whole])][:_LEVEL_WINDOWS]]))
    if level < _LEAST_LEVEL:
        return guess_s
    near = (inside_s > -2 * _REACH_S) & (inside_s < window_s + 2 * _REACH_S)
    ratios = similarities[near] / level
    moved_s = np.arange(-_REACH_S, _REACH_S + _STEP_S / 2, _STEP_S)
    shares = (inside_s[near] + moved_s[:, np.newaxis] * (1 if ending else -1)) / window_s
    expected = np.interp(shares, slope.shares, slope.ratios)
    deviations = np.interp(shares, slope.shares, slope.deviations)
    residuals = np.minimum(np.abs(ratios - expected) / deviations, _LARGEST_RESIDUAL)
    costs = np.sum(residuals**2 + 2 * np.log(deviations), axis=1) + (moved_s / _GUESS_DEVIATION_S) ** 2
    likely = np.exp((costs.min() - costs) / 2)
    # Of the places where the edge may lie, the one inside which the airing is sure enough to be claimed.
    passed = np.cumsum(likely) / likely.sum()
    return float(guess_s + np.interp(1 - _SURE if ending else _SURE, passed, moved_s + _STEP_S / 2))
