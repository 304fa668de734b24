"""A small RTSP server (RFC 2326): one G.711 track, sent in real time over the RTSP connection itself."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator

SDP = "\r\n".join(
    (
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=test",
        "t=0 0",
        "m=audio 0 RTP/AVP 0",
        "a=rtpmap:0 PCMU/8000",
        "a=control:t",
        "",
    )
)
PACKET = 160


@contextlib.asynccontextmanager
async def rtsp_server(mulaw: bytes, *, user: str | None = None) -> AsyncIterator[int]:
    """The port. With `user`, requests without any credentials are answered 401."""
    handlers: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(reader, writer, mulaw, user))
        handlers.add(task)
        task.add_done_callback(handlers.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await server.wait_closed()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mulaw: bytes, user: str | None) -> None:
    try:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                method = head[0].split(" ")[0]
                status, extra, body = "200 OK", "Session: 1\r\n", ""
                if user is not None and "authorization" not in headers:
                    status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n'
                elif method == "OPTIONS":
                    extra = "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    extra, body = "Content-Type: application/sdp\r\n", SDP
                elif method == "SETUP":
                    extra += f"Transport: {headers['transport']}\r\n"
                answer = (
                    f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"
                )
                writer.write(answer.encode())
                await writer.drain()
                if method == "PLAY":
                    await _play(writer, mulaw)
    finally:
        writer.close()


async def _play(writer: asyncio.StreamWriter, mulaw: bytes) -> None:
    started = time.monotonic()
    for number in range(len(mulaw) // PACKET):
        await asyncio.sleep(max(0.0, started + number * PACKET / 8000 - time.monotonic()))
        rtp = struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, number * PACKET, 1)
        packet = rtp + mulaw[number * PACKET : (number + 1) * PACKET]
        writer.write(b"$\0" + struct.pack(">H", len(packet)) + packet)
        await writer.drain()
