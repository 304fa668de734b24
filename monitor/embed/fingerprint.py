"""The shipped fingerprint: a small convolutional network of our own, run by ONNX Runtime.

Log power in bands spaced evenly in log-frequency (so that pitch is a shift along the axis), 64 frames a window; the
network standardises each window, so that gain does not matter, and gives a unit vector. Trained by contrastive
learning in the manner of Chang et al., "Neural Audio Fingerprint for High-specific Audio Retrieval" (ICASSP 2021); the
model card is `models/fingerprint.md`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from monitor.errors import ConfigError, MissingPartError
from monitor.types import Samples, Vectors

MODELS = Path(__file__).parent / "models"
#: Power below which a band counts as empty: far under the quietest bit of 16-bit audio.
SMALLEST_POWER = 1e-20
#: Windows that go through the network at once: what they need fits a processor's cache, so that more take a third
#: longer each, and memory stays flat.
_BATCH_WINDOWS = 16
#: The front end's frames and spectra of so many stay in the processor's cache: a quarter cheaper than sixteen at once.
_FRAMED_WINDOWS = 4
#: The pitches at which a window is read, in bands: as it is, then lower and higher (ratios of 1.09, 1.19, 1.30 and
#: 1.42), so that up to 1.45 either way at most 4.5 % is left for the network to bear.
_SHIFTS_BANDS = (0, -2, 2, -4, 4, -6, 6, -8, 8)


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """How samples become log power. Frames are not padded, so overlapping windows share exactly the same frames."""

    sample_rate_hz: int = 8000
    frame_samples: int = 1024
    step_samples: int = 256
    #: Frames in a window, and between the starts of two windows, of a stream and of a reference.
    frames: int = 64
    hop_frames: int = 16
    reference_hop_frames: int = 8
    bands: int = 64
    low_hz: float = 250.0
    high_hz: float = 3900.0
    #: Bands that a transposed reading may be displaced by.
    shift_bands: int = 8

    @property
    def window_samples(self) -> int:
        """Samples in a window."""
        return (self.frames - 1) * self.step_samples + self.frame_samples

    @property
    def hop_samples(self) -> int:
        """Samples between the starts of two windows."""
        return self.hop_frames * self.step_samples

    @property
    def reference_hop_samples(self) -> int:
        """Samples between the starts of two windows of a reference."""
        return self.reference_hop_frames * self.step_samples

    @cached_property
    def taper(self) -> NDArray[np.float32]:
        """The periodic Hann window, (frame_samples,), scaled so that the power of a full-scale sine is about 1."""
        angle = 2 * np.pi * np.arange(self.frame_samples) / self.frame_samples
        return ((0.5 - 0.5 * np.cos(angle)) * 4 / self.frame_samples).astype(np.float32)

    @cached_property
    def filters(self) -> NDArray[np.float32]:
        """Triangles in log-frequency, (bins, shift_bands + bands), each of sum 1; the lowest are for reading lower.

        One that lies above half the sample rate, or between two bins, is empty.
        """
        spacing = np.log(self.high_hz / self.low_hz) / (self.bands - 1)
        bins_hz = np.arange(self.frame_samples // 2 + 1) * self.sample_rate_hz / self.frame_samples
        position = (np.log(np.maximum(bins_hz, 1.0)) - np.log(self.low_hz)) / spacing
        weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(-self.shift_bands, self.bands)))
        return np.asarray(weights / np.maximum(weights.sum(axis=0), 1e-12), dtype=np.float32)

    def pitch_ratio(self, shift_bands: int) -> float:
        """The transposition that a reading displaced by so many bands undoes, as a ratio of frequencies."""
        return float((self.high_hz / self.low_hz) ** (shift_bands / (self.bands - 1)))

    def band_numbers(self, shift_bands: int) -> NDArray[np.int64]:
        """Which of the filters' bands a reading takes, (bands,): above 0 it undoes a transposition up by so many.

        Above the highest band there is nothing to read at this sample rate; the highest stands in.
        """
        numbers = np.arange(self.bands) + self.shift_bands + shift_bands
        return np.minimum(numbers, self.shift_bands + self.bands - 1)

    def log_power(self, samples: Samples) -> NDArray[np.float32]:
        """Give (..., frames, shift_bands + bands) natural log of power for (..., n) samples, for every whole frame."""
        framed = sliding_window_view(samples, self.frame_samples, axis=-1)[..., :: self.step_samples, :]
        spectrum = np.fft.rfft(framed * self.taper, axis=-1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        return np.asarray(np.log(power @ self.filters + np.float32(SMALLEST_POWER)), dtype=np.float32)


class Fingerprint:
    """An `Embedder` over the shipped weights. Deterministic; silence gives a constant unit vector, never NaN."""

    def __init__(self, *, weights: Path, front_end: FrontEnd, model_id: str, dimension: int, threads: int = 1) -> None:
        self.model_id = model_id
        self.dimension = dimension
        self.front_end = front_end
        self.sample_rate_hz = front_end.sample_rate_hz
        self.window_samples = front_end.window_samples
        self.hop_samples = front_end.hop_samples
        self.reference_hop_samples = front_end.reference_hop_samples
        self.window_s = front_end.window_samples / front_end.sample_rate_hz
        self.hop_s = front_end.hop_samples / front_end.sample_rate_hz
        self.reference_hop_s = front_end.reference_hop_samples / front_end.sample_rate_hz
        self.pitch_ratios = tuple(front_end.pitch_ratio(shift) for shift in _SHIFTS_BANDS)
        self._bands = tuple(front_end.band_numbers(shift) for shift in _SHIFTS_BANDS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The runtime's own pool keeps for ever what the largest batch so far took; without it nothing is slower.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        onnxruntime.disable_telemetry_events()
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])

    def embed(self, windows: Samples) -> Vectors:
        """Give (B, dimension) rows of norm 1 for (B, window_samples) in [-1, 1]."""
        return self._read(windows, 1)[:, 0]

    def read(self, windows: Samples) -> Vectors:
        """Give (B, len(pitch_ratios), dimension): each window as it is, then as if it had been transposed."""
        return self._read(windows, len(self.pitch_ratios))

    def embed_span(self, samples: Samples) -> Vectors:
        """Give a row for every whole window of a contiguous signal (n,); none when it is shorter than a window."""
        return self._read_span(samples, 1, self.front_end.hop_frames)[:, 0]

    def embed_reference(self, samples: Samples) -> Vectors:
        """As `embed_span`, for windows that are a reference's hop apart."""
        return self._read_span(samples, 1, self.front_end.reference_hop_frames)[:, 0]

    def read_span(self, samples: Samples) -> Vectors:
        """As `embed_span`, with every reading of each window: (N, len(pitch_ratios), dimension)."""
        return self._read_span(samples, len(self.pitch_ratios), self.front_end.hop_frames)

    def _read(self, windows: Samples, readings: int) -> Vectors:
        if windows.ndim != 2 or windows.shape[1] != self.window_samples:
            raise ValueError(f"windows are {windows.shape}, not (B, {self.window_samples})")
        if not len(windows):
            return self._none(readings)
        framed = range(0, len(windows), _FRAMED_WINDOWS)
        log_power = np.concatenate([self.front_end.log_power(windows[at : at + _FRAMED_WINDOWS]) for at in framed])
        starts = range(0, len(windows), _BATCH_WINDOWS)
        return np.concatenate([self._vectors(log_power[at : at + _BATCH_WINDOWS], readings) for at in starts])

    def _read_span(self, samples: Samples, readings: int, hop_frames: int) -> Vectors:
        if samples.ndim != 1:
            raise ValueError(f"a span is (n,), not {samples.shape}")
        count = 1 + (len(samples) - self.window_samples) // (hop_frames * self.front_end.step_samples)
        if count < 1:
            return self._none(readings)
        log_power = self.front_end.log_power(samples)
        windows = sliding_window_view(log_power, self.front_end.frames, axis=0)[::hop_frames][:count]
        windows = windows.transpose(0, 2, 1)
        starts = range(0, count, _BATCH_WINDOWS)
        return np.concatenate([self._vectors(windows[at : at + _BATCH_WINDOWS], readings) for at in starts])

    def _vectors(self, log_power: NDArray[np.float32], readings: int) -> Vectors:
        made = [
            self._session.run(["vectors"], {"log_power": np.ascontiguousarray(log_power[..., bands])})[0]
            for bands in self._bands[:readings]
        ]
        return np.stack(made, axis=1)

    def _none(self, readings: int) -> Vectors:
        return np.empty((0, readings, self.dimension), dtype=np.float32)


def load(models: Path = MODELS, *, threads: int = 1) -> Fingerprint:
    """Load `fingerprint.onnx` as `fingerprint.json` describes it.

    Raises MissingPartError when a file is not there, ConfigError when the weights are not those of the description.
    """
    weights, description = models / "fingerprint.onnx", models / "fingerprint.json"
    for path in (weights, description):
        if not path.is_file():
            raise MissingPartError(f"{path} is missing: the installation is incomplete, install monitor again")
    stated = json.loads(description.read_text())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != stated["weights_sha256"]:
        raise ConfigError(
            f"{weights} has SHA-256 {digest[:12]}..., {description.name} says {stated['weights_sha256'][:12]}...: "
            "the weights are damaged or of another version, install monitor again"
        )
    if missing := [field.name for field in fields(FrontEnd) if field.name not in stated["front_end"]]:
        raise ConfigError(f"{description} does not say the front end's {', '.join(missing)}: export the model again")
    front_end = FrontEnd(**{field.name: stated["front_end"][field.name] for field in fields(FrontEnd)})
    return Fingerprint(
        weights=weights,
        front_end=front_end,
        model_id=f"fingerprint-{digest[:12]}",
        dimension=stated["dimension"],
        threads=threads,
    )
