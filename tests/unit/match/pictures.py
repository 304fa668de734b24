"""Sound is made of bands that rise and fall by chance: real levels do, and two recordings do so independently."""

from __future__ import annotations

import numpy as np

from monitor.types import BANDS, Spectrogram

STEP_S = 0.064


def sound(seconds: float, seed: int) -> np.ndarray:
    """Nepers (T, BANDS): each band a slow walk with attacks."""
    dice = np.random.default_rng(seed)
    frames = round(seconds / STEP_S)
    walk = np.cumsum(dice.normal(0, 0.4, (frames, BANDS)), axis=0)
    walk -= np.stack([np.convolve(band, np.ones(31) / 31, mode="same") for band in walk.T], axis=1)
    return 12.0 + walk + 2.0 * (dice.random((frames, BANDS)) < 0.1)


def picture(nepers: np.ndarray, start_s: float = STEP_S) -> Spectrogram:
    levels = np.clip(np.rint(nepers * 4), 0, 93).astype(np.uint8)
    return Spectrogram(start_s=start_s, step_s=STEP_S, levels=levels)


def mixed(one: np.ndarray, other: np.ndarray, db: float = 0.0) -> np.ndarray:
    """The second so much louder."""
    return np.logaddexp(one, other + db * np.log(10) / 10)


def at(nepers: np.ndarray, first_s: float, last_s: float) -> slice:
    return slice(round(first_s / STEP_S), round(last_s / STEP_S))
