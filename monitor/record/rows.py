"""What the log's rows are in Python and in JSON: the only place that knows their columns."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from monitor.types import Gap, Match, MatchState, StreamState, StreamStatus

#: The columns of `matches` that a RecordedMatch is made of.
MATCH_COLUMNS = (
    "match_id, stream, catalog, reference_id, state, start_at, end_at, reference_start_s, reference_end_s, origin_at,"
    " tempo_ratio, evidence_nats, score, last_hit_at, model_id, epoch, sequence, decided_at,"
    " title, artist, isrc, owner, label, interrupted, unheard_s"
)


class DeliveryState(enum.StrEnum):
    """A delivery waits, was accepted, or was given up; a dead one can be replayed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedMatch(Match):
    """A match as the log holds it, with its reference as it was described when the match began."""

    #: Listening epoch that wrote the row last.
    epoch: int
    #: The newest event that the row shows.
    sequence: int
    decided_s: float
    title: str | None
    artist: str | None
    isrc: str | None
    owner: str | None
    label: str | None
    #: It ended because listening did: whoever listens next may open it again.
    interrupted: bool = False
    #: Seconds between its start and its end in which the stream was not heard.
    unheard_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEvent:
    """One step in a match's life as the log holds it."""

    match_id: UUID
    sequence: int
    state: MatchState
    decided_s: float
    start_s: float
    end_s: float
    reference_start_s: float
    reference_end_s: float
    evidence_nats: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedStream:
    """What a stream is doing, and how far it has been heard."""

    status: StreamStatus
    epoch: int
    heard_until_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedStatus(StreamStatus):
    """One row of a stream's history."""

    #: Orders states of the same instant.
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One webhook to one endpoint."""

    #: Sent as `webhook-id`, the same at every attempt.
    delivery_id: UUID
    endpoint: str
    match_id: UUID
    sequence: int
    body: str
    state: DeliveryState
    attempts: int
    created_s: float
    next_attempt_s: float
    finished_s: float | None
    status_code: int | None
    reason: str | None
    detail: str


def at(time_s: float) -> datetime:
    """Unix seconds as PostgreSQL keeps them: UTC, to the microsecond."""
    return datetime.fromtimestamp(time_s, UTC)


def seconds(time: datetime) -> float:
    """Unix seconds of a time that PostgreSQL gave."""
    return time.timestamp()


def iso(time_s: float) -> str:
    """Unix seconds as RFC 3339 in UTC with microseconds, such as 2026-03-01T12:00:00.250000Z."""
    return at(time_s).isoformat(timespec="microseconds").replace("+00:00", "Z")


def match_from_row(row: Mapping[str, Any]) -> RecordedMatch:
    """A row of MATCH_COLUMNS."""
    values: dict[str, Any] = {name: row[name] for name in _MATCH_SAME}
    values |= {f"{name}_s": seconds(row[f"{name}_at"]) for name in _MATCH_TIMES}
    return RecordedMatch(state=MatchState(row["state"]), **values)


def _values(record: RecordedMatch | Delivery) -> dict[str, Any]:
    # Not `asdict`, which copies each value deeply and so takes most of the time of a listing: none of them can change.
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def match_to_row(match: RecordedMatch) -> dict[str, Any]:
    """The values of MATCH_COLUMNS by name."""
    values = _values(match)
    return values | {f"{name}_at": at(values[f"{name}_s"]) for name in _MATCH_TIMES}


_MATCH_TIMES = ("start", "end", "origin", "last_hit", "decided")
_MATCH_SAME = tuple(
    name for name in MATCH_COLUMNS.split(", ") if name != "state" and name.removesuffix("_at") not in _MATCH_TIMES
)


def match_as_json(match: RecordedMatch) -> dict[str, Any]:
    """What webhooks, the command line and the API say of a match: each `*_s` on the wall clock has its `*_at` beside.

    The listening epoch stays inside.
    """
    said = _values(match) | {"match_id": str(match.match_id), "state": match.state.value}
    del said["epoch"]
    return said | {f"{name}_at": iso(said[f"{name}_s"]) for name in _MATCH_TIMES}


def event_from_row(row: Mapping[str, Any]) -> RecordedEvent:
    """A row of `match_events`."""
    return RecordedEvent(
        match_id=row["match_id"],
        sequence=row["sequence"],
        state=MatchState(row["state"]),
        decided_s=seconds(row["decided_at"]),
        start_s=seconds(row["start_at"]),
        end_s=seconds(row["end_at"]),
        reference_start_s=row["reference_start_s"],
        reference_end_s=row["reference_end_s"],
        evidence_nats=row["evidence_nats"],
        score=row["score"],
    )


def stream_from_row(row: Mapping[str, Any]) -> RecordedStream:
    """A row of `streams`."""
    return RecordedStream(
        status=StreamStatus(
            stream=row["name"],
            state=StreamState(row["state"]),
            reason=row["reason"],
            detail=row["detail"],
            since_s=seconds(row["since"]),
        ),
        epoch=row["epoch"],
        heard_until_s=None if row["heard_until"] is None else seconds(row["heard_until"]),
    )


def status_from_row(row: Mapping[str, Any]) -> RecordedStatus:
    """A row of `stream_states`."""
    return RecordedStatus(
        stream=row["stream"],
        state=StreamState(row["state"]),
        reason=row["reason"],
        detail=row["detail"],
        since_s=seconds(row["since"]),
        number=row["id"],
    )


def gap_from_row(row: Mapping[str, Any]) -> Gap:
    """A row of `gaps`."""
    return Gap(
        stream=row["stream"], start_s=seconds(row["start_at"]), end_s=seconds(row["end_at"]), reason=row["reason"]
    )


def delivery_from_row(row: Mapping[str, Any]) -> Delivery:
    """A row of `deliveries`."""
    return Delivery(
        delivery_id=row["delivery_id"],
        endpoint=row["endpoint"],
        match_id=row["match_id"],
        sequence=row["sequence"],
        body=row["body"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        created_s=seconds(row["created_at"]),
        next_attempt_s=seconds(row["next_attempt_at"]),
        finished_s=None if row["finished_at"] is None else seconds(row["finished_at"]),
        status_code=row["status_code"],
        reason=row["reason"],
        detail=row["detail"],
    )


def delivery_as_json(delivery: Delivery) -> dict[str, Any]:
    """What the command line and the API say of a delivery; `body` is what was signed, parsed."""
    times = ("created", "next_attempt", "finished")
    said = _values(delivery) | {"state": delivery.state.value, "body": json.loads(delivery.body)}
    said |= {"delivery_id": str(delivery.delivery_id), "match_id": str(delivery.match_id)}
    return said | {f"{name}_at": None if said[f"{name}_s"] is None else iso(said[f"{name}_s"]) for name in times}
