"""What similarities are worth: they become log-likelihood ratios from measured distributions.

The evidence for "this stream plays that recording" is a sum of log-likelihood ratios, the sequential test of Wald
(1945). The hypothesis is composite: an airing is heard clearly or through something else, and is judged by the kind
that explains its windows best. The alternative is what the aligner really meets when nothing of the catalog is
sounding: the similarity of a *candidate's* next window on its line. The average window of another recording would be
too low, since a candidate was chosen for its likeness; the best window of a whole catalog too high, since the line
leaves it no choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.errors import ConfigError
from monitor.match.edge import Slope

#: Histograms can say at most so much of a window: one perfect window is never a match, one lost window never ends one.
MOST_FOR_NATS = 8.0
MOST_AGAINST_NATS = -1.5
#: Evidence at which a run is told of, and at which it is believed, where the configuration gives no other.
PROVISIONAL_NATS = 6.0
CONFIRMED_NATS = 9.0
#: Conditions of a recording that is heard, but not clearly.
MASKED = ("noise_0db", "noise_-5db", "speech_0db", "speech_-5db", "music_5db", "limiter")
#: Above this the histograms only say "the same". A piece that repeats itself holds several windows so near: the nearest
#: is the one that plays, so that evidence still grows, by so many nats for each unit of similarity.
_NEAR = 0.8
_NEARER_NATS = 8.0
_NEAR_MARGIN = 0.15
#: Histogram bins that the calibration hardly ever saw are no evidence of impossibility.
_FLOOR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How like some windows of a stream are to a recording and to what is not it, of one shape or of shapes that fit.

    NaN where there is nothing to compare with; `own` also where nothing was heard.
    """

    #: Similarity with the second of the recording that should be playing.
    own: NDArray[np.float64]
    #: With the nearest window of any other recording.
    rival: NDArray[np.float64]
    #: With the recording one hop and two hops off, mean of before and after.
    beside: NDArray[np.float64]
    around: NDArray[np.float64]

    @property
    def newest(self) -> Likeness:
        """Of the last window alone, of windows in a row."""
        return Likeness(own=self.own[-1:], rival=self.rival[-1:], beside=self.beside[-1:], around=self.around[-1:])


@dataclass(frozen=True, kw_only=True)
class Background:
    """What a similarity is measured against: common sounds are like many recordings, slow ones like many seconds.

    The weights are those of a logistic regression of "same recording" against candidates that were not. What a beat
    brings back after two hops counts as if it were beside: it is no news of one second. Bounds keep a copy of the
    recording, or a recording that hardly changes, from hiding what is heard clearly.
    """

    offset: float
    rival_weight: float
    beside_weight: float
    around_weight: float
    #: A catalog may be too small to tell how common a sound is: rivals count from here on.
    typical_rival: float
    #: What stands for what is not known.
    typical_beside: float
    typical_around: float
    least: float
    most: float
    #: Windows of one recording that are less alike are two sounds, those that are more alike one sound twice.
    distinct: float
    repeated: float
    #: What is so much nearer than any rival says more than a histogram can show that hardly ever saw it: beyond this
    #: lead so many nats for each unit of similarity.
    lead: float
    lead_nats: float

    def beyond_doubt(self, likeness: Likeness) -> NDArray[np.float64]:
        """The nats that windows say by their lead; 0 where nothing was heard."""
        lead = likeness.own - self._rival(likeness)
        return np.asarray(np.fmax(lead - self.lead, 0.0) * self.lead_nats)

    def similarity(self, likeness: Likeness) -> NDArray[np.float64]:
        """The similarity at which the windows speak neither for nor against the recording."""
        # However sharp a sound is: where another recording is as near as `most`, so must this one be.
        rival = self._rival(likeness)
        common = np.minimum((rival - self.typical_rival) / (self.most - self.typical_rival), 1.0)
        least = self.least + common * (self.most - self.least)
        return np.asarray(np.clip(self.expected(likeness), least, self.most))

    def expected(self, likeness: Likeness) -> NDArray[np.float64]:
        """As `similarity`, without bounds."""
        beside = np.where(np.isnan(likeness.beside), self.typical_beside, likeness.beside)
        around = np.where(np.isnan(likeness.around), self.typical_around, likeness.around)
        return np.asarray(
            self.offset
            + self.rival_weight * self._rival(likeness)
            + self.beside_weight * np.maximum(beside, around)
            + self.around_weight * around
        )

    def _rival(self, likeness: Likeness) -> NDArray[np.float64]:
        return np.asarray(np.fmax(likeness.rival, self.typical_rival))


