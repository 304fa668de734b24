"""The streams: what each is doing and has played, and whether it is to be listened to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from monitor.record.listings import Listings
from monitor.record.rows import RecordedMatch
from monitor.types import Gap, MatchState, StreamAlarm, StreamState
from monitor.web.authority import SECURED
from monitor.web.daemon import Daemon
from monitor.web.problem import ProblemError, documented, not_found
from monitor.web.text import Segment, Storable

Hours = Annotated[float, Query(gt=0, le=24 * 31, description="How far back.")]

#: Most rows of each kind in a history.
_MOST = 20_000
#: Addresses that are tried at the same time.
_TRIALS = 2
_SHOWN = (MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED)


class Action(StrEnum):
    """What can be done with a stream."""

    PAUSE = "pause"
    RESUME = "resume"
    RESTART = "restart"


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
    behind_s: float | None = Field(description="How old the sound is that was looked for last, while it is up.")
    alarm: StreamAlarm | None = Field(description="What about it somebody should know.")
    alarm_since_s: float | None


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


Address = Annotated[Storable, Field(min_length=1, max_length=4000)]


class Reaching(BaseModel):
    """An address and how it is asked."""

    model_config = ConfigDict(extra="forbid")

    url: Address = Field(description="http, https, rtsp, rtsps, rtmp, rtmps, srt, udp or rtp.")
    headers: dict[Storable, Storable] = Field(default={}, max_length=50)
    user_agent: Storable | None = Field(default=None, max_length=500)
    tls_verify: bool = True


class NewStream(BaseModel):
    """A stream that is to be listened to; see the configuration file's `streams`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    url: Address | None = Field(default=None, description="Either url or urls.")
    urls: list[Address] | None = Field(default=None, min_length=1, max_length=20)
    catalogs: list[Storable] | None = Field(default=None, max_length=50)
    headers: dict[Storable, Storable] | None = Field(default=None, max_length=50)
    user_agent: Storable | None = Field(default=None, max_length=500)
    paused: bool | None = None
    stall_timeout_s: float | None = Field(default=None, ge=1, le=600)
    connect_timeout_s: float | None = Field(default=None, ge=1, le=600)
    silence_after_s: float | None = Field(default=None, ge=1, le=3600)
    silence_dbfs: float | None = Field(default=None, ge=-120, le=0)
    tls_verify: bool | None = None


class TrialAnswer(BaseModel):
    """What was heard at an address."""

    reachable: bool
    reason: str | None
    detail: str
    codec: str | None
    sample_rate_hz: int | None
    channels: int | None
    bit_rate: int | None = Field(description="Bits per second, as the stream states it.")
    level_dbfs: float | None
    seconds: float


def routes(
    daemon: Daemon,
    listings: Listings,
    *,
    may_write: Sequence[Callable[..., Any]],
    may_try: Sequence[Callable[..., Any]],
) -> APIRouter:
    """The operations on streams."""
    router = APIRouter(tags=["streams"])
    router.include_router(_reading(daemon, listings))
    router.include_router(_changing(daemon, may_write=may_write, may_try=may_try))
    return router


def _changing(
    daemon: Daemon, *, may_write: Sequence[Callable[..., Any]], may_try: Sequence[Callable[..., Any]]
) -> APIRouter:
    router = APIRouter(prefix="/streams")
    writing: dict[str, Any] = {"dependencies": [Depends(check) for check in may_write], "openapi_extra": SECURED}
    trying = asyncio.Semaphore(_TRIALS)

    @router.post(
        "/test",
        response_model=TrialAnswer,
        responses=documented(401, 403, 422, 429, 503),
        dependencies=[Depends(check) for check in may_try],
        openapi_extra=SECURED,
    )
    async def test_stream(wanted: Reaching) -> Response:
        """Listen to an address for five seconds, before it is added."""
        if trying.locked():
            raise ProblemError(503, "other addresses are being tried; come back soon", headers={"Retry-After": "5"})
        async with trying:
            return JSONResponse(await daemon.try_stream(wanted.model_dump()))

    @router.post(
        "", status_code=201, response_model=Stream, responses=documented(401, 403, 409, 422, 429, 503), **writing
    )
    async def add_stream(wanted: NewStream) -> Response:
        """The stream is listened to from now on, also after a restart."""
        if (wanted.url is None) == (wanted.urls is None):
            raise ProblemError(422, "body: give either url or urls")
        try:
            await daemon.add_stream(wanted.model_dump(exclude_none=True))
        except FileExistsError:
            raise ProblemError(409, f"there is a stream {wanted.name} already") from None
        return JSONResponse(summary(find(daemon, wanted.name)), status_code=201)

    @router.delete("/{name}", status_code=204, responses=documented(401, 403, 404, 409, 422, 429, 503), **writing)
    async def remove_stream(name: Segment) -> Response:
        """The stream is listened to no more; what was recorded of it stays."""
        if find(daemon, name)["source"] == "file":
            raise ProblemError(409, f"stream {name} stands in the configuration file; remove it there, and reload")
        await daemon.remove_stream(name)
        return Response(status_code=204)

    @router.post(
        "/{name}/{action}", response_model=Stream, responses=documented(401, 403, 404, 422, 429, 503), **writing
    )
    async def change_stream(name: Segment, action: Action) -> Response:
        """Pause or resume listening, also after a restart; or connect anew."""
        find(daemon, name)
        match action:
            case Action.PAUSE:
                await daemon.pause_stream(name, paused=True)
            case Action.RESUME:
                await daemon.pause_stream(name, paused=False)
            case Action.RESTART:
                await daemon.restart_stream(name)
        return JSONResponse(summary(find(daemon, name)))

    return router


def _reading(daemon: Daemon, listings: Listings) -> APIRouter:
    router = APIRouter()

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
