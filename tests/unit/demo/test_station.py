from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import station
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.station import OggPages, Station, on_air

DECODED_HZ = 8_000


def sound(duration_s: float) -> np.ndarray:
    """Tones that change five times a second at random, so that every moment is recognisable."""
    rng = np.random.default_rng(5)
    frequency_hz = np.repeat(rng.uniform(200, 800, round(duration_s * 5)), SAMPLE_RATE_HZ // 5)
    return (0.3 * np.sin(2 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE_HZ)).astype(np.float32)


@asynccontextmanager
async def decoder(ffmpeg: FfmpegProgram, url: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg.path, "-nostdin", "-loglevel", "error", "-i", url),
        *("-f", "s16le", "-ac", "1", "-ar", str(DECODED_HZ), "-flush_packets", "1", "pipe:1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.stdout.read()
        await process.wait()


async def request(url: str, method: str = "GET") -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    _, _, address, path = url.split("/", 3)
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} /{path} HTTP/1.1\r\nHost: {address}\r\nIcy-MetaData: 1\r\n\r\n".encode())
    return await reader.readuntil(b"\r\n\r\n"), reader, writer


@pytest.mark.parametrize("audio", [station.mp3(128), station.mp3(48), station.aac(64), station.opus(48)], ids=str)
async def test_a_stream_decodes_to_what_was_scheduled_at_its_time(ffmpeg: FfmpegProgram, audio: station.Format) -> None:
    one = Station(name="one", audio=audio, ffmpeg=ffmpeg)
    programme = sound(20)
    async with on_air([one]) as address:
        on_air_s = time.time() + 0.5
        one.schedule(programme, on_air_s=on_air_s)
        async with decoder(ffmpeg, address + one.path) as pcm:
            heard = np.frombuffer(await pcm.readexactly(2 * 6 * DECODED_HZ), dtype="<i2").astype(float)
            now_s = time.time()
    truth = programme[:: SAMPLE_RATE_HZ // DECODED_HZ].astype(float)
    last = heard[-2 * DECODED_HZ :]
    size = 1 << 19
    correlation = np.fft.irfft(np.fft.rfft(truth, size) * np.conj(np.fft.rfft(last, size)), size)[: len(truth)]
    place = int(np.argmax(correlation))
    own = truth[place : place + len(last)]
    assert correlation[place] > 0.7 * np.linalg.norm(own) * np.linalg.norm(last)
    # The newest sample cannot be of the future, and a burst of 64 KiB would put it far into the past.
    assert -0.1 < now_s - (on_air_s + place / DECODED_HZ + 2) < 10


async def test_a_listener_gets_the_headers_of_a_radio_station_and_a_burst(ffmpeg: FfmpegProgram) -> None:
    one = Station(name="one", audio=station.mp3(128), ffmpeg=ffmpeg)
    async with on_air([one]) as address:
        one.schedule(sound(10), on_air_s=time.time())
        while one._burst_bytes < 32_000:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.05)
        head, reader, writer = await request(address + one.path)
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"\r\nContent-Type: audio/mpeg\r\n" in head
        assert b"\r\nicy-br: 128\r\n" in head
        began_s = time.monotonic()
        await reader.readexactly(16_000)
        assert time.monotonic() - began_s < 1.0, "a second of sound just past comes at once"
        assert one.listeners == 1
        writer.close()


async def test_dropped_listeners_are_refused_until_the_station_is_back(ffmpeg: FfmpegProgram) -> None:
    one, two = (Station(name=name, audio=station.aac(64), ffmpeg=ffmpeg) for name in ("one", "two"))
    async with on_air([one, two]) as address:
        _, reader, writer = await request(address + one.path)
        _, other, other_writer = await request(address + two.path)
        one.drop_listeners(10)
        await reader.read()  # to its end
        head, _, refused = await request(address + one.path)
        assert head.startswith(b"HTTP/1.0 404 ")
        assert await other.read(100), "the other station goes on"
        one.drop_listeners(0)
        head, reader, back = await request(address + one.path)
        assert head.startswith(b"HTTP/1.0 200 ")
        assert await reader.read(100)
        for each in (writer, refused, back, other_writer):
            each.close()


@pytest.mark.parametrize(("method", "path"), [("GET", "/none.mp3"), ("POST", "/one.mp3"), ("GET", "/")])
async def test_other_requests_are_not_found(ffmpeg: FfmpegProgram, method: str, path: str) -> None:
    async with on_air([Station(name="one", audio=station.mp3(64), ffmpeg=ffmpeg)]) as address:
        head, _, writer = await request(address + path, method)
        assert head.startswith(b"HTTP/1.0 404 ")
        writer.close()


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
async def test_ogg_pages_are_cut_whole_from_any_chunking(ffmpeg: FfmpegProgram, step: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg.path, "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "sine=duration=3"),
        *station.opus(48).encoding,
        "pipe:1",
        stdout=asyncio.subprocess.PIPE,
    )
    stream, _ = await process.communicate()
    pages = OggPages()
    audio = b"".join(pages.push(stream[start : start + step]) for start in range(0, len(stream), step))
    assert pages.headers + audio == stream
    assert pages.headers.count(b"OggS") == 2
    assert pages.headers[28:36] == b"OpusHead"
    assert audio.startswith(b"OggS")
