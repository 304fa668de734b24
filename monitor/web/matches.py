"""What was recognised: listed with filters and paging, exported whole, one match with all that is known of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from monitor.record.listings import Listings
from monitor.record.rows import RecordedMatch, iso, match_as_json
from monitor.types import MatchState
from monitor.web.paging import After, Limit, cursor, key_of
from monitor.web.problem import documented, not_found
from monitor.web.text import Filter, Words, words_of

_EXPORT_PAGE = 1000
_LATEST_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_COLUMNS = (
    "match_id", "stream", "catalog", "reference_id", "title", "artist", "isrc", "owner", "label", "state",
    "start_at", "end_at", "start_s", "end_s", "reference_start_s", "reference_end_s", "tempo_ratio", "score",
    "evidence_nats", "decided_at",
)  # fmt: skip
#: A spreadsheet takes cells that begin so for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Match(BaseModel):
    """One airing of a reference on a stream."""

    match_id: UUID
    stream: str
    catalog: str
    reference_id: str
    title: str | None
    artist: str | None
    isrc: str | None
    owner: str | None
    label: str | None
    state: MatchState
    start_at: datetime
    end_at: datetime
    start_s: float = Field(description="Unix seconds of the airing's first heard instant.")
    end_s: float
    reference_start_s: float = Field(description="Seconds of the reference that play at start_s.")
    reference_end_s: float
    tempo_ratio: float = Field(description="Reference seconds per stream second.")
    score: float = Field(description="Mean similarity along the airing.")
    evidence_nats: float
    decided_at: datetime


class MatchPage(BaseModel):
    """Matches, latest start first."""

    matches: list[Match]
    next: str | None


class Step(BaseModel):
    """One step in a match's life."""

    sequence: int
    state: MatchState
    decided_at: datetime
    evidence_nats: float
    score: float


class PlaneHit(BaseModel):
    """A window of the stream that was near a window of the reference."""

    window_start_s: float
    reference_start_s: float
    similarity: float


class MatchDetail(Match):
    """A match with its steps and its hits, as far as retention has left them."""

    events: list[Step]
    hits: list[PlaneHit]
    reference_duration_s: float | None


class ExportFormat(StrEnum):
    """How matches are written."""

    JSON = "json"
    CSV = "csv"
    JSONL = "jsonl"


def match_fields(match: RecordedMatch) -> dict[str, Any]:
    """A match as the API says it."""
    said = match_as_json(match)
    return {name: said[name] for name in _COLUMNS}


def seconds_of(time: datetime | None) -> float | None:
    """Unix seconds; without a zone the time is UTC."""
    if time is None:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    try:
        return min(max(time.timestamp(), 0.0), _LATEST_S)
    except (OverflowError, ValueError):
        return 0.0 if time.year < 1970 else _LATEST_S


def routes(listings: Listings) -> APIRouter:
    """The operations on matches."""
    router = APIRouter(prefix="/matches", tags=["matches"])

    @router.get(
        "",
        response_model=MatchPage,
        responses=documented(422, 503)
        | {200: {"content": {"text/csv": {"schema": {"type": "string"}}, "application/jsonl": {"schema": {}}}}},
    )
    async def list_matches(
        *,
        stream: Filter = None,
        reference_id: Filter = None,
        catalog: Filter = None,
        state: Annotated[list[MatchState] | None, Query(description="May be given several times.")] = None,
        since: Annotated[datetime | None, Query(description="Matches that start then or later.")] = None,
        until: Annotated[datetime | None, Query(description="Matches that start before.")] = None,
        q: Words = None,
        limit: Limit = 50,
        after: After = None,
        format: Annotated[  # noqa: A002
            ExportFormat | None, Query(description="csv and jsonl: all matches in one stream.")
        ] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        """Matches that pass every filter, latest start first; all of them at once as CSV or JSON Lines."""
        filters: dict[str, Any] = {
            "stream": stream,
            "reference_id": reference_id,
            "catalog": catalog,
            "since_s": seconds_of(since),
            "until_s": seconds_of(until),
            "words": words_of(q),
            "states": tuple(state) if state else tuple(MatchState),
        }
        key = key_of(after, start_of, UUID)
        wanted = format or _accepted(accept)
        if wanted is ExportFormat.JSON:
            found = await listings.matches(**filters, limit=limit + 1, before=key)
            last = found[limit - 1] if len(found) > limit else None
            following = None if last is None else cursor(last.start_s, str(last.match_id))
            return JSONResponse({"matches": [match_fields(match) for match in found[:limit]], "next": following})
        first = await listings.matches(**filters, limit=_EXPORT_PAGE, before=key)
        pages = _pages(listings, filters, first)
        if wanted is ExportFormat.CSV:
            disposition = {"Content-Disposition": 'attachment; filename="matches.csv"'}
            return StreamingResponse(_csv(pages), media_type="text/csv", headers=disposition)
        return StreamingResponse(_jsonl(pages), media_type="application/jsonl")

    @router.get("/{match_id}", response_model=MatchDetail, responses=documented(404, 422, 503))
    async def get_match(match_id: UUID) -> Response:
        """One match, its steps, and the plane of its hits: stream time against reference time."""
        match = await listings.match(match_id)
        if match is None:
            raise not_found(f"match {match_id}")
        events, hits = await listings.events(match_id), await listings.hits(match)
        return JSONResponse(
            match_fields(match)
            | {
                "events": [
                    {
                        "sequence": event.sequence,
                        "state": event.state.value,
                        "decided_at": iso(event.decided_s),
                        "evidence_nats": event.evidence_nats,
                        "score": event.score,
                    }
                    for event in events
                ],
                "hits": [
                    {
                        "window_start_s": hit.window_start_s,
                        "reference_start_s": hit.reference_start_s,
                        "similarity": hit.similarity,
                    }
                    for hit in hits
                ],
                "reference_duration_s": await listings.reference_duration_s(match.catalog, match.reference_id),
            }
        )

    return router


def start_of(key: Any) -> float:
    """A time within a cursor. Raises ValueError."""
    start_s = float(key)
    if not 0 <= start_s <= _LATEST_S:
        raise ValueError(key)
    return start_s


def _accepted(accept: str) -> ExportFormat:
    for part in accept.split(","):
        match part.partition(";")[0].strip():
            case "text/csv":
                return ExportFormat.CSV
            case "application/jsonl" | "application/x-ndjson":
                return ExportFormat.JSONL
            case "application/json" | "*/*":
                return ExportFormat.JSON
    return ExportFormat.JSON


async def _pages(
    listings: Listings, filters: Mapping[str, Any], page: list[RecordedMatch]
) -> AsyncIterator[list[RecordedMatch]]:
    """All pages from `page` on: short queries, so that a slow reader holds nothing in the database."""
    while page:
        yield page
        if len(page) < _EXPORT_PAGE:
            return
        last = page[-1]
        page = await listings.matches(**filters, limit=_EXPORT_PAGE, before=(last.start_s, last.match_id))


async def _csv(pages: AsyncIterator[list[RecordedMatch]]) -> AsyncIterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    async for page in pages:
        writer.writerows([_cell(value) for value in match_fields(match).values()] for match in page)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


async def _jsonl(pages: AsyncIterator[list[RecordedMatch]]) -> AsyncIterator[str]:
    async for page in pages:
        yield "".join(json.dumps(match_fields(match)) + "\n" for match in page)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
