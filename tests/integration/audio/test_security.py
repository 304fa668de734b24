"""What a source may not do: reach forbidden addresses, read files, show secrets, trust strangers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import imageio_ffmpeg
import pytest

from benchmarks.faults.behaviours import digest, playlist
from benchmarks.faults.station import Station, content, file, icecast, on_air, redirect, until
from monitor.audio.egress import Egress
from monitor.audio.ffmpeg import find_ffmpeg
from monitor.audio.relay import relaying
from monitor.audio.source import SourceOptions, open_source
from monitor.errors import StreamReason
from tests.integration.audio.conftest import children
from tests.integration.audio.rtsp import rtsp_server
from tests.integration.audio.test_source import RATE, listen

#: 127.0.0.1 stands for the public internet, 127.0.0.2 for what must not be reached.
STRICT = SourceOptions(
    connect_timeout_s=30.0, stall_timeout_s=4.0, egress=Egress(networks=(ip_network("127.0.0.1/32"),))
)


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    async with on_air() as station:
        yield station


@pytest.fixture
async def inside() -> AsyncIterator[Station]:
    """A service that a stranger's stream must not ask anything."""
    async with on_air(host="127.0.0.2") as station:
        yield station


@pytest.fixture(scope="session")
def mp3(make, music) -> bytes:
    return make("live.mp3", "-i", str(music), "-c:a", "libmp3lame", "-b:a", "48k", "-ac", "1").read_bytes()


@pytest.fixture(scope="session")
def segment(make, music) -> Path:
    return make("segment.aac", "-i", str(music), "-t", "10", "-c:a", "aac", "-b:a", "64k")


def command_lines() -> list[bytes]:
    """Those of this process's children, as every user of the machine can read them."""
    return [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in children()]


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp", "rtsps", "rtmp", "srt", "udp"])
async def test_private_addresses_are_denied_to_what_comes_from_others(program, inside, scheme):
    for host in ("127.0.0.2", "localhost", "[::ffff:127.0.0.2]"):
        url = f"{scheme}://{host}:{inside.port}/x"
        heard = await listen(url, program, options=SourceOptions(egress=Egress()))
        assert heard.reason is StreamReason.ADDRESS_DENIED
        assert "may not reach" in str(heard.error)
    assert inside.requests == []


async def test_files_are_denied_to_what_comes_from_others(program, music):
    heard = await listen(str(music), program, options=STRICT)
    assert heard.reason is StreamReason.PROTOCOL_DENIED


@pytest.mark.parametrize("way", ["redirect", "segment", "key", "variant", "manifest"])
async def test_nothing_leads_to_a_forbidden_address(program, station, inside, mp3, segment, way):
    secret = inside.add("/secret.aac", content(mp3, "audio/mpeg"))
    station.add("/seg.aac", file(segment, "audio/aac"))
    dash = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"'
        ' profiles="urn:mpeg:dash:profile:isoff-live:2011">'
        f'<BaseURL>{inside.url("/")}</BaseURL><Period duration="PT10S">'
        '<AdaptationSet contentType="audio" mimeType="audio/mp4">'
        '<Representation id="1" codecs="mp4a.40.2" bandwidth="1000" audioSamplingRate="44100">'
        '<SegmentTemplate duration="2" startNumber="1" initialization="secret.m4s" media="s$Number$.m4s"/>'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    master = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000\n{secret}\n"
    url = {
        "redirect": lambda: station.add("/r", redirect(secret)),
        "segment": lambda: station.add("/s.m3u8", playlist(secret, secret)),
        "key": lambda: station.add("/k.m3u8", playlist("seg.aac", key=secret)),
        "variant": lambda: station.add("/v.m3u8", content(master.encode(), "application/x-mpegurl")),
        "manifest": lambda: station.add("/x.mpd", content(dash.encode(), "application/dash+xml")),
    }[way]()
    # ffmpeg asks for a segment or key that it does not get until its time is over.
    heard = await listen(url, program, seconds=60, options=dataclasses.replace(STRICT, connect_timeout_s=8.0))
    assert heard.reason is StreamReason.ADDRESS_DENIED
    assert station.requests
    assert inside.requests == []


async def test_what_is_allowed_is_heard_through_the_same_checks(program, station, segment, mp3):
    station.add("/seg.aac", file(segment, "audio/aac"))
    heard = await listen(station.add("/s.m3u8", playlist("seg.aac")), program, audio_s=2.0, options=STRICT)
    assert heard.chunks
    heard = await listen(station.add("/live", icecast(mp3, bytes_per_s=6000)), program, audio_s=2.0, options=STRICT)
    assert heard.chunks


