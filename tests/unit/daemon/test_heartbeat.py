"""Which stages are stuck: on made-up time, and in a real pipeline whose model hangs."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
from prometheus_client import CollectorRegistry

from monitor.daemon.heartbeat import Heartbeat
from monitor.daemon.pipeline import Limits, Pipeline
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
