"""Which stages are stuck: on made-up time, and in a real pipeline whose model hangs."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
from prometheus_client import CollectorRegistry

from monitor.daemon.heartbeat import Heartbeat
from monitor.daemon.pipeline import Limits, Pipeline
from monitor.daemon.turns import Turns
from monitor.metrics import Metrics
from monitor.types import Window
from tests.unit.daemon.test_pipeline import Log, Model, Reader, until
from tests.unit.match.simulation import CALIBRATION, DIMENSION, OPTIONS, Catalog, Recording


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_stage_is_stuck_when_one_step_takes_too_long_and_not_while_it_rests():
    clock = Clock()
    heartbeat = Heartbeat(clock)
    heartbeat.turn("search")
    with heartbeat.resting("embed"):
        clock.now_s += 61
        assert heartbeat.stuck(60) == ["search"]
    heartbeat.turn("search")
    assert heartbeat.stuck(60) == []
    clock.now_s += 61
    assert heartbeat.stuck(60) == ["embed", "search"]
    heartbeat.end("search")
    assert heartbeat.stuck(60) == ["embed"]


class HangingModel(Model):
    def __init__(self) -> None:
        self.let_go = threading.Event()

    def embed(self, samples):
        assert self.let_go.wait(120)
        return super().embed(samples)

    def read(self, samples):
        assert self.let_go.wait(120)
        return super().read(samples)


async def test_a_model_that_hangs_is_a_stage_that_is_stuck_and_a_server_that_is_away_is_not():
    clock, model = Clock(), HangingModel()
    heartbeat = Heartbeat(clock)
    reader = Reader(Catalog({"piece": Recording(seed=1, duration_s=20.0)}))
    reader.away = True
    metrics = Metrics(CollectorRegistry())
    limits = Limits(batch_windows=8, windows_capacity=50, backlog_s=60, search_interval_s=0.0)
    pipeline = Pipeline(recorder=Log(), metrics=metrics, options=OPTIONS, top_k=10, limits=limits, heartbeat=heartbeat)
    pipeline.add_catalog(name="default", model="m", embedder=model, reader=reader, calibration=CALIBRATION)
    metrics.add_stream("radio")
    pipeline.attach("radio", ["default"], [])
    running = asyncio.create_task(pipeline.run())
    try:
        pipeline.submit("m", Window(stream="radio", start_s=5.0, samples=np.ones(DIMENSION), level_dbfs=-20.0))
        await until(lambda: heartbeat.stuck(-1) == ["embed m"])
        clock.now_s += 60
        assert heartbeat.stuck(59) == ["embed m"]
        model.let_go.set()
        await until(lambda: reader.searches >= 2)
        clock.now_s += 60
        searches = reader.searches
        await until(lambda: reader.searches > searches)
        assert heartbeat.stuck(59) == []
        reader.away = False
        pipeline.close()
        await running
        assert heartbeat.stuck(-1) == []
    finally:
        model.let_go.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Following:
    """A stream at a desk of its own, of whose window something is told when it is let go."""

    here = False

    def __init__(self, told) -> None:
        self.turns, self.seat, self.told, self.let_go = Turns(), self, told, asyncio.Event()

    async def step(self, heard, _near):
        await self.let_go.wait()
        return self.told

    async def end(self, _ending):
        return []


async def test_a_desk_that_hangs_is_stuck_though_another_waits_for_the_log_and_the_other_way_round():
    clock = Clock()
    heartbeat = Heartbeat(clock)
    written = asyncio.Event()
    recorder = SimpleNamespace(put=lambda _event: written.wait())
    limits = Limits(batch_windows=8, windows_capacity=50, backlog_s=60, search_interval_s=0.0)
    metrics = Metrics(CollectorRegistry())
    pipeline = Pipeline(
        recorder=recorder, metrics=metrics, options=OPTIONS, top_k=10, limits=limits, heartbeat=heartbeat
    )
    reader = Reader(Catalog({"piece": Recording(seed=1, duration_s=20.0)}))
    pipeline.add_catalog(name="default", model="m", embedder=Model(), reader=reader, calibration=CALIBRATION)
    event = SimpleNamespace(match=SimpleNamespace(stream="one"))
    one, other = Following([event]), Following([])
    pipeline.lanes["default"].followers.update(one=one, other=other)
    for stream in ("one", "other"):
        pipeline.submit("m", Window(stream=stream, start_s=5.0, samples=np.ones(DIMENSION), level_dbfs=-20.0))
    pipeline.close()
    running = asyncio.create_task(pipeline.run())
    await until(lambda: heartbeat.stuck(-1) == ["align default 0", "align default 1"])
    one.let_go.set()
    await until(lambda: heartbeat.stuck(-1) == ["align default 1"])
    clock.now_s += 60
    assert heartbeat.stuck(59) == ["align default 1"]
    other.let_go.set()
    await until(lambda: heartbeat.stuck(-1) == [])
    written.set()
    await running
    assert heartbeat.stuck(-1) == []
