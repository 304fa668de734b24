"""The program as anybody runs it: commands and daemon as their own processes, and the servers that they share."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg

from monitor.errors import MonitorError
from monitor.servers.client import embedded
from monitor.servers.directory import KEEPER_LOCK

#: The longest that a daemon may take to stop.
STOP_S = 25.0
#: A keeper waits so long for its first client, and after its last.
_LINGER_S = 2.0
_SERVERS_STOP_S = 30.0
_HEARING_TIMEOUT_S = 60.0
_POLL_S = 0.3
_HEARD_SQL = "SELECT name FROM streams WHERE state IN ('receiving', 'silent') AND since >= to_timestamp(%s)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """The end of a command that was refused."""

    status: int
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """`monitor` with a configuration and a data directory."""

    config: Path
    data_dir: Path

    async def run(self, *words: str, statuses: Collection[int] = (0,)) -> dict[str, Any]:
        """The JSON answer of a command. Raises MonitorError with its last words if it ends with another status."""
        process = await self._start(*words, output=asyncio.subprocess.PIPE)
        try:
            answer, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in statuses:
            last = " ".join(said.decode(errors="replace").strip().splitlines()[-3:])
            raise MonitorError(f"monitor {' '.join(words[:2])} ended with status {process.returncode}: {last}")
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    async def refused(self, *words: str) -> Refused:
        """What a command says that is refused at once."""
        process = await self._start(*words, output=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
        return Refused(status=await process.wait(), said=said.decode(errors="replace"))

    @contextlib.asynccontextmanager
    async def daemon(self, log: Path, *, environment: Mapping[str, str] | None = None) -> AsyncIterator[Daemon]:
        """`monitor run`, whose words go to the file `log`; afterwards it has ended, however this was left.

        `environment` comes on top of ours.
        """
        with log.open("wb") as output:
            daemon = Daemon(await self._start("run", output=output.fileno(), environment=environment or {}), log)
        try:
            yield daemon
        finally:
            await daemon.stop()

    async def _start(
        self, *words: str, output: int, environment: Mapping[str, str] = MappingProxyType({})
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "monitor", *words, "-c", str(self.config), "--data-dir", str(self.data_dir)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
            | dict(environment),
            # Ctrl-C is its owner's to hear, who then ends it in order.
            start_new_session=True,
        )


class Daemon:
    """A running `monitor run`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        #: How long it took from SIGTERM to its end; None while it runs, or if it had to be killed.
        self.stopped_after_s: float | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """However it did."""
        return self._process.returncode is not None

    @property
    def stopped_well(self) -> bool:
        """True if it has ended in time and with status 0."""
        return self.stopped_after_s is not None and self._process.returncode == 0

    async def ended(self) -> int:
        """Its status, once it has ended by itself or by another's hand."""
        return await self._process.wait()

    def check(self) -> None:
        """Raises MonitorError with its last words if it has ended."""
        if self._process.returncode is not None:
            raise MonitorError(f"the daemon ended with status {self._process.returncode}: {self._last_words()}")

    async def until_hearing(
        self, connection: psycopg.AsyncConnection[Any], streams: Collection[str], *, since_s: float
    ) -> None:
        """Every one of the streams has been heard after that Unix time, says PostgreSQL. Raises MonitorError."""
        give_up_s = time.monotonic() + _HEARING_TIMEOUT_S
        while True:
            self.check()
            cursor = await connection.execute(_HEARD_SQL, (since_s,))
            deaf = set(streams) - {name for (name,) in await cursor.fetchall()}
            if not deaf:
                return
            if time.monotonic() > give_up_s:
                names = ", ".join(sorted(deaf))
                raise MonitorError(
                    f"after {_HEARING_TIMEOUT_S:.0f} s the daemon does not hear {names}: {self._last_words()}"
                )
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> int:
        """Its status after SIGTERM; it is killed, which is a status below 0, if it does not end in time."""
        if self._process.returncode is None:
            began_s = time.monotonic()
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
                self.stopped_after_s = time.monotonic() - began_s
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(errors="replace").strip().splitlines()[-5:]) or "it said nothing"


@contextlib.asynccontextmanager
async def servers(data_dir: Path) -> AsyncIterator[str]:
    """The embedded servers; yields PostgreSQL's DSN. Afterwards, if nobody else uses them, they have ended."""
    try:
        async with embedded(data_dir, linger_s=_LINGER_S) as addresses:
            yield addresses.postgres_dsn
    finally:
        await until_servers_ended(data_dir)


async def until_servers_ended(data_dir: Path) -> None:
    """They have, or half a minute has passed."""
    with contextlib.suppress(TimeoutError, FileNotFoundError):
        async with asyncio.timeout(_SERVERS_STOP_S):
            await _until_unlocked(data_dir / KEEPER_LOCK)


async def _until_unlocked(path: Path) -> None:
    with path.open() as lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            await asyncio.sleep(0.05)


def write_config(path: Path, *, catalog: str, urls: Mapping[str, str], port: int) -> None:
    """A configuration of one catalog and these streams; of the streams the daemon learns nothing but their URLs."""
    lines = ["http:", "  host: 127.0.0.1", f"  port: {port}", "catalogs:", f"  - name: {catalog}", "streams:"]
    for name, url in urls.items():
        lines += [f"  - name: {name}", f"    url: {url}"]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
