"""Streams aligned by processes of the daemon's: spread, lost, begun anew. What is told is tested with the pipeline."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from monitor.daemon.aligning import PROGRAM, Answer, Ask, Call, Done, packed
from monitor.daemon.desk import Brief, Ending
from monitor.daemon.desks import Desks, processes_by_cores
from monitor.errors import UnreachableError
from monitor.types import Embedded, Neighbour
from tests.unit.daemon.test_pipeline import Reader, Station, until
from tests.unit.match.simulation import (
    CALIBRATION,
    DIMENSION,
    HOP_S,
    OPTIONS,
    REFERENCE_HOP_S,
    WINDOW_S,
    Airing,
    Catalog,
    Recording,
    windows,
)


def brief(stream="radio", **changes):
    return dataclasses.replace(
        Brief(
            stream=stream,
            catalog="default",
            model_id="simulated",
            window_s=WINDOW_S,
            hop_s=HOP_S,
            dimension=DIMENSION,
            pitch_ratios=(1.0,),
            reference_hop_s=REFERENCE_HOP_S,
            calibration=CALIBRATION,
            options=OPTIONS,
        ),
        **changes,
    )


def command_line(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def pids():
    """The processes that align, of this one."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in found if {PROGRAM.encode(), str(os.getpid()).encode()} <= set(command_line(pid))]


@pytest.fixture
async def desks():
    """Two processes at most, over a simulated catalog."""
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(3)})
    desks = Desks(processes=2)
    desks.catalogs["default"] = Reader(catalog)
    yield desks
    await desks.close()
    assert pids() == []


def airing(desks, *, noise=0.3):
    """What a stream hears on which `piece-1` airs from second 5 on, with its neighbours."""
    catalog = desks.catalogs["default"].catalog
    played = [Airing("piece-1", 5.0, 0.0, 20.0)]
    return [
        (
            Embedded(stream="radio", start_s=start_s, window_s=WINDOW_S, readings=vector[np.newaxis]),
            catalog.search(vector, 10),
        )
        for start_s, vector in windows(catalog, played, until_s=40, noise=noise, seed=1)
    ]


async def test_streams_are_spread_and_no_process_begins_before_it_is_needed(desks):
    followers = [desks.follow(brief(f"radio-{number}")) for number in range(9)]
    seats = [follower.seat for follower in followers]
    assert {seat._share for seat in seats} == {0.5}
    assert sorted(map(seats.count, set(seats))) == [4, 5]
    assert pids() == []
    heard, near = airing(desks)[0]
    await followers[0].step(dataclasses.replace(heard, stream="radio-0"), near)
    assert len(pids()) == 1
    # Who leaves makes room.
    for follower in followers[:4]:
        await follower.end(Ending.REMOVED)
    assert desks.follow(brief("another")).seat is seats[0]


async def test_a_lost_process_costs_no_match(tmp_path, caplog):
    station = Station(lookback_dir=tmp_path, processes=1)
    running = asyncio.create_task(station.pipeline.run())
    station.play(0, 8)
    await until(lambda: "provisional" in station.log.told)
    for until_s in (16, 24):
        (pid,) = pids()
        os.kill(pid, signal.SIGKILL)
        station.play(until_s - 8, until_s)
        await until(lambda reached_s=until_s: station.pipeline.recognised_until_s("radio") == reached_s + 1.5)
        assert pids() != [pid]
    station.play(24, 50)
    station.pipeline.close()
    await running
    assert station.log.told == ["provisional", "confirmed", "ended"]
    assert len({event.match.match_id for event in station.log.events}) == 1
    assert [event.sequence for event in station.log.events] == list(range(len(station.log.events)))
    assert abs(station.log.events[-1].match.start_s - 5.0) < 1.0
    assert station.metrics.registry.get_sample_value("monitor_aligning_lost_total") == 2
    assert caplog.text.count("the process that aligns 1 streams ended (-9): another goes on") == 2


async def test_a_process_that_ends_again_and_again_ends_the_pipeline(tmp_path):
    station = Station(lookback_dir=tmp_path, processes=1)
    running = asyncio.create_task(station.pipeline.run())
    station.play(0, 2)
    for ends in range(3):
        await until(pids)
        (pid,) = pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda lost=pid: lost not in pids())
        station.play(2 + ends, 3 + ends)
    with pytest.raises(ExceptionGroup, match="unhandled errors") as crash:
        await running
    assert "ended 3 times within 60 s (-9)" in repr(crash.value.exceptions)


