"""Reading the log, newest first, page by page: each page costs the same however long the log is."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from monitor.catalog.register import containing
from monitor.record.border import statement
from monitor.record.rows import (
    MATCH_COLUMNS,
    RecordedEvent,
    RecordedMatch,
    RecordedStatus,
    RecordedStream,
    at,
    event_from_row,
    gap_from_row,
    match_from_row,
    seconds,
    status_from_row,
    stream_from_row,
)
from monitor.types import Gap, Hit, MatchState

#: Up to so many references the newest airings of each are looked up; of more, some are found soon in the log itself.
_FEW_REFERENCES = 1000
#: Nothing airs longer in one go, as far as `overlapping` is concerned.
_LONGEST_AIRING_S = 6 * 3600.0
#: Names of the conditions' values, and how a statement asks for them.
_NAMES: tuple[LiteralString, ...] = ("value_0", "value_1", "value_2", "value_3", "value_4")
_PLACEHOLDERS: tuple[LiteralString, ...] = tuple("%(" + name + ")s" for name in _NAMES)
_DESCRIBED = "words_of(reference_id, title, artist, isrc, owner, label) LIKE ALL (%(patterns)s)"
#: Columns of a match that each of its events has its own value of.
_OF_EVENT = {
    "sequence", "state", "decided_at", "start_at", "end_at", "reference_start_s", "reference_end_s", "evidence_nats",
    "score",
}  # fmt: skip


class Listings:
    """Reads the log. `since_s` is inclusive and `until_s` exclusive; None means no bound.

    `before` continues a listing after its last row so far. All methods raise UnreachableError.
    """

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def matches(
        self,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        stream: str | None = None,
        catalog: str | None = None,
        reference_id: str | None = None,
        words: Sequence[str] = (),
        states: Collection[MatchState] = tuple(MatchState),
        limit: int = 100,
        before: tuple[float, UUID] | None = None,
    ) -> list[RecordedMatch]:
        """The matches that start in the span, latest start first; `before` is (start_s, match_id).

        With `words` those whose reference, as it was described when it aired, holds each of them.
        """
        if not states:
            return []
        conditions, values = _conditions(
            ("start_at >= {}", None if since_s is None else at(since_s)),
            ("start_at < {}", None if until_s is None else at(until_s)),
            ("stream = {}", stream),
            ("catalog = {}", catalog),
            ("reference_id = {}", reference_id),
        )
        if before is not None:
            conditions.append("(start_at, match_id) < (%(before_at)s, %(before_id)s)")
            values |= {"before_at": at(before[0]), "before_id": before[1]}
        values |= {"limit": limit, "states": [state.value for state in set(states)]}
        if words:
            values["patterns"] = [containing(word) for word in words]
            conditions.append(_DESCRIBED)
            if reference_id is None:
                named = await self._aired(values["patterns"])
                if len(named) <= _FEW_REFERENCES:
                    query = _of_references(tuple(conditions))
                    # One that was described in several ways over time is there as often.
                    rows = await self._read("list matches", query, values | {"named": list(set(named))})
                    return [match_from_row(row) for row in rows]
        query = _page(tuple(conditions), tuple(sorted(set(states))))
        return [match_from_row(row) for row in await self._read("list matches", query, values)]

    async def overlapping(self, *, since_s: float, limit: int) -> list[RecordedMatch]:
        """Matches of all streams that were heard after `since_s` and not retracted, latest start first."""
        query = _selecting(
            "SELECT {} FROM matches WHERE state IN ('provisional', 'confirmed', 'ended')"
            " AND start_at >= %(reach)s AND end_at > %(since)s ORDER BY start_at DESC, match_id DESC LIMIT %(limit)s"
        )
        values = {"since": at(since_s), "reach": at(since_s - _LONGEST_AIRING_S), "limit": limit}
        return [match_from_row(row) for row in await self._read("list matches", query, values)]

    async def feed(self, *, after: int, limit: int) -> list[tuple[int, RecordedMatch]]:
        """The events that were written after the one of that number: each with its number, as the match then was."""
        query = _selecting(
            "SELECT id, {} FROM match_events e JOIN matches m USING (match_id) WHERE id > %(after)s"
            " ORDER BY id LIMIT %(limit)s",
            of_events=True,
        )
        rows = await self._read("read the latest events", query, {"after": after, "limit": limit})
        return [(row["id"], match_from_row(row)) for row in rows]

    async def last_event(self) -> int:
        """The number of the event that was written last; 0 if there is none."""
        rows = await self._read("read the latest events", "SELECT max(id) AS id FROM match_events", {})
        return int(rows[0]["id"] or 0)

    async def _aired(self, patterns: list[str]) -> list[str]:
        query: LiteralString = (
            "SELECT reference_id FROM aired_references WHERE words LIKE ALL (%(patterns)s) LIMIT %(most)s"
        )
        rows = await self._read("look for references", query, {"patterns": patterns, "most": _FEW_REFERENCES + 1})
        return [row["reference_id"] for row in rows]

    async def match(self, match_id: UUID) -> RecordedMatch | None:
        """The match of this id."""
        query = _selecting("SELECT {} FROM matches WHERE match_id = %(match_id)s")
        rows = await self._read("read a match", query, {"match_id": match_id})
        return match_from_row(rows[0]) if rows else None

    async def events(self, match_id: UUID) -> list[RecordedEvent]:
        """The steps of a match's life, in order."""
        query: LiteralString = "SELECT * FROM match_events WHERE match_id = %(match_id)s ORDER BY sequence"
        return [event_from_row(row) for row in await self._read("read a match", query, {"match_id": match_id})]

    async def hits(self, match: RecordedMatch) -> list[Hit]:
        """The hits of a match that retention has left, in the order of stream time."""
        query: LiteralString = (
            "SELECT window_start_at, reference_start_s, similarity FROM match_hits"
            " WHERE match_id = %(match_id)s ORDER BY window_start_at, reference_start_s"
        )
        return [
            Hit(
                window_start_s=seconds(row["window_start_at"]),
                reference_id=match.reference_id,
                reference_start_s=row["reference_start_s"],
                similarity=row["similarity"],
            )
            for row in await self._read("read the hits of a match", query, {"match_id": match.match_id})
        ]

    async def reference_duration_s(self, catalog: str, reference_id: str) -> float | None:
        """How long the reference is; None if it is not there any more."""
        query: LiteralString = (
            "SELECT duration_s FROM catalog_references"
            " WHERE catalog = %(catalog)s AND reference_id = %(reference_id)s AND state = 'ready'"
        )
        rows = await self._read("read a reference", query, {"catalog": catalog, "reference_id": reference_id})
        return float(rows[0]["duration_s"]) if rows else None

    async def count_matches(
        self, *, since_s: float | None = None, until_s: float | None = None, stream: str | None = None
    ) -> dict[MatchState, int]:
        """How many matches that start in the span are in each state; every state has its number."""
        conditions, values = _conditions(
            ("start_at >= {}", None if since_s is None else at(since_s)),
            ("start_at < {}", None if until_s is None else at(until_s)),
            ("stream = {}", stream),
            ("state = ANY({})", [state.value for state in MatchState]),
        )
        query = _where("SELECT state, count(*) AS matches FROM matches WHERE {} GROUP BY state", tuple(conditions))
        found = {row["state"]: int(row["matches"]) for row in await self._read("count matches", query, values)}
        return {state: found.get(state, 0) for state in MatchState}

    async def streams(self) -> list[RecordedStream]:
        """Every stream that was ever listened to, by name."""
        rows = await self._read("list streams", "SELECT * FROM streams ORDER BY name", {})
        return [stream_from_row(row) for row in rows]

    async def history(
        self,
        stream: str,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        limit: int = 100,
        before: tuple[float, int] | None = None,
    ) -> list[RecordedStatus]:
        """The states that the stream took up in the span, newest first; `before` is (since_s, number)."""
        conditions, values = _conditions(
            ("stream = {}", stream),
            ("since >= {}", None if since_s is None else at(since_s)),
            ("since < {}", None if until_s is None else at(until_s)),
        )
        if before is not None:
            conditions.append("(since, id) < (%(before_at)s, %(before_id)s)")
            values |= {"before_at": at(before[0]), "before_id": before[1]}
        query = _where(
            "SELECT * FROM stream_states WHERE {} ORDER BY since DESC, id DESC LIMIT %(limit)s", tuple(conditions)
        )
        rows = await self._read(f"read the history of {stream}", query, values | {"limit": limit})
        return [status_from_row(row) for row in rows]

    async def gaps(
        self,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        stream: str | None = None,
        limit: int = 100,
        before: tuple[float, str] | None = None,
    ) -> list[Gap]:
        """The gaps that reach into the span, latest start first; `before` is (start_s, stream)."""
        conditions, values = _conditions(
            ("end_at > {}", None if since_s is None else at(since_s)),
            ("start_at < {}", None if until_s is None else at(until_s)),
            ("stream = {}", stream),
        )
        if before is not None:
            conditions.append("(start_at, stream) < (%(before_at)s, %(before_stream)s)")
            values |= {"before_at": at(before[0]), "before_stream": before[1]}
        query = _where(
            "SELECT * FROM gaps WHERE {} ORDER BY start_at DESC, stream DESC LIMIT %(limit)s", tuple(conditions)
        )
        return [gap_from_row(row) for row in await self._read("list gaps", query, values | {"limit": limit})]

    async def _read(self, doing: str, query: LiteralString | bytes, values: dict[str, Any]) -> list[dict[str, Any]]:
        async with statement(self._pool, doing) as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(query, values)
            rows: list[dict[str, Any]] = await cursor.fetchall()
            return rows


