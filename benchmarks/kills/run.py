"""One run: a round undisturbed, then kill after kill, then what the log, the webhooks and the stations say of it."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml

from benchmarks import transmitter
from benchmarks.kills import judging
from benchmarks.kills.broadcast import Broadcast
from benchmarks.kills.judging import Judged
from benchmarks.kills.receiver import Receiver, receiving
from benchmarks.kills.supervisor import Kill, Moment, Supervisor
from benchmarks.soak import account
from benchmarks.soak.account import Span
from monitor.demo import commands, report
from monitor.demo.commands import Program
from monitor.demo.report import Found

CATALOG = "kills"
#: Of all kills, how many must fall so.
LEAST = {"open": 0.5, "provisional": 0.2, "starting": 0.1, "keeper": 0.1}
VERDICTS = ("found", "missed", "missed in pieces", "twice", "elsewhere", "too short")
_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_SETTLE_S = 6.0
_AFTERMATH_S = 60.0
#: From the end of an airing until all that it earned has been said.
_LATENCY_S = 6.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run."""

    kills: tuple[Kill, ...]
    judged: tuple[Judged, ...]
    strays: tuple[Found, ...]
    figures: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Log:
    """What PostgreSQL holds in the end."""

    since_s: float
    undisturbed_until_s: float
    until_s: float
    deliveries: dict[str, int]
    gaps: dict[str, list[Span]]
    found: list[Found]
    stopped_well: bool


async def perform(
    place: Path,
    on_air: Broadcast,
    moments: Sequence[Moment],
    *,
    undisturbed_round: bool,
    seed: int,
    say: Callable[[str], None],
) -> Outcome:
    """Listen, kill at the moments, and judge. Without an undisturbed round the programme itself is what is expected."""
    program = Program(config=place / "monitor.yaml", data_dir=place / "data")
    port = commands.free_port()
    async with receiving() as receiver:
        _write_config(program.config, on_air, port=port, webhook=receiver.url)
        async with commands.servers(program.data_dir) as dsn:
            await program.run("catalog", "add", "--catalog", CATALOG, "--manifest", str(on_air.manifest), "--json")
        urls = [mount.url for mount in on_air.mounts]
        supervisor = Supervisor(program, dsn=dsn, port=port, urls=urls, logs=place, chance=random.Random(seed))
        kills: list[Kill] = []
        async with transmitter.on_air(on_air.mounts):
            try:
                written = await _broadcast(
                    program,
                    supervisor,
                    on_air,
                    moments,
                    receiver,
                    kills=kills,
                    undisturbed_round=undisturbed_round,
                    say=say,
                )
            finally:
                await supervisor.stop()
    # The stations' listeners are gone now: what each was sent is known.
    aired = list(on_air.aired(since_s=written.since_s, until_s=written.until_s))
    edge_s = max(one.end_s - one.start_s for one in aired)
    # What was cut by the beginning or the end is not judged, and no stray either.
    edges = on_air.aired(since_s=written.since_s - edge_s, until_s=written.until_s + edge_s)
    judged = judging.judge(aired, written.found, written.gaps, undisturbed_until_s=written.undisturbed_until_s)
    strays = judging.strays(edges, written.found)
    figures = _figures(written, on_air, kills, judged, strays, seed=seed)
    figures["ffmpegs_left"] = supervisor.ffmpegs_left + sum(kill.ffmpegs_left for kill in kills)
    figures["unstable_ids"] = len(receiver.unstable)
    return Outcome(kills=tuple(kills), judged=tuple(judged), strays=tuple(strays), figures=figures)


def nothing_lost(figures: Mapping[str, Any]) -> bool:
    """Whether every airing, gap and webhook is where it belongs, and nothing else.

    Not of airings that were `missed in pieces`, none of which was long enough to be announced.
    """
    airings, deliveries = figures["airings"], figures["deliveries"]
    return bool(
        airings["found"] > 0
        and not airings["missed"] + airings["twice"] + airings["elsewhere"] + figures["strays"]
        and deliveries["rows"] > 0
        and not deliveries["never_received"] + deliveries["pending"] + deliveries["dead"] + figures["unstable_ids"]
        and max(figures["unaccounted_s"].values()) <= 0
        and figures["ffmpegs_left"] == 0
        and figures["stopped_well"]
    )


def killed_enough(figures: Mapping[str, Any]) -> bool:
    """Whether the kills fell where they should."""
    kills = figures["kills"]
    return all(kills[name] >= int(share * kills["all"]) for name, share in LEAST.items())


