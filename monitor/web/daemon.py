"""What the faces ask of the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from monitor.daemon.offline import Twin
from monitor.types import Reference


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

    def catalogs(self) -> Sequence[str]:
        """The names of the catalogs, the first of which is meant where none is named."""

    async def twin(self, catalog: str) -> Twin:
        """What matches clips against the catalog as the daemon would, as of now. Raises UnreachableError."""

    async def remove_references(self, catalog: str, references: Sequence[Reference]) -> None:
        """The references are gone, with the files that were uploaded for them. Raises UnreachableError."""

    async def try_stream(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """What is heard at an address, as `monitor.web.streams.TrialAnswer` says it. Raises InputError."""

    async def add_stream(self, definition: Mapping[str, Any]) -> None:
        """Listen to a stream from now on. Raises InputError, UnreachableError; FileExistsError if the name is taken."""

    async def remove_stream(self, name: str) -> None:
        """Listen no more to a stream that was added so. Raises UnreachableError."""

    async def pause_stream(self, name: str, *, paused: bool) -> None:
        """Pause or resume any stream. Raises UnreachableError."""

    async def restart_stream(self, name: str) -> None:
        """Connect to a stream anew. Raises UnreachableError."""
