"""The line that an airing leaves in the plane (stream time, reference time), and the search for it.

An airing is a straight line: its slope is the tempo, its intercept the origin. The line is found by scoring a family
of lines over the similarities between the stream's latest windows and the reference's own windows, and keeping the
run of windows with the largest sum of log-likelihood ratios (maximal scoring segment: Karlin and Altschul, 1990; the
one-dimensional sum is Kadane's).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.match.score import Calibration, Likeness
from monitor.types import Spectrogram, Vectors

Floats = NDArray[np.float64]

#: A run must spread over about so many seconds (squared) before its own slope counts for half.
_TEMPO_PRIOR_S2 = 4.0
#: Most suspicions come to nothing: only a line with some evidence is looked at closely.
_WORTH_REFINING_NATS = 1.0
#: Most airings are at the recording's own tempo, nearly all others near it: another must explain so much more.
_CHANGED_TEMPO_NATS = 2.0
_FAR_TEMPO_NATS = 4.0
_SAME_TEMPO_RATIO = 0.005
#: Half-way between two windows even the right recording is less like the vector between them: by a quarter of this.
_BETWEEN_LOSS = 0.055
NEAR_TEMPO_RATIO = 0.06
#: Sums that differ by no more are the same.
_ROUNDING_NATS = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Reference time as a function of stream time: `tempo_ratio * (stream time - origin_s)`."""

    origin_s: float
    tempo_ratio: float

    def reference_at(self, stream_s: float) -> float:
        """Seconds of the reference that play at `stream_s`."""
        return self.tempo_ratio * (stream_s - self.origin_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """Similarities of a stream's latest windows with a stretch of one reference."""

    reference_id: str
    #: Stream times of the windows' starts, ascending, shape (W,).
    window_starts_s: Floats
    #: Reference time of the first column; columns are `reference_hop_s` apart.
    reference_start_s: float
    reference_hop_s: float
    #: So many columns are one hop of the stream.
    columns_per_hop: int
    #: Shape (W, R); NaN where the stream or the reference was silent.
    similarities: Floats
    #: The reference's own windows, (R, d); zeros where it was silent.
    vectors: Vectors
    #: How alike each of them is to the next, (R - 1,).
    neighbours: Floats
    #: The look-back and the stretch as frames, where somebody asked for them.
    pictures: tuple[Spectrogram, Spectrogram] | None = None

    def around(self, start_s: float, end_s: float) -> Plane | None:
        """The plane of the reference's windows in [start_s, end_s); None if it has none there."""
        first, last = (
            max(0, math.ceil((edge_s - self.reference_start_s) / self.reference_hop_s)) for edge_s in (start_s, end_s)
        )
        if first >= min(last, len(self.vectors)):
            return None
        return dataclasses.replace(
            self,
            reference_start_s=self.reference_start_s + first * self.reference_hop_s,
            similarities=self.similarities[:, first:last],
            vectors=self.vectors[first:last],
            neighbours=self.neighbours[first : last - 1],
        )


def make_plane(
    *,
    reference_id: str,
    window_starts_s: Floats,
    window_vectors: Vectors,
    reference_starts_s: Floats,
    reference_vectors: Vectors,
    reference_hop_s: float,
    hop_s: float,
    pictures: tuple[Spectrogram, Spectrogram] | None = None,
) -> Plane | None:
    """The plane of windows (W, d) against a stretch (R, d), rows of norm 1; None if one of the two is empty.

    The stream's windows are `hop_s` apart, the reference's that or a fraction of it. A row of zeros is a silent window
    of the stream; windows of the reference that were too quiet to be embedded are missing from the stretch. Both become
    NaN: they say nothing.
    """
    if len(reference_starts_s) == 0 or len(window_starts_s) == 0:
        return None
    columns = np.rint((reference_starts_s - reference_starts_s[0]) / reference_hop_s).astype(int)
    similarities = np.full((len(window_starts_s), int(columns[-1]) + 1), np.nan)
    similarities[:, columns] = window_vectors @ reference_vectors.T
    similarities[~np.any(window_vectors, axis=1)] = np.nan
    vectors = np.zeros((similarities.shape[1], reference_vectors.shape[1]), dtype=np.float32)
    vectors[columns] = reference_vectors
    return Plane(
        reference_id=reference_id,
        window_starts_s=window_starts_s,
        reference_start_s=float(reference_starts_s[0]),
        reference_hop_s=reference_hop_s,
        columns_per_hop=max(1, round(hop_s / reference_hop_s)),
        similarities=similarities,
        vectors=vectors,
        neighbours=np.einsum("rd,rd->r", vectors[:-1], vectors[1:]),
        pictures=pictures,
    )


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """The run of windows `first..last` (inclusive) with the largest sum of evidence."""

    first: int
    last: int
    evidence_nats: float


def tempo_bounds(most_ratio: float) -> tuple[float, float]:
    """The slowest and the fastest tempo that is sought: as many times slower as faster."""
    return 1 / (1 + most_ratio), 1 + most_ratio


def best_segment(nats: Floats) -> Segment:
    """The maximal scoring segment of a sequence of at least one window (Kadane)."""
    # A handful of numbers: the interpreter is through before an array's first operation is.
    total = lowest = 0.0
    last, evidence, floor, sums = 0, -math.inf, 0.0, [0.0]
    for index, value in enumerate(nats.tolist()):
        lowest = min(lowest, total)
        total += value
        sums.append(total)
        if total - lowest > evidence:
            last, evidence, floor = index, total - lowest, lowest
    # The latest of equally good starts: windows that say nothing are not part of the airing.
    first = next(index for index in range(last, -1, -1) if sums[index] <= floor + _ROUNDING_NATS)
    return Segment(first=first, last=last, evidence_nats=evidence)


def fit_line(
    plane: Plane,
    *,
    origins_s: Floats,
    tempo_ratios: Floats,
    rivals: Floats,
    calibration: Calibration,
    window_weight: float,
    settled_until_s: float,
    most_tempo_ratio: float,
) -> Fit:
    """The line of a family (L,) with the largest segment evidence, refined below the reference's hop.

    `rivals` (W,) are the windows' similarities with the nearest other recording, NaN where that is not known.
    `window_weight` is the share of a window that is news (hop / window): overlapping windows repeat each other.
    Windows up to `settled_until_s` say nothing. Tempo stays within `tempo_bounds(most_tempo_ratio)`.
    """
    starts = plane.window_starts_s
    hopeful = calibration.hypotheses[-1]
    weighed = calibration.weigh(_everywhere(plane, rivals), hopeful) * window_weight
    # One more column stands for "the reference has no such second": the airing cannot be there.
    absent = np.full((len(starts), 1), float(hopeful[0]) * window_weight)
    padded = np.concatenate([weighed, absent], axis=1)
    padded[starts <= settled_until_s] = 0.0
    columns = _columns(plane, origins_s, tempo_ratios)
    nats = padded[np.arange(len(starts)), columns]
    evidence = _evidence(nats)
    change = np.abs(tempo_ratios - 1.0)
    prior = np.where(change <= NEAR_TEMPO_RATIO, _CHANGED_TEMPO_NATS, _FAR_TEMPO_NATS)
    prior[change <= _SAME_TEMPO_RATIO] = 0.0
    best = int(np.argmax(evidence - prior))
    line = Line(origin_s=float(origins_s[best]), tempo_ratio=float(tempo_ratios[best]))
    if evidence[best] >= _WORTH_REFINING_NATS:
        segment = best_segment(nats[best])
        for _ in range(2):  # the second time, the neighbouring columns lie evenly around the line
            line = _refine(plane, line, segment, most_tempo_ratio)
    column = columns[best]
    vectors = np.concatenate([plane.vectors, np.zeros_like(plane.vectors[:1])])[column]
    likeness = _along_line(plane, line, rivals)
    judged = _judged(likeness, nats[best], calibration, window_weight)
    news = _news(vectors, judged, calibration, window_weight)
    return Fit(
        line=line,
        window_starts_s=starts,
        nats=judged * news,
        kin_nats=_against_kin(likeness, nats[best], news * window_weight, calibration),
        rarity_nats=math.inf if calibration.kin is None else calibration.kin.rarity_nats,
        likeness=likeness,
        reference_starts_s=plane.reference_start_s + column * plane.reference_hop_s,
        vectors=vectors,
    )


def _everywhere(plane: Plane, rivals: Floats) -> Likeness:
    """Of every window with every window of the reference, (W, R)."""
    (windows, columns), hop = plane.similarities.shape, plane.columns_per_hop
    wide = np.full((windows, columns + 4 * hop), np.nan)
    wide[:, 2 * hop : -2 * hop] = plane.similarities
    return Likeness(
        own=plane.similarities,
        rival=rivals[:, np.newaxis],
        beside=_mean(wide[:, hop : -3 * hop], wide[:, 3 * hop : -hop]),
        around=_mean(wide[:, : -4 * hop], wide[:, 4 * hop :]),
    )


def _along_line(plane: Plane, line: Line, rivals: Floats) -> Likeness:
    """Of each window with what lies on the line, (W,)."""
    rows = np.arange(len(plane.window_starts_s))
    columns = fractional_columns(plane, line, plane.window_starts_s)
    hops = np.array([[0], [-1], [1], [-2], [2]]) * plane.columns_per_hop
    own, before, after, far_before, far_after = along(plane, rows, columns + hops)
    return Likeness(own=own, rival=rivals, beside=_mean(before, after), around=_mean(far_before, far_after))


def _mean(one: Floats, other: Floats) -> Floats:
    """Of what there is: NaN only where both are."""
    return np.where(np.isnan(one), other, np.where(np.isnan(other), one, (one + other) / 2))


def fractional_columns(plane: Plane, line: Line, starts_s: Floats) -> Floats:
    """Where in the plane the line passes the stream times `starts_s`, shape as given."""
    reference_s = line.tempo_ratio * (starts_s - line.origin_s)
    return np.asarray((reference_s - plane.reference_start_s) / plane.reference_hop_s)


def along(plane: Plane, rows: NDArray[np.intp], columns: Floats) -> Floats:
    """Similarities of the windows `rows` (W,) at fractional columns (..., W): with the vector between two windows.

    NaN where the stream was silent or the reference has no such second.
    """
    last = plane.similarities.shape[1] - 1
    inside = (columns >= -0.5) & (columns < last + 0.5)
    columns = np.clip(columns, 0, last)
    lower = np.minimum(columns.astype(np.intp), max(last - 1, 0))
    upper = np.minimum(lower + 1, last)
    part = columns - lower
    alike = plane.neighbours[lower] if last else np.ones_like(part)
    one, other = plane.similarities[rows, lower], plane.similarities[rows, upper]
    nearest = np.where(part < 0.5, one, other)
    between_both = between(one, other, part, alike)
    # Beside silence there is nothing between.
    return np.where(inside, np.where(np.isnan(between_both), nearest, between_both), np.nan)


def between(lower: Floats, upper: Floats, part: Floats, neighbours: Floats) -> Floats:
    """Similarity with the vector `part` of the way between two windows, from those with both, which are so alike."""
    length = np.sqrt(np.maximum((1 - part) ** 2 + part**2 + 2 * part * (1 - part) * neighbours, 0.25))
    mixed = ((1 - part) * lower + part * upper) / (length * (1 - _BETWEEN_LOSS * part * (1 - part)))
    return np.asarray(np.clip(mixed, -1.0, 1.0))


def _judged(likeness: Likeness, hopeful: Floats, calibration: Calibration, window_weight: float) -> Floats:
    """The nats of a line's windows under the hypothesis that explains them best.

    `hopeful` are the nats by which the line was found: windows that are settled, or beyond the reference, keep them.
    """
    fixed = np.isnan(likeness.own) | (hopeful == 0.0)
    judged = [
        np.where(fixed, hopeful, calibration.weigh(likeness, nats) * window_weight) for nats in calibration.hypotheses
    ]
    return max(judged, key=lambda nats: best_segment(nats).evidence_nats)


def _against_kin(likeness: Likeness, hopeful: Floats, weights: Floats, calibration: Calibration) -> Floats:
    """What a line's windows say against kin, (W,), under the hypothesis that says most; nothing where nobody measured.

    `weights` (W,) are the share of each window that is news; `hopeful` as for `_judged`.
    """
    fixed = np.isnan(likeness.own) | (hopeful == 0.0)
    said = [np.where(fixed, 0.0, nats * weights) for nats in calibration.against_kin(likeness)]
    return max(said, key=lambda nats: best_segment(nats).evidence_nats, default=np.zeros(len(weights)))


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
    if np.all(np.isnan(around)):
        return line
    excess = np.nan_to_num(np.clip(around - np.nanmin(around), 0.0, None)) ** 3
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