async def _broadcast(
    program: Program,
    supervisor: Supervisor,
    on_air: Broadcast,
    moments: Sequence[Moment],
    receiver: Receiver,
    *,
    kills: list[Kill],
    undisturbed_round: bool,
    say: Callable[[str], None],
) -> _Log:
    await supervisor.start()
    await supervisor.until_ready()
    await asyncio.sleep(_SETTLE_S)
    since_s = undisturbed_until_s = on_air.begin()
    if undisturbed_round:
        say(f"ready; {on_air.round_s:.0f} s undisturbed")
        await asyncio.sleep(on_air.round_s + _LATENCY_S)
        undisturbed_until_s = time.time()
    for moment in moments:
        kills.append(kill := await supervisor.kill(moment))
        say(
            f"kill {len(kills)} {moment}: {kill.open} open, {kill.provisional} provisional; "
            f"ready again after {kill.outage_s:.1f} s"
        )
    await asyncio.sleep(on_air.next_whole_s(time.time() + _LATENCY_S) - time.time() + _LATENCY_S)
    async with (
        commands.servers(program.data_dir) as dsn,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
    ):
        until_s = time.time()
        deliveries = await _until_delivered(connection, receiver)
        status = await supervisor.stop()
        say(f"the daemon ended with status {status}")
        names = [mount.name for mount in on_air.mounts]
        return _Log(
            since_s=since_s,
            undisturbed_until_s=undisturbed_until_s,
            until_s=until_s,
            deliveries=deliveries,
            gaps=await account.read_gaps(connection, names, since_s=since_s, until_s=time.time()),
            found=await report.read_found(connection, catalog=CATALOG, since_s=since_s),
            stopped_well=status == 0,
        )


async def _until_delivered(connection: psycopg.AsyncConnection[Any], receiver: Receiver) -> dict[str, int]:
    """What became of the webhooks, once none waits, or after a while."""
    give_up_s = time.monotonic() + _AFTERMATH_S
    while True:
        cursor = await connection.execute("SELECT delivery_id::text, state FROM deliveries")
        states = dict(await cursor.fetchall())
        pending = sum(state == "pending" for state in states.values())
        if not pending or time.monotonic() > give_up_s:
            return {
                "rows": len(states),
                "received": receiver.received,
                "ids": len(receiver.bodies),
                "never_received": sum(
                    state == "delivered" and each not in receiver.bodies for each, state in states.items()
                ),
                "pending": pending,
                "dead": sum(state == "dead" for state in states.values()),
            }
        await asyncio.sleep(0.5)


def _figures(
    written: _Log,
    on_air: Broadcast,
    kills: Sequence[Kill],
    judged: Sequence[Judged],
    strays: Sequence[Found],
    *,
    seed: int,
) -> dict[str, Any]:
    verdicts = Counter(one.verdict for one in judged)
    outages_s = [kill.outage_s for kill in kills]
    since_s, until_s = written.since_s, written.until_s
    return {
        "minutes": (until_s - written.undisturbed_until_s) / 60,
        "seed": seed,
        "kills": {
            "all": len(kills),
            "open": sum(kill.open > 0 for kill in kills),
            "provisional": sum(kill.provisional > 0 for kill in kills),
            "starting": sum(kill.starting for kill in kills),
            "keeper": sum(kill.moment is Moment.KEEPER for kill in kills),
        },
        "outage_s": {"median": statistics.median(outages_s), "longest": max(outages_s)},
        "airings": {
            "disturbed": len(judged),
            "owed": sum(one.owed for one in judged),
            **{verdict: verdicts[verdict] for verdict in VERDICTS},
        },
        "strays": len(strays),
        "deliveries": written.deliveries,
        "gaps_s": {name: account.union_s(spans) for name, spans in written.gaps.items()},
        "sent_to_nobody_s": {
            mount.name: judging.unsent_s(mount.sent, since_s=since_s, until_s=until_s) for mount in on_air.mounts
        },
        "unaccounted_s": {
            mount.name: judging.unaccounted_s(mount.sent, written.gaps[mount.name], since_s=since_s, until_s=until_s)
            for mount in on_air.mounts
        },
        "stopped_well": written.stopped_well,
    }


def _write_config(path: Path, on_air: Broadcast, *, port: int, webhook: str) -> None:
    settings = {
        "http": {"host": "127.0.0.1", "port": port},
        "catalogs": [{"name": CATALOG}],
        "match": {"tempo_and_pitch": "exact"},
        "streams": [{"name": mount.name, "url": mount.url} for mount in on_air.mounts],
        "webhooks": [{"name": "desk", "url": webhook, "secret": _SECRET, "rate_per_s": 100}],
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
