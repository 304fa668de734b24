"""Sounds that are no music: speech-like babble by formant synthesis, and noises."""

from __future__ import annotations

import numpy as np

from monitor.demo.instruments import SAMPLE_RATE_HZ, Floats, Generator
from monitor.types import Samples

#: First three formants of vowels in Hz (Peterson and Barney, 1952, men).
_VOWELS = np.array(
    [(270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440), (570, 840, 2410),
     (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690)]
)  # fmt: skip
_BANDWIDTHS_HZ = np.array([80.0, 110.0, 160.0])
_FORMANT_LEVELS = np.array([1.0, 0.5, 0.25])
_HARMONICS_TO_HZ = 4200.0


def babble(rng: Generator, duration_s: float) -> Samples:
    """Somebody talking in no language: syllables of gliding vowels and consonants' noise, phrases with pauses.

    Harmonics of a gliding voice are weighted by the formants (Klatt's parallel synthesis, 1980); peak 0.8.
    """
    total = np.zeros(round((duration_s + 1) * SAMPLE_RATE_HZ), dtype=np.float64)
    voice_hz = rng.uniform(95, 210)
    tract = rng.uniform(0.92, 1.18)
    vowel = _VOWELS[rng.integers(len(_VOWELS))] * tract
    start_s = float(rng.uniform(0, 0.15))
    phrase_s = 0.0
    while start_s < duration_s:
        syllable_s = float(rng.uniform(0.11, 0.26))
        following = _VOWELS[rng.integers(len(_VOWELS))] * tract
        stress = float(rng.uniform(0.5, 1.0))
        # The voice falls along a phrase and rises on stressed syllables.
        pitch_hz = voice_hz * (1.15 - 0.08 * phrase_s) * (0.9 + 0.25 * stress) * rng.uniform(0.95, 1.05)
        _add(total, start_s, stress * _vowel(rng, syllable_s, pitch_hz, vowel, following))
        if rng.random() < 0.75:
            _add(total, max(0.0, start_s - 0.04), 0.35 * stress * _consonant(rng))
        vowel = following
        start_s += syllable_s * float(rng.uniform(0.9, 1.1))
        phrase_s += syllable_s
        if phrase_s > 1.2 and rng.random() < 0.2:
            start_s += float(rng.uniform(0.15, 0.5))
            phrase_s = 0.0
    speech = total[: round(duration_s * SAMPLE_RATE_HZ)]
    return (0.8 * speech / (float(np.max(np.abs(speech))) + 1e-9)).astype(np.float32)


def _vowel(rng: Generator, duration_s: float, pitch_hz: float, formants: Floats, following: Floats) -> Floats:
    progress = np.linspace(0, 1, round(duration_s * SAMPLE_RATE_HZ))
    glide = 1 + 0.04 * (progress - 0.5) * rng.choice((-1, 1)) + 0.006 * np.sin(2 * np.pi * 5 * duration_s * progress)
    frequency_hz = pitch_hz * glide
    phase = 2 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE_HZ
    steps = np.linspace(0, 1, 6)
    tract = formants[None, :] + steps[:, None] * (following - formants)[None, :]
    total = np.zeros_like(progress)
    for harmonic in range(1, int(_HARMONICS_TO_HZ / pitch_hz) + 1):
        distance = (harmonic * pitch_hz - tract) / _BANDWIDTHS_HZ
        level = (_FORMANT_LEVELS / np.sqrt(1 + distance**2)).sum(axis=1)
        total += np.interp(progress, steps, level) * np.sin(harmonic * phase)
    return total * np.sin(np.pi * np.minimum(1, progress * 0.98 + 0.01)) ** 0.5


def _consonant(rng: Generator) -> Floats:
    duration_s = float(rng.uniform(0.03, 0.1))
    spectrum = np.fft.rfft(rng.normal(0, 1, round(duration_s * SAMPLE_RATE_HZ)))
    frequency_hz = np.fft.rfftfreq(round(duration_s * SAMPLE_RATE_HZ), 1 / SAMPLE_RATE_HZ)
    centre_hz, width_hz = rng.uniform(1500, 6500), rng.uniform(700, 2000)
    burst = np.fft.irfft(spectrum * np.exp(-(((frequency_hz - centre_hz) / width_hz) ** 2)))
    return burst * np.hanning(len(burst)) * 3


def _add(total: Floats, start_s: float, sound: Floats) -> None:
    first = round(start_s * SAMPLE_RATE_HZ)
    sound = sound[: max(0, len(total) - first)]
    total[first : first + len(sound)] += sound


def noise(rng: Generator, duration_s: float) -> Samples:
    """Noise whose spectrum falls by 0 to 6 dB an octave and whose level wanders, as traffic or a crowd; peak 0.5."""
    count = round(duration_s * SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(rng.normal(0, 1, count))
    frequency_hz = np.maximum(30.0, np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ))
    coloured = np.fft.irfft(spectrum / frequency_hz ** rng.uniform(0, 1), count)
    knots = max(2, int(duration_s / 0.7))
    level = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, knots), rng.uniform(0.4, 1, knots))
    shaped = coloured * level
    return (0.5 * shaped / (float(np.max(np.abs(shaped))) + 1e-9)).astype(np.float32)
