"""The match log: what was decided is written in one transaction, once, by whoever listens to the stream now."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from monitor.errors import StaleEpochError
from monitor.record.border import transaction
from monitor.record.hits import days_of, drop_partitions, insert_hits, make_partitions
from monitor.record.rows import (
    MATCH_COLUMNS,
    RecordedMatch,
    at,
    iso,
    match_as_json,
    match_from_row,
    match_to_row,
    seconds,
)
from monitor.types import Gap, Match, MatchEvent, MatchState, StreamStatus

log = logging.getLogger(__name__)

Connection = psycopg.AsyncConnection[Any]

#: The states that may follow each state.
_FOLLOWING: Mapping[MatchState, frozenset[MatchState]] = {
    MatchState.PROVISIONAL: frozenset(MatchState),
    MatchState.CONFIRMED: frozenset({MatchState.CONFIRMED, MatchState.ENDED, MatchState.RETRACTED}),
    MatchState.ENDED: frozenset(),
    MatchState.RETRACTED: frozenset(),
}
#: Those that may follow where not the airing ended but listening.
_REOPENING: Mapping[MatchState, frozenset[MatchState]] = {
    MatchState.ENDED: frozenset({MatchState.CONFIRMED}),
    MatchState.RETRACTED: frozenset({MatchState.PROVISIONAL, MatchState.CONFIRMED}),
}
_OPEN = [MatchState.PROVISIONAL, MatchState.CONFIRMED]
#: What of a reference is copied into a match, so that the log outlives the catalog.
_DESCRIPTION = ("title", "artist", "isrc", "owner", "label")
#: Rows that one statement of retention deletes, so that no transaction grows long.
_BATCH = 10_000
#: After so long without an answer a write is given up, to be tried again.
_WRITE_S = 10.0
_RETENTION_S = 300.0


class Subscriber(Protocol):
    """Who is told of matches: one delivery per event whose state is among `states`."""

    @property
    def name(self) -> str:
        """Name of the webhook endpoint."""

    @property
    def states(self) -> Collection[MatchState]:
        """The states that it wants to hear of."""


class Store:
    """Writes the log. Every write of a stream's rows carries its epoch; an old one raises StaleEpochError.

    All methods raise UnreachableError when PostgreSQL does not answer or refuses, having written nothing, and may
    then be called again with the same arguments: each fact is written once.
    """

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def ping(self) -> None:
        """PostgreSQL answers."""
        async with transaction(self._pool, "ask whether PostgreSQL is there", timeout_s=_WRITE_S) as connection:
            await connection.execute("SELECT 1")

    async def begin_listening(self, stream: str) -> int:
        """Raise the stream's epoch by one and return it: from now on earlier listeners are refused."""
        async with transaction(self._pool, f"begin listening to {stream}", timeout_s=_WRITE_S) as connection:
            cursor = await connection.execute(
                "INSERT INTO streams (name, epoch) VALUES (%s, 1)"
                " ON CONFLICT (name) DO UPDATE SET epoch = streams.epoch + 1 RETURNING epoch",
                [stream],
            )
            return int((await cursor.fetchall())[0][0])

    async def record_status(self, status: StreamStatus, *, epoch: int) -> None:
        """The status is in the stream's history and, unless a newer one is known, what the stream is doing now."""
        async with transaction(self._pool, f"record the state of {status.stream}", timeout_s=_WRITE_S) as connection:
            await _hold(connection, {status.stream: epoch})
            row = {
                "stream": status.stream,
                "epoch": epoch,
                "state": status.state,
                "reason": status.reason,
                "detail": status.detail.replace("\0", ""),  # which PostgreSQL's text cannot hold
                "since": at(status.since_s),
            }
            await connection.execute(
                "INSERT INTO stream_states (stream, epoch, state, reason, detail, since)"
                " VALUES (%(stream)s, %(epoch)s, %(state)s, %(reason)s, %(detail)s, %(since)s) ON CONFLICT DO NOTHING",
                row,
            )
            # A new listener's first word counts even if the clock was set back meanwhile.
            await connection.execute(
                "UPDATE streams SET state = %(state)s, reason = %(reason)s, detail = %(detail)s, since = %(since)s"
                " WHERE name = %(stream)s AND NOT EXISTS (SELECT FROM stream_states"
                " WHERE stream = %(stream)s AND epoch = %(epoch)s AND since > %(since)s)",
                row,
            )

    async def record_gap(self, gap: Gap, *, epoch: int) -> None:
        """The span is in the log as not heard; a gap that goes on is recorded again with the same start.

        Where it goes on for another reason, the rest of it is a row of its own. A span without length, to the
        microsecond, is none.
        """
        start_at, end_at = at(gap.start_s), at(gap.end_s)
        if end_at <= start_at:
            return
        async with transaction(self._pool, f"record a gap of {gap.stream}", timeout_s=_WRITE_S) as connection:
            await _hold(connection, {gap.stream: epoch})
            cursor = await connection.execute(
                "SELECT start_at, end_at, reason FROM gaps WHERE stream = %s AND start_at >= %s AND start_at < %s"
                " ORDER BY start_at DESC LIMIT 1",
                [gap.stream, start_at, end_at],
            )
            if (last := await cursor.fetchone()) is not None:
                if end_at <= last[1]:
                    return
                start_at = last[0] if last[2] == gap.reason else last[1]
            await connection.execute(
                "INSERT INTO gaps (stream, start_at, end_at, reason, epoch) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (stream, start_at) DO UPDATE SET end_at = EXCLUDED.end_at, epoch = EXCLUDED.epoch",
                [gap.stream, start_at, end_at, gap.reason, epoch],
            )

    async def record_heard(self, until_s: Mapping[str, float], *, epochs: Mapping[str, int]) -> None:
        """Each of the streams has been heard until then, or later if that is known. All of them or none."""
        async with transaction(self._pool, "record how far streams were heard", timeout_s=_WRITE_S) as connection:
            await _hold(connection, {stream: epochs[stream] for stream in until_s})
            await connection.execute(
                "UPDATE streams SET heard_until = GREATEST(heard_until, said.until)"
                " FROM unnest(%s::text[], %s::timestamptz[]) AS said (stream, until) WHERE name = said.stream",
                [list(until_s), [at(each_s) for each_s in until_s.values()]],
            )

    async def heard_until(self, stream: str) -> float | None:
        """Stream time until which the stream was heard; None if it never was."""
        async with transaction(self._pool, f"read how far {stream} was heard", timeout_s=_WRITE_S) as connection:
            cursor = await connection.execute("SELECT heard_until FROM streams WHERE name = %s", [stream])
            row = await cursor.fetchone()
            return None if row is None or row[0] is None else seconds(row[0])

    async def record_events(
        self, events: Sequence[MatchEvent], *, epochs: Mapping[str, int], webhooks: Iterable[Subscriber] = ()
    ) -> list[MatchEvent]:
        """All of `events` are in the log, with their hits and one delivery per wanted event and webhook.

        One transaction. Returns the events that were new, in order: those recorded before (by match id and sequence)
        change nothing, nor do those that contradict what is recorded (such as a match confirmed after its end; but
        one that only an interruption of listening ended is open again). Of `changed=False` events only the row's newest
        values and the hits are kept. Raises StaleEpochError, naming the streams, if any epoch is old; then nothing of
        the whole call is written.
        """
        if not events:
            return []
        async with transaction(self._pool, "record matches", timeout_s=_WRITE_S) as connection:
            await make_partitions(connection, days_of(events))
            await _hold(connection, {event.match.stream: epochs[event.match.stream] for event in events})
            rows, steps = await _recorded(connection, {event.match.match_id for event in events})
            descriptions = await _descriptions(
                connection, {event.match for event in events if event.match.match_id not in rows}
            )
            unheard = await _unheard(connection, [event.match for event in events])
            fresh: list[tuple[MatchEvent, RecordedMatch]] = []
            renewed: set[UUID] = set()
            reopened: set[tuple[UUID, int]] = set()
            for event in events:
                match_id, sequence = event.match.match_id, event.sequence
                known = rows.get(match_id)
                late = known is not None and sequence <= known.sequence
                if (match_id, sequence) in steps or (late and not event.changed):
                    continue
                if known is not None and not late and not _may_follow(known, event.match.state):
                    log.warning(
                        "match %s of %s is %s already: event %d, %s, refused",
                        *(match_id, known.stream, known.state, sequence, event.match.state),
                        extra={"action": "event_refused", "stream": known.stream},
                    )
                    continue
                description = (
                    {name: getattr(known, name) for name in _DESCRIPTION}
                    if known is not None
                    else descriptions.get((event.match.catalog, event.match.reference_id), dict.fromkeys(_DESCRIPTION))
                )
                row = _as_recorded(event, epochs[event.match.stream], description, unheard.get(match_id, 0.0))
                if known is not None and not late and known.state not in _OPEN and event.match.state in _OPEN:
                    reopened.add((match_id, sequence))
                if not late:
                    rows[match_id] = row
                    renewed.add(match_id)
                if event.changed:
                    steps.add((match_id, sequence))
                fresh.append((event, row))
            await _write_matches(connection, [rows[match_id] for match_id in renewed])
            told = [row for event, row in fresh if event.changed]
            await _write_steps(connection, told)
            await _write_deliveries(connection, told, webhooks, reopened)
            await insert_hits(connection, [event for event, _ in fresh])
            return [event for event, _ in fresh]

    async def open_matches(
        self, stream: str, catalog: str | None = None, *, interrupted_since_s: float | None = None
    ) -> list[RecordedMatch]:
        """The stream's provisional and confirmed matches, oldest first, to be taken up again by an aligner.

        With them those that an interruption of listening ended, if they were last heard after `interrupted_since_s`.
        """
        doing = f"read the open matches of {stream}"
        async with transaction(self._pool, doing, timeout_s=_WRITE_S) as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                sql.SQL(
                    "SELECT {} FROM matches WHERE stream = %s AND (state = ANY(%s) OR interrupted AND last_hit_at > %s)"
                    " AND (%s::text IS NULL OR catalog = %s) ORDER BY start_at, match_id"
                ).format(sql.SQL(MATCH_COLUMNS)),
                [stream, _OPEN, None if interrupted_since_s is None else at(interrupted_since_s), catalog, catalog],
            )
            return [match_from_row(row) for row in await cursor.fetchall()]

    async def end_abandoned(
        self,
        *,
        listened: Collection[str],
        before_s: float,
        decided_s: float,
        webhooks: Iterable[Subscriber] = (),
    ) -> list[MatchEvent]:
        """End what nobody goes on with: open matches of streams other than `listened`, not heard since `before_s`.

        They end where they were last heard, as interrupted: a listener that was only cut off may open them again.
        """
        async with transaction(self._pool, "look for abandoned matches", timeout_s=_WRITE_S) as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                sql.SQL(
                    "SELECT {}, (SELECT epoch FROM streams WHERE name = stream) AS listening FROM matches"
                    " WHERE state IN ('provisional', 'confirmed') AND last_hit_at < %(before)s"
                    " AND NOT stream = ANY(%(listened)s) AND NOT EXISTS"
                    " (SELECT FROM streams WHERE name = stream AND heard_until >= %(before)s)"
                ).format(sql.SQL(MATCH_COLUMNS)),
                {"before": at(before_s), "listened": list(listened)},
            )
            found = [(match_from_row(row), row["listening"]) for row in await cursor.fetchall()]
        ended: list[MatchEvent] = []
        for stream, epoch in dict.fromkeys((match.stream, epoch) for match, epoch in found):
            events = [_closing(match, decided_s, interrupted=True) for match, _ in found if match.stream == stream]
            with suppress(StaleEpochError):  # somebody has just begun to listen to it
                ended += await self.record_events(events, epochs={stream: epoch}, webhooks=webhooks)
        return ended

    async def close_matches(
        self,
        stream: str,
        *,
        epoch: int,
        decided_s: float,
        webhooks: Iterable[Subscriber] = (),
        except_catalogs: Collection[str] = (),
    ) -> list[MatchEvent]:
        """End what is open and will not be taken up again: the stream's matches in all catalogs but those named.

        A confirmed match ends where it was last heard, a provisional one is retracted. Returns the events recorded.
        """
        events = [
            _closing(match, decided_s)
            for match in await self.open_matches(stream)
            if match.catalog not in except_catalogs
        ]
        return await self.record_events(events, epochs={stream: epoch}, webhooks=webhooks)

    async def retain(self, *, hits_days: int, history_days: int, deliveries_days: int, now_s: float) -> dict[str, int]:
        """What is older is gone: days of hits, states and gaps, finished deliveries. Returns how much of each went.

        Matches and their events are kept for ever, and so is a delivery that still waits.
        """
        async with transaction(self._pool, "drop old hits", timeout_s=_RETENTION_S) as connection:
            days = await drop_partitions(connection, before=at(now_s).date() - timedelta(days=hits_days))
        history, finished = at(now_s) - timedelta(days=history_days), at(now_s) - timedelta(days=deliveries_days)
        return {
            "days_of_hits": days,
            "stream_states": await self._delete("stream_states", "since < %s", history),
            "gaps": await self._delete("gaps", "end_at < %s", history),
            "deliveries": await self._delete("deliveries", "state <> 'pending' AND finished_at < %s", finished),
        }

    async def _delete(self, table: str, condition: str, before: object) -> int:
        statement = sql.SQL(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {condition} LIMIT {batch}))"
        ).format(table=sql.Identifier(table), condition=sql.SQL(condition), batch=sql.Literal(_BATCH))
        deleted = 0
        while True:
            async with transaction(self._pool, f"delete old rows of {table}", timeout_s=_RETENTION_S) as connection:
                count = (await connection.execute(statement, [before])).rowcount
            deleted += count
            if count < _BATCH:
                return deleted


