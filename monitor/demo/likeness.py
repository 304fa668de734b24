"""Do two recordings hold the same audio? Decided by exact cross-correlation of waveforms, without any model.

A held-out recording that shares audio with a catalogued one (a loop, a short version, another format) is rightly
found, so it cannot show a false alarm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.types import Samples

#: Recordings are compared at this rate: what they share is loudest below 2 kHz.
RATE_HZ = 4_000
#: Excerpts of this length are looked for, one every step.
EXCERPT_S = 4.0
STEP_S = 2.0
#: Normalised correlation from which an excerpt counts as the same sound. Unrelated music stayed below 0.2, and other
#: pieces of the same synthesiser below 0.35, in some dozens of pairs.
SAME_CORRELATION = 0.5
_QUIET = 1e-4


def reduced(samples: Samples, sample_rate_hz: int) -> Samples:
    """The recording at `RATE_HZ`, of which `sample_rate_hz` must be a multiple: block means, whitened at low pitch."""
    factor, rest = divmod(sample_rate_hz, RATE_HZ)
    if rest:
        raise ValueError(f"{sample_rate_hz} Hz is no multiple of {RATE_HZ} Hz")
    whole = len(samples) // factor * factor
    slow = samples[:whole].reshape(-1, factor).mean(axis=1)
    # A first difference keeps one bass note from passing for a whole recording.
    whitened: Samples = np.diff(slow, prepend=slow[:1]).astype(np.float32)
    return whitened


def shared_correlation(recording: Samples, other: Samples) -> float:
    """The best normalised correlation, in [0, 1], of any excerpt of `recording` with any place in `other`.

    Both as `reduced` gives them.
    """
    excerpt, step = round(EXCERPT_S * RATE_HZ), round(STEP_S * RATE_HZ)
    if len(recording) < excerpt or len(other) < excerpt:
        return 0.0
    size = 1 << (len(other) + excerpt).bit_length()
    spectrum = np.fft.rfft(other, size)
    energy = _running_energy(other, excerpt)
    places = len(other) - excerpt + 1
    heard = energy > _QUIET * excerpt * max(1e-12, float(np.mean(np.square(other))))
    best = 0.0
    for start in range(0, len(recording) - excerpt + 1, step):
        piece = recording[start : start + excerpt]
        level = float(np.sum(np.square(piece, dtype=np.float64)))
        if level <= 1e-9 * excerpt:
            continue
        correlation = np.fft.irfft(spectrum * np.conj(np.fft.rfft(piece, size)), size)[:places]
        normalised = np.abs(correlation[heard]) / np.sqrt(level * energy[heard])
        best = max(best, float(normalised.max(initial=0.0)))
    return min(1.0, best)


def shares_audio(recording: Samples, other: Samples) -> bool:
    """True if some seconds of both, as `reduced` gives them, are the same sound at the same speed."""
    return shared_correlation(recording, other) >= SAME_CORRELATION


def _running_energy(samples: Samples, length: int) -> NDArray[np.float64]:
    total = np.concatenate(([0.0], np.cumsum(np.square(samples, dtype=np.float64))))
    energy: NDArray[np.float64] = np.maximum(total[length:] - total[:-length], 1e-12)
    return energy
