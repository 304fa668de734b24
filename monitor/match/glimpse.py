"""Where a recording is the loudest thing that a stream holds, band by band and frame by frame.

Sound only adds to sound: where a recording is loud the stream is as loud, or louder by what sounds with it, and hardly
ever quieter. In places between words and drum beats nothing else is as loud, so that there it is exactly as loud
("glimpses": Cooke, "A glimpsing model of speech perception in noise", Journal of the Acoustical Society of America,
2006). Another piece over the same chords, which windows and correlations find alike, lacks many of the recording's
notes, and is hardly anywhere exactly as loud.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from monitor.match.changes import Flat, between, cut, has_bands, is_heard, nepers
from monitor.match.line import Line
from monitor.types import BANDS, Spectrogram

#: The bands of the recording that count in a frame: nepers of power below its loudest, and above the lowest level.
_LOUD, _AUDIBLE = 4.0, 2.0
#: How much louder the stream is in a band where nothing else is: this share of what it is louder there, the middle one
#: of so many bands to either side.
_ALONE_SHARE, _LEAST_OF_BAND = 0.3, 4
_BANDS_BESIDE = 2
#: In places so near to what most are the stream is as loud as the recording; what is so far below is missing.
_EXACT, _MISSING = 0.35, 0.7
_GAINS = np.arange(-2.0, 2.01, 0.1)
_LEAST_FRAMES, _LEAST_BANDS = 15, 4
#: So far off a note has changed; what has not says nothing of one second.
_BESIDE_S = (-0.7, 0.7)
#: Kin are exactly as loud in fewer places, lack more, and have less identity than nearly all airings: each of these may
#: be an airing's in an echoing room, through an equaliser or at a tempo not yet known, all three seldom. It begins
#: to count at the first of each two.
_KIN_EXACT, _KIN_MISSING, _KIN_IDENTITY = (0.29, 0.28), (0.13, 0.17), (0.55, 0.53)
#: What lacks the recording's notes for so long is another piece: each second says so much against it, up to so much.
_LEAST_KIN_S, _KIN_NATS_PER_S, _MOST_KIN_NATS = 3.4, 2.0, 30.0
#: What is heard so clearly, from the first of these correlations of its frames on, fully from the second, has far more
#: that is exact than is missing, or it is another piece on the same synthesiser: for each e-fold less than so many each
#: second says so many nats against the recording, all of them at most so many.
_CLEAR, _CLEAR_FOLDS, _NATS_PER_FOLD_S, _MOST_AGAINST_NATS = (0.45, 0.6), 0.75, 1.2, 20.0
#: Nor do its frames say more than what is exact there, beyond that share of what is a moment off and that much.
_BESIDE_SHARE, _LEAST_NEWS = 0.7, 0.35
#: Where windows and correlations have found a recording the e-folds by which more is exact than missing tell it from
#: another: those beyond so many are worth so many nats each, all at most so many. Shares this small are chance.
_EVEN_FOLDS, _NATS_PER_FOLD, _MOST_NATS = 0.4, 5.0, 8.0
#: Another recording's slow chord, found by windows alone, may say so much.
_KIN_NATS = 5.0
MOST_NATS_BEYOND_KIN = _MOST_NATS - _KIN_NATS
_CHANCE_SHARE = 0.02
#: Pieces on one synthesiser share a chord for so long; of so much everything counts. A recording sounds where it is at
#: most so far, in nepers, below its loudest.
_ONE_CHORD_S, _ENOUGH_S, _SOUNDING = 1.5, 2.5, 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Glimpses:
    """Shares of the places, a band of a frame each, where the recording is loud."""

    #: Where the stream is as loud as the recording.
    exact: float
    #: Where it is clearly less loud.
    missing: float
    #: What the folds are at most where the recording is a little off: hiss and held chords are as exact there.
    folds_beside: float = -math.inf
    #: For how long the recording sounds at all there, be it that the rest of it is a note that dies away.
    sounding_s: float = math.inf

    @property
    def folds(self) -> float:
        """By what factor more is exact than is missing, as its logarithm."""
        return _folds(self.exact, self.missing)

    @property
    def nats(self) -> float:
        """What they say for the recording, below 0 against it, at the place where it is most likely to be."""
        enough = _ramp(self.sounding_s, _ONE_CHORD_S, _ENOUGH_S)
        beyond = self.folds - max(_EVEN_FOLDS, self.folds_beside)
        return min(beyond * _NATS_PER_FOLD, _MOST_NATS) * enough

    @property
    def nats_beyond_kin(self) -> float:
        """What they say for the recording along a line that windows alone have found; nothing against it."""
        return max(self.nats - _KIN_NATS, 0.0)

    def weigh(self, nats: float, agreement: float, inside_s: float) -> float:
        """What is left of the nats that frames say by correlating so well for so many seconds."""
        news = self.folds - _BESIDE_SHARE * max(self.folds_beside, -_EVEN_FOLDS) - _LEAST_NEWS
        too_much = max(nats - max(news * _NATS_PER_FOLD, 0.0), 0.0)
        lacking = max(_CLEAR_FOLDS - self.folds, 0.0) * inside_s * _NATS_PER_FOLD_S
        return nats - _ramp(agreement, *_CLEAR) * (too_much + min(lacking, _MOST_AGAINST_NATS))

    def less_kin(self, nats: float, identity: float, inside_s: float) -> float:
        """What is left of the nats of a run where another piece may sound, whose frames have that identity with the
        recording for so many seconds.
        """
        if inside_s < _LEAST_KIN_S:
            return nats
        kin_nats = -min(_KIN_NATS_PER_S * inside_s, _MOST_KIN_NATS)
        return nats - self.kinship(identity) * max(nats - kin_nats, 0.0)

    def kinship(self, identity: float) -> float:
        """How far another piece sounds, 0 to 1, whose frames have that identity with the recording."""
        lacks = _ramp(self.missing, *_KIN_MISSING)
        return _ramp(identity, *_KIN_IDENTITY) * _ramp(self.exact, *_KIN_EXACT) * lacks


def glimpses(
    stream: Spectrogram, reference: Spectrogram, line: Line, *, pitch_ratio: float, first_s: float, last_s: float
) -> Glimpses | None:
    """How far what was heard from `first_s` to `last_s` holds the recording along a line; None where too little tells.

    The stream's pitch is `pitch_ratio` times the recording's. Gain and equaliser do not count.
    """
    part = cut(stream, first_s, last_s)
    if len(part.levels) < _LEAST_FRAMES:
        return None
    known = _known(reference)
    there = _along(part, reference, known, line)
    if (shares := _shares(part, there, pitch_ratio)) is None:
        return None
    off = (_along(part, reference, known, replace(line, origin_s=line.origin_s + beside_s)) for beside_s in _BESIDE_S)
    beside = [_folds(*found) for known in off if (found := _shares(part, known, pitch_ratio)) is not None]
    return Glimpses(
        exact=shares[0],
        missing=shares[1],
        folds_beside=max(beside, default=-math.inf),
        sounding_s=float(part.step_s * np.count_nonzero(_sounds(part, there))),
    )


def _shares(part: Spectrogram, there: Flat, pitch_ratio: float) -> tuple[float, float] | None:
    """In how many of the places the stream is as loud as the recording, and in how many it is clearly less."""
    more = _louder(part, there, pitch_ratio=pitch_ratio, loud=_LOUD)
    alone = ranked(more.T, _ALONE_SHARE, least=_LEAST_OF_BAND)
    if np.count_nonzero(~np.isnan(alone)) < _LEAST_BANDS:
        return None
    padded = np.pad(alone, _BANDS_BESIDE, constant_values=np.nan)
    beside = np.stack([padded[first : first + BANDS] for first in range(2 * _BANDS_BESIDE + 1)], axis=1)
    places = more - ranked(beside, 0.5, least=1)
    places = np.sort(places[~np.isnan(places)])
    exact = (np.searchsorted(places, _GAINS + _EXACT) - np.searchsorted(places, _GAINS - _EXACT)) / len(places)
    best = int(np.argmax(exact))
    return float(exact[best]), float(np.searchsorted(places, _GAINS[best] - _MISSING) / len(places))


def _ramp(value: float, nothing: float, all_of_it: float) -> float:
    return min(max((value - nothing) / (all_of_it - nothing), 0.0), 1.0)


def _folds(exact: float, missing: float) -> float:
    return math.log((exact + _CHANCE_SHARE) / (missing + _CHANCE_SHARE))


def louder(stream: Spectrogram, reference: Spectrogram, line: Line, *, pitch_ratio: float, loud: float) -> Flat:
    """How many nepers louder the stream is than the recording along a line, (T, BANDS), in places where that is no more
    than `loud` nepers below its frame's loudest band; NaN in others, and where either was not heard.
    """
    return _louder(stream, _along(stream, reference, _known(reference), line), pitch_ratio=pitch_ratio, loud=loud)


def _known(reference: Spectrogram) -> Flat:
    """The recording's levels in nepers, (R, BANDS); NaN where it has none."""
    known = nepers(reference, 1.0)
    known[~is_heard(reference)] = np.nan
    return known