async def _hold(connection: Connection, epochs: Mapping[str, int]) -> None:
    """Lock the streams' rows, in one order everywhere, so that no listener begins before the transaction ends."""
    cursor = await connection.execute(
        "SELECT name, epoch FROM streams WHERE name = ANY(%s) ORDER BY name FOR NO KEY UPDATE", [list(epochs)]
    )
    current = dict(await cursor.fetchall())
    if stale := sorted(stream for stream, epoch in epochs.items() if current.get(stream) != epoch):
        raise StaleEpochError(
            "; ".join(
                f"another listener has taken over stream {stream} (epoch {current.get(stream)}, ours {epochs[stream]})"
                for stream in stale
            )
            + ": nothing was written; stop listening to it here",
            frozenset(stale),
        )


async def _recorded(
    connection: Connection, match_ids: Collection[UUID]
) -> tuple[dict[UUID, RecordedMatch], set[tuple[UUID, int]]]:
    cursor = await connection.cursor(row_factory=dict_row).execute(
        sql.SQL("SELECT {} FROM matches WHERE match_id = ANY(%s)").format(sql.SQL(MATCH_COLUMNS)), [list(match_ids)]
    )
    rows = {row["match_id"]: match_from_row(row) for row in await cursor.fetchall()}
    steps = await connection.execute(
        "SELECT match_id, sequence FROM match_events WHERE match_id = ANY(%s)", [list(match_ids)]
    )
    return rows, {(match_id, sequence) for match_id, sequence in await steps.fetchall()}


