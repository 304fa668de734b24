"""What happens, as server-sent events: matches by their number in the log, streams, jobs and levels as they are now."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from monitor.errors import UnreachableError
from monitor.record.listings import Listings
from monitor.web.daemon import Daemon
from monitor.web.matches import match_fields
from monitor.web.problem import ProblemError, documented
from monitor.web.streams import summary

#: Clients at the same time.
_CLIENTS = 64
#: Messages that wait for one client: one that is further behind is cut off, and resumes by its Last-Event-ID.
_BEHIND = 512
#: A client whose connection takes nothing for so long is cut off too.
_STUCK_S = 20.0
_TURN_S = 0.5
_LEVELS_EVERY_S = 1.0
_PING_EVERY_S = 15.0
#: Transactions that overlap take numbers in one order and end in another: so far back is looked again.
_LOOK_BACK = 64
_PAGE = 500
#: Whoever missed more reads the listings anew.
_MOST_MISSED = 5000
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "event": {"type": "string", "enum": ["match", "stream", "removed", "job", "level", "reset"]},
        "id": {"type": "string", "description": "Of a match: its number, for Last-Event-ID."},
        "data": {"type": "string", "description": "JSON."},
    },
}
#: What of a stream is told when it changes.
_TOLD = ("state", "reason", "detail", "since_s", "up", "paused", "source", "addresses", "catalogs")


class Client:
    """Whoever listens: messages for it, and when it was cut off."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[bytes] = asyncio.Queue(_BEHIND)
        self.ended = asyncio.Event()

    def put(self, message: bytes) -> None:
        """The message will be sent, unless the client is too far behind, which ends it."""
        try:
            self._messages.put_nowait(message)
        except asyncio.QueueFull:
            self.ended.set()

    async def next(self) -> bytes:
        """All that waits, or a comment if nothing comes for a while."""
        try:
            message = await asyncio.wait_for(self._messages.get(), _PING_EVERY_S)
        except TimeoutError:
            return b": ping\n\n"
        messages = [message]
        while not self._messages.empty():
            messages.append(self._messages.get_nowait())
        return b"".join(messages)


