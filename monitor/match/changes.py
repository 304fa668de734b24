"""Sound as what changes in it: levels, each less its band's mean over the second around.

Whatever else sounds (speech, noise, the next piece as loud) fills the valleys of a recording's changes and leaves the
peaks, so that they stay alike, while those of two other sounds have nothing in common.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from monitor.types import ABSENT, BANDS, HIGHEST_BAND_HZ, LEVELS_PER_NEPER, LOWEST_BAND_HZ, Levels, Spectrogram

Flat = NDArray[np.float32]
Floats = NDArray[np.float64]

#: Nepers of power (50 dB) below its loudest band, and (60 dB) below that of the second around it, that count.
_FRAME_FLOOR, _AROUND_FLOOR = 11.5, 14.0
#: Seconds to either side over which a band's mean is taken.
AROUND_S = 0.5
#: Of the mean of all bands of a frame, its loudness, so much is taken away: what an airing shares with others is beat.
_LOUDNESS = 0.5
#: A band is put beside so many on either side.
_BANDS_AROUND = 3
#: A frame is smoothed with its neighbours (a quarter of each) so often.
_SMOOTHINGS = 2


def changes(spectrogram: Spectrogram, pitch_ratio: float) -> Flat:
    """Nepers at the recording's pitch, less each band's mean over the second around; 0 where nothing was heard."""
    heard, step_s = is_heard(spectrogram), spectrogram.step_s
    found = nepers(spectrogram, pitch_ratio)
    peaks = found.max(axis=1, keepdims=True)
    floor = np.maximum(peaks - _FRAME_FLOOR, around(peaks, heard, 2 * AROUND_S, step_s) - _AROUND_FLOOR)
    found = np.maximum(found, floor)
    found -= around(found, heard, AROUND_S, step_s)
    found -= np.float32(_LOUDNESS) * found.mean(axis=1, keepdims=True)
    found[~heard] = 0.0
    return np.asarray(found, dtype=np.float32)


def nepers(spectrogram: Spectrogram, pitch_ratio: float) -> Flat:
    """The levels (T, BANDS) as nepers of power at the recording's pitch; those of frames not heard mean nothing."""
    return np.asarray(_transposed(spectrogram.levels, pitch_ratio) / np.float32(LEVELS_PER_NEPER), dtype=np.float32)


def has_bands(pitch_ratio: float) -> NDArray[np.bool_]:
    """Which of the recording's bands are among those of a stream at that pitch, (BANDS,)."""
    bands = _bands(pitch_ratio)
    return (bands >= 0) & (bands <= BANDS - 1)


def sharpened(found: Flat) -> Flat:
    """Changes (T, BANDS), each band less the mean of those around it: drums, which sound in all at once, are gone."""
    sums = np.zeros((len(found), BANDS + 1), dtype=np.float32)
    np.cumsum(found, axis=1, out=sums[:, 1:])
    bands = np.arange(BANDS)
    low, high = np.maximum(bands - _BANDS_AROUND, 0), np.minimum(bands + _BANDS_AROUND + 1, BANDS)
    return np.asarray(found - (sums[:, high] - sums[:, low]) / (high - low).astype(np.float32))


def smoothed(found: Flat) -> Flat:
    """Changes (T, bands) over about three frames. Between two frames a line reads their mean, which lacks what is
    sharp: this lacks it everywhere, so that two lines are compared by what they are near to, not by where they pass.
    """
    for _ in range(_SMOOTHINGS):
        padded = np.concatenate([found[:1], found, found[-1:]])
        found = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return found


def cut(spectrogram: Spectrogram, start_s: float, end_s: float) -> Spectrogram:
    """The frames whose middles lie in [start_s, end_s)."""
    step_s, count = spectrogram.step_s, len(spectrogram.levels)
    first, last = np.clip(np.ceil((np.array([start_s, end_s]) - spectrogram.start_s) / step_s - 1e-6), 0, count).astype(
        int
    )
    return Spectrogram(
        start_s=spectrogram.start_s + first * step_s, step_s=step_s, levels=spectrogram.levels[first:last]
    )


def is_heard(spectrogram: Spectrogram) -> NDArray[np.bool_]:
    """Which frames there are, (T,)."""
    return np.asarray(spectrogram.levels[:, 0] != ABSENT)


def between(known: Flat, frames: Floats) -> Flat:
    """The rows at fractional numbers; NaN where there are none."""
    lower = np.clip(np.floor(frames).astype(int), 0, max(len(known) - 2, 0))
    part = np.clip(frames - lower, 0.0, 1.0).astype(np.float32)[:, np.newaxis]
    found = known[lower] * (1 - part) + known[np.minimum(lower + 1, len(known) - 1)] * part
    found[(frames < -0.5) | (frames > len(known) - 0.5)] = np.nan
    return np.asarray(found)


def _transposed(levels: Levels, pitch_ratio: float) -> Flat:
    """The levels (T, BANDS) as if the sound's pitch were `pitch_ratio` times lower; its edge bands stand in."""
    if pitch_ratio == 1.0:
        return levels.astype(np.float32)
    bands = _bands(pitch_ratio)
    lower = np.clip(np.floor(bands).astype(int), 0, BANDS - 2)
    part = np.clip(bands - lower, 0.0, 1.0).astype(np.float32)
    return np.asarray(levels[:, lower] * (1 - part) + levels[:, lower + 1] * part, dtype=np.float32)


def _bands(pitch_ratio: float) -> Floats:
    """Where among a stream's bands those of the recording lie, (BANDS,)."""
    spacing = math.log(HIGHEST_BAND_HZ / LOWEST_BAND_HZ) / (BANDS - 1)
    return np.asarray(np.arange(BANDS) + math.log(pitch_ratio) / spacing, dtype=np.float64)


def around(values: Flat, heard: NDArray[np.bool_], to_either_side_s: float, step_s: float) -> Flat:
    """The mean of the heard rows near each row, (T, columns) as given."""
    reach = round(to_either_side_s / step_s)
    sums = np.zeros((len(values) + 1, values.shape[1] + 1))
    np.cumsum(np.where(heard[:, np.newaxis], values, 0.0), axis=0, out=sums[1:, :-1])
    np.cumsum(heard, out=sums[1:, -1])
    rows = np.arange(len(values))
    total = sums[np.minimum(rows + reach + 1, len(values))] - sums[np.maximum(rows - reach, 0)]
    return np.asarray(total[:, :-1] / np.maximum(total[:, -1:], 1.0), dtype=np.float32)
