"""A coarse picture of sound, kept beside its vectors: which bands are how loud, sixteen times a second.

A vector says whether two windows are one recording; it does not say when in them, nor hear through another piece as
loud. The picture does, once it is known which second of which recording is to be looked for (see
`monitor.match.presence`). It is a dense one, of every band of every frame, a byte each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from monitor.embed import Embedder
from monitor.embed.fingerprint import FrontEnd
from monitor.types import (
    ABSENT,
    BANDS,
    HIGHEST_BAND_HZ,
    LEVELS_PER_NEPER,
    LOWEST_BAND_HZ,
    Levels,
    Samples,
    Spectrogram,
)

#: Seconds between two frames, as near as a whole fraction of the reference's hop comes to it; a frame is twice as long.
_STEP_S = 0.064
#: The lowest level is so far below full scale: 16 bits reach down to -22 nepers of power.
_LOWEST_NEPERS = -23.25
_HIGHEST = 93
#: As text a level is one printable ASCII character.
_FIRST_CHARACTER = 33


class Spectrograph:
    """Makes pictures of windows. Their hop is a whole number of steps: overlapping windows share their frames."""

    def __init__(self, *, sample_rate_hz: int, window_samples: int, reference_hop_samples: int) -> None:
        """Raises ValueError where no step near 64 ms divides the hop."""
        self.steps_per_hop = max(1, round(reference_hop_samples / sample_rate_hz / _STEP_S))
        step, rest = divmod(reference_hop_samples, self.steps_per_hop)
        if rest:
            raise ValueError(f"a hop of {reference_hop_samples} samples is not {self.steps_per_hop} equal steps")
        self._front_end = FrontEnd(
            sample_rate_hz=sample_rate_hz,
            frame_samples=2 * step,
            step_samples=step,
            bands=BANDS,
            low_hz=LOWEST_BAND_HZ,
            high_hz=HIGHEST_BAND_HZ,
            shift_bands=0,
        )
        self.step_s = step / sample_rate_hz
        #: How many frames lie whole in a window.
        self.frames = 1 + (window_samples - 2 * step) // step

    @classmethod
    def for_embedder(cls, embedder: Embedder) -> Spectrograph:
        """One for the embedder's windows, of references and of streams."""
        return cls(
            sample_rate_hz=embedder.sample_rate_hz,
            window_samples=embedder.window_samples,
            reference_hop_samples=embedder.reference_hop_samples,
        )

    def of(self, samples: Samples) -> Levels:
        """Levels (T, bands) of every whole frame of a contiguous signal (n,)."""
        if len(samples) < self._front_end.frame_samples:
            return np.empty((0, BANDS), dtype=np.uint8)
        nepers = self._front_end.log_power(samples)
        levels = np.clip(np.rint((nepers - _LOWEST_NEPERS) * LEVELS_PER_NEPER), 0, _HIGHEST)
        return np.asarray(levels, dtype=np.uint8)

    def of_windows(self, samples: Samples, *, hop_samples: int, count: int) -> list[Levels]:
        """Levels (frames, bands) of each of the first `count` windows of a contiguous signal."""
        steps = hop_samples // self._front_end.step_samples
        windows = sliding_window_view(self.of(samples), self.frames, axis=0)[::steps][:count]
        return [np.ascontiguousarray(window.T) for window in windows]

    def rows(self, samples: Samples, windows: NDArray[np.int64]) -> list[str]:
        """Give what is stored with each of these windows (n,) of a contiguous stretch of a reference, ascending.

        That is the levels, as text, of those of its frames that no earlier one of them holds.
        """
        levels = self.of(samples)
        follows = np.diff(windows, prepend=-2) == 1
        ends = windows * self.steps_per_hop + self.frames
        return [
            _text(levels[end - (self.steps_per_hop if after else self.frames) : end])
            for end, after in zip(ends.tolist(), follows.tolist(), strict=True)
        ]

    def assembled(self, windows: NDArray[np.int64], rows: Sequence[str]) -> Spectrogram | None:
        """Give the picture that `rows`, stored with these windows, make together; None where there is nothing."""
        if not len(windows):
            return None
        first = int(windows[0]) * self.steps_per_hop
        count = int(windows[-1] - windows[0]) * self.steps_per_hop + self.frames
        levels = np.full((count, BANDS), ABSENT, dtype=np.uint8)
        for window, row in zip(windows.tolist(), rows, strict=True):
            part = _levels(row)
            end = window * self.steps_per_hop + self.frames - first
            if len(part) <= end:
                levels[end - len(part) : end] = part
        return Spectrogram(start_s=(first + 1) * self.step_s, step_s=self.step_s, levels=levels)


def _text(levels: Levels) -> str:
    return (levels + np.uint8(_FIRST_CHARACTER)).tobytes().decode("ascii")


def _levels(text: str) -> Levels:
    """The frames of a row; none of a row that is no text of ours: Milvus Lite returns damaged rows without a word."""
    found = np.frombuffer(text.encode(), dtype=np.uint8) - np.uint8(_FIRST_CHARACTER)
    whole = found.size % BANDS == 0 and (found <= _HIGHEST).all()
    return found.reshape(-1, BANDS) if whole else np.empty((0, BANDS), dtype=np.uint8)
