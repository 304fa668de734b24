"""A webhook's receiving end on loopback: a real HTTP/1.1 server that answers as it is told and keeps what came."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    def is_signed_with(self, key: bytes) -> bool:
        """The check that a receiver makes."""
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return any(
            hmac.compare_digest(f"v1,{expected}", signature)
            for signature in self.headers["webhook-signature"].split(" ")
        )


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(kw_only=True)
class Receiver:
    url: str
    #: What each path answers; the last answer is repeated, and 204 without any.
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    received: list[Request] = field(default_factory=list)
    connections: int = 0
    #: Connections that the other side closed before the answer ended.
    abandoned: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def hang_up(self) -> None:
        """No connection is kept alive."""
        for writer in self._open:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
                path = head[0].split(" ")[1]
                self.received.append(Request(path=path, headers=headers, body=body))
                answers = self.answers.get(path, [])
                answer = answers[0] if len(answers) == 1 else answers.pop(0) if answers else status(204)
                try:
                    await answer(writer)
                    await writer.drain()
                except ConnectionError:
                    self.abandoned += 1
                    return

    def at(self, path: str) -> list[Request]:
        """What came to the path."""
        return [request for request in self.received if request.path == path]


@contextlib.asynccontextmanager
async def receiving(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await receiver.serve(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            receiver._open.discard(writer)
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    receiver = Receiver(url=f"{'https' if tls else 'http'}://127.0.0.1:{port}")
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """A complete answer; `retry_after="5"` becomes the header `retry-after: 5`."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} Said", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        if code != 204:
            lines.append(f"content-length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Take the request and never answer."""
    await asyncio.Event().wait()


async def trickle(writer: asyncio.StreamWriter) -> None:
    """An answer that never ends, a letter at a time."""
    writer.write(b"HTTP/1.1 500 Said\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


def flood(code: int) -> Answer:
    """An answer without end, as fast as it is taken."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {code} Said\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    return answer


async def interim(writer: asyncio.StreamWriter) -> None:
    """Promises of an answer, without end."""
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless_head(writer: asyncio.StreamWriter) -> None:
    """Headers without end."""
    writer.write(b"HTTP/1.1 200 Said\r\n")
    while True:
        writer.write(b"x-more: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def garbage(writer: asyncio.StreamWriter) -> None:
    """Something that is not HTTP."""
    writer.write(b"220 mail.example ESMTP\r\n\r\n")


async def hang_up(_writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""
    raise ConnectionResetError
