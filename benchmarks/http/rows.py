"""A log of ten million matches: how long the first page of each filter takes, with PostgreSQL's plan for it.

Twenty streams, one of which ended long ago; 20,000 references of three catalogs, a few of which make up most airings;
three years. The server has just been started, so a question's first answer is read from the disk or the system's
cache; it is printed apart. As on a server in use the slowest of the five answers after it counts.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from monitor.record.border import transaction
from monitor.record.listings import Listings
from monitor.record.migrations import migrate
from monitor.servers.client import embedded
from monitor.serving import asking_pool
from monitor.types import MatchState

_TIMES = 5
_LIMIT_MS = 200.0
_YEARS_S = 3 * 365 * 86400
_NOW_S = 1_772_409_590.0
_FILL = """
INSERT INTO matches (match_id, stream, catalog, reference_id, state, start_at, end_at, reference_start_s,
    reference_end_s, origin_at, tempo_ratio, evidence_nats, score, last_hit_at, model_id, epoch, sequence, decided_at,
    title, artist, isrc, owner, label)
SELECT uuidv7(), 'station-' || stream, 'catalog-' || piece %% 3, 'reference-' || piece,
    CASE WHEN die < 0.00001 THEN 'confirmed' WHEN die < 0.04 THEN 'retracted' ELSE 'ended' END,
    start_at, start_at + interval '180 s', 0, 180, start_at, 1, 80, 0.9, start_at + interval '179 s', 'model', 1, 2,
    start_at + interval '190 s', 'Title ' || md5(piece::text), 'Artist ' || piece %% 500, 'ISRC' || piece,
    'Owner ' || piece %% 40, 'Label ' || piece %% 100
FROM (
    -- Station 0 was given up after the first tenth of the time; a small share of the pieces fills most of it.
    SELECT stream, floor(20000 * power(random(), 3))::int AS piece, random() AS die,
        to_timestamp(%(start)s::float8 + %(span)s::float8 * CASE stream WHEN 0 THEN 0.1 ELSE 1 END * share) AS start_at
    FROM (SELECT number::float8 / %(rows)s AS share, (random() * 19)::int AS stream
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number) AS numbers
) AS airings
"""


class Explained(Listings):
    """Prints the plan of each query once."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self.explain = False

    async def _read(self, doing: str, query: Any, values: dict[str, Any]) -> list[dict[str, Any]]:
        if self.explain:
            async with transaction(self._pool, doing) as connection:
                cursor = connection.cursor(row_factory=dict_row)
                stated = query if isinstance(query, bytes) else query.encode()
                await cursor.execute(b"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " + stated, values)
                for row in await cursor.fetchall():
                    print("      ", row["QUERY PLAN"][:160])
        return await super()._read(doing, query, values)


async def run(args: argparse.Namespace) -> int:
    """Fill the log, ask, print; 1 if any first page took too long."""
    directory = Path(args.directory or tempfile.mkdtemp(prefix="monitor-rows-"))
    try:
        async with embedded(directory, milvus=False, linger_s=1.0) as addresses:
            await migrate(addresses.postgres_dsn)
            await _fill(addresses.postgres_dsn, args.rows)
            async with asking_pool(addresses.postgres_dsn) as pool:
                slowest_ms = await _ask(Explained(pool))
    finally:
        if args.directory is None:
            shutil.rmtree(directory)
    print(f"the slowest first page over {args.rows} matches: {slowest_ms:.0f} ms")
    return 0 if slowest_ms < _LIMIT_MS else 1


