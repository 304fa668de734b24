from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from monitor.daemon.recorder import Heard, Recorder
from monitor.metrics import Metrics


class Store:
    def __init__(self) -> None:
        self.heard = []

    async def record_heard(self, stream, until_s, *, epoch):
        self.heard.append((stream, until_s, epoch))


async def test_a_word_after_the_last_one_does_not_keep_the_recorder_for_ever():
    store = Store()
    recorder = Recorder(
        store=store, metrics=Metrics(CollectorRegistry()), subscribers=list, on_recorded=print, on_stale=print
    )
    recorder.epochs["radio"] = 3
    await recorder.put(Heard(stream="radio", until_s=1.0))
    await recorder.close()
    await recorder.put(Heard(stream="radio", until_s=2.0))
    async with asyncio.timeout(5):
        await recorder.run()
    assert store.heard == [("radio", 1.0, 3), ("radio", 2.0, 3)]
