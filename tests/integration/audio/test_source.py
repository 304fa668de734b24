"""Sources as they behave and misbehave, over real sockets, with both ffmpegs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.faults import station as behaviours
from benchmarks.faults.station import Station, content, icecast, on_air, redirect, status
from monitor.audio.decode import decode_file
from monitor.audio.source import SourceOptions, open_source
from monitor.errors import SourceError, StreamReason
from monitor.types import Chunk

RATE = 8000
OPTIONS = SourceOptions(connect_timeout_s=30.0, stall_timeout_s=15.0)


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    async with on_air() as station:
        yield station


@pytest.fixture(scope="session")
def mp3(make, music) -> bytes:
    return make("live.mp3", "-i", str(music), "-c:a", "libmp3lame", "-b:a", "48k", "-ac", "1").read_bytes()


@dataclass(kw_only=True)
class Heard:
    """What one run of a source gave, and how it ended."""

    chunks: list[Chunk] = field(default_factory=list)
    #: Wall time when each chunk was given out.
    at_s: list[float] = field(default_factory=list)
    error: SourceError | None = None
    reanchored_total: int = 0

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([chunk.samples for chunk in self.chunks]) if self.chunks else np.empty(0, np.float32)

    @property
    def reason(self) -> StreamReason | None:
        return self.error.reason if self.error else None


async def listen(
    url: str, program, *, seconds: float = 60.0, audio_s: float = 3600.0, options: SourceOptions = OPTIONS
) -> Heard:
    """Listens for so many seconds, or until so much audio has come, or until it fails."""
    source = open_source(url, sample_rate_hz=RATE, ffmpeg=program, options=options)
    heard = Heard()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), contextlib.aclosing(source.listen()) as chunks:
                async for chunk in chunks:
                    heard.chunks.append(chunk)
                    heard.at_s.append(time.time())
                    if heard.samples.size >= audio_s * RATE:
                        break
    except SourceError as error:
        heard.error = error
        assert "\n" not in str(error)
        assert source.masked_url in str(error)
        assert error.last_words == source.last_words
    heard.reanchored_total = source.reanchored_total
    return heard


def end_s(chunk: Chunk) -> float:
    return chunk.start_s + chunk.samples.size / RATE


def check_axis(heard: Heard) -> None:
    """One run: never later than the clock, each chunk where the one before ends."""
    assert heard.reanchored_total == 0
    assert [chunk.discontinuity for chunk in heard.chunks] == [True] + [False] * (len(heard.chunks) - 1)
    for at_s, chunk in zip(heard.at_s, heard.chunks, strict=True):
        assert end_s(chunk) <= at_s + 1e-3
    for before, after in zip(heard.chunks, heard.chunks[1:], strict=False):
        assert after.start_s == pytest.approx(end_s(before), abs=1e-6)


# Failures before any audio


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("401 Unauthorized", StreamReason.AUTH),
        ("403 Forbidden", StreamReason.AUTH),
        ("404 Not Found", StreamReason.NOT_FOUND),
        ("410 Gone", StreamReason.NOT_FOUND),
        ("400 Bad Request", StreamReason.HTTP_ERROR),
        ("429 Too Many Requests", StreamReason.HTTP_ERROR),
        ("500 Internal Server Error", StreamReason.HTTP_ERROR),
        ("503 Service Unavailable", StreamReason.HTTP_ERROR),
    ],
)
async def test_http_errors(station, program, line, reason):
    heard = await listen(station.add("/x", status(line)), program)
    assert heard.reason is reason
    assert line[:3] in str(heard.error) or "4XX" in str(heard.error) or "5XX" in str(heard.error)


async def test_redirects_without_end_and_to_forbidden_places(station, program):
    assert (await listen(station.add("/loop", redirect("/loop")), program)).reason is StreamReason.REDIRECT_LOOP
    station.add("/a", redirect("/b"))
    assert (await listen(station.add("/b", redirect("/a")), program)).reason is StreamReason.REDIRECT_LOOP
    for target in ("file:///etc/hostname", "gopher://127.0.0.1:1/"):
        heard = await listen(station.add("/away", redirect(target)), program)
        assert heard.reason is StreamReason.PROTOCOL_DENIED


async def test_a_redirect_is_followed(station, program, mp3):
    station.add("/live", icecast(mp3, bytes_per_s=6000))
    heard = await listen(station.add("/x", redirect("/live")), program, audio_s=1.0)
    assert heard.reason is None
    assert heard.chunks


async def test_nobody_there(program, free_port):
    assert (await listen(f"http://127.0.0.1:{free_port}/x", program)).reason is StreamReason.REFUSED
    assert (await listen("http://no-such-host.invalid/x", program)).reason is StreamReason.DNS
    assert (await listen("http://255.255.255.255/x", program)).reason is StreamReason.UNREACHABLE
    for scheme in ("rtsp", "rtmp"):
        assert (await listen(f"{scheme}://127.0.0.1:{free_port}/x/y", program)).reason is StreamReason.REFUSED
    heard = await listen(f"srt://127.0.0.1:{free_port}", program, options=SourceOptions(connect_timeout_s=1.0))
    assert heard.reason in {StreamReason.UNREACHABLE, StreamReason.TIMEOUT}


async def test_a_server_that_says_nothing(station, program):
    options = SourceOptions(connect_timeout_s=1.0, stall_timeout_s=1.0)
    url = station.add("/x", behaviours.dumb)
    heard = await listen(url, program, options=options)
    assert heard.reason is StreamReason.TIMEOUT
    assert "(nothing for 1 s)" in str(heard.error)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for scheme in ("rtsp", "rtmp", "https"):
            heard = await listen(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/x/y", program, options=options)
            assert heard.reason is StreamReason.TIMEOUT


async def test_a_server_that_hangs_up(station, program):
    async def hang_up(request: behaviours.Request) -> None:
        request.writer.close()

    assert (await listen(station.add("/x", hang_up), program)).reason is StreamReason.NO_AUDIO


async def test_what_is_not_audio(station, program, make):
    page = content(b"<html><body>We are closed.</body></html>" * 200, "text/html")
    assert (await listen(station.add("/page", page), program)).reason is StreamReason.UNDECODABLE
    empty = content(b"", "audio/mpeg")
    assert (await listen(station.add("/empty", empty), program)).reason in {
        StreamReason.UNDECODABLE,
        StreamReason.NO_AUDIO,
    }
    noise = content(np.random.default_rng(3).bytes(60_000), "audio/mpeg")
    assert (await listen(station.add("/noise", noise), program)).reason in {
        StreamReason.UNDECODABLE,
        StreamReason.NO_AUDIO,
    }
    film = make("silent.mp4", "-f", "lavfi", "-i", "testsrc=d=2:s=64x64", "-an", "-movflags", "+faststart")
    heard = await listen(station.add("/film", behaviours.file(film, "video/mp4")), program)
    assert heard.reason is StreamReason.NO_AUDIO
    links = content(f"#EXTM3U\n#EXTINF:-1,radio\n{station.url('/live')}\n".encode(), "audio/x-mpegurl")
    heard = await listen(station.add("/x.m3u", links), program)
    assert heard.reason is StreamReason.UNDECODABLE
    assert "give the address that stands in it" in str(heard.error)


@pytest.mark.parametrize(
    ("target", "reasons"),
    [
        ("file://{music}", {StreamReason.PROTOCOL_DENIED}),
        # A path is the server's own, and there is none.
        ("{music}", {StreamReason.NOT_FOUND}),
        # Some schemes the playlist's reader drops before anyone could deny them.
        ("gopher://127.0.0.1:1/x.wav", {StreamReason.PROTOCOL_DENIED, StreamReason.UNDECODABLE}),
        ("pipe:0", {StreamReason.PROTOCOL_DENIED, StreamReason.UNDECODABLE, StreamReason.NOT_FOUND}),
    ],
)
async def test_a_playlist_reaches_nothing_but_http(station, program, music, target, reasons):
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:60\n#EXTINF:60,\n{target.format(music=music)}\n#EXT-X-ENDLIST\n"
    url = station.add("/x.m3u8", content(text.encode(), "application/vnd.apple.mpegurl"))
    heard = await listen(url, program)
    assert heard.chunks == []
    assert heard.reason in reasons


async def test_schemes_and_files_that_are_refused_without_ffmpeg(program, tmp_path):
    assert (await listen("gopher://h/x", program)).reason is StreamReason.PROTOCOL_DENIED
    assert (await listen("concat:/etc/hostname", program)).reason is StreamReason.PROTOCOL_DENIED
    assert (await listen(str(tmp_path / "no.mp3"), program)).reason is StreamReason.NOT_FOUND


# Audio, and then no more


async def test_icecast_burst_titles_and_end(station, program, mp3):
    url = station.add("/live", icecast(mp3, bytes_per_s=6000, live_bytes=24_000, title_every=4096))
    heard = await listen(url, program)
    assert station.requests[-1].headers["icy-metadata"] == "1"
    assert heard.reason is StreamReason.ENDED
    check_axis(heard)
    # 64 KiB and 4 s at 48 kb/s; a decoder that took the titles for sound would lose frames.
    assert heard.samples.size / RATE == pytest.approx((65_536 + 24_000) / 6000, abs=1.0)
    assert not any("Header missing" in line for line in heard.error.last_words)


async def test_the_newest_sample_is_now_once_arrival_has_settled(station, program, mp3):
    url = station.add("/live", icecast(mp3, bytes_per_s=6000))
    started_s = time.time()
    heard = await listen(url, program, audio_s=65_536 / 6000 + 3)
    check_axis(heard)
    assert heard.reason is None
    # The burst of 11 s lies before now.
    assert -1 <= heard.chunks[0].start_s - (started_s - 65_536 / 6000) < 5
    assert 0 <= heard.at_s[-1] - end_s(heard.chunks[-1]) < 5


async def test_audio_heard_twice_after_a_reconnect_lies_at_the_same_time(station, program, mp3):
    url = station.add("/live", icecast(mp3, bytes_per_s=6000))
    first = await listen(url, program, audio_s=65_536 / 6000 + 3)
    second = await listen(url, program, audio_s=65_536 / 6000 + 3)
    check_axis(second)
    overlap_s = end_s(first.chunks[-1]) - second.chunks[0].start_s
    assert overlap_s > 4
    # The same sound, found in both runs, is dated alike.
    pattern_start = round((second.chunks[0].start_s + 1.5 - first.chunks[0].start_s) * RATE)
    pattern = first.samples[pattern_start : pattern_start + 2 * RATE]
    scores = np.correlate(second.samples[: 8 * RATE], pattern, mode="valid")
    found_s = second.chunks[0].start_s + int(np.argmax(scores)) / RATE
    assert found_s == pytest.approx(first.chunks[0].start_s + pattern_start / RATE, abs=3.0)


async def test_a_stall_after_audio(station, program, mp3, no_child_left):
    url = station.add("/live", icecast(mp3, bytes_per_s=6000, live_bytes=6000, then_stall=True))
    with no_child_left():
        heard = await listen(url, program, options=SourceOptions(connect_timeout_s=30.0, stall_timeout_s=1.5))
    assert heard.reason is StreamReason.STALLED
    assert "(nothing for 1.5 s)" in str(heard.error)
    assert heard.samples.size > 9 * RATE


async def test_a_connection_that_breaks_after_audio(station, program, mp3):
    async def reset(request: behaviours.Request) -> None:
        await request.answer("200 OK", {"Content-Type": "audio/mpeg"}, mp3)
        await asyncio.sleep(0.5)
        linger = struct.pack("ii", 1, 0)
        request.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.writer.transport.abort()

    heard = await listen(station.add("/x", reset), program, audio_s=4.0)
    assert heard.chunks


async def test_a_file_behind_a_url_plays_in_real_time(station, program, music, no_child_left):
    with no_child_left():
        heard = await listen(station.add("/x.wav", behaviours.file(music, "audio/wav")), program, seconds=4.0)
    check_axis(heard)
    assert heard.reason is None
    assert heard.samples.size / RATE < 50


async def test_a_file_as_if_live_ends(program, make, music):
    path = make("short.flac", "-i", str(music), "-t", "5")
    heard = await listen(str(path), program, options=SourceOptions(realtime=True))
    check_axis(heard)
    assert heard.reason is StreamReason.ENDED
    expected = np.concatenate([b async for b in decode_file(path, sample_rate_hz=RATE, ffmpeg=program)])
    assert heard.samples.size == pytest.approx(expected.size, abs=100)
    count = min(heard.samples.size, expected.size)
    assert np.abs(heard.samples[:count] - expected[:count])[200:-200].max() < 1e-3
    # As fast as it plays, and no faster.
    assert heard.at_s[-1] - heard.at_s[0] > 1.0


async def test_headers_user_agent_and_no_secret_anywhere(station, program, mp3):
    station.add("/live", icecast(mp3, bytes_per_s=6000))
    url = station.url("/live?token=opensesame", credentials="user:hunter22@")
    options = SourceOptions(headers={"X-Key": "k3y-of-the-house"}, user_agent="monitor-test", connect_timeout_s=30.0)
    heard = await listen(url, program, audio_s=1.0, options=options)
    assert heard.chunks
    headers = station.requests[-1].headers
    assert headers["x-key"] == "k3y-of-the-house"
    assert headers["user-agent"] == "monitor-test"
    station.add("/live", status("500 hunter22 k3y-of-the-house opensesame"))
    heard = await listen(url, program, options=options)
    said = "\n".join([str(heard.error), *heard.error.last_words])
    assert heard.reason is StreamReason.HTTP_ERROR
    for secret in ("hunter22", "opensesame", "k3y-of-the-house", "user:"):
        assert secret not in said


# TLS


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, StreamReason.TLS),
        ({"tls_verify": False}, None),
        ({"ca_file": "its own"}, None),
    ],
)
async def test_tls(program, identity, mp3, options, reason):
    chosen = {**options, **({"ca_file": str(identity.certificate)} if "ca_file" in options else {})}
    async with on_air(tls=identity.context) as station:
        url = station.add("/live", icecast(mp3, bytes_per_s=6000))
        heard = await listen(url, program, audio_s=1.0, options=SourceOptions(connect_timeout_s=30.0, **chosen))
    assert heard.reason is reason
    assert bool(heard.chunks) == (reason is None)


async def test_a_certificate_of_another_name(program, identity, mp3):
    async with on_air(tls=identity.context) as station:
        station.add("/live", icecast(mp3, bytes_per_s=6000))
        url = f"https://localhost:{station.port}/live"
        options = SourceOptions(connect_timeout_s=30.0, ca_file=str(identity.certificate))
        assert (await listen(url, program, options=options)).reason is StreamReason.TLS


async def test_a_server_that_does_not_speak_tls(program):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await listen(f"https://127.0.0.1:{port}/x", program)).reason is StreamReason.TLS
