"""The one place where the driver's errors become ours: callers see whether to wait, or to give up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import psycopg_pool

from monitor.errors import ServerReason, StorageError, UnreachableError

#: SQLSTATE classes that pass with time: connection, rollback to retry, resources, operator intervention, system.
_PASSING = ("08", "40", "53", "57", "58")


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Turn whatever psycopg raises within into StorageError when the server's disk is full, else UnreachableError.

    Its `reason` is UNREACHABLE (no connection, server going down: wait and try again), TIMEOUT (no answer or no free
    connection in time: the same), CORRUPT (the server says that its data are damaged) or REJECTED (it understood and
    refused: trying again will not help). `doing` completes "cannot ...".
    """
    try:
        yield
    except (psycopg_pool.PoolTimeout, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
        raise unreachable(doing, error, ServerReason.TIMEOUT) from error
    except (psycopg_pool.PoolClosed, psycopg_pool.TooManyRequests) as error:
        raise unreachable(doing, error, ServerReason.UNREACHABLE) from error
    except psycopg.errors.DiskFull as error:
        raise StorageError(f"cannot {doing}: the disk of PostgreSQL is full; make room") from error
    except psycopg.Error as error:
        raise unreachable(doing, error, _reason(error)) from error


@asynccontextmanager
async def transaction(
    pool: psycopg_pool.AsyncConnectionPool[Any], doing: str
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection in a transaction that is committed at the end, or leaves nothing; errors as in `database_errors`."""
    with database_errors(doing):
        async with pool.connection() as connection, connection.transaction():
            yield connection


def _reason(error: psycopg.Error) -> ServerReason:
    state = error.sqlstate
    if state is None:
        # Without a code nothing came from the server: the connection failed or broke. What the driver itself
        # refuses (a value it cannot adapt, a closed cursor) is not an OperationalError.
        passing = isinstance(error, psycopg.OperationalError)
        return ServerReason.UNREACHABLE if passing else ServerReason.REJECTED
    if state.startswith("XX"):
        return ServerReason.CORRUPT
    return ServerReason.UNREACHABLE if state.startswith(_PASSING) else ServerReason.REJECTED


def unreachable(doing: str, error: Exception, reason: ServerReason) -> UnreachableError:
    """The error to raise: what could not be done, what was said, and what to do."""
    said = " ".join(str(error).split()) or type(error).__name__
    advice = {
        ServerReason.UNREACHABLE: "check that PostgreSQL runs and that its address is right",
        ServerReason.TIMEOUT: "check that PostgreSQL answers and is not overloaded",
        ServerReason.CORRUPT: "PostgreSQL reports damaged data: restore the database from a backup",
        ServerReason.REJECTED: "PostgreSQL refused: check the user's rights and `monitor db status`",
    }[reason]
    return UnreachableError(f"cannot {doing}: {said}; {advice}", reason)
