"""Asks over connections that are kept, for a tenth of the processor time that a whole HTTP client takes.

The machine is shared with the daemon that is asked: what the asking costs, its answers would wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Client:
    """As many connections to one address as there are requests at the same time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of the answer. Raises OSError when there is none."""
        reader, writer = await self._connection()
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            body = await reader.readexactly(_length(head[1:]))
        except BaseException as error:
            writer.close()
            if isinstance(error, EOFError):
                raise ConnectionError("the connection was closed before the answer") from error
            raise
        self._idle.append((reader, writer))
        return int(head[0].split(b" ")[1]), body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # servers close what is idle for long
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        """No connection is kept."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


def _length(headers: Iterable[bytes]) -> int:
    for header in headers:
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("the answer does not say its length")
