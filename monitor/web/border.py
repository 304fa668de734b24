"""What holds for every request and every answer, below the application: names it may be asked by, headers it gives."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.daemon.courtesy import Courtesy
from monitor.web.authority import names_this_machine
from monitor.web.problem import problem

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "media-src 'self' blob:",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Content-Security-Policy": _POLICY,
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]

#: What is still read of a request that was answered before it was whole.
_DRAIN_S = 3.0
_DRAIN_BYTES = 32 << 20


class Border:
    """ASGI middleware. With `hosts` given, requests by any other name that is not of this machine are refused.

    So no page of another site, whose own name was made to point here (DNS rebinding), reads anything.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, courtesy: Courtesy) -> None:
        self._app, self._courtesy = app, courtesy
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        body = _Body(receive, headers)
        host = headers.get("host", "")
        app = self._app
        if self._hosts is not None and not names_this_machine(host) and _name(host) not in self._hosts:
            said = "this daemon listens to this machine alone; ask by the name localhost, or list yours in http.hosts"
            app = problem(421, said)
        question = self._courtesy.asked()

        async def answer(message: Message) -> None:
            # What is told piece by piece from here on may go on for ever.
            self._courtesy.answered(question)
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in _RAW_HEADERS if name not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            elif body.is_coming and not message.get("more_body", False):
                # A connection that is closed while its client still sends is reset, and the answer with it.
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        try:
            await app(scope, body.receive, answer)
        finally:
            self._courtesy.answered(question)


class _Body:
    """What a client sends, and whether more of it is to come."""

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        sends = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        # A client that asks first sends nothing once it is refused.
        self.is_coming = sends and "expect" not in headers

    async def receive(self) -> Message:
        """The next piece."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.is_coming = False
        return message

    async def drain(self) -> None:
        """Read on for a moment, and forget what is read."""
        size_bytes = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self.is_coming and size_bytes < _DRAIN_BYTES:
                    size_bytes += len((await self.receive()).get("body", b""))


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
