"""Which stages turn: a stage that has been at one step for too long is stuck, and the service manager is told so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Heartbeat:
    """When each stage at work began its present step.

    A stage rests while it waits for work, or for the next stage to take what it has made: resting is not being stuck,
    for as long as it takes. Waiting for a server is work in steps: each attempt is one.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began: dict[str, float] = {}

    def turn(self, stage: str) -> None:
        """The stage begins a step."""
        self._began[stage] = self._now()

    @contextmanager
    def resting(self, stage: str) -> Iterator[None]:
        """The stage rests for as long as the block lasts, and then begins a step."""
        self._began.pop(stage, None)
        yield
        self.turn(stage)

    def end(self, stage: str) -> None:
        """The stage has nothing more to do."""
        self._began.pop(stage, None)

    def stuck(self, limit_s: float) -> list[str]:
        """The stages that have been at one step for more than `limit_s`."""
        now = self._now()
        return sorted(stage for stage, began in self._began.items() if now - began > limit_s)
