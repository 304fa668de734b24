"""Where an airing ends whose last seconds something covers: a voice, the next piece over it, a cross-fade.

Sound only adds to sound. So of the bands and frames of half a second the least that the stream has more than the
recording bounds how loud the recording can be in it, and in some bands it is not covered long after correlations are
gone (minimum statistics: Martin, "Noise power spectral density estimation based on optimal smoothing and minimum
statistics", IEEE Transactions on Speech and Audio Processing, 2001). While the recording sounds, the bound stays at its
usual loudness or above; without it the bound soon falls. Where it falls in a straight line, as mixers fade, the line
says where it reaches nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from monitor.match.changes import Flat, Floats, is_heard
from monitor.match.glimpse import louder, ranked
from monitor.match.presence import Presence
from monitor.types import Spectrogram

#: The bands of the recording that count in a frame: nepers of power below its loudest.
_LOUD = 6.0
#: The bound is this share of what the stream has more in all bands of so many seconds, of at least so many values.
_LEAST_SHARE = 0.15
_OVER_S = 0.576
_LEAST_VALUES = 20
_LARGEST_GAIN = 1.15
#: So near to an edge an airing may be fading: as loud as usual it is where neither edge is so near, or the other one so
#: much nearer, for at least so long.
_FADING_S, _MARGIN_S = 5.5, 1.0
_LEAST_INSIDE_S = 2.0

#: By this bound the recording goes on, or not, by so many nats: what is much louder covers all, and says nothing. A
#: frame says its share of the half second that its bound is of.
_BOUNDS, _BOUND_NATS = np.array([0.8, 0.93, 1.0, 1.2, 1.5]), np.array([-3.5, 0.0, 1.5, 1.5, 0.0])
#: So many nats for each unit of a frame's correlation above that of another sound.
_CORRELATION_NATS, _OTHER_CORRELATION = 0.3, 0.2
#: An airing is covered to its end for so long at most. That it goes on is worth so many nats, and that it is over then
#: so many in each half second of the next seconds: else what covers it would cover anything.
_COVERED_S, _NEXT_S = 8.0, 3.0
_GOES_ON_NATS, _OVER_NATS = 1.5, -2.5
#: A bound is of both sides of an end: that lies so much further.
_STRADDLED_S, _AFTER_S = 0.08, 0.2

#: Fades as they are sought: lengths, and how far beyond the last second that correlates they end.
_LENGTHS_S, _BEYOND_S = np.arange(1.0, 8.01, 0.25), np.arange(0.125, 2.51, 0.125)
_LONGEST_S = 7.0
#: A fade's covered part is at most this share of its heard part.
_COVERED_RATIO = 0.4
#: What sounds with it lifts the bound: being above the line costs less than being below, and no frame costs more.
_ABOVE_COST, _MOST_COST = 0.3, 0.16
#: A fade explains the frames so much better than none, in squared errors of gain, and is so faint for so long before
#: the edge: what is only turned down is louder.
_BETTER = 0.2
_FAINT, _FAINT_S = 0.65, 0.5
#: A second too many is worse than one too few: so much of what a fade goes on for is claimed.
#: What is covered for less says nothing: any end is a little blurred.
_CLAIMED_SHARE, _LEAST_BEYOND_S = 0.6, 0.5
_LEAST_FRAMES = 20


def covered_edges(
    seen: Presence, stream: Spectrogram, reference: Spectrogram, *, start_s: float, end_s: float
) -> tuple[float, float]:
    """Where an airing begins and ends that correlations tell from `start_s` to `end_s`: there, or as far outside as it
    goes on under what covers it.

    `seen` is of all of the stream's frames. Nothing is claimed that was not heard.
    """
    margin_s = min(_FADING_S, (end_s - start_s) / 2)
    more = louder(stream, reference, seen.line, pitch_ratio=seen.pitch_ratio, loud=_LOUD)
    reference_s = seen.line.tempo_ratio * (seen.times_s - seen.line.origin_s) - reference.start_s
    heard = is_heard(stream)
    # The recording is over: whatever sounds is not it.
    beyond = heard & ((reference_s < 0.0) | (reference_s > reference.step_s * (len(reference.levels) - 1)))
    bounds = [
        _bounds(more, seen.times_s, inside_s, step_s=stream.step_s)
        for inside_s in ((start_s + margin_s, end_s - _MARGIN_S), (start_s + _MARGIN_S, end_s - margin_s))
    ]

    def beyond_s(gains: Floats | None, edge_s: float, sign: int) -> float:
        if gains is None:
            return 0.0
        order = slice(None, None, sign)
        outwards_s = sign * (seen.times_s - edge_s)[order]
        gains = np.where(beyond, 0.0, gains)[order]
        reached_s = _held_s(outwards_s, gains, seen.correlations[order]) or _CLAIMED_SHARE * _fade_s(outwards_s, gains)
        heard_s = outwards_s[heard[order] & (outwards_s <= reached_s)]
        return min(reached_s, max(float(heard_s.max(initial=0.0)), 0.0) + stream.step_s)

    return start_s - beyond_s(bounds[0], start_s, -1), end_s + beyond_s(bounds[1], end_s, 1)


def _bounds(more: Flat, times_s: Floats, inside_s: tuple[float, float], *, step_s: float) -> Floats | None:
    """How loud the recording can be in each frame, (T,), by how much louder the stream is in each band, (T, BANDS): the
    largest amplitude, about 1 inside; NaN where too little of it is known. None where too little is inside.
    """
    inside = (times_s >= inside_s[0]) & (times_s <= inside_s[1])
    if np.count_nonzero(inside) * step_s < _LEAST_INSIDE_S:
        return None
    least = _least(more - ranked(more[inside].T, 0.5, least=1), round(_OVER_S / step_s / 2))
    usual = least[inside & ~np.isnan(least)]
    return np.asarray(np.exp((least - np.median(usual)) / 2), dtype=np.float64) if len(usual) else None


def _least(values: Flat, reach: int) -> Flat:
    """The bound of each frame (T,) by the values (T, bands) of those up to `reach` beside it."""
    padded = np.pad(values, ((reach, reach), (0, 0)), constant_values=np.nan)
    beside = sliding_window_view(padded, 2 * reach + 1, axis=0).reshape(len(values), -1)
    return ranked(beside, _LEAST_SHARE, least=_LEAST_VALUES)


def _held_s(outwards_s: Floats, gains: Floats, correlations: Floats) -> float:
    """How long beyond the edge the recording goes on by the frames outwards from there; 0 where nothing tells."""
    beyond = (outwards_s >= 0.0) & (outwards_s <= _COVERED_S + _AFTER_S + _NEXT_S)
    times_s, gains, correlations = outwards_s[beyond], gains[beyond], correlations[beyond]
    if len(times_s) < 2:
        return 0.0
    step_s = float(times_s[1] - times_s[0])
    said = np.where(np.isnan(gains), 0.0, np.interp(gains, _BOUNDS, _BOUND_NATS))
    with_frames = said * step_s / _OVER_S + _CORRELATION_NATS * (np.nan_to_num(correlations) - _OTHER_CORRELATION)
    going_on = np.cumsum(with_frames)
    after, until = (round(part_s / step_s) for part_s in (_AFTER_S, _AFTER_S + _NEXT_S))
    ends = np.arange(len(times_s) - until)
    if not len(ends):
        return 0.0
    sums = np.concatenate([[0.0], np.cumsum(said)])
    over = (sums[ends + 1 + until] - sums[ends + 1 + after]) / (until - after)
    nats = np.where((over <= _OVER_NATS) & (times_s[ends] <= _COVERED_S), going_on[ends], -np.inf)
    best = int(np.argmax(nats))
    return float(times_s[best]) + _STRADDLED_S if nats[best] >= _GOES_ON_NATS else 0.0


def _fade_s(outwards_s: Floats, gains: Floats) -> float:
    """How far beyond the edge a fade goes on; 0 where there is none: least squares over all straight fades."""
    # Frames nearer to the edge are of what is beyond it too.
    near = (-outwards_s >= _OVER_S / 2) & (-outwards_s <= _LONGEST_S) & ~np.isnan(gains)
    before_s, gains = -outwards_s[near], np.minimum(gains[near], _LARGEST_GAIN)
    last = gains[before_s < before_s.min(initial=np.inf) + _FAINT_S]
    if len(gains) < _LEAST_FRAMES or np.median(last) > _FAINT:
        return 0.0
    lengths_s, beyond_s = (grid.ravel() for grid in np.meshgrid(_LENGTHS_S, _BEYOND_S, indexing="ij"))
    heard = beyond_s <= _COVERED_RATIO * (lengths_s - beyond_s)
    lengths_s, beyond_s = lengths_s[heard], beyond_s[heard]
    fades = np.clip((before_s + beyond_s[:, np.newaxis]) / lengths_s[:, np.newaxis], 0.0, 1.0)
    costs = _cost(gains - fades)
    best = int(np.argmin(costs))
    faded = beyond_s[best] >= _LEAST_BEYOND_S and costs[best] <= float(_cost(gains - 1.0)) - _BETTER
    return float(beyond_s[best]) if faded else 0.0


def _cost(errors: Floats) -> Floats:
    squares = np.minimum(errors**2, _MOST_COST)
    return np.asarray(np.sum(np.where(errors > 0, _ABOVE_COST, 1.0) * squares, axis=-1))
