"""Another sample rate for a stream of samples: polyphase filters that any chunking passes through alike. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from monitor.types import Samples

#: Zero crossings of the sinc on each side, and the Kaiser window's beta: 80 dB stop band above 1.07 of the new Nyquist
#: frequency (Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974).
_CROSSINGS = 32
_BETA = 8.0
#: Where the pass band ends, as a share of the lower Nyquist frequency.
_CUTOFF = 0.93


class Resampler:
    """Changes the rate by any ratio of integers.

    Output sample k is the band-limited input at time `k / to_hz`: nothing is shifted. It comes once the input that
    its filter covers is there, `delay_samples` input samples later; the last ones of a stream that ends never come.
    """

    def __init__(self, *, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // divisor, from_hz // divisor
        cutoff = _CUTOFF * min(1.0, to_hz / from_hz)
        self.delay_samples = math.ceil(_CROSSINGS / cutoff)
        self._bank = _filters(self._up, cutoff, self.delay_samples)
        # Before the first sample lies silence, as long as one side of the filter.
        self._tail: Samples = np.zeros(self.delay_samples, dtype=np.float32)
        self._tail_start = 0
        self._next = 0

    def push(self, samples: Samples) -> Samples:
        """The output that `samples`, which continue the ones before, complete."""
        held = np.concatenate([self._tail, samples])
        taps = self._bank.shape[1]
        # Output k takes `taps` held samples from k * down // up on.
        end = self._tail_start + held.size - taps + 1
        stop = max(-(-end * self._up // self._down), self._next)
        outputs = np.arange(self._next, stop, dtype=np.int64) * self._down
        starts = outputs // self._up - self._tail_start
        if outputs.size == 0:
            resampled = np.empty(0, dtype=np.float32)
        elif self._up == 1:
            windows = np.lib.stride_tricks.sliding_window_view(held, taps)
            resampled = windows[starts[0] :: self._down][: outputs.size] @ self._bank[0]
        else:
            windows = np.lib.stride_tricks.sliding_window_view(held, taps)
            resampled = np.einsum("ij,ij->i", windows[starts], self._bank[outputs % self._up])
        self._next = stop
        kept = self._next * self._down // self._up
        self._tail = held[kept - self._tail_start :]
        self._tail_start = kept
        return np.clip(resampled, np.float32(-1.0), np.float32(1.0))


class Decimator(Resampler):
    """Divides the rate by an integer, for a stream that embedders of two rates watch."""

    def __init__(self, factor: int) -> None:
        super().__init__(from_hz=factor, to_hz=1)


def _filters(up: int, cutoff: float, half: int) -> NDArray[np.float32]:
    """One windowed sinc per phase, each of gain 1 at frequency 0; shape (up, 2 * half + 1)."""
    phase = np.arange(up)[:, None] / up
    distance = np.arange(-half, half + 1)[None, :] - phase
    window = np.i0(_BETA * np.sqrt(np.maximum(1.0 - (distance / (half + 1)) ** 2, 0.0))) / np.i0(_BETA)
    bank = np.sinc(cutoff * distance) * window
    return np.asarray(bank / bank.sum(axis=1, keepdims=True), dtype=np.float32)
