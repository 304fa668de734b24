"""A recorder without a database, that says three events and waits to be killed: DIRECTORY EPOCH MATCH_ID."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import UUID

from prometheus_client import CollectorRegistry
from psycopg_pool import AsyncConnectionPool

from monitor.daemon.recorder import Recorder
from monitor.metrics import Metrics
from monitor.record.journal import DeadLetters, Journal
from monitor.record.store import Store
from monitor.types import MatchState
from tests.integration.record.events import life, make_match


async def main(directory: Path, epoch: int, match_id: UUID) -> None:
    pool = AsyncConnectionPool(f"host={directory}", min_size=0, max_size=1, timeout=0.5, open=False)
    await pool.open()
    metrics = Metrics(CollectorRegistry())
    metrics.add_stream("radio")
    recorder = Recorder(
        store=Store(pool),
        journal=Journal(directory / "journal"),
        dead_letters=DeadLetters(directory),
        metrics=metrics,
        subscribers=list,
        on_recorded=print,
        on_stale=print,
    )
    recorder.epochs["radio"] = epoch
    running = asyncio.create_task(recorder.run())
    states = (MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED)
    for event in life(make_match(match_id=match_id), *states):
        await recorder.put(event)
    while recorder.trouble is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    print("said", flush=True)
    await running


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), UUID(sys.argv[3])))
