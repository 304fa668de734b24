"""What a feed plays: a bed too faint to be looked at, which costs the daemon nothing, and airings when it is told."""

from __future__ import annotations

import asyncio
import time

from benchmarks.faults.station import Behaviour, Request


class Deck:
    """An endless loop in real time, whether one listens or not; an airing takes the loop's place for its length."""

    def __init__(self, bed: bytes, *, bytes_per_s: int, airing: bytes = b"") -> None:
        self._bed, self._bytes_per_s, self._airing = bed, bytes_per_s, airing
        self._began_s = time.monotonic()
        self._aired_from: int | None = None

    def air(self) -> None:
        """The airing begins."""
        self._aired_from = self._edge()

    def line(self, *, burst_s: float = 0.0, pace: float = 1.0) -> Behaviour:
        """A burst of what was played last, then all that is played from now on, by a clock that runs at `pace`."""
        burst = int(burst_s * self._bytes_per_s) // 2 * 2

        async def behave(request: Request) -> None:
            began_s, first = time.monotonic(), self._edge() - burst
            position = first
            while True:
                passed = int((time.monotonic() - began_s) * self._bytes_per_s * pace) // 2 * 2
                request.writer.write(self._part(position, first + burst + passed))
                position = first + burst + passed
                await request.writer.drain()
                await asyncio.sleep(0.1)

        return behave

    def _edge(self) -> int:
        return int((time.monotonic() - self._began_s) * self._bytes_per_s) // 2 * 2

    def _part(self, start: int, end: int) -> bytes:
        parts = []
        while start < end:
            source, at, until = self._bed, start % len(self._bed), end
            if self._aired_from is not None:
                over = self._aired_from + len(self._airing)
                if self._aired_from <= start < over:
                    source, at, until = self._airing, start - self._aired_from, min(end, over)
                elif start < self._aired_from:
                    until = min(end, self._aired_from)
            parts.append(source[at : at + until - start])
            start += len(parts[-1])
        return b"".join(parts)
