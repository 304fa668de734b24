"""The parts behind the port, from the configuration: what the faces ask, within which limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from prometheus_client import CollectorRegistry
from psycopg_pool import AsyncConnectionPool

from monitor.catalog.register import Register
from monitor.daemon.courtesy import Courtesy
from monitor.deployment import Deployment
from monitor.faces import Faces, uploads_dir
from monitor.record.listings import Listings
from monitor.record.outbox import Outbox
from monitor.record.tokens import Tokens
from monitor.web.answers import Answers
from monitor.web.api import Parts
from monitor.web.authority import Authority, names_this_machine
from monitor.web.events import Events
from monitor.web.jobs import Jobs
from monitor.web.limits import RateLimit
from monitor.web.uploads import Spool

#: No question of a reader may hold the database for longer.
_LONGEST_QUERY_S = 15
#: Seconds' worth of requests that may come at once.
_BURST_S = 10


@asynccontextmanager
async def asking_pool(dsn: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """Connections for readers alone, so that whatever they ask, the log is written. Opened as they are needed."""
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        dsn,
        min_size=0,
        max_size=6,
        timeout=5,
        max_waiting=200,
        open=False,
        name="faces",
        kwargs={"connect_timeout": 10},
        reconnect_timeout=4,
        configure=_configure,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close(timeout=2)


def parts(
    faces: Faces,
    *,
    deployment: Deployment,
    pool: AsyncConnectionPool[Any],
    registry: CollectorRegistry,
    courtesy: Courtesy,
    token: Callable[[], str | None],
) -> Parts:
    """What the application is made of. Nothing is started, nothing is asked yet."""
    http = deployment.config.http
    listings, register = Listings(pool), Register(pool)
    events, answers = Events(daemon=faces, listings=listings), Answers()
    uploads = uploads_dir(deployment)

    def job_changed(report: dict[str, Any]) -> None:
        answers.forget()
        events.job_changed(report)

    return Parts(
        daemon=faces,
        registry=registry,
        listings=listings,
        register=register,
        outbox=Outbox(pool),
        authority=Authority(token=token, scopes=Tokens(pool).scopes, protect_reads=http.protect_reads),
        jobs=Jobs(loader=faces.loader, register=register, uploads_dir=uploads, on_change=job_changed),
        events=events,
        answers=answers,
        courtesy=courtesy,
        spool=Spool(deployment.data_dir / "spool", max_bytes=http.max_upload_bytes),
        ffmpeg=deployment.ffmpeg,
        writes=_limit(http.writes_per_minute),
        searches=_limit(http.searches_per_minute),
        uploads_dir=uploads,
        import_dirs=http.import_dirs,
        max_clip_s=http.max_clip_s,
        hosts=http.hosts if names_this_machine(http.host) else None,
    )


def _limit(per_minute: float) -> RateLimit:
    return RateLimit(per_s=per_minute / 60, burst=max(round(per_minute / 60 * _BURST_S), 1))


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)
    await connection.execute(f"SET statement_timeout = '{_LONGEST_QUERY_S}s'")
    # A plan for any value would read a long array or a rare name as if it were an ordinary one.
    await connection.execute("SET plan_cache_mode = force_custom_plan")
    # All questions are the newest few of what may be millions: an index in their order answers them, where workers and
    # a compiler cost more than the whole answer, and a bitmap reads all rows of a reference to sort them.
    await connection.execute("SET max_parallel_workers_per_gather = 0; SET jit = off; SET enable_bitmapscan = off")
