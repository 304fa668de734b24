"""PostgreSQL stopped, killed and started again under a recorder at work, and the recorder's process killed with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg_pool import AsyncConnectionPool

from monitor.daemon.recorder import Heard, Recorder
from monitor.errors import ServerReason, UnreachableError
from monitor.metrics import Metrics
from monitor.record import store as storing
from monitor.record.border import transaction
from monitor.record.journal import DeadLetters, Journal
from monitor.record.migrations import migrate
from monitor.record.store import Store
from monitor.types import MatchEvent, MatchState
from tests.integration.record.events import life, make_event, make_match
from tests.integration.record.outage import Outage, outage

PROVISIONAL, CONFIRMED, ENDED, RETRACTED = MatchState


@pytest.fixture(scope="module")
def one_server(session_dir: Path) -> Iterator[Outage]:
    directory = session_dir / "outage"
    directory.mkdir(mode=0o711)
    with outage(directory) as server:
        yield server


@pytest.fixture
async def server(one_server: Outage) -> AsyncIterator[Outage]:
    """The server, at work, with an empty migrated database."""
    async with await psycopg.AsyncConnection.connect(one_server.dsn) as connection:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await migrate(one_server.dsn)
    try:
        yield one_server
    finally:
        one_server.recover()


@asynccontextmanager
async def pool_of(server: Outage) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(
        server.dsn, min_size=1, max_size=4, timeout=2, open=False, reconnect_timeout=4
    ) as pool:
        yield pool


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(180):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def rows(server: Outage, statement: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
        return await (await connection.execute(statement)).fetchall()


class Desk:
    """A recorder of one stream on a real database."""

    def __init__(self, pool: AsyncConnectionPool[Any], directory: Path) -> None:
        self.store = Store(pool)
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.add_stream("radio")
        self.recorded: list[MatchEvent] = []
        self.recorder = Recorder(
            store=self.store,
            journal=Journal(directory / "journal"),
            dead_letters=DeadLetters(directory),
            metrics=self.metrics,
            subscribers=list,
            on_recorded=self.recorded.extend,
            on_stale=lambda _stream: None,
        )

    async def listen(self) -> None:
        self.recorder.epochs["radio"] = await self.store.begin_listening("radio")

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.recorder.run())
        try:
            yield
        finally:
            await self.recorder.close()
            await asyncio.wait_for(task, 180)


async def test_a_database_that_says_nothing_is_given_up_after_the_time_that_was_asked(server: Outage) -> None:
    async with pool_of(server) as pool:
        async with transaction(pool, "read", timeout_s=60) as connection:
            await connection.execute("SELECT 1")
        server.pause()
        for _ in range(3):  # a connection that was open, then new ones
            with pytest.raises(UnreachableError) as caught:
                async with transaction(pool, "read", timeout_s=1) as connection:
                    await connection.execute("SELECT 1")
            assert caught.value.reason is ServerReason.TIMEOUT
        server.go_on()
        async with transaction(pool, "read", timeout_s=60) as connection:
            await connection.execute("SELECT 1")


@pytest.mark.parametrize("fault", ["paused", "killed"])
async def test_events_of_an_outage_are_written_once_and_in_order(
    server: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(storing, "_WRITE_S", 1.0)
    match = make_match()
    async with pool_of(server) as pool:
        desk = Desk(pool, tmp_path)
        await desk.listen()
        async with desk.at_work():
            await desk.recorder.put(make_event(0, PROVISIONAL, match=match))
            assert await desk.recorder.settle(180)
            server.pause() if fault == "paused" else server.kill()
            others = [make_match() for _ in range(20)]
            for event in (make_event(1, CONFIRMED, match=match), *(make_event(0, match=other) for other in others)):
                await desk.recorder.put(event)
            await until(lambda: desk.recorder.trouble)
            await desk.recorder.put(make_event(2, ENDED, match=match))
            await desk.recorder.put(Heard(stream="radio", until_s=match.end_s))
            server.go_on() if fault == "paused" else server.begin()
            assert await desk.recorder.settle(180)
            assert desk.recorder.trouble is None
    written = await rows(server, "SELECT match_id, state FROM match_events ORDER BY id")
    expected = [(match.match_id, "provisional"), (match.match_id, "confirmed")]
    expected += [(other.match_id, "provisional") for other in others]
    assert written == [*expected, (match.match_id, "ended")]
    assert [(event.match.match_id, event.match.state.value) for event in desk.recorded] == written
    assert desk.metrics.registry.get_sample_value("monitor_matches_open", {"stream": "radio"}) == len(others)


async def test_a_process_killed_in_an_outage_leaves_its_events_to_the_next_one(server: Outage, tmp_path: Path) -> None:
    match = make_match()
    async with pool_of(server) as pool:
        epoch = await Store(pool).begin_listening("radio")
    server.kill()
    program = Path(__file__).with_name("killed.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), str(tmp_path), str(epoch), str(match.match_id)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    async with asyncio.timeout(180):
        assert await process.stdout.readline() == b"said\n"
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    server.begin()
    async with pool_of(server) as pool:
        desk = Desk(pool, tmp_path)
        async with desk.at_work():
            assert await desk.recorder.settle(180)
        assert await desk.store.begin_listening("radio") == epoch + 1
    assert await rows(server, "SELECT sequence, state FROM match_events ORDER BY id") == [
        (0, "provisional"),
        (1, "confirmed"),
        (2, "ended"),
    ]
    assert len(await rows(server, "SELECT FROM matches")) == 1


async def test_a_fact_that_the_database_refuses_is_laid_aside(server: Outage, tmp_path: Path) -> None:
    good = make_match()
    async with pool_of(server) as pool:
        desk = Desk(pool, tmp_path)
        await desk.listen()
        async with desk.at_work():
            events = [
                *life(good, PROVISIONAL),
                make_event(match=make_match(reference_id="no \0 text holds this")),
                make_event(match=make_match(end_s=1e15)),
                make_event(sequence=1 << 40),
                make_event(1, CONFIRMED, match=good),
            ]
            for event in events:
                await desk.recorder.put(event)
            assert await desk.recorder.settle(180)
    assert await rows(server, "SELECT state FROM matches") == [("confirmed",)]
    letters = [json.loads(line) for line in (tmp_path / "dead-letters.jsonl").read_text().splitlines()]
    assert len(letters) == 3 and {letter["reason"] for letter in letters} == {"bad_data"}
