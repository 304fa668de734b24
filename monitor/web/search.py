"""A clip against a catalog: which recordings it plays, or which sound alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.daemon.offline import Twin
from monitor.errors import InputError
from monitor.match.ranking import rank
from monitor.types import Match, Reference
from monitor.web.authority import SECURED
from monitor.web.daemon import Daemon
from monitor.web.problem import ProblemError, documented
from monitor.web.uploads import Form, Spool

_RATE_HZ = 8000
#: Searches that run, and that wait for one to end.
_AT_ONCE = 2
_WAITING = 8
_MOST = 100


class SearchMode(StrEnum):
    """What is looked for."""

    SAME = "same"
    SIMILAR = "similar"


class Found(BaseModel):
    """The same recording within the clip, or a recording with a window that sounds alike."""

    catalog: str
    reference_id: str
    title: str | None
    artist: str | None
    score: float = Field(description="Mean similarity: along the airing, or over the clip's windows.")
    reference_start_s: float
    reference_duration_s: float | None = Field(description="Null where it was deleted meanwhile.")


class Same(Found):
    """An airing within the clip."""

    start_s: float
    end_s: float
    reference_end_s: float
    tempo_ratio: float
    evidence_nats: float


class Similar(Found):
    """A recording that sounds alike, with its nearest window."""

    rank: int
    clip_start_s: float
    best_similarity: float


class SearchAnswer(BaseModel):
    """What was found, best first for similar ones, in the order of the clip for same ones."""

    mode: SearchMode
    catalog: str
    duration_s: float
    results: list[Same | Similar]


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "A clip in any format."},
                        "mode": {"type": "string", "enum": ["same", "similar"], "default": "same"},
                        "k": {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 10},
                        "catalog": {"type": "string", "description": "The first one, if not given."},
                    },
                }
            }
        },
    }
}


def routes(
    daemon: Daemon,
    *,
    spool: Spool,
    ffmpeg: FfmpegProgram,
    max_clip_s: float,
    may_search: Sequence[Callable[..., Any]],
) -> APIRouter:
    """The operation that searches."""
    router = APIRouter(tags=["search"], dependencies=[Depends(check) for check in may_search])
    turns = _Turns()

    @router.post(
        "/search",
        response_model=SearchAnswer,
        responses=documented(401, 403, 404, 408, 413, 415, 422, 429, 503, 507),
        openapi_extra={**SECURED, **_FORM},
    )
    async def search(request: Request) -> Response:
        """A clip's aligned matches (same), or the recordings that sound most like it (similar)."""
        async with spool.received(request, file_fields=("file", "files[]")) as form:
            mode, k = _words(form)
            if len(form.files) != 1:
                raise ProblemError(422, "send one clip in the field file")
            catalog = form.fields.get("catalog") or daemon.catalogs()[0]
            if catalog not in daemon.catalogs():
                raise ProblemError(404, f"there is no catalog {catalog[:80]}")
            file = form.files[0]
            async with turns.one():
                try:
                    duration_s = await _duration_s(file.path, ffmpeg=ffmpeg, max_s=max_clip_s)
                    twin = await daemon.twin(catalog)
                    find = _same if mode is SearchMode.SAME else _similar
                    results = (await find(twin, file.path))[:k]
                except InputError as error:
                    raise ProblemError(422, str(error).replace(str(file.path), file.name)) from error
        said = [_named(result, catalog, twin.references) for result in results]
        return JSONResponse({"mode": mode.value, "catalog": catalog, "duration_s": duration_s, "results": said})

    return router


class _Turns:
    """So many searches run at once, so many more wait, and others are sent away."""

    def __init__(self) -> None:
        self._running = asyncio.Semaphore(_AT_ONCE)
        self._present = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """The caller's turn. Raises ProblemError 503 if too many wait."""
        if self._present >= _AT_ONCE + _WAITING:
            raise ProblemError(503, "too many searches wait; come back soon", headers={"Retry-After": "5"})
        self._present += 1
        try:
            async with self._running:
                yield
        finally:
            self._present -= 1


def _words(form: Form) -> tuple[SearchMode, int]:
    if unknown := sorted(form.fields.keys() - {"mode", "k", "catalog"}):
        raise ProblemError(422, f"the field {unknown[0][:40]!a} is not known")
    try:
        mode = SearchMode(form.fields.get("mode") or "same")
    except ValueError:
        raise ProblemError(422, "mode is same or similar") from None
    given = form.fields.get("k") or "10"
    if not (given.isascii() and given.isdecimal() and len(given) < 5 and 1 <= int(given) <= _MOST):
        raise ProblemError(422, f"k is a number from 1 to {_MOST}")
    return mode, int(given)


async def _duration_s(path: Path, *, ffmpeg: FfmpegProgram, max_s: float) -> float:
    """How much sound there is, decoded no further than a little over `max_s`. Raises InputError."""
    samples = 0
    decoding = decode_file(path, sample_rate_hz=_RATE_HZ, ffmpeg=ffmpeg, max_duration_s=max_s + 1)
    async with aclosing(decoding) as blocks:  # type: ignore[type-var]
        async for block in blocks:
            samples += block.size
    if samples > max_s * _RATE_HZ:
        raise InputError(f"{path} is longer than the {max_s:.0f} s that a clip may last; send a part of it")
    return samples / _RATE_HZ


async def _same(twin: Twin, path: Path) -> list[dict[str, Any]]:
    return [_aligned(match) for match in await twin.match(path) if match.reference_id in twin.references]


def _aligned(match: Match) -> dict[str, Any]:
    names = (
        "reference_id", "score", "reference_start_s", "start_s", "end_s", "reference_end_s", "tempo_ratio",
        "evidence_nats",
    )  # fmt: skip
    return {name: getattr(match, name) for name in names}


async def _similar(twin: Twin, path: Path) -> list[dict[str, Any]]:
    windows = await twin.windows(path)
    # What the daemon plays to itself is no result.
    listed = [found for found in rank([near for _, near in windows]) if found.reference_id in twin.references]
    return [
        {
            "rank": place,
            "reference_id": found.reference_id,
            "score": found.mean_similarity,
            "best_similarity": found.best.similarity,
            "clip_start_s": windows[found.window][0],
            "reference_start_s": found.best.reference_start_s,
        }
        for place, found in enumerate(listed, start=1)
    ]


def _named(result: dict[str, Any], catalog: str, references: Mapping[str, Reference]) -> dict[str, Any]:
    reference = references.get(result["reference_id"])  # it may have been deleted meanwhile
    said = {
        name: getattr(reference, of_reference, None)
        for name, of_reference in (("title", "title"), ("artist", "artist"), ("reference_duration_s", "duration_s"))
    }
    return {"catalog": catalog, **said, **result}
