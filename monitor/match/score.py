"""What one similarity is worth: similarities become log-likelihood ratios from measured distributions.

The evidence for "this stream plays that recording" is a sum of log-likelihood ratios, the sequential test of Wald
(1945). The alternative is what the aligner really meets when nothing of the catalog is sounding: the similarity of a
*candidate's* next window on its line. The average window of another recording would be too low, since a candidate was
chosen for its likeness; the best window of a whole catalog too high, since the line leaves it no choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.errors import ConfigError

#: A window can say at most so much: one perfect window is never a match, one lost window never ends one.
MOST_FOR_NATS = 6.0
MOST_AGAINST_NATS = -1.5
#: Evidence at which a run is told of, and at which it is believed, where the configuration gives no other.
PROVISIONAL_NATS = 5.0
CONFIRMED_NATS = 9.0
#: How much of "something else" is the nearest window of another recording, rather than any on a candidate's line.
_STUBBORN_SHARE = 0.05
#: Above this the histograms only say "the same". A piece that repeats itself holds several windows so near: the nearest
#: is the one that plays, so that evidence still grows, by so many nats for each unit of similarity.
_NEAR = 0.8
_NEARER_NATS = 8.0
#: Histogram bins that the calibration hardly ever saw are no evidence of impossibility.
_FLOOR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Monotone maps from similarity to nats for one model: `similarities` ascending, the nats non-decreasing.

    `nats` is for windows that a candidate was chosen by. Where a match that is believed begins and ends, nothing was
    chosen: there the alternative is any window of another recording, which `edge_nats` is for.
    """

    similarities: NDArray[np.float64]
    nats: NDArray[np.float64]
    edge_nats: NDArray[np.float64] | None = None

    def log_likelihood_ratio(self, similarity: NDArray[np.floating]) -> NDArray[np.float64]:
        """Nats for "same recording" against "the best of the others", shape as given; NaN (nothing heard) is 0."""
        nats = np.interp(np.nan_to_num(similarity, nan=0.0), self.similarities, self.nats)
        return np.where(np.isnan(similarity), 0.0, nats)

    def edge_ratio(self, similarity: NDArray[np.floating]) -> NDArray[np.float64]:
        """As `log_likelihood_ratio`, for the windows beside a match that is believed."""
        if self.edge_nats is None:
            return self.log_likelihood_ratio(similarity)
        nats = np.interp(np.nan_to_num(similarity, nan=0.0), self.similarities, self.edge_nats)
        return np.where(np.isnan(similarity), 0.0, nats)


def load_calibration(path: Path, *, model_id: str) -> Calibration:
    """The calibration in a JSON file beside the weights; ConfigError if it cannot be read or is another model's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["model_id"] != model_id:
            raise ConfigError(
                f"the calibration {path} was made for {content['model_id']}, not for {model_id};"
                " make it anew with `monitor model calibrate`"
            )
        edges = np.asarray(content["edges"], dtype=np.float64)
        same = np.asarray(content["same"]["all"], dtype=np.float64)
        calibration = from_histograms(edges=edges, same=same, other=_something_else(content))
        nearer = np.clip(calibration.similarities - _NEAR, 0.0, None) * _NEARER_NATS
        calibration = replace(calibration, nats=calibration.nats + nearer)
        if "other" not in content:
            return calibration
        beside = from_histograms(edges=edges, same=same, other=np.asarray(content["other"], dtype=np.float64))
        return replace(calibration, edge_nats=beside.nats)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the calibration {path} cannot be read ({error}); install the model again or run `monitor model verify`"
        ) from error


def _something_else(content: Mapping[str, Any]) -> NDArray[np.float64]:
    """The density when the reference is not sounding: that of candidates' next windows, where it was measured.

    A share stays with the best window of other recordings, since some impostor is always more stubborn than those
    that were met.
    """
    best = np.asarray(content["other_best"], dtype=np.float64)
    if "line" not in content:
        return best
    widths = np.diff(np.asarray(content["edges"], dtype=np.float64))
    line = np.asarray(content["line"], dtype=np.float64)
    line, best = line / (line * widths).sum(), best / (best * widths).sum()
    mixed: NDArray[np.float64] = (1 - _STUBBORN_SHARE) * line + _STUBBORN_SHARE * best
    return mixed


def from_histograms(
    *, edges: NDArray[np.float64], same: NDArray[np.float64], other: NDArray[np.float64]
) -> Calibration:
    """A calibration from two histograms over the same bins; isotonic by pooling adjacent violators."""
    if len(same) != len(edges) - 1 or len(other) != len(edges) - 1 or not np.all(np.diff(edges) > 0):
        raise ValueError("edges must ascend and be one more than the bins of each histogram")
    width = np.diff(edges)
    p_same = same / max(float((same * width).sum()), 1e-12) + _FLOOR
    p_other = other / max(float((other * width).sum()), 1e-12) + _FLOOR
    # A bin's weight in the pooling is how often it is seen at all, so that empty tails follow their neighbours.
    ratio = _isotonic(np.log(p_same / p_other), weights=(p_same + p_other) * width)
    return Calibration(similarities=(edges[:-1] + edges[1:]) / 2, nats=np.clip(ratio, MOST_AGAINST_NATS, MOST_FOR_NATS))


def generic_calibration() -> Calibration:
    """For a model that nobody has measured: only near-identical windows speak in favour."""
    return Calibration(similarities=np.array([0.5, 0.7, 0.95]), nats=np.array([MOST_AGAINST_NATS, 0.0, 4.0]))


def _isotonic(values: NDArray[np.float64], *, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-decreasing sequence nearest to `values` in weighted least squares (Ayer et al., 1955)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, length = float(value), float(weight), 1
        while blocks and blocks[-1][0] > mean:
            before, before_weight, before_length = blocks.pop()
            mean = (mean * total + before * before_weight) / (total + before_weight)
            total += before_weight
            length += before_length
        blocks.append((mean, total, length))
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])