async def _fill(dsn: str, rows: int) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        ((have,),) = await (await connection.execute("SELECT count(*) FROM matches")).fetchall()
        if have == rows:
            return
        began = time.monotonic()
        await connection.execute("TRUNCATE matches, aired_references CASCADE")
        cursor = await connection.execute(
            "SELECT indexdef, indexname FROM pg_indexes WHERE tablename = 'matches' AND indexname <> 'matches_pkey'"
        )
        indexes = await cursor.fetchall()
        for _, name in indexes:
            await connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        await connection.execute("ALTER TABLE matches DISABLE TRIGGER matches_inserted")
        step = 500_000
        for first in range(0, rows, step):
            values = {"first": first, "last": min(first + step, rows) - 1, "rows": rows}
            await connection.execute(_FILL, values | {"start": _NOW_S - _YEARS_S, "span": _YEARS_S})
            print(f"{min(first + step, rows)} matches after {time.monotonic() - began:.0f} s", flush=True)
        await connection.execute("ALTER TABLE matches ENABLE TRIGGER matches_inserted")
        await connection.execute(
            "INSERT INTO aired_references"
            " SELECT DISTINCT reference_id, words_of(reference_id, title, artist, isrc, owner, label) FROM matches"
        )
        await connection.execute("SET maintenance_work_mem = '512MB'")
        for definition, _ in indexes:
            await connection.execute(definition)
        await connection.execute("VACUUM (ANALYZE) matches")
        await connection.execute("VACUUM (ANALYZE) aired_references")
        ((size,),) = await (
            await connection.execute("SELECT pg_size_pretty(pg_total_relation_size('matches'))")
        ).fetchall()
        print(f"filled and indexed in {time.monotonic() - began:.0f} s; {size}", flush=True)


async def _ask(listings: Explained) -> float:
    week = {"since_s": _NOW_S - _YEARS_S / 2, "until_s": _NOW_S - _YEARS_S / 2 + 7 * 86400}
    questions: dict[str, dict[str, Any]] = {
        "no filter": {},
        "a stream": {"stream": "station-7"},
        "a stream that ended long ago": {"stream": "station-0"},
        "a stream that never was": {"stream": "station-99"},
        "a reference that airs often": {"reference_id": "reference-3"},
        "a reference that airs seldom": {"reference_id": "reference-19999"},
        "a catalog": {"catalog": "catalog-1"},
        "a rare state": {"states": (MatchState.CONFIRMED,)},
        "a state": {"states": (MatchState.RETRACTED,)},
        "a week long ago": week,
        "a week long ago, a stream that ended before": {**week, "stream": "station-0"},
        "a stream and a reference": {"stream": "station-7", "reference_id": "reference-19999"},
        "a stream that ended and a frequent reference": {"stream": "station-0", "reference_id": "reference-3"},
        "a stream and a catalog": {"stream": "station-0", "catalog": "catalog-2"},
        "a reference and another's catalog": {"reference_id": "reference-3", "catalog": "catalog-1"},
        "a stream, a reference and another's catalog": {
            "stream": "station-7",
            "reference_id": "reference-3",
            "catalog": "catalog-1",
        },
        "a word of one reference": {"words": ["isrc19998"]},
        "a word of many references": {"words": ["artist"]},
        "a word of forty references": {"words": ["artist", "499"]},
        "a word of 500 references": {"words": ["owner", "7"]},
        "a word of nothing": {"words": ["zzzz"]},
        "a word and a stream that ended": {"words": ["artist", "499"], "stream": "station-0"},
        "a word of many and a stream that ended": {"words": ["title"], "stream": "station-0"},
        "a word, a state and a week": {**week, "words": ["artist", "77"], "states": (MatchState.RETRACTED,)},
        "a common word, a rare state": {"words": ["label"], "states": (MatchState.CONFIRMED,)},
    }
    slowest_ms = coldest_ms = 0.0
    for name, filters in questions.items():
        times_ms = []
        for _ in range(1 + _TIMES):
            began = time.perf_counter()
            found = await listings.matches(**filters, limit=51)
            times_ms.append(1000 * (time.perf_counter() - began))
        first_ms, *times_ms = times_ms
        print(
            f"{max(times_ms):8.1f} ms, at best {min(times_ms):.1f} ms, at first {first_ms:.1f} ms:"
            f" {name}, {len(found)} rows",
            flush=True,
        )
        listings.explain = True
        await listings.matches(**filters, limit=51)
        listings.explain = False
        slowest_ms, coldest_ms = max(slowest_ms, *times_ms), max(coldest_ms, first_ms)
    print(f"the slowest first answer of all: {coldest_ms:.0f} ms")
    return slowest_ms
