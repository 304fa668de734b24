"""The line that an airing leaves in the plane (stream time, reference time).

An airing is a straight line: its slope is the tempo, its intercept the origin. What it says is the run of windows with
the largest sum of log-likelihood ratios (maximal scoring segment: Karlin and Altschul, 1990; the one-dimensional sum is
Kadane's).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.types import Spectrogram, Vectors

Floats = NDArray[np.float64]

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


def fractional_columns(plane: Plane, line: Line, starts_s: Floats) -> Floats:
    """Where in the plane the line passes the stream times `starts_s`, shape as given."""
    reference_s = line.tempo_ratio * (starts_s - line.origin_s)
    return np.asarray((reference_s - plane.reference_start_s) / plane.reference_hop_s)


def along(plane: Plane, rows: NDArray[np.intp], columns: Floats) -> Floats:
    """Similarities of the windows `rows` (W,) at fractional columns (..., W): with the vector between two windows.

    NaN where the stream was silent or the reference has no such second.
    """
    width = np.full(len(rows), plane.similarities.shape[1])
    return along_each(plane.similarities, plane.neighbours[np.newaxis], width, rows, np.zeros_like(rows), columns)


def along_each(  # noqa: PLR0917 - parallel arrays of one table
    similarities: Floats,
    neighbours: Floats,
    widths: NDArray[np.intp],
    rows: NDArray[np.intp],
    planes: NDArray[np.intp],
    columns: Floats,
) -> Floats:
    """As `along`, of several planes below one another: their `neighbours` (P, R - 1), and, of each of the rows, of
    which of the `planes` it is and how many columns that has.
    """
    last = widths - 1
    inside = (columns >= -0.5) & (columns < last + 0.5)
    columns = np.clip(columns, 0, last)
    lower = np.minimum(columns.astype(np.intp), np.maximum(last - 1, 0))
    upper = np.minimum(lower + 1, last)
    part = columns - lower
    alike = neighbours[planes, lower] if neighbours.shape[1] else np.ones_like(part)
    one, other = similarities[rows, lower], similarities[rows, upper]
    nearest = np.where(part < 0.5, one, other)
    between_both = between(one, other, part, alike)
    # Beside silence there is nothing between.
    return np.where(inside, np.where(np.isnan(between_both), nearest, between_both), np.nan)


def between(lower: Floats, upper: Floats, part: Floats, neighbours: Floats) -> Floats:
    """Similarity with the vector `part` of the way between two windows, from those with both, which are so alike."""
    length = np.sqrt(np.maximum((1 - part) ** 2 + part**2 + 2 * part * (1 - part) * neighbours, 0.25))
    mixed = ((1 - part) * lower + part * upper) / (length * (1 - _BETWEEN_LOSS * part * (1 - part)))
    return np.asarray(np.clip(mixed, -1.0, 1.0))
