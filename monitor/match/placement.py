"""Which second of a recording plays: music repeats itself, and a line that fits is not yet the line that fits best.

All placements of an airing's windows in the whole reference are compared by their mean similarity, and those that are
nearly as good as the best by their frames, where those are known. Exact repetitions cannot be told apart, and the line
stays where it is; of others, even very alike ones, the right one is nearer over the length of the airing, by a paired
comparison window by window, or frame by frame.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.match.line import Floats, Line, Plane, along, fractional_columns
from monitor.match.presence import Presence, presence

#: What a difference of 1 in similarity, for one window that is all news, says for the nearer of two placements.
_NATS_PER_SIMILARITY = 25.0
#: One window cannot say more than such a difference.
_LARGEST_DIFFERENCE = 0.3
#: So much must speak for another placement, and each window on average so much: grids lie differently on repetitions.
_BETTER_NATS = 3.0
_BETTER_SIMILARITY = 0.012
#: Fewer windows than these do not tell repetitions apart; with their frames so few do.
_LEAST_WINDOWS, _LEAST_WITH_FRAMES = 5, 2
_PEAKS = 12
#: Placements whose windows are so little less alike on average are compared by their frames, so many at most.
_NEARLY_SIMILARITY = 0.03
_MOST_BY_FRAMES = 4
#: Frames nearer than this repeat each other.
_FRAME_NEWS_S = 0.25
#: The mean of paired differences must be so many of its standard errors, and so large: no turn is likelier beforehand,
#: so that this is for the line's rest alone.
_BETTER_ERRORS = 1.5
_BETTER_CORRELATION = 0.02
#: Frames that agree less do not say which placement is right.
_LEAST_AGREEMENT = 0.25
_SAME_TEMPO_RATIO = 0.004
_FINE_HOPS = np.arange(-1.0, 1.01, 0.25)
_FINE_TEMPI = np.array([-0.01, 0.0, 0.01])


def better_line(
    plane: Plane,
    line: Line,
    *,
    first_s: float,
    last_s: float,
    window_s: float,
    window_weight: float,
    pitch_ratio: float = 1.0,
    by_frames_only: bool = False,
) -> Line | None:
    """The line on which what was heard from `first_s` to `last_s` is clearly nearer to the reference than on `line`.

    `plane` holds the whole reference; the stream's pitch is `pitch_ratio` times its own. None if no other line is
    better, or, `by_frames_only`, where frames do not say so: windows of what hardly sounds are like anything.
    """
    rows = np.flatnonzero((plane.window_starts_s >= first_s) & (plane.window_starts_s <= last_s))
    rows = rows[~np.all(np.isnan(plane.similarities[rows]), axis=1)]
    if len(rows) < (_LEAST_WINDOWS if plane.pictures is None else _LEAST_WITH_FRAMES):
        return None
    starts_s, similarities = plane.window_starts_s[rows], np.nan_to_num(plane.similarities[rows])
    search = functools.partial(_finest, plane, rows)
    _, own = search(line)
    tempi = {line.tempo_ratio} if abs(line.tempo_ratio - 1.0) < _SAME_TEMPO_RATIO else {1.0, line.tempo_ratio}
    found = [
        search(Line(origin_s=float(starts_s[0]) - _reference_s(plane, column) / tempo_ratio, tempo_ratio=tempo_ratio))
        for tempo_ratio in sorted(tempi)
        for column in _peaks(
            similarities, (starts_s - starts_s[0]) * (tempo_ratio / plane.reference_hop_s), 2 * plane.columns_per_hop
        )
    ]
    found.sort(key=lambda pair: -float(pair[1].mean()))

    def apart_s(one: Line) -> float:
        return max(abs(one.reference_at(end_s) - line.reference_at(end_s)) for end_s in (first_s, last_s))

    if plane.pictures is not None:
        least = max(float(found[0][1].mean()), float(own.mean())) - _NEARLY_SIMILARITY
        others = [one for one, theirs in found if float(theirs.mean()) >= least and apart_s(one) > window_s / 2]
        if not others:
            return None
        see = functools.partial(
            presence, *plane.pictures, pitch_ratio=pitch_ratio, first_s=first_s, last_s=last_s + window_s, smooth=True
        )
        seen = [see(one) for one in (line, *others[:_MOST_BY_FRAMES])]
        if any(sight is not None and sight.agreement >= _LEAST_AGREEMENT for sight in seen):
            return _better_by_frames(seen, first_s, last_s + window_s)
    other, theirs = found[0]
    if by_frames_only or len(rows) < _LEAST_WINDOWS:
        return None
    differences = np.clip(theirs - own, -_LARGEST_DIFFERENCE, _LARGEST_DIFFERENCE)
    nats = float(differences.sum()) * _NATS_PER_SIMILARITY * window_weight
    better = nats >= _BETTER_NATS and float(differences.mean()) >= _BETTER_SIMILARITY
    return other if better and apart_s(other) > window_s / 2 else None


def _better_by_frames(seen: Sequence[Presence | None], first_s: float, last_s: float) -> Line | None:
    """Of several lines the one along which frames are clearly nearer than along the first, if there is one."""
    here = seen[0]
    there = max((sight for sight in seen if sight is not None), key=lambda sight: sight.agreement)
    if here is None or here is there:
        return None if here is there else there.line
    inside = (here.times_s >= first_s) & (here.times_s <= last_s)
    # A second that the recording does not have on a line speaks against that line.
    differences = np.nan_to_num(there.correlations[inside]) - np.nan_to_num(here.correlations[inside])
    news = len(differences) * float(here.times_s[1] - here.times_s[0]) / _FRAME_NEWS_S
    error = float(differences.std()) / math.sqrt(max(news, 1.0))
    better = float(differences.mean()) >= max(_BETTER_CORRELATION, _BETTER_ERRORS * error)
    return there.line if better else None


def _finest(plane: Plane, rows: NDArray[np.intp], line: Line) -> tuple[Line, Floats]:
    """The best of the lines close to one, with the similarities of the windows `rows`; 0 where there are none."""
    starts_s = plane.window_starts_s[rows]
    middle_s = float(starts_s[0] + starts_s[-1]) / 2
    middle = fractional_columns(plane, line, np.array(middle_s))
    tempi = np.repeat(line.tempo_ratio + _FINE_TEMPI, len(_FINE_HOPS))
    middles = np.tile(middle + _FINE_HOPS * plane.columns_per_hop, len(_FINE_TEMPI))
    columns = middles[:, np.newaxis] + tempi[:, np.newaxis] * (starts_s - middle_s) / plane.reference_hop_s
    found = np.nan_to_num(along(plane, rows, columns))
    top = int(np.argmax(found.mean(axis=1)))
    tempo_ratio = float(tempi[top])
    origin_s = middle_s - _reference_s(plane, float(middles[top])) / tempo_ratio
    return Line(origin_s=origin_s, tempo_ratio=tempo_ratio), found[top]


def _reference_s(plane: Plane, column: float) -> float:
    return plane.reference_start_s + column * plane.reference_hop_s


def _peaks(similarities: Floats, steps: Floats, beside: int) -> list[int]:
    """First columns of the placements with the largest mean similarity, none within `beside` columns of a larger."""
    width = similarities.shape[1]
    offsets: NDArray[np.intp] = np.rint(steps).astype(np.intp)
    padded = np.pad(similarities, ((0, 0), (width, int(offsets.max()) + 1)))
    first = np.arange(-len(offsets) // 2, width)
    sums = np.zeros(len(first))
    for row, offset in zip(padded, offsets.tolist(), strict=True):
        sums += row[width + first[0] + offset : width + first[0] + offset + len(first)]
    peaks: list[int] = []
    for _ in range(_PEAKS):
        top = int(np.argmax(sums))
        peaks.append(int(first[top]))
        sums[max(0, top - beside) : top + beside + 1] = -np.inf
    return peaks