@dataclass(frozen=True, kw_only=True)
class Kin:
    """Other recordings of the same make: the same kit, groove and chords, at any pitch and tempo.

    All their windows are middling alike, so that windows are not independent: what a run at another pitch or at a far
    tempo can say is bounded by how rare kin are, and how much clearer it is anywhere.
    """

    #: Nats by which what is suspected is less often kin than the recording.
    rarity_nats: float
    #: Against kin, for each hypothesis of the calibration, at the calibration's `similarities`.
    nats: tuple[NDArray[np.float64], ...]
    #: No kin is as near as this: beyond it so many nats for each unit of similarity, whatever else is near.
    near: float
    near_nats: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Monotone maps from similarity to nats for one model: `similarities` ascending, the nats non-decreasing.

    With a `background` the maps are over *margins*: how much nearer the recording is than what it would be measured
    against (score normalisation, as for speakers: Auckenthaler et al., 2000).
    `nats` is for single windows, `masked_nats` (if measured) for those of an airing that is not heard clearly. Where a
    match that is believed begins and ends, nothing was chosen: there the alternative is any window of another
    recording, which `edge_nats` is for.
    """

    similarities: NDArray[np.float64]
    nats: NDArray[np.float64]
    edge_nats: NDArray[np.float64] | None = None
    masked_nats: NDArray[np.float64] | None = None
    slope: Slope | None = None
    background: Background | None = None
    kin: Kin | None = None

    def margins(self, likeness: Likeness) -> NDArray[np.float64]:
        """What the maps are to be read at."""
        return likeness.own if self.background is None else likeness.own - self.background.similarity(likeness)

    def sameness(self, similarity: NDArray[np.floating]) -> NDArray[np.float64]:
        """How far windows of one recording that are so alike are one sound twice, 0 to 1; 0 where nobody measured."""
        if self.background is None:
            return np.zeros(similarity.shape)
        distinct, repeated = self.background.distinct, self.background.repeated
        return np.asarray(np.clip((similarity - distinct) / (repeated - distinct), 0.0, 1.0), dtype=np.float64)

    @property
    def hypotheses(self) -> tuple[NDArray[np.float64], ...]:
        """The maps of the kinds of airings, the most hopeful one last."""
        return (self.nats,) if self.masked_nats is None else (self.nats, self.masked_nats)

    def interpolate(self, similarity: NDArray[np.floating], nats: NDArray[np.float64]) -> NDArray[np.float64]:
        """The map `nats` at each similarity, shape as given; NaN (nothing heard) is 0."""
        found = np.asarray(np.interp(similarity, self.similarities, nats))
        found[np.isnan(similarity)] = 0.0
        return found

    def weigh(self, likeness: Likeness, *maps: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """What the windows say by each of the maps, of the likeness' shape; 0 where nothing was heard."""
        margins = self.margins(likeness)
        beyond = 0.0 if self.background is None else self.background.beyond_doubt(likeness)
        return [self.interpolate(margins, nats) + beyond for nats in maps]

    def judge(self, likeness: Likeness) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        """What the windows say for each hypothesis, and of each what they say against kin; none of these where nobody
        measured.
        """
        if self.kin is None:
            return self.weigh(likeness, *self.hypotheses), []
        near = np.fmax(likeness.own - self.kin.near, 0.0) * self.kin.near_nats
        said = self.weigh(likeness, *self.hypotheses, *self.kin.nats)
        return said[: len(self.hypotheses)], [nats + near for nats in said[len(self.hypotheses) :]]

    def log_likelihood_ratio(self, similarity: NDArray[np.floating]) -> NDArray[np.float64]:
        """Nats for "same recording" against "anything else", shape as given."""
        return self.interpolate(similarity, self.nats)

    def edge_ratio(self, similarity: NDArray[np.floating]) -> NDArray[np.float64]:
        """As `log_likelihood_ratio`, for the windows beside a match that is believed."""
        return self.interpolate(similarity, self.nats if self.edge_nats is None else self.edge_nats)


def load_calibration(path: Path, *, model_id: str) -> Calibration:
    """The calibration in a JSON file beside the weights; ConfigError if it cannot be read or is another model's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["model_id"] != model_id:
            raise ConfigError(
                f"the calibration {path} was made for {content['model_id']}, not for {model_id};"
                " make it anew with `monitor model calibrate`"
            )
        return _from_content(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the calibration {path} cannot be read ({error}); install the model again or run `monitor model verify`"
        ) from error


def _from_content(content: Mapping[str, Any]) -> Calibration:
    edges = np.asarray(content["edges"], dtype=np.float64)
    density = {
        name: np.asarray(content[name], dtype=np.float64) for name in ("other", "other_best", "line") if name in content
    }
    whole = {name: np.asarray(values, dtype=np.float64) for name, values in content["same"].items()}
    margins = {name: np.asarray(values, dtype=np.float64) for name, values in content.get("margins", {}).items()}
    same = margins or whole
    background = Background(**content["background"]) if margins else None
    near = _NEAR_MARGIN if margins else _NEAR
    anything = density.get("line", density["other_best"])

    def nats(same: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        found = from_histograms(edges=edges, same=same, other=other)
        return found.nats + np.clip(found.similarities - near, 0.0, None) * _NEARER_NATS

    masked = [same[name] for name in MASKED if name in same]
    kinds = [same["all"], *([np.mean(masked, axis=0)] if masked else [])]
    kin = None
    if margins and "kin" in content:
        told = {name: float(value) for name, value in content["kin"].items()}
        margin = ((edges[:-1] + edges[1:]) / 2 - told["mean"]) / told["deviation"]
        kin = Kin(
            rarity_nats=told["rarity_nats"],
            nats=tuple(nats(kind, np.exp(-0.5 * margin**2)) for kind in kinds),
            near=told["near"],
            near_nats=told["near_nats"],
        )
    return Calibration(
        similarities=(edges[:-1] + edges[1:]) / 2,
        nats=nats(same["all"], anything),
        masked_nats=nats(kinds[1], anything) if masked else None,
        edge_nats=(
            from_histograms(edges=edges, same=whole["all"], other=density["other"]).nats if "other" in density else None
        ),
        slope=_slope(content["slope"]) if "slope" in content else None,
        background=background,
        kin=kin,
    )


def _slope(content: Mapping[str, Any]) -> Slope:
    shares, ratios, deviations = (
        np.asarray(content[name], dtype=np.float64) for name in ("shares", "ratios", "deviations")
    )
    if not len(shares) == len(ratios) == len(deviations) or not np.all(np.diff(shares) > 0) or deviations.min() <= 0:
        raise ValueError("the slope needs ascending shares, with a ratio and a deviation above 0 for each")
    return Slope(shares=shares, ratios=ratios, deviations=deviations)


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
