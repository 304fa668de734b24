"""One path of a station, which plays well until trouble is laid upon it, and again once that is taken away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from benchmarks.faults.station import Behaviour, Request


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What goes wrong."""

    #: What those who come now are answered; None: the programme, as always.
    answer: Behaviour | None = None
    #: What those who listen already get from now on instead of the programme; None: their connection ends.
    line: Behaviour | None = None


class Mount:
    """A behaviour. `answer` greets a listener and goes on with `line`; both in real time, for ever."""

    def __init__(self, answer: Behaviour, line: Behaviour) -> None:
        self._answer, self._line = answer, line
        self._trouble: Trouble | None = None
        self._changed = asyncio.Event()
        #: Of connections so far.
        self.listeners_total = 0

    @contextlib.asynccontextmanager
    async def suffering(self, trouble: Trouble) -> AsyncIterator[None]:
        """As long as the block lasts."""
        self._turn(trouble)
        try:
            yield
        finally:
            self._turn(None)

    def hang_up(self) -> None:
        """The connections of now end."""
        self._turn(self._trouble)

    def _turn(self, trouble: Trouble | None) -> None:
        self._trouble = trouble
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def __call__(self, request: Request) -> None:
        """Serve one listener."""
        self.listeners_total += 1
        was = self._trouble
        greeted = was is None or was.answer is None
        behaviour: Behaviour | None = (was and was.answer) or self._answer
        while behaviour is not None and not await self._ended(behaviour, request):
            now = self._trouble
            if not greeted or now is was:  # whoever was turned away well or badly may come again
                return
            # With trouble the line goes bad; without it, a line that went bad, and not dead, is good again.
            behaviour = now.line if now is not None else self._line
            was = now

    async def _ended(self, behaviour: Behaviour, request: Request) -> bool:
        """Whether the behaviour ended by itself, and not by trouble that came or went."""
        changed = asyncio.create_task(self._changed.wait())
        playing = asyncio.ensure_future(behaviour(request))
        try:
            await asyncio.wait({changed, playing}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                playing.result()
                return True
            return False
        finally:
            for task in (changed, playing):
                task.cancel()
            await asyncio.gather(changed, playing, return_exceptions=True)
