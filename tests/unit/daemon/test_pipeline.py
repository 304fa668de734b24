"""The stages with a catalog that may be away; only Milvus, PostgreSQL and the model are stood in for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import fields

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from monitor.daemon import pipeline as stages
from monitor.daemon.pipeline import Limits, Pipeline
from monitor.errors import UnreachableError
from monitor.metrics import Metrics
from monitor.record.rows import RecordedMatch
from monitor.types import Window
from tests.unit.match.simulation import CALIBRATION, DIMENSION, HOP_S, OPTIONS, WINDOW_S, Airing, Catalog, Recording
from tests.unit.match.simulation import windows as heard


class Model:
    """Windows carry their vectors, so that the model has nothing to do."""

    model_id, sample_rate_hz, window_s, hop_s, dimension = "simulated", 64, WINDOW_S, HOP_S, DIMENSION
    window_samples, hop_samples, reference_hop_samples, pitch_ratios = 128, 32, 16, (1.0,)

    def embed(self, samples):
        return samples

    def read(self, samples):
        return samples[:, np.newaxis]


class Reader:
    """The simulated catalog, which can be away."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.away, self.searches, self.references = catalog, False, 0, {}

    async def search_readings(self, windows, k):
        self.searches += 1
        if self.away:
            raise UnreachableError("Milvus is away")
        return [self.catalog.search(readings[0], k) for readings, _ in windows]

    async def spectrogram(self, reference_id, start_s, end_s):
        return None

    async def stretch(self, reference_id, start_s, end_s):
        if self.away:
            raise UnreachableError("Milvus is away")
        starts = self.catalog.starts[reference_id]
        inside = (starts >= start_s) & (starts < end_s)
        return starts[inside], self.catalog.vectors[reference_id][inside]

    async def refresh(self):
        return False

    def reference(self, reference_id):
        return None


class Log:
    def __init__(self) -> None:
        self.events = []

    async def put(self, event):
        self.events.append(event)

    @property
    def told(self):
        return [event.match.state.value for event in self.events if event.changed]


class Canary:
    def heard(self, event):
        raise AssertionError(event)

    def lost(self, reason):
        raise AssertionError(reason)


class Station:
    """A pipeline with one catalog and one stream on which `piece-1` airs from second 5 on."""

    def __init__(self, backlog_dir=None, lookback_dir=None, *, processes=0) -> None:
        self.catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(4)})
        self.reader, self.log, self.metrics = Reader(self.catalog), Log(), Metrics(CollectorRegistry())
        self.pipeline = Pipeline(
            recorder=self.log,
            metrics=self.metrics,
            options=OPTIONS,
            top_k=10,
            limits=Limits(
                batch_windows=8,
                windows_capacity=500,
                backlog_s=60,
                search_interval_s=0.0,
                align_processes=processes,
            ),
            backlog_dir=backlog_dir,
            lookback_dir=lookback_dir,
        )
        self.pipeline.add_catalog(
            name="default", model="m", embedder=Model(), reader=self.reader, calibration=CALIBRATION
        )
        self.metrics.add_stream("radio")
        self.pipeline.attach("radio", ["default"], [])
        airing = [Airing("piece-1", 5.0, 0.0, 50.0)]
        self.windows = list(heard(self.catalog, airing, until_s=50, noise=0.3, seed=1))

    def play(self, from_s: float, until_s: float) -> None:
        for start_s, vector in self.windows:
            if from_s <= start_s < until_s:
                self.pipeline.submit("m", Window(stream="radio", start_s=start_s, samples=vector, level_dbfs=-20.0))

    def dropped(self) -> float:
        value = self.metrics.registry.get_sample_value
        return value("monitor_windows_dropped_total", {"stream": "radio", "reason": "shutdown"}) or 0.0


@pytest.fixture(params=[0, 1], ids=["here", "process"])
async def station(request, monkeypatch):
    """Aligned in the daemon's own process, and in another: what is told is the same."""
    monkeypatch.setattr(stages, "_LONGEST_WAIT_S", 0.02)
    station = Station(processes=request.param)
    running = asyncio.create_task(station.pipeline.run())
    station.running = running
    yield station
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - no event tells of what a stage has come to
            await asyncio.sleep(0.01)


