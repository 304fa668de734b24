"""The one place where the driver's errors become ours: callers see whether to wait, or to give up."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
import psycopg_pool

from monitor.errors import ServerReason, StorageError, UnreachableError

#: SQLSTATE classes that pass with time: connection, rollback to retry, resources, operator intervention, system.
_PASSING = ("08", "40", "53", "57", "58")
#: SQLSTATE classes that speak about the values: data exception, integrity constraint, program limit.
_ABOUT_VALUES = ("22", "23", "54")


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Turn whatever psycopg raises within into StorageError when the server's disk is full, else UnreachableError.

    Its `reason` is UNREACHABLE (no connection, server going down: wait and try again), TIMEOUT (no answer or no free
    connection in time: the same), CORRUPT (the server says that its data are damaged), BAD_DATA (no row can hold these
    values: they will never be taken) or REJECTED (it understood and refused, such as for want of a right: somebody has
    to mend that). `doing` completes "cannot ...".
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
    pool: psycopg_pool.AsyncConnectionPool[Any], doing: str, *, timeout_s: float | None = None
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection in a transaction that is committed at the end, or leaves nothing; errors as in `database_errors`.

    After `timeout_s`, which the wait for a connection does not count in, it fails with TIMEOUT, also on a server that
    is stopped and so says nothing at all.
    """
    with database_errors(doing):
        async with pool.connection() as connection, _cut_off(connection, doing, timeout_s), connection.transaction():
            yield connection


@asynccontextmanager
async def statement(
    pool: psycopg_pool.AsyncConnectionPool[Any], doing: str, *, timeout_s: float | None = None
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """As `transaction`, for one statement: a third of the ways to the server where connections commit by themselves."""
    with database_errors(doing):
        async with pool.connection() as connection, _cut_off(connection, doing, timeout_s):
            yield connection


@asynccontextmanager
async def _cut_off(
    connection: psycopg.AsyncConnection[Any], doing: str, timeout_s: float | None
) -> AsyncIterator[None]:
    """The connection's socket is shut down after `timeout_s`: whoever waits for its answer is told so by the driver.

    Cancelling the wait instead would ask the very server that does not answer to cancel, and wait for that.
    """
    if timeout_s is None:
        yield
        return
    timer = asyncio.get_running_loop().call_later(timeout_s, _shut_down, connection)
    due_s = timer.when()
    try:
        yield
    except psycopg.OperationalError as error:
        if asyncio.get_running_loop().time() < due_s:
            raise
        raise unreachable(doing, TimeoutError(f"no answer within {timeout_s:g} s"), ServerReason.TIMEOUT) from error
    finally:
        timer.cancel()


def _shut_down(connection: psycopg.AsyncConnection[Any]) -> None:
    if not connection.closed:
        with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def _reason(error: psycopg.Error) -> ServerReason:
    state = error.sqlstate
    if state is None:
        # Without a code nothing came from the server: the connection failed or broke. What the driver itself
        # refuses (a value it cannot adapt, a zero byte in a text) is not an OperationalError.
        passing = isinstance(error, psycopg.OperationalError)
        return ServerReason.UNREACHABLE if passing else ServerReason.BAD_DATA
    if state.startswith("XX"):
        return ServerReason.CORRUPT
    if state.startswith(_ABOUT_VALUES):
        return ServerReason.BAD_DATA
    return ServerReason.UNREACHABLE if state.startswith(_PASSING) else ServerReason.REJECTED


def unreachable(doing: str, error: Exception, reason: ServerReason) -> UnreachableError:
    """The error to raise: what could not be done, what was said, and what to do."""
    said = " ".join(str(error).split()) or type(error).__name__
    advice = {
        ServerReason.UNREACHABLE: "check that PostgreSQL runs and that its address is right",
        ServerReason.TIMEOUT: "check that PostgreSQL answers and is not overloaded",
        ServerReason.CORRUPT: "PostgreSQL reports damaged data: restore the database from a backup",
        ServerReason.BAD_DATA: "no row can hold this",
        ServerReason.REJECTED: "PostgreSQL refused: check the user's rights and `monitor db status`",
    }[reason]
    return UnreachableError(f"cannot {doing}: {said}; {advice}", reason)
