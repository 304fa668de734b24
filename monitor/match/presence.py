"""When a recording is on air, frame by frame, once it is known which of its seconds would be.

Along the line of an airing the stream's levels are correlated with the recording's own, each less its band's mean over
the second around it. Whatever else sounds (speech, noise, the next piece as loud) fills the valleys and leaves the
peaks, so that the correlation stays far above that of two other sounds, which is 0. Where it falls to 0 the airing
begins or ends: a change point, sought by the largest sum (Page, "Continuous inspection schemes", Biometrika, 1954).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.match.changes import AROUND_S, Flat, between, changes, cut, is_heard, sharpened, smoothed
from monitor.match.line import Line
from monitor.types import Spectrogram

Floats = NDArray[np.float64]

#: Two recordings of the same kit and tempo reach so much identity, hardly anything else does; two of nothing in common
#: stay under so little, an airing deep under noise seldom.
_ALIKE, _STRANGE = 0.4, 0.2
#: What drowns has as much identity as agreement.
_DROWNED_SHARE = 0.95
_NATS_PER_IDENTITY = 20.0
#: Frames can say at most so much for a recording, and twice that, for it or against it, if they are more than a few
#: seconds. So many seconds of what drowns have no other sound's identity, whatever windows know of it.
MOST_FRAME_NATS = 5.0
LONG_S = 5.0
_SHORT_S = 4.0
#: For so long, and hardly for a second more, two pieces that a synthesiser plays may be one chord.
_ONE_CHORD_S = 2.0
#: What is heard so clearly, for so long, has nearly as much identity as agreement, or it is kin.
_CLEAR, _LEAST_KIN_S, _KIN_SHARE = 0.6, 2.5, 0.65
#: A line that windows have found is so far off at most; over its whole length it turns by so much, and by so much of
#: that length.
_OFF_S, _TURN_S, _TURN_RATIO = 0.32, 0.3, 0.02
_COARSE_S, _FINE_S, _TURN_STEP_S = 0.032, 0.016, 0.1
_FRAMES_TO_FIT = 100
#: A stream is read at pitches two bands of the network's apart: its own lies between, so much beside them.
_BESIDE_READING = np.exp(np.array([-0.04, -0.02, 0.02, 0.04])).tolist()
#: Frames beyond the airing's edge correlate less than this.
_ON_AIR = 0.2
#: An edge is where the correlation falls to this share of what it is in the second inside it ...
_EDGE_SHARE = 0.5
_LEVEL_S = (0.25, 1.5)
#: ... within so much of where it falls to nothing.
_EDGE_REACH_S = 0.75
#: Heard frames that do not belong to it end an airing after so long.
_LONGEST_LOST_S = 10.0
#: Fewer seconds inside do not say how much the line is off.
_LEAST_INSIDE_S = 1.0
_SMALL = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """How far each frame of a stretch of a stream is the recording."""

    #: Times of the frames' middles, ascending, (T,).
    times_s: Floats
    #: Of each frame, -1 to 1; NaN where the stream was not heard or the recording has no such second.
    correlations: Floats
    #: The line along which that is, corrected by what the frames say.
    line: Line
    #: The correlation of all frames inside at once.
    agreement: float
    #: The same of what is left once each band is put beside its neighbours: other recordings with the same drums, which
    #: sound in all bands at once, agree in loudness and not in this.
    identity: float
    #: How many seconds were inside.
    inside_s: float
    #: The stream's pitch is so many times the recording's.
    pitch_ratio: float = 1.0

    @property
    def speaks_alone(self) -> bool:
        """Whether frames may say more than windows do: the recording drowns, for long. Of what is heard clearly windows
        know, and kin have less identity than agreement.
        """
        drowned = self.agreement < _CLEAR and self.identity >= _DROWNED_SHARE * self.agreement
        return drowned and self.inside_s >= LONG_S

    @property
    def nats(self) -> float:
        """What the frames say for the recording beyond what its windows say."""
        clear = self.agreement >= _CLEAR and self.inside_s >= _LEAST_KIN_S
        if clear and self.identity < _KIN_SHARE * self.agreement:
            return -MOST_FRAME_NATS
        enough = min(max(self.inside_s - _ONE_CHORD_S, 0.0), 1.0)
        if self.speaks_alone:
            enough = min(self.inside_s / LONG_S, 2.0)
        over = max(self.identity - _ALIKE, 0.0) * _NATS_PER_IDENTITY * enough
        under = min(self.identity - _STRANGE, 0.0) * _NATS_PER_IDENTITY * min(self.inside_s / _SHORT_S, 2.0)
        return min(over, MOST_FRAME_NATS * enough) + max(under, -2 * MOST_FRAME_NATS)

    def edge(self, guess_s: float, inside_s: float, *, ending: bool) -> float:
        """Where the airing ends (or begins), sought outwards from `inside_s`, up to a while beyond the guess.

        That is the guess where no frame tells.
        """
        sign = 1 if ending else -1
        times_s, values = self.times_s[::sign], self.correlations[::sign]
        first = int(np.searchsorted(sign * times_s, sign * inside_s))
        last = int(np.searchsorted(sign * times_s, sign * guess_s + _LONGEST_LOST_S))
        if last - first < 2 or np.isnan(values[first:last]).all():
            return guess_s
        # What the recording does not have, or nobody heard, is not on air.
        outwards = np.where(np.isnan(values), -1.0, values)
        at = first + _furthest(outwards[first:last] - _ON_AIR)
        step_s = float(abs(times_s[1] - times_s[0]))
        nearest, farthest = (round(part_s / step_s) for part_s in _LEVEL_S)
        inside = values[max(0, at - farthest) : max(1, at - nearest)]
        level = float(np.nanmean(inside)) if np.isfinite(inside).any() else 0.0
        reach = round(_EDGE_REACH_S / step_s)
        low = max(first, at - reach)
        at = low + _furthest(outwards[low : at + reach] - max(_ON_AIR, _EDGE_SHARE * level))
        # A frame at the edge holds some of what is beyond it: half of it is not claimed.
        return float(times_s[at - 1]) - sign * step_s / 2 if at > first else float(inside_s)


def _furthest(evidence: Floats) -> int:
    """How many of the first values have the largest sum."""
    return int(np.argmax(np.concatenate([[0.0], np.cumsum(evidence)])))


def presence(
    stream: Spectrogram,
    reference: Spectrogram,
    line: Line,
    *,
    pitch_ratio: float,
    first_s: float,
    last_s: float,
    around_s: float = math.inf,
    smooth: bool = False,
) -> Presence | None:
    """Compare a stream with the recording that is on air between `first_s` and `last_s` along about that line.

    The stream's pitch is about `pitch_ratio` times the recording's: how much exactly is worked out. Frames up to
    `around_s` outside are compared too. Where lines are to be compared with each other, all frames are `smooth`, and
    what is not transposed is compared at its own pitch. None where too little was heard inside.
    """
    stream = cut(stream, first_s - around_s, last_s + around_s)
    if not len(stream.levels):
        return None
    reach_s = _OFF_S + _TURN_S + 2 * AROUND_S
    start_s, end_s = (
        line.reference_at(time_s) for time_s in (stream.start_s, stream.start_s + stream.step_s * len(stream.levels))
    )
    reference = cut(reference, start_s - reach_s, end_s + reach_s)
    if len(reference.levels) < 2:
        return None
    times_s: Floats = stream.start_s + stream.step_s * np.arange(len(stream.levels), dtype=np.float64)
    inside = (times_s >= first_s) & (times_s <= last_s) & is_heard(stream)
    if np.count_nonzero(inside) * stream.step_s < _LEAST_INSIDE_S:
        return None

    def heard_at(pitch_ratio: float) -> Flat:
        found = changes(stream, pitch_ratio)
        return smoothed(found) if smooth else found

    heard, known = heard_at(pitch_ratio), changes(reference, 1.0)
    known = smoothed(known) if smooth else known
    known[~is_heard(reference)] = np.nan
    first_s, last_s = times_s[inside][[0, -1]].tolist()
    middle_s, length_s = (first_s + last_s) / 2, max(last_s - first_s, 2.0)

    def along(offs_s: Floats, turns_s: Floats, which: NDArray[np.intp] | slice) -> Flat:
        """The recording's frames (C, T, BANDS) by so many corrections of the line."""
        times = times_s[which]
        turned_s = (times - middle_s) * (turns_s[:, np.newaxis] / length_s)
        reference_s = line.tempo_ratio * (times - line.origin_s) + offs_s[:, np.newaxis] + turned_s
        frames = (reference_s - reference.start_s) / reference.step_s
        return between(known, frames.ravel()).reshape(*frames.shape, -1)

    # So many frames, spread over the airing, say as well as all where its line is.
    some = np.flatnonzero(inside)[:: max(1, np.count_nonzero(inside) // _FRAMES_TO_FIT)]
    offs_s = np.arange(-_OFF_S, _OFF_S + _COARSE_S / 2, _COARSE_S)
    off_s = offs_s[np.argmax(_agreements(heard[some], along(offs_s, np.zeros(len(offs_s)), some)))]
    most_s = min(_TURN_S, _TURN_RATIO * length_s)
    turns_s = np.linspace(-most_s, most_s, 1 + 2 * math.ceil(most_s / _TURN_STEP_S)).repeat(3)
    offs_s = off_s + np.tile([-_FINE_S, 0.0, _FINE_S], len(turns_s) // 3)
    best = int(np.argmax(_agreements(heard[some], along(offs_s, turns_s, some))))
    off_s, turn_s = float(offs_s[best]), float(turns_s[best])
    there = along(offs_s[best : best + 1], turns_s[best : best + 1], slice(None))[0]
    if pitch_ratio != 1.0 or not smooth:
        pitches = [(pitch_ratio * ratio, heard_at(pitch_ratio * ratio)) for ratio in _BESIDE_READING]
        pitch_ratio, heard = max(
            [(pitch_ratio, heard), *pitches], key=lambda pitch: _agreement(pitch[1][some], there[some])
        )
    norms = np.sqrt(np.sum(heard**2, axis=1) * np.sum(there**2, axis=1)) + _SMALL
    correlations = np.sum(heard * there, axis=1) / norms
    correlations[~is_heard(stream)] = np.nan
    tempo_ratio = line.tempo_ratio + turn_s / length_s
    reference_s = line.reference_at(middle_s) + off_s
    return Presence(
        times_s=times_s,
        correlations=correlations.astype(np.float64),
        line=Line(origin_s=middle_s - reference_s / tempo_ratio, tempo_ratio=tempo_ratio),
        agreement=_agreement(heard[inside], there[inside]),
        identity=_agreement(sharpened(heard[inside]), sharpened(there[inside])),
        inside_s=float(np.count_nonzero(inside)) * stream.step_s,
        pitch_ratio=pitch_ratio,
    )


def _agreement(heard: Flat, there: Flat) -> float:
    return float(_agreements(heard, there[np.newaxis])[0])


def _agreements(heard: Flat, there: Flat) -> Floats:
    """The correlation of the frames heard, (T, BANDS), with each of several, (C, T, BANDS), where these are known."""
    known = ~np.isnan(there[..., 0])
    there = np.where(known[..., np.newaxis], there, 0.0)
    products = np.einsum("tb,ctb->c", heard, there, dtype=np.float64)
    energies = np.einsum("tb,tb->t", heard, heard, dtype=np.float64) @ known.T
    theirs = np.einsum("ctb,ctb->c", there, there, dtype=np.float64)
    return np.asarray(products / (np.sqrt(energies * theirs) + _SMALL))