async def test_a_bug_there_is_told_here(desks):
    follower = desks.follow(brief())
    heard, _ = airing(desks)[0]
    with pytest.raises(RuntimeError, match="AttributeError: 'str' object has no attribute 'reading'"):
        await follower.step(heard, ["nonsense"])


async def test_what_a_catalog_cannot_answer_is_told_again(desks):
    follower, reader = desks.follow(brief()), desks.catalogs["default"]
    events = []
    for heard, near in airing(desks):
        if heard.start_s == 12.0:
            desks.changed("default")
            reader.away = True
            with pytest.raises(UnreachableError, match="Milvus is away"):
                await follower.step(heard, near)
            reader.away = False
        events += await follower.step(heard, near)
    assert [event.match.state.value for event in events if event.changed] == ["provisional", "confirmed", "ended"]
    assert follower.heard_until_s == 39.5 + WINDOW_S


async def test_a_stream_that_is_taken_over_while_a_process_begins_is_not_asked_of_it(desks):
    heard, near = airing(desks)[0]
    first, second = desks.follow(brief()), desks.follow(brief("other"))
    asked = asyncio.create_task(first.step(heard, near))
    other = asyncio.create_task(second.step(dataclasses.replace(heard, stream="other"), near))
    await asyncio.sleep(0)
    first.forget()
    again = desks.follow(brief())
    assert await asyncio.gather(asked, other) == [[], []]
    assert (first.heard_until_s, second.heard_until_s) == (-np.inf, WINDOW_S)
    assert await again.unheard(8.0) == [] and again.heard_until_s == 8.0


async def test_nothing_begins_only_to_be_ended(desks, tmp_path):
    kept = brief(kept_in=tmp_path, most_kept=60)
    (tmp_path / "radio.windows").touch()
    assert await desks.follow(kept).end(Ending.HANDED_ON) == []
    assert list(tmp_path.iterdir()) != []
    assert await desks.follow(kept).end(Ending.REMOVED) == []
    assert list(tmp_path.iterdir()) == [] == pids()
    await desks.close()
    with pytest.raises(RuntimeError, match="the daemon stops"):
        await desks.follow(brief()).unheard(1.0)


@pytest.mark.parametrize("processes", [0, 1])
async def test_a_stream_may_be_taken_over_while_the_last_is_said(processes):
    """By the recorder, which learns of it by what it is given to write."""
    station = Station(processes=processes)
    running = asyncio.create_task(station.pipeline.run())
    put = station.log.put

    async def refuse(event):
        await put(event)
        if event.match.state.value == "ended":
            station.pipeline.forget("radio")

    station.log.put = refuse
    station.play(0, 20)
    await until(lambda: "confirmed" in station.log.told)
    station.pipeline.close()
    await running
    assert station.log.told == ["provisional", "confirmed", "ended"]


async def test_what_was_taken_to_be_searched_is_told_to_whoever_follows_the_stream_by_then():
    station = Station()
    pipeline, told = station.pipeline, []

    async def step(heard, _near):
        told.append(heard.start_s)
        if len(told) == 1:  # changed while its batch is aligned
            await pipeline.detach("radio", 0.0, goes_on=True, timeout_s=0.01)
            pipeline.attach("radio", ["default"], [])
            pipeline.lanes["default"].followers["radio"].step = step
        return []

    pipeline.lanes["default"].followers["radio"].step = step
    running = asyncio.create_task(pipeline.run())
    station.play(0, 4)
    pipeline.close()
    await running
    assert told == [number * HOP_S for number in range(8)]


@pytest.mark.parametrize("processes", [0, 1])
async def test_what_waited_for_milvus_when_its_stream_was_removed_says_nothing(processes):
    desks = Desks(processes=processes)
    desks.catalogs["default"] = Reader(Catalog({"piece-1": Recording(seed=1, duration_s=60.0)}))
    follower = desks.follow(brief())
    heard = airing(desks)
    await follower.step(*heard[0])
    assert await follower.end(Ending.REMOVED) == []
    assert await follower.step(*heard[1]) == [] == await follower.unheard(9.0)
    await desks.close()


async def test_a_changed_catalog_is_asked_anew(desks, monkeypatch):
    reader, asked = desks.catalogs["default"], []
    monkeypatch.setattr(reader, "reference", asked.append)
    follower = desks.follow(brief())
    heard = airing(desks)
    for window, near in heard[:30]:
        await follower.step(window, near)
    before = len(asked)
    assert 0 < before == len(set(asked))
    desks.changed("default")
    await follower.step(*heard[30])
    assert "piece-1" in asked[before:]


