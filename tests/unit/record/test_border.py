from __future__ import annotations

import psycopg
import psycopg_pool
import pytest

from monitor.errors import ServerReason, UnreachableError
from monitor.record.border import database_errors


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (psycopg.OperationalError("connection refused"), ServerReason.UNREACHABLE),
        (psycopg.errors.AdminShutdown("shutting down"), ServerReason.UNREACHABLE),
        (psycopg.errors.CannotConnectNow("starting up"), ServerReason.UNREACHABLE),
        (psycopg.errors.DiskFull("no space left"), ServerReason.UNREACHABLE),
        (psycopg.errors.DeadlockDetected("deadlock"), ServerReason.UNREACHABLE),
        (psycopg.errors.IoError("read failed"), ServerReason.UNREACHABLE),
        (psycopg_pool.PoolClosed("closed"), ServerReason.UNREACHABLE),
        (psycopg_pool.PoolTimeout("no connection in 30 s"), ServerReason.TIMEOUT),
        (psycopg.errors.QueryCanceled("statement timeout"), ServerReason.TIMEOUT),
        (psycopg.errors.LockNotAvailable("lock timeout"), ServerReason.TIMEOUT),
        (psycopg.errors.DataCorrupted("invalid page"), ServerReason.CORRUPT),
        (psycopg.errors.InsufficientPrivilege("permission denied"), ServerReason.REJECTED),
        (psycopg.errors.UndefinedTable("no such table"), ServerReason.REJECTED),
        (psycopg.errors.ReadOnlySqlTransaction("a standby"), ServerReason.REJECTED),
        (psycopg.errors.NumericValueOutOfRange("too large"), ServerReason.BAD_DATA),
        (psycopg.errors.CheckViolation("end before start"), ServerReason.BAD_DATA),
        (psycopg.ProgrammingError("cannot adapt"), ServerReason.BAD_DATA),
        (psycopg.DataError("text cannot contain NUL"), ServerReason.BAD_DATA),
    ],
)
def test_the_reason_says_whether_waiting_helps(error: Exception, reason: ServerReason) -> None:
    with pytest.raises(UnreachableError, match=f"cannot write: {error};") as caught, database_errors("write"):
        raise error
    assert caught.value.reason is reason
    assert caught.value.__cause__ is error


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), database_errors("write"):
        _ = 1 / 0


def test_a_message_is_one_line() -> None:
    with pytest.raises(UnreachableError, match="cannot write: first second; check that"), database_errors("write"):
        raise psycopg.OperationalError("first\n\tsecond\n")
