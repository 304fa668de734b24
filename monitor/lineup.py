"""Which streams there are: those of the configuration file and those of the API, and which of them are paused."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from pydantic import ValidationError

from monitor import config as configuration
from monitor.audio.egress import ANYWHERE, Egress
from monitor.config import Config
from monitor.config.address import check_stream, is_path
from monitor.daemon.listening import Listening
from monitor.errors import ConfigError, InputError, UnreachableError
from monitor.record.roster import Roster

log = logging.getLogger(__name__)

_RETRY_S = 2.0


def api_egress(config: Config) -> Egress:
    """What a stream that comes by the API may reach."""
    networks = tuple(ip_network(network) for network in config.http.stream_networks)
    return Egress(allow_private=config.http.allow_private_streams, networks=networks)


class Lineup:
    """What is said through the API outlives restarts and reloads; a name belongs to the file or to the API.

    `listen` begins to listen to a stream. Changes wait for `lock`, and are refused by what `check` raises.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        config: Callable[[], Config],
        listening: Listening,
        listen: Callable[[configuration.Stream], Awaitable[None]],
        lock: asyncio.Lock,
        check: Callable[[], None],
    ) -> None:
        self._roster, self._config, self._listening, self._listen = roster, config, listening, listen
        self._lock, self._check = lock, check
        self._added: dict[str, configuration.Stream] = {}
        self._pauses: dict[str, bool] = {}

    async def load(self, *, stopping: asyncio.Event) -> list[configuration.Stream]:
        """All streams that are to be listened to, however long PostgreSQL is away; none if the daemon stops first."""
        while not stopping.is_set():
            try:
                definitions, self._pauses = await self._roster.streams(), await self._roster.pauses()
            except UnreachableError as error:
                log.warning("streams wait: %s", error, extra={"action": "streams_wait"})
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _RETRY_S)
                continue
            of_file = {stream.name for stream in self._config().streams}
            for definition in definitions:
                try:
                    stream = self.parse(definition)
                    if stream.name in of_file:
                        raise InputError("the configuration file has a stream of this name now")
                except InputError as error:
                    words = {"action": "stream_refused", "stream": str(definition.get("name"))}
                    log.error("stream %s is not listened to: %s", definition.get("name"), error, extra=words)
                else:
                    self._added[stream.name] = stream
            return [self.now(stream) for stream in (*self._config().streams, *self._added.values())]
        return []

    def now(self, stream: configuration.Stream) -> configuration.Stream:
        """The stream, paused or not as was said last."""
        return stream.model_copy(update={"paused": self._pauses.get(stream.name, stream.paused)})

    def is_added(self, name: str) -> bool:
        """True for a stream of the API."""
        return name in self._added

    def egress(self, name: str) -> Egress:
        """What the stream's source may reach: anything if the operator has named it in the file."""
        if name not in self._added:
            return ANYWHERE
        return api_egress(self._config())

    def secrets(self, config: Config) -> frozenset[str]:
        """What must not be shown of the configuration and of the API's streams."""
        return config.model_copy(update={"streams": (*config.streams, *self._added.values())}).secrets

    def refuse_clashes(self, new: Config) -> None:
        """Raise ConfigError if a new configuration names a stream as the API did."""
        if taken := sorted({stream.name for stream in new.streams} & self._added.keys()):
            raise ConfigError(f"stream {taken[0]} was added through the API; remove it there, or name yours otherwise")

    async def add(self, definition: Mapping[str, Any]) -> None:
        """The stream is listened to from now on. Raises InputError; FileExistsError if the name is taken."""
        stream = self.parse(definition)
        async with self._lock:
            self._check()
            of_file = {known.name for known in self._config().streams}
            if stream.name in of_file or not await self._roster.add(definition):
                raise FileExistsError(stream.name)
            self._added[stream.name] = stream
            await self._listen(stream)

    async def remove(self, name: str) -> None:
        """The stream, one of the API's, is gone; what was recorded of it stays."""
        async with self._lock:
            self._check()
            await self._roster.remove(name)
            self._pauses.pop(name, None)
            if self._added.pop(name, None) is not None:
                await self._listening.remove(name)

    async def set_paused(self, name: str, paused: bool) -> None:
        """The stream is listened to or not, until the other is said."""
        async with self._lock:
            self._check()
            await self._roster.set_paused(name, paused)
            self._pauses[name] = paused
            await self._restart(name)

    async def restart(self, name: str) -> None:
        """The stream is connected to anew, without waiting for its turn."""
        async with self._lock:
            self._check()
            await self._restart(name)

    async def _restart(self, name: str) -> None:
        by_name = {stream.name: stream for stream in self._config().streams} | self._added
        if (stream := by_name.get(name)) is not None:
            await self._listening.remove(name, goes_on=True)
            await self._listen(self.now(stream))

    def parse(self, definition: Mapping[str, Any]) -> configuration.Stream:
        """The definition as the file would have it. Raises InputError for what the API may not name."""
        try:
            stream = configuration.Stream.model_validate_json(json.dumps(dict(definition)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        for address in stream.addresses:
            if is_path(address) or address.partition(":")[0].lower() in {"device", "file"}:
                raise InputError("url: only the configuration file may name files and devices; give a network address")
            if problem := check_stream(address):
                raise InputError(f"url: {problem}")
        if len(stream.addresses) == 0:
            raise InputError("url: give url or urls")
        known = {catalog.name for catalog in self._config().catalogs}
        if unknown := [name for name in stream.catalogs if name not in known]:
            raise InputError(f"catalogs: there is no catalog {unknown[0]}")
        return stream