async def test_new_thresholds_reach_the_process(desks):
    follower = desks.follow(brief())
    heard = airing(desks)
    await follower.step(*heard[0])
    follower.set_options(dataclasses.replace(OPTIONS, provisional_nats=1e6))
    assert [event for window in heard[1:] for event in await follower.step(*window)] == []


@pytest.mark.parametrize("begun", [False, True])
async def test_of_a_stream_that_another_daemon_has_nothing_is_kept(desks, tmp_path, begun):
    kept = brief(kept_in=tmp_path, most_kept=60)
    heard, near = airing(desks)[0]
    first = desks.follow(kept)
    await first.step(heard, near)
    await first.end(Ending.HANDED_ON)
    assert list(tmp_path.iterdir()) != []
    if not begun:
        await desks.close()
    desks.follow(kept).forget()
    if begun:  # the process has done what it was told before it answers what is asked after
        await desks.follow(brief("other")).unheard(1.0)
    assert list(tmp_path.iterdir()) == []


async def test_what_the_process_has_to_say_is_in_the_daemons_log(desks, tmp_path, caplog):
    (tmp_path / "file").touch()
    follower = desks.follow(brief(kept_in=tmp_path / "file", most_kept=60))
    await follower.step(*airing(desks)[0])
    assert "the latest windows are not kept" in caplog.text


@pytest.mark.parametrize(
    ("quota", "processes"),
    [("max 100000\n", 7), ("400000 100000\n", 3), ("50000 100000\n", 0), ("1600000 100000\n", 7), (None, 7)],
)
def test_a_core_is_left_for_everything_else(tmp_path, monkeypatch, quota, processes):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(8))
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert processes_by_cores(tmp_path / "cpu.max") == processes


def ignores(pid, *numbers):
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn:")]
    return all(int(line.split()[1], 16) >> (number - 1) & 1 for number in numbers)


async def test_it_ends_with_the_daemon_that_began_it_and_not_before():
    program = f"""
        import os, subprocess, sys, time
        aligning = subprocess.Popen(
            [sys.executable, "-c", {PROGRAM!r}, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        print(aligning.pid, flush=True)
        time.sleep(600)
    """
    words = (sys.executable, "-c", textwrap.dedent(program))
    daemon = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    try:
        pid = int(await daemon.stdout.readline())
        # Whoever ends a whole group lets the daemon finish: it is not for its processes to go first.
        await until(lambda: ignores(pid, signal.SIGINT, signal.SIGTERM))
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        await asyncio.sleep(0.2)
        assert PROGRAM.encode() in command_line(pid)  # of a process that has ended there are no words
    finally:
        daemon.kill()
        await daemon.wait()
    await until(lambda: PROGRAM.encode() not in command_line(pid))


async def test_what_is_done_to_a_process_while_it_begins_is_not_lost(desks):
    """A second one halves its share, and the daemon may stop."""
    first = desks.follow(brief())
    asked = asyncio.create_task(first.unheard(1.0))
    while not first.seat._beginning.locked():  # noqa: ASYNC110  the very next turn of the loop
        await asyncio.sleep(0)
    for number in range(4):
        desks.follow(brief(f"radio-{number}"))
    assert first.seat._share == 0.5
    sent = []
    first.seat._send = lambda _process, message: sent.append(message)
    await until(lambda: len(sent) > 1)
    assert sent[0] == Call(name="set_share", arguments=(0.5,))
    await desks.close()
    assert pids() == []
    with pytest.raises(RuntimeError, match="the daemon stops"):
        await asked


async def test_a_stream_that_is_taken_over_while_it_is_removed_is_not_missed():
    station = Station()
    removing = asyncio.create_task(station.pipeline.detach("radio", 1.0, timeout_s=0.2))
    await asyncio.sleep(0)
    station.pipeline.forget("radio")
    assert await removing == []


@pytest.mark.parametrize(
    "message",
    [
        Call(name="unheard", arguments=("default", "radio", 1.0), number=3),
        Done(number=3, error=UnreachableError("Milvus is away")),
        Ask(name="stretch", arguments=("default", "a", 0.0, 1.0)),
        Answer(value=[Neighbour(reference_id="a", reference_start_s=1.0, similarity=0.5)]),
    ],
)
def test_messages_say_how_long_they_are(message):
    text = packed(message)
    assert int.from_bytes(text[:4], "little") == len(text) - 4
