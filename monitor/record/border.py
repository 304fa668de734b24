"""Where the driver's errors become ours for those who write the log: they wait for what others give up on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import psycopg_pool

from monitor.errors import ServerReason, StorageError
from monitor.servers import border

_READ_S = 30.0


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """As `monitor.servers.border.database_errors`, but a full disk is one more reason to wait: UNREACHABLE."""
    try:
        with border.database_errors(doing):
            yield
    except StorageError as error:
        full = error.__cause__ if isinstance(error.__cause__, psycopg.errors.DiskFull) else error
        raise border.unreachable(doing, full, ServerReason.UNREACHABLE) from full


@asynccontextmanager
async def transaction(
    pool: psycopg_pool.AsyncConnectionPool[Any], doing: str, *, timeout_s: float = 30.0
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """As `monitor.servers.border.transaction`; errors as in `database_errors`."""
    with database_errors(doing):
        async with border.transaction(pool, doing, timeout_s=timeout_s) as connection:
            yield connection


@asynccontextmanager
async def statement(
    pool: psycopg_pool.AsyncConnectionPool[Any], doing: str
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """As `monitor.servers.border.statement`; errors as in `database_errors`."""
    with database_errors(doing):
        async with border.statement(pool, doing, timeout_s=_READ_S) as connection:
            yield connection
