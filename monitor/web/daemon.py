"""What the faces ask of the daemon."""

from __future__ import annotations

from typing import Any, Protocol


class Daemon(Protocol):
    """Answers from memory, but for what is asked with `await`."""

    def unready(self) -> dict[str, str]:
        """Why the daemon is not doing its whole job, by part; empty when it is."""

    def streams(self) -> list[dict[str, Any]]:
        """Each stream as `monitor.web.streams.StreamDetail` says it."""

    async def health(self) -> dict[str, Any]:
        """Models, catalogs, queues and servers, as `monitor.web.health.Health` says them."""

    async def reload(self) -> dict[str, list[str]]:
        """Take over the configuration file; what changed, by kind. Raises ConfigError, changing nothing."""

    def wake_deliveries(self) -> None:
        """Deliveries may be due: whoever sends them looks now."""
