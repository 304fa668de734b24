"""Who asks comes first: a window can wait a moment for its alignment, a reader should not have to wait for windows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

#: A request that is not answered by then waits for something else: PostgreSQL, ffmpeg, a job.
_SOON_S = 0.25


class Courtesy:
    """What is being asked now, on the loop that windows are aligned on."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: Since when each is waited for, oldest first.
        self._asked: dict[object, float] = {}
        self._quiet = asyncio.Event()

    def asked(self) -> object:
        """Somebody waits for an answer, until `answered` is told of what this returns."""
        question = object()
        self._asked[question] = self._now()
        self._quiet.clear()
        return question

    def answered(self, question: object) -> None:
        """The answer is on its way. To be told twice is of no consequence."""
        self._asked.pop(question, None)
        if not self._is_asked():
            self._quiet.set()

    async def give_way(self, longest_s: float) -> None:
        """Returns when nobody is about to be answered, after `longest_s` at the latest; others have had their turn."""
        await asyncio.sleep(0)
        if self._is_asked():
            with suppress(TimeoutError):
                async with asyncio.timeout(longest_s):
                    await self._quiet.wait()

    def _is_asked(self) -> bool:
        newest_s = next(reversed(self._asked.values()), None)
        return newest_s is not None and self._now() - newest_s < _SOON_S