async def test_rtsp_goes_through_a_tunnel_and_no_further(program, make, music):
    mulaw = make("x.mulaw", "-i", str(music), "-ac", "1", "-ar", "8000", "-f", "mulaw").read_bytes()
    async with rtsp_server(mulaw) as port:
        heard = await listen(f"rtsp://127.0.0.1:{port}/x", program, audio_s=1.0, options=STRICT)
        assert heard.chunks

        async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(f"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.1:{port}/x\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
        async with server:
            away = server.sockets[0].getsockname()[1]
            heard = await listen(f"rtsp://127.0.0.1:{away}/x", program, options=STRICT)
        assert heard.reason is StreamReason.ADDRESS_DENIED


async def test_no_secret_stands_in_the_command_line(program, station, mp3):
    station.add("/live", icecast(mp3, bytes_per_s=6000))
    url = station.url("/live?token=opensesame", credentials="user:hunter22@")
    options = SourceOptions(headers={"X-Key": "k3y-of-the-house"}, connect_timeout_s=20.0)
    source = open_source(url, sample_rate_hz=RATE, ffmpeg=program, options=options)
    task = asyncio.create_task(anext(source.listen()))
    try:
        await until(lambda: any(request.path == "/live?token=opensesame" for request in station.requests))
        lines = command_lines()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert any(b"/live" in line for line in lines)
    for secret in (b"opensesame", b"hunter22", b"k3y-of-the-house", b"http_proxy"):
        assert not any(secret in line for line in lines)
    assert station.requests[-1].headers["x-key"] == "k3y-of-the-house"


async def test_credentials_are_given_when_asked_for_and_to_their_own_host_alone(program, station, inside, mp3):
    live = icecast(mp3, bytes_per_s=6000)
    inside.add("/live", live)
    station.add("/x", digest(redirect(inside.url("/live")), user="user", password="hunter22"))
    url = station.url("/x", credentials="user:hunter22@")
    options = SourceOptions(headers={"X-Api-Key": "k3y", "Accept-Language": "de"}, connect_timeout_s=20.0)
    heard = await listen(url, program, audio_s=1.0, options=options)
    assert heard.chunks
    assert station.requests[-1].headers["authorization"].startswith("Digest ")
    assert station.requests[-1].headers["x-api-key"] == "k3y"
    assert not {"authorization", "x-api-key"} & set(inside.requests[-1].headers)
    assert inside.requests[-1].headers["accept-language"] == "de"
    wrong = station.url("/x", credentials="user:hunter23@")
    assert (await listen(wrong, program, options=options)).reason is StreamReason.AUTH


@pytest.mark.parametrize("trusted", [True, False])
async def test_segments_and_redirects_are_verified_as_the_address_itself(program, identity, segment, trusted):
    async with on_air() as plain, on_air(tls=identity.context) as station:
        station.add("/seg.aac", file(segment, "audio/aac"))
        url = plain.add("/live.m3u8", playlist(station.url("/seg.aac")))
        ca_file = str(identity.certificate) if trusted else None
        limit_s = 30.0 if trusted else 8.0
        options = SourceOptions(connect_timeout_s=limit_s, stall_timeout_s=4.0, ca_file=ca_file)
        for address in (url, plain.add("/away", redirect(station.add("/live.m3u8", playlist("/seg.aac"))))):
            heard = await listen(address, program, audio_s=2.0, seconds=60, options=options)
            assert bool(heard.chunks) == trusted
            assert heard.reason is (None if trusted else StreamReason.TLS)


async def test_the_relay_serves_its_ffmpeg_alone(station, mp3):
    url = station.add("/live", icecast(mp3, bytes_per_s=6000))
    async with relaying(url, SourceOptions()) as relay:
        port = urlsplit(relay.environment["http_proxy"]).port
        for head in (f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode())
            answer = await reader.read(1000)
            assert not answer or answer.startswith(b"HTTP/1.1 407 ")
            writer.close()
    assert station.requests == []
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_playlist_without_end_is_refused(station):
    async def endless(request) -> None:
        await request.answer("200 OK", {"Content-Type": "application/vnd.apple.mpegurl", "Connection": "close"})
        while True:
            request.writer.write(b"#EXTM3U\n" + b"#" * (1 << 16) + b"\n")
            await request.writer.drain()

    heard = await listen(
        station.add("/x.m3u8", endless), find_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe()), options=SourceOptions()
    )
    assert heard.reason is StreamReason.UNDECODABLE
    assert "over 8 MiB" in str(heard.error)
