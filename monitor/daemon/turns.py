"""Which readings of a window are searched: what hardly any station does is looked for half as often."""

from __future__ import annotations

from itertools import chain


class Turns:
    """The turns of one stream's windows, which are told in their order."""

    def __init__(self) -> None:
        self._turn = 1

    def due(self, readings: int) -> list[int]:
        """The readings of the next window whose turn it is, of so many.

        As it sounds a window is always searched. Its transposed readings come in pairs, lower and higher: every other
        pair with this window, those between with the next, which shares three quarters of its sound. All are kept: a
        candidate is compared with its reference at each window.
        """
        self._turn = 1 - self._turn
        pairs = range(1 + 2 * self._turn, readings, 4)
        return [0, *chain.from_iterable(range(lower, min(lower + 2, readings)) for lower in pairs)]
