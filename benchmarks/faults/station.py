"""A radio station on loopback, well-behaved or not: real HTTP answers on real sockets, one behaviour per path."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(kw_only=True)
class Request:
    """What the client asked, and where to answer."""

    #: With the query.
    path: str
    method: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self, status: str, headers: dict[str, str], body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.writer.write("\r\n".join(lines).encode() + body)
        await self.writer.drain()

    async def silence(self) -> None:
        """Says nothing until the client hangs up."""
        while await self.reader.read(1024):
            pass


Behaviour = Callable[[Request], Awaitable[None]]


@dataclass(kw_only=True)
class Station:
    """Add a behaviour under a path, then listen to `url(path)`."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = 0
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    #: Directories whose files are served under a path that ends with a slash.
    directories: dict[str, Path] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    _tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, listener: socket.socket | None = None) -> None:
        """Listen: with that socket, else on `port`, any one if it is 0."""
        if listener is None:
            self._server = await asyncio.start_server(self._connected, self.host, self.port, ssl=self._tls)
        else:
            self._server = await asyncio.start_server(self._connected, sock=listener, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    @contextlib.asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Nobody listens on the port as long as the block lasts."""
        assert self._server is not None
        self._server.close()
        try:
            yield
        finally:
            await self.open()

    async def close(self) -> None:
        """Nobody listens any more, and nobody is served."""
        assert self._server is not None
        self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def url(self, path: str, *, credentials: str = "") -> str:
        return f"{self.scheme}://{credentials}{self.host}:{self.port}{path}"

    def add(self, path: str, behaviour: Behaviour) -> str:
        self.behaviours[path] = behaviour
        return self.url(path)

    def behaviour(self, path: str) -> Behaviour:
        """That of the path itself, else the files of a directory that was added with a slash at the end."""
        if path in self.behaviours:
            return self.behaviours[path]
        for directory, root in self.directories.items():
            if path.startswith(directory):
                return file(root / path.removeprefix(directory))
        return status("404 Not Found")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name
                }
                path = head[0].split(" ")[1]
                request = Request(
                    path=path, method=head[0].split(" ")[0], headers=headers, reader=reader, writer=writer
                )
                self.requests.append(request)
                await self.behaviour(path.partition("?")[0])(request)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def on_air(
    *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", listener: socket.socket | None = None
) -> AsyncIterator[Station]:
    """`listener` is a bound socket, of another network namespace say; without it any port of `host`."""
    station = Station(scheme="https" if tls else "http", host=host, _tls=tls)
    await station.open(listener)
    try:
        yield station
    finally:
        await station.close()


async def until(happened: Callable[[], bool], *, limit_s: float = 120.0) -> None:
    """Returns once it has happened; TimeoutError if it never does."""
    async with asyncio.timeout(limit_s):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def status(line: str, *, headers: dict[str, str] | None = None) -> Behaviour:
    async def behave(request: Request) -> None:
        await request.answer(line, {"Content-Length": "0", "Connection": "close", **(headers or {})})

    return behave


def redirect(target: str) -> Behaviour:
    return status("302 Found", headers={"Location": target})


def greeting(kind: str, line: Behaviour, *, head: bytes = b"") -> Behaviour:
    """The answer with which a stream begins, then `line`."""

    async def behave(request: Request) -> None:
        await request.answer("200 OK", {"Content-Type": kind, "Cache-Control": "no-cache", "Connection": "close"}, head)
        await line(request)

    return behave


async def dumb(request: Request) -> None:
    """Takes the connection and the request, and answers nothing."""
    await request.silence()


def content(body: bytes, kind: str) -> Behaviour:
    async def behave(request: Request) -> None:
        await request.answer(
            "200 OK", {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}, body
        )

    return behave


def file(path: Path, kind: str = "application/octet-stream") -> Behaviour:
    """The file as it is when it is asked for; 404 while it is not there."""

    def read() -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    async def behave(request: Request) -> None:
        body = read()
        await (status("404 Not Found") if body is None else content(body, kind))(request)

    return behave


def icecast(
    audio: bytes,
    *,
    bytes_per_s: int,
    kind: str = "audio/mpeg",
    burst_bytes: int = 65536,
    live_bytes: int | None = None,
    then_stall: bool = False,
    title_every: int = 16000,
) -> Behaviour:
    """Icecast's way: a burst of past audio at once, then live audio in real time, with ICY titles if asked for.

    Where the live edge is depends on the clock alone, as with a station that plays on whether one listens or not:
    `audio` starts when the behaviour is made, and loops. After `live_bytes` the connection closes, or stalls.
    """
    started = time.monotonic()

    async def behave(request: Request) -> None:
        titled = request.headers.get("icy-metadata") == "1"
        headers = {"Content-Type": kind, "icy-name": "test", "Cache-Control": "no-cache", "Connection": "close"}
        if titled:
            headers["icy-metaint"] = str(title_every)
        await request.answer("200 OK", headers)
        sent = 0
        since_title = 0

        async def send(data: bytes) -> None:
            nonlocal since_title
            while titled and since_title + len(data) >= title_every:
                head, data = data[: title_every - since_title], data[title_every - since_title :]
                title = b"StreamTitle='A - B';"
                title += b"\0" * (-len(title) % 16)
                request.writer.write(head + bytes([len(title) // 16]) + title)
                since_title = 0
            since_title += len(data)
            request.writer.write(data)
            await request.writer.drain()

        def part(start: int, end: int) -> bytes:
            count = end - start
            start %= len(audio)
            looped = audio[start:]
            while len(looped) < count:
                looped += audio
            return looped[:count]

        edge = burst_bytes + int((time.monotonic() - started) * bytes_per_s)
        position = edge - burst_bytes
        await send(part(position, edge))
        position = edge
        while live_bytes is None or sent < live_bytes:
            await asyncio.sleep(0.1)
            edge = burst_bytes + int((time.monotonic() - started) * bytes_per_s)
            await send(part(position, edge))
            sent += edge - position
            position = edge
        if then_stall:
            await request.silence()

    return behave
