"""The sound of a reference, with ranges, as the file that was loaded or as MP3."""

from __future__ import annotations

import asyncio
import mimetypes
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response, StreamingResponse

from monitor.audio.ffmpeg import QUIET, FfmpegProgram, FfmpegRun, running
from monitor.catalog.references import ReferenceRow
from monitor.catalog.register import Register
from monitor.web.problem import ProblemError, documented
from monitor.web.references import ready
from monitor.web.text import Segment

_AT_ONCE = 4
_BLOCK_BYTES = 1 << 16
#: What a file holds cannot make a browser take it for a page.
_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=60"}
_SOUND = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}


class AudioFormat(StrEnum):
    """How the sound comes."""

    ORIGINAL = "original"
    MP3 = "mp3"


def routes(register: Register, *, ffmpeg: FfmpegProgram) -> APIRouter:
    """The operation that plays references."""
    router = APIRouter(prefix="/audio", tags=["references"])
    converting = asyncio.Semaphore(_AT_ONCE)

    @router.get(
        "/{catalog}/{reference_id:path}",
        response_class=Response,
        responses=documented(404, 416, 422, 503)
        | {200: {"content": _SOUND}, 206: {"description": "Partial Content", "content": _SOUND}},
    )
    async def get_audio(
        catalog: Segment,
        reference_id: Segment,
        format: Annotated[  # noqa: A002
            AudioFormat, Query(description="mp3 for browsers that cannot play the file itself; without ranges.")
        ] = AudioFormat.ORIGINAL,
    ) -> Response:
        """The file that the reference was loaded from, as long as it is that file still."""
        path = await _loaded_file(await ready(register, catalog, reference_id))
        if format is AudioFormat.MP3:
            if converting.locked():
                raise ProblemError(503, "too much is being converted; come back soon", headers={"Retry-After": "5"})
            stack = AsyncExitStack()
            await stack.enter_async_context(converting)
            return StreamingResponse(_converted(stack, path, ffmpeg), media_type="audio/mpeg", headers=_HEADERS)
        return FileResponse(path, media_type=_media_type(path), headers=_HEADERS)

    return router


async def _loaded_file(row: ReferenceRow) -> Path:
    """The recorded path, which only the loader ever writes. A file that took its place since is not given away."""
    path = Path(row.reference.path)
    try:
        state = await asyncio.to_thread(path.stat)
    except OSError:
        raise ProblemError(404, "the file that the reference was loaded from is not there any more") from None
    same = (state.st_size, state.st_mtime_ns // 1000) == (row.file.size_bytes, row.file.modified_us)
    if not (stat.S_ISREG(state.st_mode) and same):
        raise ProblemError(404, "the file that the reference was loaded from has changed; load it again")
    return path


def _media_type(path: Path) -> str:
    guessed, _ = mimetypes.guess_type(path.name)
    return guessed if guessed and guessed.startswith(("audio/", "video/")) else "application/octet-stream"


async def _converted(stack: AsyncExitStack, path: Path, ffmpeg: FfmpegProgram) -> AsyncIterator[bytes]:
    arguments = [
        *(*QUIET, "-protocol_whitelist", "file", "-i", f"file:{path}", "-map", "0:a:0", "-map_metadata", "-1"),
        *("-vn", "-ac", "2", "-codec:a", "libmp3lame", "-q:a", "4", "-f", "mp3", "pipe:1"),
    ]
    async with stack:
        run: FfmpegRun = await stack.enter_async_context(running(ffmpeg, arguments))
        while block := await run.read_bytes(_BLOCK_BYTES):
            yield block