async def test_a_stream_changed_while_milvus_is_away_is_followed_afterwards(station):
    station.reader.away = True
    station.play(0, 3)
    await until(lambda: station.pipeline.trouble)
    await station.pipeline.detach("radio", 3.0, timeout_s=0.05)
    station.pipeline.attach("radio", ["default"], [])
    station.reader.away = False
    await until(lambda: not station.pipeline.trouble)
    station.play(3, 30)
    await until(lambda: "confirmed" in station.log.told)


async def test_how_far_a_stream_was_looked_for_is_known_also_while_it_waits(station):
    assert station.pipeline.recognised_until_s("radio") is None
    station.play(0, 3)
    await until(lambda: station.pipeline.recognised_until_s("radio") == 2.5 + WINDOW_S)
    station.reader.away = True
    station.play(3, 30)
    await until(lambda: station.pipeline.trouble)
    assert station.pipeline.recognised_until_s("radio") == 2.5 + WINDOW_S
    station.reader.away = False
    await until(lambda: station.pipeline.recognised_until_s("radio") == 29.5 + WINDOW_S)


async def test_a_changed_stream_goes_on_with_its_match(station):
    station.play(0, 20)
    await until(lambda: "confirmed" in station.log.told)
    station.log.events += await station.pipeline.detach("radio", 21.0, goes_on=True)
    last = station.log.events[-1]
    assert not last.changed and last.match.last_hit_s >= 18.0
    row = as_row(last)
    station.pipeline.attach("radio", ["default"], [row])
    station.play(20, 50)
    station.pipeline.close()
    await station.running
    assert station.log.told == ["provisional", "confirmed", "ended"]
    assert len({event.match.match_id for event in station.log.events}) == 1
    assert [event.sequence for event in station.log.events] == list(range(len(station.log.events)))


async def test_matches_end_in_the_log_though_milvus_is_away_at_the_stop(station):
    station.play(0, 20)
    await until(lambda: "confirmed" in station.log.told and station.log.events[-1].match.last_hit_s > 15)
    station.reader.away = True
    station.play(20, 25)
    await until(lambda: station.pipeline.trouble)
    station.pipeline.unheard("radio", 30.0)
    station.pipeline.close()
    await asyncio.wait_for(station.running, 120)
    assert station.log.told == ["provisional", "confirmed", "ended"]
    assert station.dropped() <= 10  # windows alone are counted


async def test_what_another_daemon_has_taken_is_followed_no_more(station):
    station.play(0, 20)
    await until(lambda: "confirmed" in station.log.told)
    station.pipeline.forget("radio")
    station.play(20, 25)
    station.pipeline.close()
    await station.running
    assert "ended" not in station.log.told


async def test_the_latest_windows_are_kept_as_long_as_somebody_may_go_on_with_the_stream(tmp_path):
    station = Station(lookback_dir=tmp_path)
    running = asyncio.create_task(station.pipeline.run())

    def kept():
        return [path.name for path in tmp_path.rglob("*.windows")]

    station.pipeline.attach_canary("canary", "default", Canary())
    station.pipeline.submit("m", Window(stream="canary", start_s=0.0, samples=station.windows[0][1], level_dbfs=-20.0))
    station.play(0, 20)
    await until(lambda: "confirmed" in station.log.told)
    assert kept() == ["radio.windows"]
    await station.pipeline.detach("radio", 20.0, goes_on=True)
    assert kept() == ["radio.windows"]
    station.pipeline.attach("radio", ["default"], [])
    await station.pipeline.detach("radio", 20.0)
    assert kept() == []
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_detached_stream_that_is_not_there_is_not_waited_for(station):
    station.pipeline.forget("radio")
    async with asyncio.timeout(60):
        assert await station.pipeline.detach("radio", 1.0, timeout_s=600.0) == []


