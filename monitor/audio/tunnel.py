"""One TCP connection to a host that was checked, for protocols that know no proxy: RTSP and RTMP, also with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from monitor.audio.egress import Egress, connect
from monitor.errors import SourceError, StreamReason

_CARRY_BYTES = 1 << 16


class Tunnel:
    """What ffmpeg sends to `port` on loopback reaches the host, and nothing else does: it takes one connection."""

    def __init__(self, host: str, port: int, *, egress: Egress, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        self._host, self._host_port = host, port
        self._egress, self._timeout_s, self._tls = egress, timeout_s, tls
        self._task: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self.port = 0
        #: Why no connection to the host came about, or was cut.
        self.failure: SourceError | None = None

    async def open(self) -> None:
        """Listen on a loopback port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """No socket and no task is left."""
        if self._server is not None:
            self._server.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._task is not None or self._server is None:
            writer.close()
            return
        self._server.close()
        self._task = asyncio.create_task(self._join(reader, writer), name=f"tunnel to {self._host}")

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                above, beyond = await connect(
                    self._host, self._host_port, self._egress, timeout_s=self._timeout_s, tls=self._tls
                )
            except SourceError as error:
                self.failure = error
                return
            with contextlib.closing(beyond), contextlib.suppress(OSError):
                up = asyncio.create_task(_carry(reader, beyond))
                try:
                    await self._down(above, writer)
                finally:
                    up.cancel()
                    await asyncio.gather(up, return_exceptions=True)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CARRY_BYTES):
            # An RTSP redirect would take ffmpeg to a host that nobody has checked.
            if data.startswith((b"RTSP/1.0 3", b"RTSP/2.0 3")):
                self.failure = SourceError(StreamReason.ADDRESS_DENIED, f"{self._host} redirects elsewhere")
                return
            writer.write(data)
            await writer.drain()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CARRY_BYTES):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def tunnelling(
    host: str, port: int, *, egress: Egress, timeout_s: float, tls: ssl.SSLContext | None
) -> AsyncIterator[Tunnel]:
    """A tunnel; on leaving it is closed."""
    tunnel = Tunnel(host, port, egress=egress, timeout_s=timeout_s, tls=tls)
    await tunnel.open()
    try:
        yield tunnel
    finally:
        await tunnel.close()
