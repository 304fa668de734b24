"""A changed configuration file is taken over whole, or refused whole."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from monitor import config as configuration
from monitor.config import Config, Diff
from monitor.errors import ConfigError, MonitorError
from monitor.metrics import Metrics


class Reload:
    """What is in force, and how it changes: one reload at a time."""

    def __init__(
        self,
        config: Config,
        *,
        path: Path | None,
        data_dir: Path,
        metrics: Metrics,
        check: Callable[[], None],
        prove: Callable[[Config], None],
        take_over: Callable[[Config, Config, Diff], Awaitable[None]],
    ) -> None:
        #: What is in force.
        self.config = config
        self._path, self._data_dir, self._metrics = path, data_dir, metrics
        self._check, self._prove, self._take_over = check, prove, take_over
        self.lock = asyncio.Lock()

    async def __call__(self) -> dict[str, list[str]]:
        """Take the file over; all that can fail is done before anything changes. Raises ConfigError and the like.

        `check` raises what speaks against any reload now, `prove` what is wrong with the new configuration.
        """
        async with self.lock:
            try:
                self._check()
                new = configuration.load(self._path, environ=os.environ, data_dir=self._data_dir)
                changes = configuration.diff(self.config, new)
                if changes.refused:
                    raise ConfigError(
                        f"these keys cannot change while the daemon runs, restart it: {', '.join(changes.refused)}"
                    )
                self._prove(new)
            except MonitorError:
                self._metrics.reload_successful.set(0)
                raise
            old, self.config = self.config, new
            await self._take_over(old, new, changes)
            self.loaded()
            return described(changes)

    def loaded(self) -> None:
        """The configuration in force was taken over now."""
        self._metrics.reload_successful.set(1)
        self._metrics.reload_timestamp.set(time.time())


def described(changes: Diff) -> dict[str, list[str]]:
    """The streams that a change concerns."""
    return {
        "added": list(changes.streams_added),
        "removed": list(changes.streams_removed),
        "changed": list(changes.streams_changed),
    }