async def test_each_streams_transposed_readings_are_searched_by_turns_of_its_own(station, monkeypatch):
    due: dict[bool, list[list[int]]] = {True: [], False: []}

    async def search_readings(windows, k):
        for readings, asked in windows:
            due[bool(readings[0, 0] > 0)].append(asked)
        return [[] for _ in windows]

    monkeypatch.setattr(station.reader, "search_readings", search_readings)
    monkeypatch.setattr(Model, "read", lambda _self, samples: samples[:, np.newaxis].repeat(9, axis=1))
    station.metrics.add_stream("other")
    station.pipeline.attach("other", ["default"], [])
    # "radio" is told more windows than "other": turns by arrival would differ.
    for number in range(15):
        stream, sign = ("other", -1) if number % 5 in {1, 3} else ("radio", 1)
        vector = np.full(DIMENSION, sign, dtype=np.float32)
        station.pipeline.submit("m", Window(stream=stream, start_s=number * HOP_S, samples=vector, level_dbfs=-20.0))
    await until(lambda: sum(map(len, due.values())) == 15)
    assert len(due[True]) == 9 and len(due[False]) == 6
    for asked in due.values():
        assert asked == [[0, 1, 2, 5, 6] if number % 2 == 0 else [0, 3, 4, 7, 8] for number in range(len(asked))]


@pytest.fixture
async def kept(tmp_path, monkeypatch):
    """Stations, one after the other, with one directory for what waits."""
    monkeypatch.setattr(stages, "_LONGEST_WAIT_S", 0.02)
    running = []

    def begin():
        station = Station(tmp_path / "backlog")
        station.running = asyncio.create_task(station.pipeline.run())
        running.append(station.running)
        return station

    yield begin
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_an_airing_within_an_outage_of_milvus_is_found_late_with_its_own_times(kept):
    station = kept()
    station.reader.away = True
    station.play(0, 40)
    lane = station.pipeline.lanes["default"]
    await until(lambda: lane.queue.on_disk >= 60)
    assert station.metrics.registry.get_sample_value("monitor_milvus_up") == 0
    station.reader.away = False
    await until(lambda: "confirmed" in station.log.told)
    assert station.metrics.registry.get_sample_value("monitor_milvus_up") == 1
    station.play(40, 50)
    station.pipeline.close()
    await station.running
    assert station.log.told == ["provisional", "confirmed", "ended"]
    assert abs(station.log.events[0].match.start_s - 5.0) < 1.0


async def test_what_waits_for_milvus_at_a_death_is_searched_by_the_next_life(kept):
    station = kept()
    station.play(0, 16)
    await until(lambda: "provisional" in station.log.told)
    station.reader.away = True
    station.play(16, 18)
    await until(lambda: station.pipeline.trouble)
    station.play(18, 50)
    lane = station.pipeline.lanes["default"]
    await until(lambda: lane.queue.on_disk >= 50)
    row = as_row(station.log.events[-1])
    station.running.cancel()  # nothing is flushed, as by a SIGKILL
    await asyncio.gather(station.running, return_exceptions=True)

    after = kept()
    assert len(after.pipeline.lanes["default"].queue) >= 50
    after.pipeline.attach("radio", ["default"], [row])
    after.pipeline.resume()
    # Fifty windows last until 31 at least, and a row is brought up to date every five seconds.
    await until(lambda: after.log.events and after.log.events[-1].match.last_hit_s > 25)
    after.pipeline.close()
    await after.running
    assert {event.match.match_id for event in after.log.events} == {row.match_id}
    assert after.log.told[-1] == "ended" and after.log.events[-1].interrupted


async def test_a_stop_while_milvus_is_away_leaves_the_windows_and_ends_the_matches(kept):
    station = kept()
    station.play(0, 20)
    await until(lambda: "confirmed" in station.log.told)
    station.reader.away = True
    station.play(20, 40)
    await until(lambda: station.pipeline.trouble)
    station.pipeline.close()
    await asyncio.wait_for(station.running, 120)
    assert station.log.told == ["provisional", "confirmed", "ended"] and station.log.events[-1].interrupted
    assert station.dropped() == 0
    assert len(kept().pipeline.lanes["default"].queue) > 0


def as_row(event):
    """The match as the log would give it back."""
    values = {field.name: getattr(event.match, field.name) for field in fields(event.match)}
    described = dict.fromkeys(("title", "artist", "isrc", "owner", "label"))
    return RecordedMatch(**values, **described, epoch=1, sequence=event.sequence, decided_s=event.decided_s)
