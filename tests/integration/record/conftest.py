from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from monitor.record.listings import Listings
from monitor.record.outbox import Outbox
from monitor.record.store import Store


@pytest.fixture(scope="session", params=["wheel", "system"])
def postgres_server(request: pytest.FixtureRequest) -> str:
    """DSN of the session's server: each test here runs on the wheel's PostgreSQL and on the system's."""
    dsn: str = request.getfixturevalue(f"{request.param}_postgres_server")
    return dsn


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(database, min_size=1, max_size=4, open=False, timeout=60) as opened:
        yield opened


@pytest.fixture
def store(pool: AsyncConnectionPool[Any]) -> Store:
    return Store(pool)


@pytest.fixture
def listings(pool: AsyncConnectionPool[Any]) -> Listings:
    return Listings(pool)


@pytest.fixture
def outbox(pool: AsyncConnectionPool[Any]) -> Outbox:
    return Outbox(pool)


@pytest.fixture
async def epoch(store: Store) -> int:
    """The listening epoch of the stream "radio"."""
    return await store.begin_listening("radio")
