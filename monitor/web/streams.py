"""The streams: what each is doing and has played, and whether it is to be listened to."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from monitor.record.listings import Listings
from monitor.record.rows import RecordedMatch
from monitor.types import Gap, MatchState, StreamState
from monitor.web.daemon import Daemon
from monitor.web.problem import documented, not_found
from monitor.web.text import Segment

Hours = Annotated[float, Query(gt=0, le=24 * 31, description="How far back.")]

#: Most rows of each kind in a history.
_MOST = 20_000
_SHOWN = (MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED)


class Playing(BaseModel):
    """A match that is on air now."""

    match_id: UUID
    catalog: str
    reference_id: str
    title: str | None
    artist: str | None
    state: MatchState
    start_s: float
    reference_start_s: float
    reference_duration_s: float | None
    tempo_ratio: float


class Stream(BaseModel):
    """A stream as it is now."""

    name: str
    state: StreamState
    reason: str | None
    detail: str
    since_s: float
    up: bool
    level_dbfs: float | None
    addresses: list[str] = Field(description="Without secrets.")
    catalogs: list[str]
    playing: list[Playing]
    source: Literal["file", "api"] = Field(description="Whether the configuration file or the API added it.")
    paused: bool
    delay_s: float | None = Field(description="How long ago the last sound was heard, while it is up.")


class StreamDetail(Stream):
    """A stream with what ffmpeg said last when it failed."""

    last_words: list[str]


class Streams(BaseModel):
    """Every stream."""

    streams: list[Stream]


class PastState(BaseModel):
    """A state that a stream took up."""

    state: StreamState
    reason: str | None
    detail: str
    since_s: float


class PastGap(BaseModel):
    """A span in which a stream was not heard."""

    start_s: float
    end_s: float
    reason: str


class PastMatch(BaseModel):
    """A match as a strip shows it."""

    match_id: UUID
    reference_id: str
    title: str | None
    start_s: float
    end_s: float
    state: MatchState


class Strip(BaseModel):
    """What a stream played and missed."""

    gaps: list[PastGap]
    matches: list[PastMatch]


class StreamHistory(Strip):
    """What a stream did, latest first."""

    states: list[PastState]


class Strips(BaseModel):
    """A strip for each stream that is listened to."""

    streams: dict[str, Strip]


def routes(daemon: Daemon, listings: Listings) -> APIRouter:
    """The operations that read streams."""
    router = APIRouter(tags=["streams"])

    @router.get("/streams", response_model=Streams)
    async def list_streams() -> Response:
        """Every stream as it is now."""
        return JSONResponse({"streams": [summary(stream) for stream in daemon.streams()]})

    @router.get("/streams/{name}", response_model=StreamDetail, responses=documented(404, 422))
    async def get_stream(name: Segment) -> Response:
        """One stream as it is now."""
        return JSONResponse(find(daemon, name))

    @router.get("/streams/{name}/history", response_model=StreamHistory, responses=documented(404, 422, 503))
    async def get_stream_history(name: Segment, hours: Hours = 24) -> Response:
        """The states, gaps and matches of one stream, latest first."""
        find(daemon, name)
        since_s = time.time() - hours * 3600
        states = await listings.history(name, since_s=since_s, limit=_MOST)
        gaps = await listings.gaps(stream=name, since_s=since_s, limit=_MOST)
        matches = await listings.matches(stream=name, since_s=since_s, states=_SHOWN, limit=_MOST)
        past = [
            {"state": status.state.value, "reason": status.reason, "detail": status.detail, "since_s": status.since_s}
            for status in states
        ]
        return JSONResponse({"states": past, **_strip(gaps, matches)})

    @router.get("/history", response_model=Strips, responses=documented(422, 503))
    async def get_history(hours: Hours = 24) -> Response:
        """The gaps and matches of all streams, latest first."""
        since_s = time.time() - hours * 3600
        gaps: dict[str, list[Gap]] = {stream["name"]: [] for stream in daemon.streams()}
        matches: dict[str, list[RecordedMatch]] = {name: [] for name in gaps}
        for gap in await listings.gaps(since_s=since_s, limit=_MOST):
            if gap.stream in gaps:
                gaps[gap.stream].append(gap)
        for match in await listings.overlapping(since_s=since_s, limit=_MOST):
            if match.stream in matches:
                matches[match.stream].append(match)
        return JSONResponse({"streams": {name: _strip(gaps[name], matches[name]) for name in gaps}})

    return router


def summary(stream: dict[str, Any]) -> dict[str, Any]:
    """A stream without what only its own page shows."""
    return {name: value for name, value in stream.items() if name != "last_words"}


def find(daemon: Daemon, name: str) -> dict[str, Any]:
    """The stream of that name. Raises ProblemError."""
    for stream in daemon.streams():
        if stream["name"] == name:
            return stream
    raise not_found(f"stream {name}")


def _strip(gaps: Iterable[Gap], matches: Iterable[RecordedMatch]) -> dict[str, Any]:
    return {
        "gaps": [{"start_s": gap.start_s, "end_s": gap.end_s, "reason": gap.reason} for gap in gaps],
        "matches": [
            {
                "match_id": str(match.match_id),
                "reference_id": match.reference_id,
                "title": match.title,
                "start_s": match.start_s,
                "end_s": match.end_s,
                "state": match.state.value,
            }
            for match in matches
        ],
    }