async def _descriptions(connection: Connection, matches: Collection[Match]) -> dict[tuple[str, str], dict[str, str]]:
    if not matches:
        return {}
    cursor = await connection.execute(
        "SELECT catalog, reference_id, title, artist, isrc, owner, label FROM catalog_references"
        " WHERE state = 'ready' AND (catalog, reference_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
        [[match.catalog for match in matches], [match.reference_id for match in matches]],
    )
    return {
        (catalog, reference_id): dict(zip(_DESCRIPTION, said, strict=True))
        for catalog, reference_id, *said in await cursor.fetchall()
    }


def _may_follow(known: RecordedMatch, state: MatchState) -> bool:
    return state in _FOLLOWING[known.state] or (known.interrupted and state in _REOPENING[known.state])


def _closing(match: RecordedMatch, decided_s: float, *, interrupted: bool = False) -> MatchEvent:
    state = MatchState.ENDED if match.state is MatchState.CONFIRMED else MatchState.RETRACTED
    return MatchEvent(
        sequence=match.sequence + 1, match=replace(match, state=state), decided_s=decided_s, interrupted=interrupted
    )


async def _unheard(connection: Connection, matches: Collection[Match]) -> dict[UUID, float]:
    """Of each match that holds gaps, how many seconds they have in all. A match begins where its stream is heard."""
    latest = {match.match_id: match for match in matches}.values()
    cursor = await connection.execute(
        "SELECT match_id, sum(extract(epoch FROM least(gaps.end_at, wanted.end_at) - gaps.start_at))::float8"
        " FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::timestamptz[])"
        " AS wanted (match_id, stream, start_at, end_at) JOIN gaps ON gaps.stream = wanted.stream"
        " AND gaps.start_at >= wanted.start_at AND gaps.start_at < wanted.end_at GROUP BY match_id",
        [
            [match.match_id for match in latest],
            [match.stream for match in latest],
            [at(match.start_s) for match in latest],
            [at(match.end_s) for match in latest],
        ],
    )
    return dict(await cursor.fetchall())