def _conditions(*wanted: tuple[LiteralString, object]) -> tuple[list[LiteralString], dict[str, Any]]:
    """The conditions whose value is not None, each with a named placeholder, and the values by name."""
    conditions: list[LiteralString] = []
    values: dict[str, Any] = {}
    for index, (condition, value) in enumerate(wanted):
        if value is not None:
            conditions.append(condition.format(_PLACEHOLDERS[index]))
            values[_NAMES[index]] = value
    return conditions, values


# Statements are composed once for each set of conditions: composing takes longer than PostgreSQL's answer.
@functools.cache
def _selecting(template: LiteralString, *, of_events: bool = False) -> bytes:
    columns = ", ".join(_event_column(name) for name in MATCH_COLUMNS.split(", ")) if of_events else MATCH_COLUMNS
    return sql.SQL(template).format(sql.SQL(columns)).as_bytes()


@functools.cache
def _where(template: LiteralString, conditions: tuple[LiteralString, ...]) -> bytes:
    return sql.SQL(template).format(_all_of(conditions)).as_bytes()


@functools.cache
def _page(conditions: tuple[LiteralString, ...], states: tuple[MatchState, ...]) -> bytes:
    """Each state's rows are one range of an index, already in order; at most `limit` of each are read."""
    branches = [
        sql.SQL(
            "(SELECT {} FROM matches WHERE state = {} AND {} ORDER BY start_at DESC, match_id DESC LIMIT %(limit)s)"
        ).format(sql.SQL(MATCH_COLUMNS), sql.Literal(state.value), _all_of(conditions))
        for state in states
    ]
    query = sql.SQL("SELECT * FROM ({}) AS page ORDER BY start_at DESC, match_id DESC LIMIT %(limit)s")
    return query.format(sql.SQL(" UNION ALL ").join(branches)).as_bytes()


