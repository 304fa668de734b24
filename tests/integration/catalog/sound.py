"""Small recordings, and a small model that tells them apart in milliseconds."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from monitor.types import Samples, Vectors

RATE_HZ = 8000


class Bands:
    """An embedder: a fixed projection of each window's spectrum. `before` is called in the model's thread."""

    sample_rate_hz = RATE_HZ
    window_samples = 8000
    hop_samples = 4000
    window_s = 1.0
    hop_s = 0.5
    dimension = 32

    def __init__(
        self,
        model_id: str = "bands-0123456789ab",
        before: Callable[[], None] = lambda: None,
        reference_hop_samples: int = 4000,
    ) -> None:
        self.model_id = model_id
        self.before = before
        self.reference_hop_samples, self.reference_hop_s = reference_hop_samples, reference_hop_samples / RATE_HZ
        self._projection = np.random.default_rng(7).standard_normal((4001, self.dimension)).astype(np.float32)

    def embed(self, windows: Samples) -> Vectors:
        self.before()
        spectrum = np.abs(np.fft.rfft(windows, axis=1)).astype(np.float32) + 1e-6
        vectors = spectrum @ self._projection
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def embed_span(self, samples: Samples) -> Vectors:
        return self.embed(sliding_window_view(samples, self.window_samples)[:: self.hop_samples])

    def embed_reference(self, samples: Samples) -> Vectors:
        return self.embed(sliding_window_view(samples, self.window_samples)[:: self.reference_hop_samples])


def melody(seed: int, duration_s: float) -> Samples:
    """Tones that change four times a second, different for each seed."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    pitches_hz = rng.uniform(100, 3500, size=int(duration_s * 4) + 2)[(seconds * 4).astype(int)]
    return (0.4 * np.sin(2 * np.pi * np.cumsum(pitches_hz) / RATE_HZ)).astype(np.float32)


def write_wav(path: Path, samples: Samples) -> Path:
    """The samples as 16-bit mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def write_melody(path: Path, seed: int, duration_s: float = 6.0) -> Path:
    """A recording of that seed."""
    return write_wav(path, melody(seed, duration_s))
