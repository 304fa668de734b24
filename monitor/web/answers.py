"""Answers that are given again to whoever asks the same within a moment, as long as nothing was changed since.

A hundred pages and scripts that ask for one list cost little more than one of them. Nobody is given an answer that is
older than `FRESH_S`, or than the last change that this process knows of, or that somebody else was allowed to have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What another process wrote is seen so late.
FRESH_S = 0.5
_PREFIX = "/api/v1/"
#: Answers that are kept, and how long one may be.
_MOST = 256
_MOST_BYTES = 256 << 10
#: Headers that an answer depends on: what is asked for, and who may have it.
_OF_THE_KEY = frozenset((b"accept", b"authorization", b"host", b"origin"))

_Key = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as it was sent."""

    start: Message
    body: Message


class Answers:
    """What was answered lately, and what is being answered."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: dict[_Key, tuple[float, asyncio.Future[Answer | None]]] = {}

    def forget(self) -> None:
        """Something was changed: who asks from now on is given a new answer."""
        self._kept.clear()

    def find(self, key: _Key) -> asyncio.Future[Answer | None] | None:
        """The answer that may be given again, perhaps still on its way: then None if it turns out to be of no use."""
        since_s, answer = self._kept.get(key, (0.0, None))
        if answer is None or self._now() - since_s > FRESH_S:
            return None
        return answer

    def begin(self, key: _Key) -> asyncio.Future[Answer | None]:
        """Who asks the same waits for this one."""
        if len(self._kept) >= _MOST:
            self._kept.clear()
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._kept[key] = self._now(), answer
        return answer

    def drop(self, key: _Key, answer: asyncio.Future[Answer | None]) -> None:
        """This one is not to be given again."""
        if self._kept.get(key, (0.0, None))[1] is answer:
            del self._kept[key]
        if not answer.done():
            answer.set_result(None)


class Sharing:
    """ASGI middleware: whole JSON answers with status 200 to GET below `/api/v1/` are shared; all others are not.

    A request with `Cache-Control: no-cache` is answered anew. Any other method than GET may change something.
    """

    def __init__(self, app: ASGIApp, *, answers: Answers) -> None:
        self._app, self._answers = app, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            try:
                await self._app(scope, receive, self._forgetting(send))
            finally:
                self._answers.forget()
        elif (key := _key(scope)) is None:
            await self._app(scope, receive, send)
        elif (known := self._answers.find(key)) is None:
            await self._anew(key, scope, receive, send)
        elif (answer := await asyncio.shield(known)) is None:
            await self._app(scope, receive, send)
        else:
            await send({**answer.start, "headers": list(answer.start["headers"])})
            await send(dict(answer.body))

    async def _anew(self, key: _Key, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answers.begin(key)
        start: Message | None = None

        async def keep(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_shared(message):
                start = {**message, "headers": list(message["headers"])}
            elif message["type"] == "http.response.body" and start is not None and not message.get("more_body"):
                if not answer.done():
                    answer.set_result(Answer(start=start, body=dict(message)))
            else:
                # Whoever waits asks for itself, before this one is sent: it may go on for ever.
                self._answers.drop(key, answer)
            await send(message)

        try:
            await self._app(scope, receive, keep)
        finally:
            if not answer.done():
                self._answers.drop(key, answer)

    def _forgetting(self, send: Send) -> Send:
        async def forget_first(message: Message) -> None:
            # Who was told of a change asks at once what became of it.
            self._answers.forget()
            await send(message)

        return forget_first


def _key(scope: Scope) -> _Key | None:
    """What tells requests apart; None for one that wants an answer of its own."""
    told = []
    for name, value in scope["headers"]:
        if name in {b"cache-control", b"pragma"} and b"no-" in value:
            return None
        if name in _OF_THE_KEY:
            told.append((name, value))
    client = scope.get("client")
    return scope["method"], scope["path"], scope["query_string"], client[0] if client else None, *sorted(told)


def _is_shared(start: Message) -> bool:
    headers = dict(start["headers"])
    size = headers.get(b"content-length")
    return (
        start["status"] == 200
        and headers.get(b"content-type") == b"application/json"
        and b"cache-control" not in headers
        and size is not None
        and int(size) <= _MOST_BYTES
    )
