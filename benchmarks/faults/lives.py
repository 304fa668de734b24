"""The third scene: the daemon itself is stopped, killed and started again, while its station plays on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.faults import processes
from benchmarks.faults.control import Programme
from benchmarks.faults.fault import Control, Fault, Kind, Outcome
from benchmarks.faults.processes import KEEPER
from benchmarks.faults.rig import Rig, Watch
from benchmarks.processes import aligning
from monitor.demo import station as radio
from monitor.demo.report import Found
from monitor.errors import MonitorError

SCENE = "daemon"
_CONTROL = "control-daemon"
_SOUND_S = 180.0
_STOPPED_S = 12.0
#: While nobody listens an airing's start or end may pass unheard.
_EDGE_S = 60.0
_IN_USE = 75
#: Seconds that are under way when it is asked which of them were heard.
_UNDER_WAY_S = 6.0


@dataclass(frozen=True, kw_only=True)
class DaemonFault(Fault):
    """A fault of the daemon's process; `inject` returns what is wrong at once."""

    inject: Callable[[Rig, Watch], Awaitable[list[str]]]
    #: Whether the daemon has to be started again.
    ends: bool = True
    expected: str


def daemon_faults() -> tuple[DaemonFault, ...]:
    """All of them, in an order in which they can follow each other."""
    row = DaemonFault
    return (
        row(
            name="daemon-SIGTERM", kind=Kind.DAEMON, what="told to stop within an airing, started again",
            inject=_terminate, expected="status 0 within 25 s; one row",
        ),
        row(
            name="second-daemon", kind=Kind.DAEMON, what="another daemon on the same data directory",
            inject=_second, ends=False, expected="refused by name of the first one",
        ),
        row(
            name="daemon-SIGSTOP", kind=Kind.DAEMON, what="stopped for 12 s, then continued",
            inject=_suspend, ends=False, expected="goes on",
        ),
        row(
            name="aligning-SIGKILL", kind=Kind.DAEMON, what="the process that aligns, killed within an airing",
            inject=_kill_aligning, ends=False, expected="another goes on; one row",
        ),
        row(
            name="daemon-SIGKILL", kind=Kind.DAEMON, what="killed within an airing, started again",
            inject=_kill, expected="one row; each second heard or in a gap",
        ),
        row(
            name="daemon-and-keeper-SIGKILL", kind=Kind.DAEMON, what="killed with its servers, as by a power cut",
            inject=_kill_all, expected="one row; each second heard or in a gap",
        ),
    )  # fmt: skip


async def _terminate(_rig: Rig, watch: Watch) -> list[str]:
    return await watch.end()


async def _second(rig: Rig, watch: Watch) -> list[str]:
    refused = await rig.program.refused("run")
    problems = []
    if refused.status != _IN_USE:
        problems.append(f"the second daemon ended with status {refused.status}, and not {_IN_USE}")
    if str(watch.daemon.pid) not in refused.said:
        problems.append(f"the refusal does not name process {watch.daemon.pid}: {refused.said}")
    return problems


async def _suspend(_rig: Rig, watch: Watch) -> list[str]:
    processes.send([watch.daemon.pid], signal.SIGSTOP)
    await asyncio.sleep(_STOPPED_S)
    processes.send([watch.daemon.pid], signal.SIGCONT)
    return []


async def _kill_aligning(_rig: Rig, watch: Watch) -> list[str]:
    killed = aligning(watch.daemon.pid)
    processes.send(killed, signal.SIGKILL)
    return [] if killed else ["no process aligned for the daemon"]


async def _kill(_rig: Rig, watch: Watch) -> list[str]:
    processes.send([watch.daemon.pid], signal.SIGKILL)
    await watch.daemon.ended()
    return []


async def _kill_all(rig: Rig, watch: Watch) -> list[str]:
    keeper = processes.of(rig.program.data_dir, KEEPER)
    processes.send([*keeper, watch.daemon.pid], signal.SIGKILL)
    await watch.daemon.ended()
    return []


async def play(rig: Rig, faults: Sequence[DaemonFault]) -> tuple[list[Outcome], Control]:
    """Life after life."""
    control = Programme(rig, _CONTROL)
    outcomes: list[Outcome] = []
    problems: list[str] = []
    async with radio.on_air([control.station]) as address:
        rig.configure(
            streams=[{"name": _CONTROL, "url": address + control.station.path}],
            match={"tempo_and_pitch": "exact", "max_gap_s": 120},
            pipeline={"align_processes": 1},
        )
        control.begin()
        async with contextlib.AsyncExitStack() as stack:
            began_s = time.time()
            watch = await stack.enter_async_context(rig.running())
            for fault in faults:
                row = await _open_match(watch)
                at_s = time.time()
                wrong = await fault.inject(rig, watch)
                done_s = time.time()
                if fault.ends:
                    await stack.aclose()
                    watch = await stack.enter_async_context(rig.running(record_since_s=began_s))
                outcome = await _outcome(fault, watch, row, at_s=at_s, done_s=done_s)
                outcomes.append(replace(outcome, problems=(*wrong, *outcome.problems)))
                rig.say(outcomes[-1].described)
            verdict = await control.judge(watch, SCENE, edge_s=_EDGE_S)
            problems += await watch.end()
    return outcomes, verdict.with_problems(problems)


async def _open_match(watch: Watch) -> Found:
    """One that is on the air now."""

    def fresh() -> Found | None:
        now_s = time.time()
        rows = [row for row in watch.found[_CONTROL] if row.state == "confirmed" and now_s - row.start_s < 10]
        return rows[-1] if rows else None

    row = await watch.until(fresh, _SOUND_S)
    if row is None:
        raise MonitorError(f"nothing is recognised within {_SOUND_S:.0f} s: {watch.state(_CONTROL)}")
    return row


async def _outcome(fault: DaemonFault, watch: Watch, row: Found, *, at_s: float, done_s: float) -> Outcome:
    """Something that is aired afterwards is recognised; the airing that was cut is one row; the gap is told."""
    again = await watch.until(lambda: any(one.end_s > done_s + 1 for one in watch.found[_CONTROL]), fault.recover_s)
    back_s, problems = time.time(), []
    same = [one for one in watch.found[_CONTROL] if one.reference_id == row.reference_id and one.state != "retracted"]
    cut = [one for one in same if abs(one.start_s - row.start_s) < 5]
    if len(cut) != 1 or cut[0].match_id != row.match_id:
        problems.append(f"{fault.name}: the airing that it cut is {len(cut)} rows")
    if fault.ends:  # what the station sends of its past may make up for all that was missed
        await watch.looked_again()
        account = watch.account(_CONTROL)
        lacking_s = account.at_s - at_s - account.heard_s - account.missed_s
        if lacking_s > _UNDER_WAY_S:
            problems.append(f"{fault.name}: {lacking_s:.1f} s since then were not heard, and are in no gap")
    return Outcome(
        fault=fault,
        expected=fault.expected,
        noticed_s=done_s - at_s,
        recovered_s=back_s - done_s if again else None,
        lost=0 if again else 1,
        problems=tuple(problems),
    )
