"""The search for the lines of airings.

A family of lines is scored over the similarities between the stream's latest windows and the reference's own windows;
the line whose segment has the most evidence is kept, refined, and judged. All that is suspected at one time is sought
together: one step of arithmetic over all of it costs hardly more than over one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from monitor.match.line import (
    NEAR_TEMPO_RATIO,
    Floats,
    Line,
    Plane,
    Segment,
    along_each,
    best_segment,
    fractional_columns,
    tempo_bounds,
)
from monitor.match.score import Calibration, Likeness
from monitor.types import Vectors

#: A run must spread over about so many seconds (squared) before its own slope counts for half.
_TEMPO_PRIOR_S2 = 4.0
#: Most suspicions come to nothing: only a line with some evidence is looked at closely.
_WORTH_REFINING_NATS = 1.0
#: Most airings are at the recording's own tempo, nearly all others near it: another must explain so much more.
_CHANGED_TEMPO_NATS = 2.0
_FAR_TEMPO_NATS = 4.0
_SAME_TEMPO_RATIO = 0.005
#: How many hops off a line its own likeness, "beside" and "around" are.
_BESIDE_HOPS = np.array([[0], [-1], [1], [-2], [2]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """A plane, and the family of lines of which the best is sought in it."""

    plane: Plane
    #: Of each line, (L,). Of lines that are equally good the first is taken.
    origins_s: Floats
    tempo_ratios: Floats
    #: The windows' similarities with the nearest other recording, (W,); NaN where that is not known.
    rivals: Floats
    #: Windows up to here say nothing.
    settled_until_s: float = -math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The best line of a family, and what each window says along it."""

    line: Line
    window_starts_s: Floats
    #: Evidence of each window in nats, shape (W,).
    nats: Floats
    #: What each window says for the recording against its kin, (W,), and by how many nats less often it is kin.
    kin_nats: Floats
    rarity_nats: float
    #: How like each window is to what lies on the line, also between the reference's windows, and to what does not.
    likeness: Likeness
    #: Reference times of the windows that were compared, shape (W,).
    reference_starts_s: Floats
    #: The reference's windows themselves, (W, d); zeros where it has none.
    vectors: Vectors

    @property
    def similarities(self) -> Floats:
        """Of each window on the line; NaN where nothing was heard or the reference has no such second."""
        return self.likeness.own


def fit_lines(
    searches: Sequence[Search], *, calibration: Calibration, window_weight: float, most_tempo_ratio: float
) -> list[Fit]:
    """Of each search the line with the largest segment evidence, refined below the reference's hop.

    `window_weight` is the share of a window that is news (hop / window): overlapping windows repeat each other. Tempo
    stays within `tempo_bounds(most_tempo_ratio)`.
    """

    def kind(number: int) -> tuple[int, int]:
        plane = searches[number].plane
        return len(plane.window_starts_s), plane.columns_per_hop

    fits: dict[int, Fit] = {}
    for _, numbers in groupby(sorted(range(len(searches)), key=kind), key=kind):
        among = list(numbers)
        found = _fits([searches[number] for number in among], calibration, window_weight, most_tempo_ratio)
        fits.update(zip(among, found, strict=True))
    return [fits[number] for number in range(len(searches))]


def _fits(
    searches: Sequence[Search], calibration: Calibration, window_weight: float, most_tempo_ratio: float
) -> Iterator[Fit]:
    """Of searches in planes of as many windows, and of as many columns per hop."""
    planes = _Planes.of(searches)
    hopeful = calibration.hypotheses[-1]
    weighed = calibration.weigh(planes.everywhere(), hopeful)[0] * window_weight
    # One more column stands for "the reference has no such second": the airing cannot be there.
    absent = np.full((*weighed.shape[:2], 1), float(hopeful[0]) * window_weight)
    padded = np.concatenate([weighed, absent], axis=2)
    found = [_best(search, nats, most_tempo_ratio) for search, nats in zip(searches, padded, strict=True)]
    likeness = planes.along(searches, [one.line for one in found])
    vectors = [_vectors(search.plane, one.columns) for search, one in zip(searches, found, strict=True)]
    said = np.stack([one.nats for one in found])
    # Windows that are settled, or beyond the reference, keep what they said.
    fixed = np.isnan(likeness.own) | (said == 0.0)
    hypotheses, against = calibration.judge(likeness)
    judged = _clearest([np.where(fixed, said, nats * window_weight) for nats in hypotheses])
    news = np.stack([_news(*pair, calibration, window_weight) for pair in zip(vectors, judged, strict=True)])
    kin = [np.where(fixed, 0.0, nats * (news * window_weight)) for nats in against]
    kin_nats = _clearest(kin) if kin else np.zeros(judged.shape)
    for number, (search, one) in enumerate(zip(searches, found, strict=True)):
        plane = search.plane
        yield Fit(
            line=one.line,
            window_starts_s=plane.window_starts_s,
            nats=judged[number] * news[number],
            kin_nats=kin_nats[number],
            rarity_nats=math.inf if calibration.kin is None else calibration.kin.rarity_nats,
            likeness=Likeness(
                own=likeness.own[number],
                rival=likeness.rival[number],
                beside=likeness.beside[number],
                around=likeness.around[number],
            ),
            reference_starts_s=plane.reference_start_s + one.columns.astype(np.float64) * plane.reference_hop_s,
            vectors=vectors[number],
        )


