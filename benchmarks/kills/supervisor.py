"""Kills the daemon, or its keeper, when something is going on, and starts the daemon again at once."""

from __future__ import annotations

import asyncio
import enum
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg

from benchmarks import processes
from monitor.demo.commands import Daemon, Program
from monitor.errors import MonitorError

_POLL_S = 0.02
_READY_S = 180.0
_GONE_S = 30.0
#: How long to wait for what is to be interrupted; then any moment will do.
_OPPORTUNITY_S = 60.0
_ANY_S = (0.5, 12.0)
_INTO_MATCH_S = (0.0, 5.0)
#: How far into a start, as a share of what the one before took.
_INTO_START = (0.1, 0.8)
#: A process that was just being started when the daemon died shows its command line after this, if not at once.
_SHOWN_S = 0.1


class Moment(enum.StrEnum):
    """When to kill, and what."""

    OPEN = "inside an open match"
    PROVISIONAL = "between provisional and confirmed"
    START = "during start-up"
    KEEPER = "the keeper instead"
    ANY = "at any moment"


#: Of each hundred kills. A provisional match is often confirmed before the kill falls, so more are tried than wanted.
_SHARES = {Moment.OPEN: 33, Moment.PROVISIONAL: 40, Moment.START: 12, Moment.KEEPER: 11, Moment.ANY: 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One SIGKILL and what it interrupted, as PostgreSQL says right after it."""

    moment: Moment
    at_s: float
    #: Matches that were open, and those of them that were provisional.
    open: int
    provisional: int
    #: The daemon was not ready yet.
    starting: bool
    #: Until the daemon was ready again.
    outage_s: float
    #: ffmpegs of the killed daemon that did not end.
    ffmpegs_left: int


def plan(kills: int, chance: random.Random) -> list[Moment]:
    """The moments in a random order, in their shares; of few kills the first ones of the list at least once."""
    moments = [moment for moment, share in _SHARES.items() for _ in range(max(round(share * kills / 100), 1))]
    moments = [*moments, *[Moment.OPEN] * kills][:kills]
    chance.shuffle(moments)
    return moments


class Supervisor:
    """The daemon's lives."""

    def __init__(
        self, program: Program, *, dsn: str, port: int, urls: Sequence[str], logs: Path, chance: random.Random
    ) -> None:
        self._program, self._dsn, self._logs, self._chance = program, dsn, logs, chance
        #: Of the stations: only the daemon's ffmpegs name one in their command line.
        self._urls = urls
        self._ready = f"http://127.0.0.1:{port}/-/ready"
        self._client = httpx.AsyncClient(timeout=5, trust_env=False)
        self._life = AsyncExitStack()
        self._lives = 0
        self._daemon: Daemon | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        #: When the start began that goes on, and how long the latest whole one took.
        self._began_s: float | None = None
        self._start_took_s = 0.0

    async def start(self) -> None:
        """A daemon is there, not ready yet."""
        self._lives += 1
        self._began_s = time.monotonic()
        self._life = AsyncExitStack()
        self._daemon = await self._life.enter_async_context(
            self._program.daemon(self._logs / f"daemon-{self._lives:03d}.log")
        )

    async def stop(self) -> int:
        """The daemon's status after SIGTERM."""
        if self._daemon is None:
            return 0
        status = await self._daemon.stop()
        await self._life.aclose()
        await self._client.aclose()
        if self._connection is not None:
            await self._connection.close()
        return status

    async def until_ready(self) -> None:
        """Raises MonitorError if the daemon ended, or takes too long."""
        give_up_s = time.monotonic() + _READY_S
        while not await self._is_ready():
            self._there.check()
            if time.monotonic() > give_up_s:
                raise MonitorError(f"the daemon is not ready within {_READY_S:.0f} s")
            await asyncio.sleep(_POLL_S)
        if self._began_s is not None:
            self._start_took_s, self._began_s = time.monotonic() - self._began_s, None

    async def kill(self, moment: Moment) -> Kill:
        """Wait for the moment, kill, start again where the daemon was killed, and wait until it is ready."""
        if moment is Moment.START:
            return await self._kill_starting()
        await self._until(moment)
        if moment is Moment.KEEPER:
            return await self._kill_keeper()
        return await self._kill_daemon(moment, starting=False)

    async def _kill_starting(self) -> Kill:
        """Kill, start, and kill again before the daemon is ready."""
        began_s = time.monotonic()
        await self._end()
        await self.start()
        await asyncio.sleep(self._chance.uniform(*_INTO_START) * self._start_took_s)
        starting = not await self._is_ready()
        return await self._kill_daemon(Moment.START, starting=starting, began_s=began_s)

    async def _kill_daemon(self, moment: Moment, *, starting: bool, began_s: float | None = None) -> Kill:
        began_s = time.monotonic() if began_s is None else began_s
        at_s = time.time()
        left = await self._end()
        states = await self._states()
        await self.start()
        await self.until_ready()
        return Kill(
            moment=moment,
            at_s=at_s,
            open=len(states),
            provisional=states.count("provisional"),
            starting=starting,
            outage_s=time.monotonic() - began_s,
            ffmpegs_left=left,
        )

    async def _kill_keeper(self) -> Kill:
        keeper = await asyncio.to_thread(processes.keeper_of, self._program.data_dir)
        states = await self._states()
        if keeper is None:
            raise MonitorError("the embedded servers are not there")
        at_s, began_s = time.time(), time.monotonic()
        os.kill(keeper.pid, signal.SIGKILL)
        await self._patiently(self._is_away, _GONE_S)
        await self._patiently(self._answers, _READY_S)
        await self.until_ready()
        return Kill(
            moment=Moment.KEEPER,
            at_s=at_s,
            open=len(states),
            provisional=states.count("provisional"),
            starting=False,
            outage_s=time.monotonic() - began_s,
            ffmpegs_left=0,
        )

    async def _end(self) -> int:
        """Kill the daemon; how many of its ffmpegs live on."""
        os.kill(self._there.pid, signal.SIGKILL)
        await self._life.aclose()
        await self._patiently(self._no_ffmpegs, _GONE_S)
        await asyncio.sleep(_SHOWN_S)
        await self._patiently(self._no_ffmpegs, _GONE_S)
        return self.ffmpegs_left

    @property
    def ffmpegs_left(self) -> int:
        """How many processes still listen to one of the stations."""
        return len(processes.naming(self._urls))

    async def _no_ffmpegs(self) -> bool:
        return not await asyncio.to_thread(processes.naming, self._urls)

    async def _until(self, moment: Moment) -> None:
        match moment:
            case Moment.OPEN:
                await self._patiently(self._states, _OPPORTUNITY_S)
                await asyncio.sleep(self._chance.uniform(*_INTO_MATCH_S))
                await self._patiently(self._states, _OPPORTUNITY_S)
            case Moment.PROVISIONAL:
                await self._patiently(self._is_provisional, _OPPORTUNITY_S)
            case _:
                await asyncio.sleep(self._chance.uniform(*_ANY_S))

    async def _patiently(self, happened: Callable[[], Awaitable[object]], timeout_s: float) -> None:
        give_up_s = time.monotonic() + timeout_s
        while not await happened() and time.monotonic() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)

    async def _is_provisional(self) -> bool:
        return "provisional" in await self._states()

    async def _states(self) -> list[str]:
        """States of the matches that are open and were heard a moment ago; none while PostgreSQL is away."""
        rows = await self._ask(
            "SELECT state FROM matches"
            " WHERE state IN ('provisional', 'confirmed') AND last_hit_at > now() - interval '10 s'"
        )
        return [state for (state,) in rows or []]

    async def _answers(self) -> bool:
        return await self._ask("SELECT 1") is not None

    async def _is_away(self) -> bool:
        return not await self._answers()

    async def _ask(self, query: LiteralString) -> list[tuple[Any, ...]] | None:
        """None while PostgreSQL is away."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5)
            return await (await self._connection.execute(query)).fetchall()
        except psycopg.Error:
            return None

    async def _is_ready(self) -> bool:
        try:
            return (await self._client.get(self._ready)).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def _there(self) -> Daemon:
        if self._daemon is None:
            raise MonitorError("no daemon was started")
        return self._daemon