def _all_of(conditions: Sequence[LiteralString]) -> sql.Composed:
    return sql.SQL(" AND ").join([sql.SQL(condition) for condition in conditions or ("true",)])


def _event_column(name: str) -> str:
    return f"{'e' if name in _OF_EVENT else 'm'}.{name}"


@functools.cache
def _of_references(conditions: tuple[LiteralString, ...]) -> bytes:
    """The newest matches of the references `named`: first the newest of each, then more of those that are ahead.

    Once the newest ones alone fill a page, nothing older than they is read.
    """
    range_of = sql.SQL(
        "(SELECT {columns} FROM matches WHERE reference_id = {reference} AND state = {state} AND {conditions}"
        " ORDER BY start_at DESC, match_id DESC LIMIT {limit})"
    )
    newest = range_of.format(
        columns=sql.SQL("start_at, match_id"),
        reference=sql.SQL("names.reference_id"),
        state=sql.SQL("kinds.state"),
        conditions=_all_of(conditions),
        limit=sql.SQL("1"),
    )
    page = range_of.format(
        columns=sql.SQL(MATCH_COLUMNS),
        reference=sql.SQL("chosen.wanted"),
        state=sql.SQL("chosen.kind"),
        conditions=_all_of([*conditions, "start_at >= (SELECT least FROM reach)"]),
        limit=sql.SQL("%(limit)s"),
    )
    query = sql.SQL(
        "WITH chosen AS MATERIALIZED (SELECT names.reference_id AS wanted, kinds.state AS kind, newest.start_at"
        " FROM unnest(%(named)s::text[]) AS names (reference_id) CROSS JOIN unnest(%(states)s::text[]) AS kinds (state)"
        " CROSS JOIN LATERAL {newest} AS newest ORDER BY newest.start_at DESC, newest.match_id DESC LIMIT %(limit)s),"
        " reach AS MATERIALIZED (SELECT CASE count(*) WHEN %(limit)s THEN min(start_at) ELSE '-infinity' END AS least"
        " FROM chosen)"
        " SELECT page.* FROM chosen CROSS JOIN LATERAL {page} AS page"
        " ORDER BY start_at DESC, match_id DESC LIMIT %(limit)s"
    )
    return query.format(newest=newest, page=page).as_bytes()
