"""Server-sent events: as they happen, resumed without a gap, and never held up by a slow client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from monitor.record.listings import Listings
from monitor.record.store import Store
from monitor.types import MatchState
from monitor.web.events import Client, Events
from tests.integration.record.events import life, make_match
from tests.integration.web.conftest import WAIT_S, Site

LIFE = (MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED)


@asynccontextmanager
async def listening(site: Site, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events of a client: `event`, `id` and `data` of each."""

    async def events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        event: dict[str, Any] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if not line and "data" in event:
                yield event | {"data": json.loads(event["data"])}
                event = {}
            elif name in {"event", "id", "data"}:
                event[name] = value

    async with (
        asyncio.timeout(WAIT_S),
        site.client.stream("GET", "/api/v1/events", headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


async def take(events: AsyncIterator[dict[str, Any]], kind: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for event in events:
        if event["event"] == kind:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_matches_arrive_as_they_are_written_and_are_resumed(site):
    store = Store(site.pool)
    epoch = await store.begin_listening("radio")
    first, second, third = make_match(), make_match(), make_match()
    await store.record_events(life(first, *LIFE), epochs={"radio": epoch})
    async with listening(site) as events:
        await take(events, "level", 1)
        await store.record_events(life(second, *LIFE), epochs={"radio": epoch})
        heard = await take(events, "match", 3)
    assert [(event["data"]["match_id"], event["data"]["sequence"], event["data"]["state"]) for event in heard] == [
        (str(second.match_id), number, state.value) for number, state in enumerate(LIFE)
    ]
    await store.record_events(life(third, *LIFE), epochs={"radio": epoch})
    async with listening(site, **{"Last-Event-ID": heard[1]["id"]}) as events:
        resumed = await take(events, "match", 4)
    assert [event["data"]["match_id"] for event in resumed] == [str(second.match_id), *[str(third.match_id)] * 3]
    async with listening(site, **{"Last-Event-ID": "0"}) as events:
        assert len(await take(events, "match", 9)) == 9
    await site.get("/events", 422, headers={"Last-Event-ID": "-1"})


async def test_streams_and_jobs_are_told_when_they_change(site, recording):
    async with listening(site) as events:
        await site.post("/streams", 201, json={"name": "fresh", "url": "http://127.0.0.1:9/x", "paused": True})
        (stream,) = await take(events, "stream", 1)
        assert (stream["data"]["name"], stream["data"]["source"]) == ("fresh", "api")
        await site.upload(("sound.wav", recording(1)))
        async for event in events:
            if event["event"] == "job" and event["data"]["state"] == "done":
                assert [row["status"] for row in event["data"]["rows"]] == ["added"]
                break
        await site.delete("/streams/fresh", 204)
        (removed,) = await take(events, "removed", 1)
        assert removed["data"] == {"name": "fresh"}


async def test_a_client_that_reads_nothing_is_cut_off_and_the_others_hear_all(site):
    events = Events(daemon=_Nobody(), listings=Listings(site.pool))
    with events.client() as slow, events.client() as fast:
        for number in range(2000):
            for client in (slow, fast):
                client.put(f"{number}\n".encode())
            if number % 100 == 0:
                await fast.next()
        assert slow.ended.is_set() and not fast.ended.is_set()
    assert not Client().ended.is_set()


async def test_no_more_listen_than_there_is_room_for(site):
    async with asyncio.TaskGroup() as group:
        opened = asyncio.Semaphore(0)
        done = asyncio.Event()

        async def listen() -> None:
            async with site.client.stream("GET", "/api/v1/events") as answer:
                assert answer.status_code == 200
                opened.release()
                await done.wait()

        for _ in range(64):
            group.create_task(listen())
        for _ in range(64):
            await asyncio.wait_for(opened.acquire(), WAIT_S)
        await site.get("/events", 503)
        done.set()


class _Nobody:
    def streams(self) -> list[dict[str, Any]]:
        return []