def _clearest(said: Sequence[Floats]) -> Floats:
    """Of what windows say under some hypotheses, (P, W) each, each row under the one with the most evidence."""
    which = np.argmax([_evidence(nats) for nats in said], axis=0)
    return np.asarray(np.stack(said)[which, np.arange(len(which))])


def _vectors(plane: Plane, columns: NDArray[np.intp]) -> Vectors:
    """The reference's windows in these columns, (W, d); zeros past the last one."""
    outside = columns == len(plane.vectors)
    found = plane.vectors[np.where(outside, 0, columns)]
    found[outside] = 0.0
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Best:
    """The best line of a family."""

    line: Line
    #: What each window says on it by the most hopeful map, (W,), and the nearest column of each.
    nats: Floats
    columns: NDArray[np.intp]


def _best(search: Search, nats: Floats, most_tempo_ratio: float) -> _Best:
    """The best line of a search, by what each window says in each column (W, R + 1) of its plane."""
    starts = search.plane.window_starts_s
    columns = _columns(search.plane, search.origins_s, search.tempo_ratios)
    outside = search.plane.similarities.shape[1]
    said = nats[np.arange(len(starts)), np.where(columns == outside, -1, columns)]
    said[..., starts <= search.settled_until_s] = 0.0
    evidence = _evidence(said)
    change = np.abs(search.tempo_ratios - 1.0)
    prior = np.where(change <= NEAR_TEMPO_RATIO, _CHANGED_TEMPO_NATS, _FAR_TEMPO_NATS)
    prior[change <= _SAME_TEMPO_RATIO] = 0.0
    best = int(np.argmax(evidence - prior))
    line = Line(origin_s=float(search.origins_s[best]), tempo_ratio=float(search.tempo_ratios[best]))
    if evidence[best] >= _WORTH_REFINING_NATS:
        segment = best_segment(said[best])
        for _ in range(2):  # the second time, the neighbouring columns lie evenly around the line
            line = _refine(search.plane, line, segment, most_tempo_ratio)
    return _Best(line=line, nats=said[best], columns=columns[best])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Planes:
    """Planes of as many windows, and columns per hop, the narrow ones filled with columns that were not heard."""

    #: (P, W, R), and how many of the R columns each plane has, (P,).
    similarities: Floats
    widths: NDArray[np.intp]
    #: (P, R - 1).
    neighbours: Floats
    #: (P, W).
    rivals: Floats
    columns_per_hop: int

    @classmethod
    def of(cls, searches: Sequence[Search]) -> _Planes:
        """Those of the searches."""
        planes = [search.plane for search in searches]
        widths = np.array([plane.similarities.shape[1] for plane in planes])
        similarities = np.full((len(planes), len(planes[0].window_starts_s), int(widths.max())), np.nan)
        neighbours = np.ones((len(planes), similarities.shape[2] - 1))
        for number, plane in enumerate(planes):
            similarities[number, :, : widths[number]] = plane.similarities
            neighbours[number, : widths[number] - 1] = plane.neighbours
        return cls(
            similarities=similarities,
            widths=widths,
            neighbours=neighbours,
            rivals=np.stack([search.rivals for search in searches]),
            columns_per_hop=planes[0].columns_per_hop,
        )

    def everywhere(self) -> Likeness:
        """Of every window with every window of the reference, (P, W, R)."""
        (*rows, width), hop = self.similarities.shape, self.columns_per_hop
        wide = np.full((*rows, width + 4 * hop), np.nan)
        wide[..., 2 * hop : -2 * hop] = self.similarities
        return Likeness(
            own=self.similarities,
            rival=self.rivals[..., np.newaxis],
            beside=_mean(wide[..., hop : -3 * hop], wide[..., 3 * hop : -hop]),
            around=_mean(wide[..., : -4 * hop], wide[..., 4 * hop :]),
        )

    def along(self, searches: Sequence[Search], lines: Sequence[Line]) -> Likeness:
        """Of each window with what lies on its plane's line, (P, W)."""
        planes, windows, width = self.similarities.shape
        columns = np.concatenate(
            [
                fractional_columns(search.plane, line, search.plane.window_starts_s)
                for search, line in zip(searches, lines, strict=True)
            ]
        )
        rows = np.arange(planes * windows)
        found = along_each(
            self.similarities.reshape(-1, width),
            self.neighbours,
            self.widths[rows // windows],
            rows,
            rows // windows,
            columns + _BESIDE_HOPS * self.columns_per_hop,
        )
        own, before, after, far_before, far_after = found.reshape(len(_BESIDE_HOPS), planes, windows)
        return Likeness(own=own, rival=self.rivals, beside=_mean(before, after), around=_mean(far_before, far_after))


def _mean(one: Floats, other: Floats) -> Floats:
    """Of what there is: NaN only where both are."""
    return np.where(np.isnan(one), other, np.where(np.isnan(other), one, (one + other) / 2))


def _news(vectors: Vectors, nats: Floats, calibration: Calibration, window_weight: float) -> Floats:
    """The share of what each window of a line says that the others have not said already, (W,).

    The seconds (W, d) that a recording repeats are like the stream, rightly or not, all together: of a loop's turns
    each says a part of what one of them would.
    """
    told = np.flatnonzero(nats > 0)
    again = calibration.sameness(vectors @ vectors[told].T)
    # Windows that overlap are alike as it is: that is what their weight is for.
    again[np.abs(np.arange(len(nats))[:, np.newaxis] - told) * window_weight < 1.0] = 0.0
    return np.asarray(1.0 / (1.0 + window_weight * again.sum(axis=1)), dtype=np.float64)


def _columns(plane: Plane, origins_s: Floats, tempo_ratios: Floats) -> NDArray[np.intp]:
    """Nearest column of each window on each line, shape (L, W); the column past the last means outside."""
    reference_s = tempo_ratios[:, np.newaxis] * (plane.window_starts_s - origins_s[:, np.newaxis])
    columns: NDArray[np.intp] = np.rint((reference_s - plane.reference_start_s) / plane.reference_hop_s).astype(np.intp)
    width = plane.similarities.shape[1]
    columns[(columns < 0) | (columns >= width)] = width
    return columns


def _evidence(nats: Floats) -> Floats:
    """The evidence of the maximal scoring segment of each row."""
    sums = np.zeros((nats.shape[0], nats.shape[1] + 1))
    np.cumsum(nats, axis=1, out=sums[:, 1:])
    lowest = np.minimum.accumulate(sums[:, :-1], axis=1)
    return np.asarray((sums[:, 1:] - lowest).max(axis=1))


def _refine(plane: Plane, line: Line, segment: Segment, most_tempo_ratio: float) -> Line:
    """The line through the centroids of similarity, by weighted least squares over the segment's windows.

    Similarity falls off evenly on both sides of the true position, so each window's centroid lies below the hop.
    """
    starts = plane.window_starts_s[segment.first : segment.last + 1]
    expected_s = line.tempo_ratio * (starts - line.origin_s)
    nearest = np.rint((expected_s - plane.reference_start_s) / plane.reference_hop_s).astype(int)
    columns = nearest[:, np.newaxis] + np.arange(-2 * plane.columns_per_hop, 2 * plane.columns_per_hop + 1)
    inside = (columns >= 0) & (columns < plane.similarities.shape[1])
    rows = np.arange(segment.first, segment.last + 1)[:, np.newaxis]
    around = np.where(inside, plane.similarities[rows, np.where(inside, columns, 0)], np.nan)
    least = np.fmin.reduce(around, axis=None)
    if np.isnan(least):
        return line
    excess = np.fmax(around - least, 0.0) ** 3
    weights = excess.sum(axis=1)
    total = float(weights.sum())
    if total <= 0.0:
        return line
    offsets_s = plane.reference_start_s + columns * plane.reference_hop_s - expected_s[:, np.newaxis]
    centroids_s = (excess * offsets_s).sum(axis=1) / np.maximum(weights, 1e-12)
    centre_s = float((weights * starts).sum()) / total
    shift_s = float((weights * centroids_s).sum()) / total
    spread = float((weights * (starts - centre_s) ** 2).sum())
    # A short run says little of its tempo: the prior is that of the line that was tried.
    slope = float((weights * (starts - centre_s) * (centroids_s - shift_s)).sum()) / (spread + total * _TEMPO_PRIOR_S2)
    slowest, fastest = tempo_bounds(most_tempo_ratio)
    tempo_ratio = min(max(line.tempo_ratio + slope, slowest), fastest)
    reference_s = line.reference_at(centre_s) + shift_s
    return Line(origin_s=centre_s - reference_s / tempo_ratio, tempo_ratio=tempo_ratio)