def _as_recorded(event: MatchEvent, epoch: int, description: Mapping[str, Any], unheard_s: float) -> RecordedMatch:
    return RecordedMatch(
        **{field.name: getattr(event.match, field.name) for field in fields(Match)},
        **description,
        epoch=epoch,
        sequence=event.sequence,
        decided_s=event.decided_s,
        interrupted=event.interrupted,
        unheard_s=unheard_s,
    )


async def _write_matches(connection: Connection, matches: Collection[RecordedMatch]) -> None:
    columns = MATCH_COLUMNS.split(", ")
    kept = {"match_id", "stream", "catalog", "reference_id", "model_id", *_DESCRIPTION}
    statement = sql.SQL(
        "INSERT INTO matches ({columns}) VALUES ({values}) ON CONFLICT (match_id) DO UPDATE SET {changes}"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        values=sql.SQL(", ").join(map(sql.Placeholder, columns)),
        changes=sql.SQL(", ").join(
            sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(column)) for column in columns if column not in kept
        ),
    )
    # Matches in the order of their ids: two writers never wait for each other in a ring.
    rows = [match_to_row(match) for match in sorted(matches, key=lambda match: match.match_id)]
    if rows:
        await connection.cursor().executemany(statement, rows)


async def _write_steps(connection: Connection, steps: Collection[RecordedMatch]) -> None:
    if steps:
        await connection.cursor().executemany(
            "INSERT INTO match_events (match_id, sequence, state, decided_at, start_at, end_at, reference_start_s,"
            " reference_end_s, evidence_nats, score) VALUES (%(match_id)s, %(sequence)s, %(state)s, %(decided_at)s,"
            " %(start_at)s, %(end_at)s, %(reference_start_s)s, %(reference_end_s)s, %(evidence_nats)s, %(score)s)",
            [match_to_row(step) for step in steps],
        )


async def _write_deliveries(
    connection: Connection,
    steps: Collection[RecordedMatch],
    webhooks: Iterable[Subscriber],
    reopened: Collection[tuple[UUID, int]],
) -> None:
    rows = [
        (webhook.name, step.match_id, step.sequence, body, at(step.decided_s))
        for step in steps
        for body in [_body(step, reopened=(step.match_id, step.sequence) in reopened)]
        for webhook in webhooks
        if step.state in webhook.states
    ]
    if rows:
        await connection.cursor().executemany(
            "INSERT INTO deliveries (endpoint, match_id, sequence, body, next_attempt_at) VALUES (%s, %s, %s, %s, %s)",
            rows,
        )


def _body(match: RecordedMatch, *, reopened: bool) -> str:
    """The payload of a webhook as Standard Webhooks 1.0 shapes it; `reopened` where a match that had ended goes on."""
    data = match_as_json(match) | {"reopened": reopened}
    said = {"type": f"match.{match.state}", "timestamp": iso(match.decided_s), "data": data}
    return json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
