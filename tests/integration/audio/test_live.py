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

from monitor.audio.decode import decode_file
from monitor.audio.source import SourceOptions
from monitor.errors import StreamReason
from tests.integration.audio.rtsp import rtsp_server
from tests.integration.audio.station import on_air, until
from tests.integration.audio.test_source import RATE, Heard, check_axis, listen

OPTIONS = SourceOptions(connect_timeout_s=10.0, stall_timeout_s=8.0)


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


async def check_sound(heard: Heard, music: Path, program) -> None:
    """What was heard is a stretch of `music`, piece after piece; segments may lose or repeat a codec's frame."""
    assert heard.reason is None, heard.error
    check_axis(heard)
    original = np.concatenate([block async for block in decode_file(music, sample_rate_hz=RATE, ffmpeg=program)])
    assert heard.samples.size >= 4 * RATE
    origins = []
    for start in range(RATE // 2, 4 * RATE - RATE // 4, RATE // 2):
        piece = heard.samples[start : start + RATE // 4]
        at = int(np.argmax(np.correlate(original, piece, mode="valid")))
        origins.append((at - start) / RATE)
    assert max(origins) - min(origins) < 0.5


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("live.m3u8", ("-c:a", "aac", "-f", "hls", "-hls_time", "1", "-hls_list_size", "5")),
        ("live.mpd", ("-c:a", "aac", "-f", "dash", "-seg_duration", "1", "-window_size", "5")),
    ],
)
async def test_segments(program, music, tmp_path, name, output):
    async with on_air() as station, broadcast(music, *output, str(tmp_path / name)):
        station.directories["/"] = tmp_path
        await until(lambda: (tmp_path / name).exists() and len(list(tmp_path.iterdir())) >= 9)
        heard = await listen(station.url(f"/{name}"), program, audio_s=4.5, options=OPTIONS)
    await check_sound(heard, music, program)


async def test_rtmp(program, music, free_port):
    url = f"rtmp://127.0.0.1:{free_port}/live/x"
    async with broadcast(music, "-c:a", "aac", "-f", "flv", "-listen", "1", url):
        await asyncio.sleep(0.5)
        await check_sound(await listen(url, program, audio_s=4.0, options=OPTIONS), music, program)


async def test_srt(program, music, free_port):
    url = f"srt://127.0.0.1:{free_port}"
    async with broadcast(music, "-c:a", "aac", "-f", "mpegts", f"{url}?mode=listener"):
        await asyncio.sleep(0.5)
        await check_sound(await listen(url, program, audio_s=4.0, options=OPTIONS), music, program)


async def test_udp(program, music, free_port):
    url = f"udp://127.0.0.1:{free_port}"
    async with broadcast(music, "-c:a", "aac", "-f", "mpegts", f"{url}?pkt_size=1316"):
        await check_sound(await listen(url, program, audio_s=4.0, options=OPTIONS), music, program)


async def test_rtsp(program, music, make):
    mulaw = make("x.mulaw", "-i", str(music), "-ac", "1", "-ar", "8000", "-f", "mulaw").read_bytes()
    async with rtsp_server(mulaw) as port:
        await check_sound(await listen(f"rtsp://127.0.0.1:{port}/x", program, audio_s=4.0), music, program)
    async with rtsp_server(mulaw, user="user") as port:
        assert (await listen(f"rtsp://127.0.0.1:{port}/x", program)).reason is StreamReason.AUTH
        heard = await listen(f"rtsp://user:hunter22@127.0.0.1:{port}/x", program, audio_s=1.0)
        assert heard.chunks
