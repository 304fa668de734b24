"""Protocols beside Icecast's, each served for real and in real time, heard by both ffmpegs."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from benchmarks.faults.station import on_air, until
from monitor.audio.decode import decode_file
from monitor.audio.source import SourceOptions
from monitor.errors import StreamReason
from tests.integration.audio.rtsp import rtsp_server
from tests.integration.audio.test_source import RATE, Heard, check_axis, listen

OPTIONS = SourceOptions(connect_timeout_s=30.0, stall_timeout_s=30.0)


@contextlib.asynccontextmanager
async def broadcast(music: Path, *output: str) -> AsyncIterator[None]:
    """The wheel's ffmpeg playing `music` in real time to `output`."""
    process = await asyncio.create_subprocess_exec(
        imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-re", "-i", str(music), "-vn", *output,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def is_bound(protocol: str, port: int) -> bool:
    """Whether some socket has the port (proc(5)); to connect and see would take the only connection there is."""
    rows = Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(f":{port:04X}") for row in rows)


async def check_sound(heard: Heard, music: Path, program) -> None:
    """What was heard is a stretch of `music`, piece after piece; segments may lose or repeat a codec's frame."""
    assert heard.reason is None, heard.error
    check_axis(heard)
    assert await displacement_s(heard, music, program) < 0.5


async def displacement_s(heard: Heard, music: Path, program) -> float:
    """How far the pieces of what was heard lie apart that lay together in `music`."""
    original = np.concatenate([block async for block in decode_file(music, sample_rate_hz=RATE, ffmpeg=program)])
    assert heard.samples.size >= 4 * RATE
    origins = []
    for start in range(RATE // 2, 4 * RATE - RATE // 4, RATE // 2):
        piece = heard.samples[start : start + RATE // 4]
        at = int(np.argmax(np.correlate(original, piece, mode="valid")))
        origins.append((at - start) / RATE)
    return max(origins) - min(origins)


async def segments_heard(directory: Path, name: str, output: tuple[str, ...], music: Path, program) -> Heard:
    await asyncio.to_thread(directory.mkdir)
    async with on_air() as station, broadcast(music, *output, str(directory / name)):
        station.directories["/"] = directory
        await until(lambda: (directory / name).exists() and len(list(directory.iterdir())) >= 9)
        return await listen(station.url(f"/{name}"), program, audio_s=4.5, options=OPTIONS)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("live.m3u8", ("-c:a", "aac", "-f", "hls", "-hls_time", "1", "-hls_list_size", "20")),
        ("live.mpd", ("-c:a", "aac", "-f", "dash", "-seg_duration", "1", "-window_size", "5")),
    ],
)
async def test_segments(program, music, tmp_path, name, output):
    # Where the broadcasting ffmpeg is late with a segment, the listening one plays the last again: then once more.
    for attempt in range(3):
        heard = await segments_heard(tmp_path / str(attempt), name, output, music, program)
        if heard.reason is None and await displacement_s(heard, music, program) < 0.5:
            break
    await check_sound(heard, music, program)


async def test_rtmp(program, music, free_port):
    url = f"rtmp://127.0.0.1:{free_port}/live/x"
    async with broadcast(music, "-c:a", "aac", "-f", "flv", "-listen", "1", url):
        await until(lambda: is_bound("tcp", free_port))
        await check_sound(await listen(url, program, audio_s=4.0, options=OPTIONS), music, program)


async def test_srt(program, music, free_port):
    url = f"srt://127.0.0.1:{free_port}"
    async with broadcast(music, "-c:a", "aac", "-f", "mpegts", f"{url}?mode=listener"):
        await until(lambda: is_bound("udp", free_port))
        await check_sound(await listen(url, program, audio_s=4.0, options=OPTIONS), music, program)


async def test_udp(program, music, free_port):
    url = f"udp://127.0.0.1:{free_port}"
    async with broadcast(music, "-c:a", "aac", "-f", "mpegts", f"{url}?pkt_size=1316"):
        await check_sound(await listen(url, program, audio_s=4.0, options=OPTIONS), music, program)


async def test_rtsp(program, music, make):
    mulaw = make("x.mulaw", "-i", str(music), "-ac", "1", "-ar", "8000", "-f", "mulaw").read_bytes()
    async with rtsp_server(mulaw) as port:
        await check_sound(
            await listen(f"rtsp://127.0.0.1:{port}/x", program, audio_s=4.0, options=OPTIONS), music, program
        )
    async with rtsp_server(mulaw, user="user") as port:
        assert (await listen(f"rtsp://127.0.0.1:{port}/x", program)).reason is StreamReason.AUTH
        heard = await listen(f"rtsp://user:hunter22@127.0.0.1:{port}/x", program, audio_s=1.0)
        assert heard.chunks
