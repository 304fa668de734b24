"""The second scene: PostgreSQL, Milvus and their keeper killed, stopped and restarted under a daemon at work."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from benchmarks.faults import processes
from benchmarks.faults.control import Programme
from benchmarks.faults.fault import Control, Fault, Kind, Outcome
from benchmarks.faults.processes import KEEPER, MILVUS, POSTGRES
from benchmarks.faults.rig import Rig, Watch
from monitor.demo import station as radio
from monitor.errors import MonitorError

SCENE = "servers"
_CONTROL = "control-servers"
_SOUND_S = 120.0
#: A server that the daemon must miss is away for so long at least, in which something airs, or ends, unwritten.
_AWAY_S = 12.0
#: Between two faults something is recognised without any.
_BETWEEN_S = 90.0
#: What the log says when it begins and when it is over.
_WORDS = {
    POSTGRES: ("events_wait", "events_written"),
    MILVUS: ("searches_wait", "searches_answered"),
}


@dataclass(frozen=True, kw_only=True)
class ServerFault(Fault):
    """A fault of one server, or of both."""

    servers: tuple[str, ...]
    inject: Callable[[Rig], AbstractAsyncContextManager[None]]
    #: True where the server is away for so long that the daemon must say so.
    is_told: bool = True


def server_faults() -> tuple[ServerFault, ...]:
    """All of them."""
    row = ServerFault
    return (
        row(
            name="postgres-SIGKILL", kind=Kind.POSTGRES, what="killed, and kept away",
            servers=(POSTGRES,), inject=_kept_away(POSTGRES),
        ),
        row(
            name="postgres-SIGSTOP", kind=Kind.POSTGRES, what="stopped: there, and silent",
            servers=(POSTGRES,), inject=_stopped(POSTGRES),
        ),
        row(
            name="postgres-restart", kind=Kind.POSTGRES, what="restarted",
            servers=(POSTGRES,), inject=_restarted(POSTGRES, signal.SIGINT), is_told=False,
        ),
        row(
            name="milvus-SIGKILL", kind=Kind.MILVUS, what="killed, and kept away",
            servers=(MILVUS,), inject=_kept_away(MILVUS),
        ),
        row(
            name="milvus-SIGSTOP", kind=Kind.MILVUS, what="stopped: there, and silent",
            servers=(MILVUS,), inject=_stopped(MILVUS),
        ),
        row(
            name="milvus-restart", kind=Kind.MILVUS, what="restarted",
            servers=(MILVUS,), inject=_restarted(MILVUS, signal.SIGTERM), is_told=False,
        ),
        row(
            name="keeper-SIGKILL", kind=Kind.KEEPER, what="killed, and with it both servers",
            servers=(POSTGRES, MILVUS), inject=_keeper_killed, is_told=False,
        ),
        row(
            name="both-SIGKILL", kind=Kind.KEEPER, what="both servers killed, and kept away",
            servers=(POSTGRES, MILVUS), inject=_kept_away(POSTGRES, MILVUS),
        ),
    )  # fmt: skip


def _kept_away(*servers: str) -> Callable[[Rig], AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def inject(rig: Rig) -> AsyncIterator[None]:
        # A keeper that is stopped starts nothing.
        keeper = processes.of(rig.program.data_dir, KEEPER)
        processes.send(keeper, signal.SIGSTOP)
        try:
            for server in servers:
                killed = processes.with_children(processes.of(rig.program.data_dir, server))
                processes.send(killed, signal.SIGKILL)
            yield
        finally:
            processes.send(keeper, signal.SIGCONT)

    return inject


def _stopped(server: str) -> Callable[[Rig], AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def inject(rig: Rig) -> AsyncIterator[None]:
        stopped = processes.with_children(processes.of(rig.program.data_dir, server))
        processes.send(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            processes.send(stopped, signal.SIGCONT)

    return inject


def _restarted(server: str, number: signal.Signals) -> Callable[[Rig], AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def inject(rig: Rig) -> AsyncIterator[None]:
        processes.send(processes.of(rig.program.data_dir, server), number)
        yield

    return inject


@contextlib.asynccontextmanager
async def _keeper_killed(rig: Rig) -> AsyncIterator[None]:
    processes.send(processes.of(rig.program.data_dir, KEEPER), signal.SIGKILL)
    yield


async def play(rig: Rig, faults: Sequence[ServerFault]) -> tuple[list[Outcome], Control]:
    """One after the other, while one station plays on; nothing that it airs may be missing afterwards."""
    control = Programme(rig, _CONTROL)
    outcomes = []
    async with radio.on_air([control.station]) as address:
        rig.configure(streams=[{"name": _CONTROL, "url": address + control.station.path}])
        async with rig.running() as watch:
            control.begin()
            if await watch.until(lambda: watch.found[_CONTROL], _SOUND_S) is None:
                raise MonitorError(f"before any fault nothing is recognised: {watch.state(_CONTROL)}")
            for fault in faults:
                outcomes.append(await suffer(fault, rig, watch))
                rig.say(outcomes[-1].described)
            verdict = await control.judge(watch, SCENE)
            return outcomes, verdict.with_problems(await watch.end())


async def suffer(fault: ServerFault, rig: Rig, watch: Watch) -> Outcome:
    """Inject, wait until it is told, end it, wait until all is well and something that is aired then is recognised."""
    name, data_dir = fault.name, rig.program.data_dir
    before = {server: processes.of(data_dir, server) for server in fault.servers}
    told = {word: len(watch.said(word)) for words in _WORDS.values() for word in words}
    injected_s = time.time()

    def noticed() -> bool:
        if fault.is_told:
            return all(len(watch.said(_WORDS[server][0])) > told[_WORDS[server][0]] for server in fault.servers)
        return all(processes.of(data_dir, server) not in ([], before[server]) for server in fault.servers)

    async with fault.inject(rig):
        seen = await watch.until(noticed, fault.notice_s)
        noticed_s = time.time()
        if fault.is_told:
            await asyncio.sleep(max(injected_s + _AWAY_S - noticed_s, 0))
    healed_s = time.time()
    problems = [] if seen else [f"{name}: never noticed, {watch.unready}"]

    def well() -> bool:
        up = watch.metric("monitor_postgres_up") == watch.metric("monitor_milvus_up") == 1.0
        over = not fault.is_told or all(
            len(watch.said(_WORDS[server][1])) > told[_WORDS[server][1]] for server in fault.servers
        )
        return watch.ready and up and over

    recovered = await watch.until(well, fault.recover_s)
    recovered_s = time.time()
    if not recovered:
        problems.append(f"{name}: not well again: {watch.unready}")
    again = await watch.until(lambda: any(row.end_s > recovered_s + 1 for row in watch.found[_CONTROL]), _BETWEEN_S)
    return Outcome(
        fault=fault,
        expected="not ready, and says so" if fault.is_told else "a new server, and nothing lost",
        noticed_s=noticed_s - injected_s if seen else None,
        recovered_s=recovered_s - healed_s if recovered else None,
        lost=0 if again else 1,
        problems=tuple(problems),
    )