def _along(stream: Spectrogram, reference: Spectrogram, known: Flat, line: Line) -> Flat:
    """What is `known` of the recording at the stream's frames, (T, BANDS); NaN where that is nothing."""
    times_s = stream.start_s + stream.step_s * np.arange(len(stream.levels), dtype=np.float64)
    reference_s = line.tempo_ratio * (times_s - line.origin_s)
    return between(known, np.asarray((reference_s - reference.start_s) / reference.step_s))


def _louder(stream: Spectrogram, there: Flat, *, pitch_ratio: float, loud: float) -> Flat:
    counts = there > np.maximum(np.fmax.reduce(there, axis=1, keepdims=True) - loud, _AUDIBLE)
    counts &= is_heard(stream)[:, np.newaxis] & has_bands(pitch_ratio)
    return np.asarray(np.where(counts, nepers(stream, pitch_ratio) - there, np.nan), dtype=np.float32)


def _sounds(stream: Spectrogram, there: Flat) -> NDArray[np.bool_]:
    """In which frames of the stream the recording sounds, (T,)."""
    peaks = there.max(axis=1)
    loudest = float(np.fmax.reduce(peaks, initial=-np.inf))
    return np.asarray(is_heard(stream) & (peaks > max(loudest - _SOUNDING, _AUDIBLE)))


def ranked(rows: Flat, share: float, *, least: int) -> Flat:
    """The value of each row that this share of its known ones is below; NaN where fewer than `least` are known."""
    counts = np.count_nonzero(~np.isnan(rows), axis=1)
    at = np.clip(np.rint(share * (counts - 1)), 0, None).astype(np.intp)
    found = np.take_along_axis(np.sort(rows, axis=1), at[:, np.newaxis], axis=1)[:, 0]
    return np.asarray(np.where(counts >= least, found, np.nan))
