"""A progress bar on a terminal: how much is done, how fast, how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 24
_EVERY_S = 0.1


class Bar:
    """One line that is written over and over; nothing at all where the output is no terminal."""

    def __init__(self, output: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        self._output, self._now = output, now
        self._visible = output.isatty()
        self._began_s = now()
        self._drawn_s = float("-inf")
        self._width = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the bar was made."""
        return self._now() - self._began_s

    def draw(self, share: float, words: str) -> None:
        """The share in [0, 1] that is done, words, and the time left as far as it can be told."""
        now_s = self._now()
        if not self._visible or now_s - self._drawn_s < _EVERY_S:
            return
        self._drawn_s = now_s
        filled = round(share * _WIDTH)
        left = f", {clock((now_s - self._began_s) * (1 / share - 1))} left" if share > 0.01 else ""
        line = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%} {words}{left}"
        self._output.write("\r" + line.ljust(self._width))
        self._output.flush()
        self._width = len(line)

    def clear(self) -> None:
        """The line is empty, so that others can be written."""
        if self._width:
            self._output.write("\r" + " " * self._width + "\r")
            self._output.flush()
            self._width = 0
            self._drawn_s = float("-inf")


def clock(duration_s: float) -> str:
    """Hours, minutes and seconds, as `1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