class Events:
    """Tells all clients what happens; asks nobody anything while there are none."""

    def __init__(self, *, daemon: Daemon, listings: Listings) -> None:
        self._daemon, self._listings = daemon, listings
        self._clients: set[Client] = set()
        self._wake = asyncio.Event()
        self._closed = False
        self._position: int | None = None
        self._seen: deque[int] = deque(maxlen=4 * _LOOK_BACK + _PAGE)
        self._streams: dict[str, dict[str, Any]] = {}
        self._jobs: dict[str, dict[str, Any]] = {}

    def wake(self) -> None:
        """Matches were written."""
        self._wake.set()

    def job_changed(self, report: dict[str, Any]) -> None:
        """The job is as it says now."""
        if self._clients:
            self._jobs[report["job_id"]] = report

    def close(self) -> None:
        """No client is listened to any more."""
        self._closed = True
        for client in self._clients:
            client.ended.set()

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client that hears everything from now on. Raises ProblemError 503 if there are too many."""
        if self._closed or len(self._clients) >= _CLIENTS:
            raise ProblemError(503, "too many listen already; come back later", headers={"Retry-After": "10"})
        client = Client()
        if not self._clients:
            self._position, self._streams = None, {}
        self._clients.add(client)
        self._wake.set()
        try:
            yield client
        finally:
            self._clients.discard(client)

    async def missed(self, after: int) -> list[bytes]:
        """What was written after the event of that number; or word that too much was."""
        messages: list[bytes] = []
        while True:
            rows = await self._listings.feed(after=after, limit=_PAGE)
            messages += [
                _message("match", match_fields(row) | {"sequence": row.sequence}, number) for number, row in rows
            ]
            if len(rows) < _PAGE:
                return messages
            if len(messages) >= _MOST_MISSED:
                return [_message("reset", {"reason": f"more than {_MOST_MISSED} events were missed"})]
            after = rows[-1][0]

    async def run(self) -> None:
        """Look for what is new, for as long as somebody listens."""
        loop = asyncio.get_running_loop()
        levels_at = 0.0
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _TURN_S if self._clients else None)
            self._wake.clear()
            messages = [_message("job", report) for report in self._jobs.values()]
            self._jobs = {}
            with suppress(UnreachableError):
                messages += await self._matches()
            messages += self._changed_streams()
            if loop.time() >= levels_at:
                levels_at = loop.time() + _LEVELS_EVERY_S
                levels = {stream["name"]: stream["level_dbfs"] for stream in self._daemon.streams()}
                messages.append(_message("level", {"levels": levels}))
            for client in self._clients:
                for message in messages:
                    client.put(message)

    async def _matches(self) -> list[bytes]:
        # While an answer is awaited the last client may leave and a first one come, which forgets the position.
        if (position := self._position) is None:
            position = await self._listings.last_event()
            old = await self._listings.feed(after=max(position - _LOOK_BACK, 0), limit=_LOOK_BACK)
            self._seen.extend(number for number, _ in old if number <= position)
        rows = await self._listings.feed(after=max(position - _LOOK_BACK, 0), limit=_LOOK_BACK + _PAGE)
        seen = set(self._seen)
        fresh = [(number, match) for number, match in rows if number not in seen]
        self._seen.extend(number for number, _ in fresh)
        self._position = max([position, *(number for number, _ in fresh)])
        if len(rows) == _LOOK_BACK + _PAGE:
            self._wake.set()
        return [
            _message("match", match_fields(match) | {"sequence": match.sequence}, number) for number, match in fresh
        ]

    def _changed_streams(self) -> list[bytes]:
        now = {stream["name"]: summary(stream) for stream in self._daemon.streams()}
        changed = [stream for name, stream in now.items() if _told(stream) != _told(self._streams.get(name))]
        removed = self._streams.keys() - now.keys()
        self._streams = now
        return [_message("stream", stream) for stream in changed] + [
            _message("removed", {"name": name}) for name in sorted(removed)
        ]


class EventStream(Response):
    """An answer that goes on until the client leaves, falls too far behind, or its time is over."""

    media_type = "text/event-stream"

    def __init__(self, events: Events, *, after: int | None, for_s: float | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._after, self._for_s = events, after, for_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer one request."""
        with self._events.client() as client:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            watching = [
                asyncio.create_task(self._send(client, send), name="events to a client"),
                asyncio.create_task(_gone(receive), name="a client of events"),
                asyncio.create_task(client.ended.wait(), name="a client of events is cut off"),
            ]
            try:
                await asyncio.wait(watching, timeout=self._for_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
        if not watching[1].done() or watching[1].cancelled():
            with suppress(TimeoutError, OSError):
                await asyncio.wait_for(send({"type": "http.response.body", "body": b"", "more_body": False}), 1.0)

    async def _send(self, client: Client, send: Send) -> None:
        opening = [b"retry: 2000\n\n"]
        if self._after is not None:
            opening += await self._events.missed(self._after)
        data = b"".join(opening)
        while True:
            async with asyncio.timeout(_STUCK_S):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            data = await client.next()


def routes(events: Events) -> APIRouter:
    """The operation that tells what happens."""
    router = APIRouter(tags=["events"])

    @router.get(
        "/events",
        response_class=Response,
        responses=documented(422, 503) | {200: {"content": {"text/event-stream": {"schema": _EVENT}}}},
    )
    async def get_events(
        last_event_id: Annotated[
            int | None, Header(ge=0, lt=1 << 63, description="Number of the last `match` event that was received.")
        ] = None,
        for_s: Annotated[float | None, Query(gt=0, le=86400, description="End after so many seconds.")] = None,
    ) -> Response:
        """Events match, stream, removed, job and level; `reset` where more was missed than is sent again."""
        return EventStream(events, after=last_event_id, for_s=for_s)

    return router


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _told(stream: dict[str, Any] | None) -> object:
    if stream is None:
        return None
    playing = [(match["match_id"], match["state"], match["tempo_ratio"]) for match in stream["playing"]]
    return [stream[name] for name in _TOLD], playing


def _message(event: str, data: dict[str, Any], number: int | None = None) -> bytes:
    lines = [f"event: {event}", f"data: {json.dumps(data)}"]
    if number is not None:
        lines.insert(0, f"id: {number}")
    return ("\n".join(lines) + "\n\n").encode()
