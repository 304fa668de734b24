"""`monitor run` on live streams: found, told, stopped, killed, reloaded."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import yaml

from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.station import Station, mp3, on_air

from .conftest import SECRET


async def received(posts, *kinds):
    return [body for body in posts if body["type"] in kinds]


async def webhook_receiver(posts):
    """A receiver on loopback that keeps the bodies it is sent."""

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        posts.append(json.loads(await reader.readexactly(length)) | {"signed": b"webhook-signature" in head.lower()})
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_a_live_airing_is_found_told_and_ended_by_sigterm(loaded, pieces, ffmpeg):
    station = Station(name="radio", audio=mp3(128), ffmpeg=ffmpeg)
    posts: list[dict] = []
    receiver = await webhook_receiver(posts)
    port = receiver.sockets[0].getsockname()[1]
    async with receiver, on_air([station]) as address:
        loaded.write(
            streams=[{"name": "radio", "url": address + station.path}],
            webhooks=[{"name": "desk", "url": f"http://127.0.0.1:{port}/", "secret": SECRET}],
        )
        async with loaded.daemon() as daemon:
            start_s = time.time() + 6
            rate = SAMPLE_RATE_HZ
            programme = np.concatenate([pieces["piece-3"][: 8 * rate], pieces["piece-1"][10 * rate :]])
            station.schedule(programme, on_air_s=start_s)
            (match,) = await daemon.until(lambda: daemon.matches("confirmed"))
            assert match["reference_id"] == "piece-1"
            assert abs(match["reference_start_s"] - (match["start_s"] - start_s - 8 + 10)) < 2.5
            playing = (await daemon.stream("radio"))["playing"]
            assert [entry["reference_id"] for entry in playing] == ["piece-1"]
            metrics = (await daemon.get("/metrics")).text
            assert 'monitor_infringements_active{stream="radio"} 1.0' in metrics
            assert 'monitor_matches_total{state="confirmed",stream="radio"} 1.0' in metrics
            assert (await daemon.get("/")).headers["content-type"].startswith("text/html")
            await daemon.until(lambda: received(posts, "match.confirmed"))
            assert await daemon.stop() == 0
        async with loaded.database() as database:
            rows = await (await database.execute("SELECT state FROM matches")).fetchall()
            assert rows == [("ended",)]
            (state,) = await (await database.execute("SELECT state FROM streams")).fetchone()
            assert state == "stopped"
    kinds = [body["type"] for body in posts]
    assert kinds == ["match.provisional", "match.confirmed", "match.ended"]
    assert all(body["signed"] for body in posts)
    assert len({body["data"]["match_id"] for body in posts}) == 1


async def test_an_airing_that_a_sigkill_cuts_is_still_one_row(loaded, pieces, ffmpeg):
    # A burst of 64 KiB is 1.6 s at this rate: it cannot cover the outage.
    station = Station(name="radio", audio=mp3(320), ffmpeg=ffmpeg)
    async with on_air([station]) as address:
        loaded.write(streams=[{"name": "radio", "url": address + station.path}])
        async with loaded.daemon() as daemon:
            station.schedule(pieces["piece-2"], on_air_s=time.time() + 3)
            (before,) = await daemon.until(lambda: daemon.matches("confirmed"))
            daemon.kill()
        async with loaded.daemon() as daemon:

            async def goes_on():
                return [m for m in await daemon.matches("confirmed") if m["end_s"] > before["end_s"] + 8]

            (after,) = await daemon.until(goes_on)
            assert after["match_id"] == before["match_id"]
            assert await daemon.stop() == 0
        async with loaded.database() as database:
            (count,) = await (await database.execute("SELECT count(*) FROM matches")).fetchone()
            gaps = await (await database.execute("SELECT reason FROM gaps ORDER BY start_at")).fetchall()
        assert count == 1
        assert gaps[:1] == [("shutdown",)]


async def test_an_airing_across_a_planned_restart_is_one_row(loaded, pieces, ffmpeg):
    station = Station(name="radio", audio=mp3(320), ffmpeg=ffmpeg)
    posts: list[dict] = []
    receiver = await webhook_receiver(posts)
    port = receiver.sockets[0].getsockname()[1]
    async with receiver, on_air([station]) as address:
        loaded.write(
            streams=[{"name": "radio", "url": address + station.path}],
            webhooks=[{"name": "desk", "url": f"http://127.0.0.1:{port}/", "secret": SECRET}],
            match={"max_gap_s": 120},
        )
        async with loaded.daemon() as daemon:
            station.schedule(pieces["piece-2"], on_air_s=time.time() + 3)
            (before,) = await daemon.until(lambda: daemon.matches("confirmed"))
            assert await daemon.stop() == 0
        async with loaded.daemon() as daemon:
            (after,) = await daemon.until(lambda: daemon.matches("confirmed"), timeout_s=120)
            assert after["match_id"] == before["match_id"]
            assert await daemon.stop() == 0
        async with loaded.database() as database:
            rows = await (await database.execute("SELECT state, interrupted, unheard_s > 0 FROM matches")).fetchall()
        assert rows == [("ended", True, True)]
    told = [(body["type"], body["data"]["reopened"]) for body in posts]
    assert told[:4] == [
        ("match.provisional", False),
        ("match.confirmed", False),
        ("match.ended", False),
        ("match.confirmed", True),
    ]


async def test_reload_takes_over_what_can_change_and_refuses_the_rest_whole(command):
    command.write(streams=[{"name": "one", "url": "http://127.0.0.1:9/none", "paused": True}])
    async with command.daemon() as daemon:
        command.write(
            streams=[
                {"name": "one", "url": "http://127.0.0.1:9/none"},
                {"name": "two", "url": "http://127.0.0.1:9/other"},
            ]
        )
        answer = await daemon.post("/-/reload")
        assert answer.json() == {"added": ["two"], "removed": [], "changed": ["one"]}

        async def both_refused():
            states = [await daemon.stream(name) for name in ("one", "two")]
            return all(stream["reason"] == "refused" for stream in states)

        await daemon.until(both_refused)
        command.write(pipeline={"batch_windows": 3}, streams=[])
        answer = await daemon.post("/-/reload")
        assert answer.status_code == 400
        assert "pipeline.batch_windows" in answer.json()["detail"]
        assert len((await daemon.get("/api/v1/streams")).json()["streams"]) == 2
        assert "monitor_config_last_reload_successful 0.0" in (await daemon.get("/metrics")).text
        command.path.write_text("streams: [}")
        answer = await daemon.post("/-/reload")
        assert answer.status_code == 400 and str(command.path) in answer.json()["detail"]
        command.config.pop("pipeline")
        command.write(streams=[])
        answer = await daemon.post("/-/reload")
        assert answer.json()["removed"] == ["one", "two"]
        assert 'stream="one"' not in (await daemon.get("/metrics")).text
        assert await daemon.stop() == 0


async def test_only_who_may_can_reload(command):
    token = "a-token-of-some-length"
    command.write(http={"port": command.port, "token": token})
    async with command.daemon() as daemon:
        assert (await daemon.post("/-/reload")).status_code == 401
        wrong = {"Authorization": "Bearer " + token[::-1]}
        assert (await daemon.post("/-/reload", headers=wrong)).status_code == 401
        right = {"Authorization": f"Bearer {token}"}
        assert (await daemon.post("/-/reload", headers=right)).status_code == 200
        foreign = right | {"Origin": "http://evil.example"}
        answer = await daemon.post("/-/reload", headers=foreign)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert token not in "".join(daemon.log)


async def test_a_second_daemon_on_the_same_data_is_refused(command):
    async with command.daemon() as daemon:
        _, error = await command.run("run", expect=75)
        assert str(daemon.process.pid) in error


async def test_a_catalog_of_another_model_is_refused_with_both_ids(loaded):
    async with loaded.database() as database:
        (right,) = await (await database.execute("SELECT model_id FROM catalogs")).fetchone()
        await database.execute("UPDATE catalogs SET model_id = 'fingerprint-000000000000'")
    _, error = await loaded.run("run", expect=78)
    assert "fingerprint-000000000000" in error and right in error


async def test_servers_that_do_not_answer_are_named(command):
    command.write(postgres={"dsn": "postgresql://nobody@127.0.0.1:9/none"})
    _, error = await command.run("run", expect=69)
    assert "PostgreSQL" in error and "127.0.0.1" in error
    command.path.write_text(yaml.safe_dump({"milvus": {"uri": "http://127.0.0.1:9"}}))
    _, error = await command.run("run", expect=69)
    assert "Milvus" in error and "127.0.0.1:9" in error
