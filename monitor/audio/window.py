"""Slices of one stream: any way of cutting the same audio into chunks gives the same windows. Pure."""

from __future__ import annotations

import math

import numpy as np

from monitor.types import Chunk, Samples, Window


def level_dbfs(samples: Samples) -> float:
    """Root mean square of `samples` relative to full scale (an amplitude of 1); -inf for digital silence or none."""
    if samples.size == 0:
        return -math.inf
    power = float(np.dot(samples, samples)) / samples.size
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf


class Windower:
    """Cuts a stream's chunks into overlapping windows.

    A chunk with `discontinuity` throws the unfinished window away and sets the time axis anew; between discontinuities
    a window's time is the first chunk's `start_s` plus its offset in samples, so rounding never adds up.
    """

    def __init__(self, *, stream: str, sample_rate_hz: int, window_samples: int, hop_samples: int) -> None:
        self._stream = stream
        self._sample_rate_hz = sample_rate_hz
        self._spans = Spans(window_samples=window_samples, hop_samples=hop_samples)
        self._origin_s: float | None = None

    def push(self, chunk: Chunk) -> list[Window]:
        """The windows that `chunk` completes, oldest first. Raises ValueError on a chunk of another sample rate."""
        if chunk.sample_rate_hz != self._sample_rate_hz:
            raise ValueError(f"a chunk at {chunk.sample_rate_hz} Hz was given to windows at {self._sample_rate_hz} Hz")
        if chunk.discontinuity or self._origin_s is None:
            self._spans.reset()
            self._origin_s = chunk.start_s
        span = self._spans.push(chunk.samples)
        if span is None:
            return []
        first, samples = span
        size, hop = self._spans.window_samples, self._spans.hop_samples
        windows = []
        for number in range(1 + (samples.size - size) // hop):
            part = samples[number * hop : number * hop + size]
            windows.append(
                Window(
                    stream=self._stream,
                    start_s=self._origin_s + (first + number) * hop / self._sample_rate_hz,
                    samples=part,
                    level_dbfs=level_dbfs(part),
                )
            )
        return windows


class Spans:
    """The same slicing for embedders that take a contiguous signal: each span holds whole windows, the tail is kept."""

    def __init__(self, *, window_samples: int, hop_samples: int) -> None:
        if not 0 < hop_samples <= window_samples:
            raise ValueError(f"a hop of {hop_samples} samples does not fit windows of {window_samples} samples")
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self._tail: Samples = np.empty(0, dtype=np.float32)
        self._next = 0

    def push(self, samples: Samples) -> tuple[int, Samples] | None:
        """Index of the first window and samples that end with the last whole window; None while no window is whole."""
        held = np.concatenate([self._tail, samples]) if self._tail.size else samples
        if held.size < self.window_samples:
            self._tail = held
            return None
        count = 1 + (held.size - self.window_samples) // self.hop_samples
        span = held[: (count - 1) * self.hop_samples + self.window_samples]
        first = self._next
        self._next += count
        self._tail = held[count * self.hop_samples :]
        return first, span

    def reset(self) -> None:
        """Forgets the tail and counts windows from 0 again."""
        self._tail = np.empty(0, dtype=np.float32)
        self._next = 0
