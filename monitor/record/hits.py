"""Hits lie in one partition per UTC day: made when a day's first hit comes, dropped whole when the day is old."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from monitor.record.rows import at
from monitor.types import MatchEvent

#: Advisory locks: writers share the first against whoever drops; the second is held by whoever makes a partition.
_DROPPING = int.from_bytes(b"hitdrop", "big")
_MAKING = int.from_bytes(b"hitmake", "big")
_PREFIX = "match_hits_"

Connection = psycopg.AsyncConnection[Any]


async def make_partitions(connection: Connection, days: Iterable[date]) -> None:
    """Within the caller's transaction every day of `days` has a partition, and keeps it until the transaction ends.

    To be called before any other lock is taken, so that writers which wait for each other never wait in a ring.
    """
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_DROPPING])
    if not (wanted := set(days)) or not await _missing(connection, wanted):
        return
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MAKING])
    for day in await _missing(connection, wanted):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        partition = sql.Identifier(_name(day))
        # Attaching a ready table disturbs neither readers nor writers; CREATE ... PARTITION OF would lock them out.
        await connection.execute(sql.SQL("CREATE TABLE {} (LIKE match_hits INCLUDING ALL)").format(partition))
        await connection.execute(
            sql.SQL("ALTER TABLE match_hits ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                partition, sql.Literal(start), sql.Literal(start + timedelta(days=1))
            )
        )


async def insert_hits(connection: Connection, events: Iterable[MatchEvent]) -> None:
    """The hits of `events` are stored, each once. Their days must have partitions."""
    rows = [
        (event.match.match_id, at(hit.window_start_s), hit.reference_start_s, hit.similarity)
        for event in events
        for hit in event.hits
    ]
    if rows:
        await connection.execute(
            "INSERT INTO match_hits (match_id, window_start_at, reference_start_s, similarity)"
            " SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::float8[], %s::real[]) ON CONFLICT DO NOTHING",
            [list(column) for column in zip(*rows, strict=True)],
        )


def days_of(events: Iterable[MatchEvent]) -> set[date]:
    """The UTC days on which the hits of `events` lie."""
    return {at(hit.window_start_s).date() for event in events for hit in event.hits}


async def drop_partitions(connection: Connection, *, before: date) -> int:
    """Within the caller's transaction the partitions of days before `before` are gone; returns how many went."""
    # Waiting for a long reader would hold up every writer behind it; the next run finds the same days again.
    await connection.execute("SET LOCAL lock_timeout = '2s'")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_DROPPING])
    old = sorted(name for name in await _partitions(connection) if name < _name(before))
    for partition in old:
        await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition)))
    return len(old)


async def _missing(connection: Connection, days: Iterable[date]) -> list[date]:
    present = await _partitions(connection)
    return sorted(day for day in days if _name(day) not in present)


async def _partitions(connection: Connection) -> set[str]:
    # From the catalog's rows and not by to_regclass(), whose cache may not know yet what another writer just made.
    cursor = await connection.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'match_hits'::regclass"
    )
    return {row[0] for row in await cursor.fetchall()}


def _name(day: date) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"
