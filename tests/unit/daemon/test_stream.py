"""One stream's gaps and pauses, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from monitor.daemon.stream import Settings, Stream
from monitor.errors import SourceError, StreamReason
from monitor.metrics import Metrics
from monitor.types import Chunk, Gap
from tests.unit.daemon.test_pipeline import Model


class Log:
    def __init__(self) -> None:
        self.entries = []

    async def put(self, entry):
        self.entries.append(entry)

    @property
    def gaps(self):
        """The last word on each gap."""
        gaps: dict[float, Gap] = {}
        for gap in (entry for entry in self.entries if isinstance(entry, Gap)):
            before = gaps.get(gap.start_s)
            gaps[gap.start_s] = gap if before is None or gap.end_s > before.end_s else before  # as the store keeps it
        return [(gap.start_s, gap.end_s, gap.reason) for gap in gaps.values()]


def stream(*, heard_until_s: float | None, now_s: float, paused: bool = False):
    log, unheard, clock = Log(), [], [now_s]
    made = Stream(
        settings=Settings(
            name="radio", addresses=["x"], catalogs=("default",), paused=paused, silence_after_s=10, silence_dbfs=-60
        ),
        open_source=lambda *_: pytest.fail("nothing is opened"),
        models={"m": Model()},
        submit=lambda *_: None,
        unheard=unheard.append,
        recorder=log,
        metrics=Metrics(CollectorRegistry()),
        heard_until_s=heard_until_s,
        now=lambda: clock[0],
    )
    return made, log, unheard, clock


def chunk(start_s: float) -> Chunk:
    return Chunk(start_s=start_s, samples=np.full(64, 0.1, np.float32), sample_rate_hz=64, discontinuity=True)


async def test_past_audio_that_a_server_sends_on_reconnect_is_no_gap():
    radio, log, unheard, _ = stream(heard_until_s=100.0, now_s=100.0)
    for now_s in (101.0, 112.0, 140.0, 151.0):
        await radio._grow_gap(now_s)
    await radio._hear(chunk(141.0))
    assert unheard == [101.0, 112.0, 140.0, 151.0]
    assert log.gaps == [(100.0, 141.0, "shutdown")]
    said = radio._metrics.registry.get_sample_value
    assert said("monitor_stream_gap_seconds_total", {"stream": "radio", "reason": "shutdown"}) == 41.0


async def test_a_stream_that_never_was_heard_has_a_gap_from_the_first_attempt_on():
    radio, log, _, clock = stream(heard_until_s=None, now_s=100.0)
    radio._wait = lambda _wait_s: asyncio.sleep(0)
    clock[0] = 105.0
    await radio._fail(SourceError(StreamReason.REFUSED, "refused"))
    await radio._hear(chunk(160.0))
    assert log.gaps == [(100.0, 160.0, "refused")]


async def test_a_first_connection_that_works_at_once_has_no_gap():
    radio, log, _, _ = stream(heard_until_s=None, now_s=100.0)
    await radio._hear(chunk(103.0))
    assert log.gaps == []


async def test_what_a_crash_left_open_on_a_paused_stream_is_told_of_time():
    radio, _, unheard, _ = stream(heard_until_s=100.0, now_s=200.0, paused=True)
    task = asyncio.create_task(radio.run())
    await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert unheard == [200.0]
