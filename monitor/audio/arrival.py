"""Sound as it arrives from a source that may fall silent, and as it becomes due on the time axis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from monitor.audio.timeline import Timeline
from monitor.types import Chunk, Samples

#: Shortest sleep, so that rounding never makes a busy loop.
_TICK_S = 0.001


class Arrival:
    """Reads a source until it ends or has said nothing for too long, and gives out what is due meanwhile."""

    def __init__(
        self,
        *,
        read: Callable[[], Awaitable[Samples]],
        timeline: Timeline,
        now: Callable[[], float],
        connect_timeout_s: float,
        stall_timeout_s: float,
    ) -> None:
        self._read = read
        self._timeline = timeline
        self._now = now
        self._patience_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        #: Whether any audio has arrived.
        self.heard = False
        #: The time without audio that made an end of it; None while none did.
        self.silent_s: float | None = None

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Chunks as they become due; ends after the last one of a source that has ended or fallen silent.

        `read` gives the samples that come next, none at the end; it is cancelled where it takes too long.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            if self._timeline.full:
                # A file behind a URL: it waits for us, not we for it.
                await self._rest()
                deadline = loop.time() + self._patience_s
            else:
                now_s = self._now()
                due_s = self._timeline.due_s(now_s)
                until = deadline if due_s is None else min(deadline, loop.time() + due_s - now_s)
                samples = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(max(until, loop.time() + _TICK_S)):
                        samples = await self._read()
                if samples is not None and samples.size == 0:
                    break
                if samples is not None:
                    self.heard = True
                    self._patience_s = self._stall_timeout_s
                    deadline = loop.time() + self._patience_s
                    self._timeline.push(samples, self._now())
                elif loop.time() >= deadline:
                    self.silent_s = self._patience_s
                    break
            for chunk in self._timeline.pull(self._now()):
                yield chunk
        self._timeline.close()
        while True:
            for chunk in self._timeline.pull(self._now()):
                yield chunk
            if self._timeline.due_s(self._now()) is None:
                return
            await self._rest()

    async def _rest(self) -> None:
        now_s = self._now()
        due_s = self._timeline.due_s(now_s)
        await asyncio.sleep(max((due_s or now_s) - now_s, _TICK_S))
