"""What stations answer, mutated: through the relay alone, and through relay and ffmpeg as a stream is heard."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np

from benchmarks import transmitter
from benchmarks.fuzz.targets import Target, check_sentence
from monitor.audio.ffmpeg import find_ffmpeg
from monitor.audio.protocol import SourceOptions
from monitor.audio.relay import relaying
from monitor.audio.source import FfmpegSource
from monitor.demo import station
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.errors import SourceError

_CASE_S = 90.0
_LISTEN_S = 4.0
_REQUEST_BYTES = 1 << 16
_ICY_BYTES = 2000


def relay_target() -> Target:
    """The relay passes on whatever a server answers."""
    return Target(name="relay", seeds=_answers(), read=lambda data, _: asyncio.run(_relayed(data)))


def stream_target() -> Target:
    """A stream ends, or goes on, with a reason: ICY titles, playlists and audio go all the way through ffmpeg."""
    return Target(name="stream", seeds=_answers(_audio()), read=lambda data, _: asyncio.run(_heard(data)))


def _audio() -> bytes:
    """A few seconds of MP3."""
    tone = np.sin(np.arange(3 * SAMPLE_RATE_HZ) * 0.1).astype(np.float32) * 0.5
    return transmitter.encode(tone, station.mp3(64), find_ffmpeg()).data


def _answers(audio: bytes = b"\xff\xfb\x50\xc4" * 500) -> tuple[bytes, ...]:
    title = b"StreamTitle='Somebody - One';StreamUrl='http://radio.example/';"
    title += b"\0" * (-len(title) % 16)
    titled = b"".join(
        audio[at : at + _ICY_BYTES] + bytes([len(title) // 16]) + title for at in range(0, len(audio), _ICY_BYTES)
    )
    ok = b"HTTP/1.1 200 OK\r\nContent-Type: "
    hls = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4.0,\nsegment-7.ts\n"
    pls = b"[playlist]\nNumberOfEntries=1\nFile1=http://127.0.0.1:9/live\nTitle1=Radio\nLength1=-1\nVersion=2\n"
    xspf = (
        b'<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track>'
        b"<location>http://127.0.0.1:9/live</location></track></trackList></playlist>"
    )
    mpd = b'<?xml version="1.0"?><MPD type="dynamic"><BaseURL>https://127.0.0.1:9/</BaseURL><Period></Period></MPD>'
    return (
        b"ICY 200 OK\r\nicy-name: Radio\r\nicy-metaint: 2000\r\nContent-Type: audio/mpeg\r\n\r\n" + titled,
        ok + b"audio/mpeg\r\nicy-br: 64\r\nConnection: close\r\n\r\n" + audio,
        ok + b"application/vnd.apple.mpegurl\r\n\r\n" + hls + b"#EXT-X-ENDLIST\nhttps://127.0.0.1:9/x.ts\n",
        ok + b"application/x-mpegurl\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n#EXTM3U\r\n1;a=b\r\n\n\r\n0\r\n\r\n",
        ok + b"audio/x-mpegurl\r\nContent-Length: 33\r\n\r\n#EXTM3U\nhttp://127.0.0.1:9/live\n\n",
        ok + b"audio/x-scpls\r\n\r\n" + pls,
        ok + b"application/xspf+xml\r\n\r\n" + xspf,
        ok + b"application/dash+xml\r\n\r\n" + mpd,
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="a", nonce="b", qop="auth", algorithm=MD5\r\n\r\n',
        b'HTTP/1.0 401 No\r\nWWW-Authenticate: Basic realm="a"\r\nWWW-Authenticate: Digest realm=a, nonce=\r\n\r\n',
        b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n",
    )


async def _relayed(data: bytes) -> None:
    async with _serving(data) as port:
        url = f"http://somebody:secret@127.0.0.1:{port}/live.m3u8"
        async with relaying(url, SourceOptions(connect_timeout_s=5.0)) as relay:
            proxy = relay.environment["http_proxy"].rpartition(":")[2]
            reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy))
            try:
                head = f"GET {relay.address} HTTP/1.1\r\nProxy-Authorization: {relay._expected}\r\n\r\n"
                writer.write(head.encode())
                while await reader.read(_REQUEST_BYTES):
                    pass
            except ConnectionError:
                pass
            finally:
                writer.close()
            if relay.failure is not None:
                check_sentence(f"{relay.address}: {relay.failure}")


async def _heard(data: bytes) -> None:
    async with _serving(data) as port:
        source = FfmpegSource(
            url=f"http://somebody:secret@127.0.0.1:{port}/live",
            sample_rate_hz=8000,
            ffmpeg=find_ffmpeg(),
            options=SourceOptions(connect_timeout_s=_LISTEN_S, stall_timeout_s=_LISTEN_S),
        )
        try:
            async with asyncio.timeout(_LISTEN_S), contextlib.aclosing(source.listen()) as chunks:
                async for chunk in chunks:
                    if not np.isfinite(chunk.samples).all():
                        raise AssertionError("samples that are no numbers")
        except TimeoutError:
            pass  # it plays, or waits
        except SourceError as error:
            check_sentence(str(error))
            if "secret" in str(error) + "".join(error.last_words):
                raise AssertionError("a password is shown") from error


@contextlib.asynccontextmanager
async def _serving(data: bytes) -> AsyncIterator[int]:
    """A server that answers everything with the data. Raises what any task, also one that nobody awaits, died of."""
    died: list[BaseException] = []

    def noted(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        died.append(context.get("exception") or RuntimeError(str(context.get("message"))))

    asyncio.get_running_loop().set_exception_handler(noted)
    server = await asyncio.start_server(_answer(data), "127.0.0.1", 0)
    try:
        async with asyncio.timeout(_CASE_S):
            yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)
        gc.collect()  # tasks that nobody asked say only then what they died of
    if died:
        raise died[0]


def _answer(data: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return answer
