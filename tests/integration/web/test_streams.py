"""Streams of the API: tried, added, paused, restarted, removed; beside those of the file, across restart and reload."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from benchmarks.faults.station import icecast, on_air
from monitor.audio.source import SourceOptions
from monitor.web.trial import tried
from tests.integration.catalog.sound import write_melody
from tests.integration.web.conftest import Site, until


async def states(site: Site) -> dict[str, str]:
    return {stream["name"]: stream["state"] for stream in (await site.get("/streams"))["streams"]}


async def is_heard(site: Site, name: str) -> bool:
    return (await site.get(f"/streams/{name}"))["state"] in {"receiving", "silent"}


@asynccontextmanager
async def always_there(site: Site, name: str) -> AsyncIterator[None]:
    """Whoever looks at the stream meanwhile, again and again, finds it."""

    async def look() -> None:
        while True:
            await site.get(f"/streams/{name}")

    looking = asyncio.create_task(look())
    yield
    assert not looking.done(), looking.result()
    looking.cancel()


@pytest.fixture
async def radio(ffmpeg, tmp_path):
    """A station that plays MP3 for ever at /air."""
    source, target = write_melody(tmp_path / "air.wav", 7, 20.0), tmp_path / "air.mp3"
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg.path, "-nostdin", "-loglevel", "error", "-i", str(source), "-ar", "44100", "-b:a", "128k", str(target))
    )
    assert await process.wait() == 0
    async with on_air() as station:
        station.add("/air", icecast(target.read_bytes(), bytes_per_s=16000))
        yield station


@pytest.fixture
def station(radio) -> str:
    return radio.url("/air")


async def test_private_addresses_files_and_devices_are_refused(site, station):
    for url in ("/etc/passwd", "file:///etc/passwd", "device:0", "concat:/etc/passwd", "http://[", "javascript:1", "x"):
        await site.post("/streams", 422, json={"name": "evil", "url": url})
        await site.post("/streams/test", 422, json={"url": url})
    trial = await site.post("/streams/test", json={"url": station})
    assert (trial["reachable"], trial["reason"]) == (False, "address_denied")
    added = await site.post("/streams", 201, json={"name": "private", "url": station})
    assert added["source"] == "api"

    async def denied():
        return (await site.get("/streams/private"))["reason"] == "address_denied"

    await until(denied)
    for wrong in (
        {"name": "a/b", "url": station},
        {"name": "both", "url": station, "urls": [station]},
        {"name": "none"},
        {"name": "file", "url_file": "/etc/passwd"},
        {"name": "headers", "url": station, "headers_file": "/etc/passwd"},
        {"name": "protocols", "url": station, "protocols": ["file"]},
        {"name": "header", "url": station, "headers": {"X": "a\r\nY: b"}},
        {"name": "catalog", "url": station, "catalogs": ["none"]},
    ):
        await site.post("/streams", 422, json=wrong)
    assert list(await states(site)) == ["private"]


async def test_a_trial_asks_once_and_says_what_it_heard_or_why_not(ffmpeg, radio):
    options = SourceOptions(connect_timeout_s=60.0, stall_timeout_s=60.0)
    trial = await tried(radio.url("/air"), ffmpeg=ffmpeg, options=options)
    assert (trial["reachable"], trial["reason"], trial["codec"], trial["channels"]) == (True, None, "mp3", 1)
    assert len(radio.requests) == 1
    trial = await tried(radio.url("/nothing"), ffmpeg=ffmpeg, options=options)
    assert (trial["reachable"], trial["reason"], trial["codec"], trial["seconds"]) == (False, "not_found", None, 0)


async def test_the_life_of_a_stream_of_the_api(house, station):
    file = {"name": "of-file", "url": "http://127.0.0.1:9/none"}
    house.write(http={"allow_private_streams": True}, streams=[file])
    async with house.daemon() as site:

        async def heard():
            # The trial has some seconds only: on a busy machine the decoder needs more for its first sound.
            trial = await site.post("/streams/test", json={"url": station})
            return trial if trial["seconds"] >= 5 else None

        trial = await until(heard)
        assert (trial["reachable"], trial["codec"], trial["sample_rate_hz"]) == (True, "mp3", 44100)
        assert (trial["channels"], trial["bit_rate"]) == (1, 128000)
        assert -20 < trial["level_dbfs"] < 0

        secret = station.replace("http://", "http://user:hunter2hunter2@")
        added = await site.post("/streams", 201, json={"name": "air", "urls": [secret], "silence_after_s": 30})
        assert added["source"] == "api" and "hunter2" not in json.dumps(added)
        await site.post("/streams", 409, json={"name": "air", "url": station})
        await site.post("/streams", 409, json={"name": "of-file", "url": station})
        await until(lambda: is_heard(site, "air"))
        async with always_there(site, "air"):
            paused = await site.post("/streams/air/pause")
        assert (paused["paused"], paused["state"]) == (True, "paused")
        await site.post("/streams/of-file/pause")
        await site.delete("/streams/of-file", 409)
        await site.post("/streams/none/pause", 404)
        await site.post("/streams/air/explode", 422)

        house.write(
            http={"allow_private_streams": True},
            streams=[file | {"stall_timeout_s": 30}, {"name": "air", "url": station}],
        )
        clash = await site.client.post("/-/reload")
        assert (clash.status_code, "added through the API" in clash.json()["detail"]) == (400, True)
        house.write(http={"allow_private_streams": True}, streams=[file | {"stall_timeout_s": 30}])
        assert (await site.client.post("/-/reload")).json()["changed"] == ["of-file"]

        async def both_paused():
            return await states(site) == {"of-file": "paused", "air": "paused"}

        await until(both_paused)
    async with house.daemon() as site:
        await until(lambda: _paused(site))
        await site.post("/streams/air/resume")
        await until(lambda: is_heard(site, "air"))
        await site.post("/streams/air/restart")
        await until(lambda: is_heard(site, "air"))
        history = await site.get("/streams/air/history")
        assert {"paused", "receiving"} <= {state["state"] for state in history["states"]}
        assert set((await site.get("/history"))["streams"]) == {"air", "of-file"}
        await site.delete("/streams/air", 204)
        await site.get("/streams/air", 404)
        await site.delete("/streams/air", 404)
        assert list(await states(site)) == ["of-file"]


async def _paused(site: Site) -> Any:
    return await states(site) == {"of-file": "paused", "air": "paused"}
