"""What is answered again, to whom, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from monitor.web.answers import FRESH_S, Answers, Sharing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class House:
    """An application that counts its answers, behind the middleware."""

    def __init__(self, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.clock, self.asked, self.hold = Clock(), 0, asyncio.Event()
        self.hold.set()
        self.status, self.headers = status, headers
        self.answers = Answers(now=self.clock)
        self.app = Sharing(self._answer, answers=self.answers)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        body = f"{self.asked}".encode()
        await self.hold.wait()
        if self.status == 0:
            raise RuntimeError("broken")
        kind = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers = [*(pair for pair in kind if pair[0] not in dict(self.headers)), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def get(self, path: str = "/api/v1/matches", **changes: Any) -> bytes:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)
            # As the border does it to each answer: what is kept is not what was sent.
            message.get("headers", []).append((b"x-sent", b"1"))

        async def receive() -> Message:
            raise AssertionError("nothing is read of a GET")

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 40000),
            **changes,
        }
        await self.app(scope, receive, send)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert sent[0]["headers"].count((b"x-sent", b"1")) == 1
        return bytes(sent[1]["body"])


async def test_the_same_question_is_answered_once_a_moment():
    house = House()
    assert [await house.get(), await house.get()] == [b"1", b"1"]
    house.clock.now = FRESH_S + 0.01
    assert [await house.get(), await house.get()] == [b"2", b"2"]


async def test_what_differs_in_question_or_asker_is_answered_by_itself():
    house = House()
    requests: list[dict[str, Any]] = [
        {},
        {"path": "/api/v1/streams"},
        {"query_string": b"limit=2"},
        {"client": ("10.0.0.1", 40000)},
        *({"headers": [(name, b"a")]} for name in (b"accept", b"authorization", b"host", b"origin")),
        {"headers": [(b"authorization", b"b")]},
        {"method": "HEAD"},
    ]
    assert len({await house.get(**request) for request in requests}) == len(requests)
    # What an answer does not depend on, a client's port among it, makes no difference.
    assert await house.get(client=("127.0.0.1", 40001), headers=[(b"user-agent", b"x")]) == b"1"


async def test_those_who_ask_meanwhile_wait_for_the_same_answer():
    house = House()
    house.hold.clear()
    asking = [asyncio.create_task(house.get()) for _ in range(5)]
    await asyncio.sleep(0)
    asking[3].cancel()
    await asyncio.sleep(0)
    house.hold.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [answer for answer in answers if answer == b"1"] == [b"1"] * 4
    assert isinstance(answers[3], asyncio.CancelledError)


async def test_after_a_change_nobody_is_given_an_older_answer():
    house = House()
    house.hold.clear()
    before = asyncio.create_task(house.get())
    await asyncio.sleep(0)
    house.answers.forget()
    after = asyncio.create_task(house.get())
    await asyncio.sleep(0)
    house.hold.set()
    assert [await before, await after, await house.get()] == [b"1", b"2", b"2"]
    await house.get(method="PATCH", path="/api/v1/references/a")
    assert await house.get() == b"4"


async def test_who_is_told_of_a_change_sees_it_at_once():
    house = House()
    await house.get()
    seen: list[bytes] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.append(await house.get())

    scope = {"type": "http", "method": "DELETE", "path": "/api/v1/streams/a", "query_string": b"", "headers": []}
    await house.app(scope, None, send)  # type: ignore[arg-type]
    assert seen == [b"3"]


async def test_errors_and_answers_of_other_kinds_are_not_shared():
    for house in (
        House(status=503),
        House(headers=((b"content-type", b"text/csv"),)),
        House(headers=((b"content-length", b"9999999"),)),
        House(headers=((b"cache-control", b"no-store"),)),
    ):
        assert [await house.get(), await house.get()] == [b"1", b"2"]
    house = House()
    assert [await house.get("/-/ready"), await house.get("/-/ready")] == [b"1", b"2"]
    fresh = {"headers": [(b"cache-control", b"no-cache")]}
    assert [await house.get(), await house.get(**fresh), await house.get()] == [b"3", b"4", b"3"]


async def test_who_waits_for_an_answer_that_fails_asks_for_itself():
    house = House(status=0)
    house.hold.clear()
    asking = [asyncio.create_task(house.get()) for _ in range(3)]
    await asyncio.sleep(0)
    house.hold.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["broken"] * 3 and house.asked == 3


async def test_no_more_answers_are_kept_than_there_is_room_for():
    house = House()
    for number in range(1000):
        await house.get(f"/api/v1/references/{number}")
    assert len(house.answers._kept) <= 256
