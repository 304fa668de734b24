"""What the recorder does with a log that is away, that refuses, or whose answers are lost."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from monitor.daemon import recorder as recording
from monitor.daemon.recorder import Heard, Recorder
from monitor.errors import ServerReason, StaleEpochError, UnreachableError
from monitor.metrics import Metrics
from monitor.record.journal import DeadLetters, Journal
from monitor.types import Gap, MatchState
from tests.integration.record.events import life, make_event, make_match

PROVISIONAL, CONFIRMED, ENDED, RETRACTED = MatchState


class Store:
    """A log in memory that does what the test says, and remembers in which order it was written to."""

    def __init__(self) -> None:
        self.written, self.known, self.stale = [], set(), set()
        self.away: UnreachableError | None = None
        self.lose_answers = 0
        self.slow: asyncio.Event | None = None

    async def ping(self):
        self._check()

    async def record_events(self, events, *, epochs, webhooks):
        self._check(*((event.match.stream, epochs[event.match.stream]) for event in events))
        if any(event.match.reference_id == "bad" for event in events):
            raise UnreachableError("no row can hold this", ServerReason.BAD_DATA)
        fresh = [event for event in events if (event.match.match_id, event.sequence) not in self.known]
        self.known |= {(event.match.match_id, event.sequence) for event in fresh}
        self.written += fresh
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnreachableError("the answer was lost")
        return fresh

    async def record_heard(self, until_s, *, epochs):
        self._check(*((stream, epochs[stream]) for stream in until_s))
        if self.slow is not None:
            await self.slow.wait()
        self.written += [(stream, each_s, epochs[stream]) for stream, each_s in until_s.items()]

    async def record_gap(self, gap, *, epoch):
        self._check((gap.stream, epoch))
        self.written.append(gap)

    def _check(self, *listeners):
        if self.away is not None:
            raise self.away
        if stale := self.stale.intersection(listeners):
            raise StaleEpochError("another listens", frozenset(stream for stream, _ in stale))


class Desk:
    """A recorder with what is around it."""

    def __init__(self, directory, **journal):
        self.store, self.metrics = Store(), Metrics(CollectorRegistry())
        self.journal = Journal(directory / "journal", **journal)
        self.recorded, self.taken = [], []
        self.dead = DeadLetters(directory)
        self.recorder = Recorder(
            store=self.store,
            journal=self.journal,
            dead_letters=self.dead,
            metrics=self.metrics,
            subscribers=list,
            on_recorded=self.recorded.extend,
            on_stale=self.taken.append,
        )

    def listen(self, stream="radio", epoch=3):
        self.metrics.add_stream(stream)
        self.recorder.epochs[stream] = epoch
        self.recorder.resume(stream, [])

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)

    @asynccontextmanager
    async def at_work(self):
        task = asyncio.create_task(self.recorder.run())
        yield
        await self.recorder.close()
        async with asyncio.timeout(120):
            await task


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    desk.listen()
    return desk


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_word_after_the_last_one_does_not_keep_the_recorder_for_ever(desk):
    await desk.recorder.put(Heard(stream="radio", until_s=1.0))
    await desk.recorder.close()
    await desk.recorder.put(Heard(stream="radio", until_s=2.0))
    async with asyncio.timeout(60):
        await desk.recorder.run()
    assert desk.store.written == [("radio", 2.0, 3)]  # how far it was heard is one fact


async def test_one_stream_is_settled_while_much_of_others_waits(desk):
    desk.listen("other", 4)
    desk.store.slow = asyncio.Event()
    await desk.recorder.put(Heard(stream="other", until_s=1.0))
    async with desk.at_work():
        assert await desk.recorder.settle(120, stream="radio")
        assert not await desk.recorder.settle(0.1, stream="other")
        desk.store.slow.set()
        assert await desk.recorder.settle(120, stream="other")


async def test_one_taken_over_stream_does_not_keep_from_the_log_how_far_others_were_heard(desk):
    desk.listen("other", 4)
    desk.store.stale = {("other", 4)}
    await desk.recorder.put(Heard(stream="other", until_s=1.0))
    await desk.recorder.put(Heard(stream="radio", until_s=2.0))
    async with desk.at_work():
        await until(lambda: desk.taken)
        assert await desk.recorder.settle(120)
    assert desk.store.written == [("radio", 2.0, 3)]
    assert desk.taken == ["other"]


async def test_what_is_said_while_the_log_is_away_is_written_in_order_when_it_is_back(desk):
    desk.store.away = UnreachableError("away")
    first, second = make_match(), make_match(reference_id="piece-2")
    async with desk.at_work():
        for event in (
            *life(first, PROVISIONAL, CONFIRMED),
            *life(second, PROVISIONAL),
            make_event(2, ENDED, match=first),
        ):
            await desk.recorder.put(event)
        await until(lambda: desk.recorder.trouble)
        assert desk.value("monitor_postgres_up") == 0 and desk.value("monitor_queue_length", queue="events") == 4
        assert desk.recorded == []
        desk.store.away = None
        assert await desk.recorder.settle(20)
        assert desk.recorder.trouble is None
    states = [(event.match.reference_id, event.match.state.value) for event in desk.store.written]
    assert states == [
        ("piece-1", "provisional"),
        ("piece-1", "confirmed"),
        ("piece-2", "provisional"),
        ("piece-1", "ended"),
    ]
    assert desk.recorded == desk.store.written
    assert desk.value("monitor_matches_open", stream="radio") == 1
    assert desk.value("monitor_postgres_up") == 1


async def test_what_waits_at_the_stop_is_written_by_the_next_life_under_its_own_epoch(tmp_path, desk):
    desk.store.away = UnreachableError("away")
    events = life(make_match(), PROVISIONAL, CONFIRMED)
    async with desk.at_work():
        for event in events:
            await desk.recorder.put(event)
        await desk.recorder.put(Heard(stream="radio", until_s=7.0))
    desk.journal.close()
    again = Desk(tmp_path)
    async with again.at_work():
        assert await again.recorder.settle(20)
    assert again.store.written == [*events, ("radio", 7.0, 3)]
    assert again.recorded == events
    assert len(again.journal) == 0


async def test_an_event_whose_answer_was_lost_is_counted_once(desk):
    desk.store.lose_answers = 1
    match = make_match()
    async with desk.at_work():
        for event in life(match, PROVISIONAL, CONFIRMED):
            await desk.recorder.put(event)
        assert await desk.recorder.settle(20)
        assert desk.value("monitor_matches_open", stream="radio") == 1
        assert desk.value("monitor_infringements_active", stream="radio") == 1
        assert desk.value("monitor_matches_total", stream="radio", state="confirmed") == 1
        desk.store.lose_answers = 1
        await desk.recorder.put(make_event(2, ENDED, match=match))
        assert await desk.recorder.settle(20)
    assert desk.value("monitor_matches_open", stream="radio") == 0
    assert desk.value("monitor_infringements_active", stream="radio") == 0
    assert len(desk.recorded) == len(desk.store.written) == 3


async def test_a_fact_that_no_row_can_hold_lies_beside_and_the_rest_goes_on(desk, tmp_path):
    good, bad = make_match(), make_match(reference_id="bad")
    async with desk.at_work():
        for event in (
            *life(good, PROVISIONAL),
            *life(bad, PROVISIONAL, CONFIRMED),
            make_event(1, CONFIRMED, match=good),
        ):
            await desk.recorder.put(event)
        assert await desk.recorder.settle(20)
    assert [event.match.match_id for event in desk.store.written] == [good.match_id] * 2
    letters = [json.loads(line) for line in (tmp_path / "dead-letters.jsonl").read_text().splitlines()]
    assert [json.loads(letter["fact"])["entry"]["sequence"] for letter in letters] == [0, 1]
    assert {letter["reason"] for letter in letters} == {"bad_data"}
    assert desk.value("monitor_dead_letters_total") == 2 and desk.recorder.trouble is None


async def test_a_refusal_that_somebody_can_mend_is_waited_for(desk):
    desk.store.away = UnreachableError("permission denied", ServerReason.REJECTED)
    async with desk.at_work():
        await desk.recorder.put(make_event())
        await until(lambda: desk.recorder.trouble)
        desk.store.away = None
        assert await desk.recorder.settle(20)
    assert len(desk.store.written) == 1 and not desk.dead.path.exists()


async def test_a_stream_that_another_took_over_is_written_no_more_and_the_others_are(desk):
    desk.listen("second", epoch=1)
    desk.store.stale = {("radio", 3)}
    async with desk.at_work():
        await desk.recorder.put(make_event())
        await desk.recorder.put(Gap(stream="second", start_s=1.0, end_s=2.0, reason="dns"))
        assert await desk.recorder.settle(20)
        await desk.recorder.put(make_event())
        assert len(desk.journal) == 0
    assert desk.taken == ["radio"] and "radio" not in desk.recorder.epochs
    assert desk.store.written == [Gap(stream="second", start_s=1.0, end_s=2.0, reason="dns")]


async def test_streams_wait_while_the_journal_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "_SYNC_S", 0.02)
    desk = Desk(tmp_path, capacity_bytes=2000)
    desk.listen()
    desk.store.away = UnreachableError("away")
    async with desk.at_work():

        async def say():
            for number in range(100):
                await desk.recorder.put(Gap(stream="radio", start_s=float(number), end_s=number + 0.5, reason="dns"))

        saying = asyncio.create_task(say())
        await until(lambda: desk.recorder.no_room)
        assert desk.journal.size_bytes <= 2000
        desk.store.away = None
        await asyncio.wait_for(saying, 120)
        assert await desk.recorder.settle(20)
        assert desk.recorder.no_room is None
    assert [gap.start_s for gap in desk.store.written] == [float(number) for number in range(100)]


async def test_what_time_cannot_hold_is_a_dead_letter(desk, monkeypatch):
    async def refuse(*_args, **_kwargs):
        raise OverflowError("date value out of range")

    monkeypatch.setattr(desk.store, "record_gap", refuse)
    async with desk.at_work():
        await desk.recorder.put(Gap(stream="radio", start_s=0.0, end_s=1e300, reason="dns"))
        assert await desk.recorder.settle(20)
    assert desk.value("monitor_store_failures_total", reason="bad_data") == 1
