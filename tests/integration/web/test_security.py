"""What an attacker sends: too much, names that lead elsewhere, names that are markup, requests from other pages."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from monitor.record.tokens import Scope, Tokens
from tests.integration.web.conftest import Site, until

MARKUP = "<img src=x onerror=alert(1)>"
TRAVERSALS = ("../../../etc/passwd", "..%2f..%2fetc/passwd", "/etc/passwd", "....//etc/passwd", "\\..\\..\\passwd")


def spooled(house) -> list[Path]:
    return [path for path in (house.directory / "data" / "spool").rglob("*") if path.is_file()]


def outside(house) -> set[str]:
    """Every file of the data directory that is no upload, by name."""
    data = house.directory / "data"
    return {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file() and "uploads" not in path.parts}


async def test_names_of_files_lead_nowhere_and_markup_is_text(house, site, recording):
    before = outside(house)
    names = (*TRAVERSALS, f"{MARKUP}.wav", "..", "", "a\x00b.wav", "con\r\nX: y.wav", ".hidden.wav", "ü" * 300 + ".wav")
    for number, name in enumerate(names):
        body = (
            b'--x\r\nContent-Disposition: form-data; name="files[]"; filename="'
            + name.encode().replace(b"\r\n", b"%0D%0A")
            + b'"\r\n\r\n'
            + recording(100 + number, 3.0)
            + b"\r\n--x--\r\n"
        )
        answer = await site.client.post(
            "/api/v1/references", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert answer.status_code == 202, (name, answer.text)
        job = await site.finished(answer.json()["job"])
        assert job["rows"][0]["status"] in {"added", "failed"}, (name, job)
        if job["rows"][0]["status"] == "added":  # so that the next of that name is no clash
            await site.post(
                "/references/delete", json={"catalog": "default", "reference_ids": [job["rows"][0]["reference_id"]]}
            )
    assert outside(house) <= before | {name for name in outside(house) if name.startswith(("journal", "postgres"))}
    assert not spooled(house)

    job = await site.finished(
        (await site.upload((f"{MARKUP}.wav", recording(1, 3.0)), title=MARKUP, owner=MARKUP))["job"]
    )
    reference_id = job["rows"][0]["reference_id"]
    shown = await site.client.get("/api/v1/references", params={"q": "onerror"})
    assert shown.headers["content-type"] == "application/json" and shown.headers["x-content-type-options"] == "nosniff"
    assert shown.json()["references"][0]["title"] == MARKUP
    sound = await site.client.get(f"/api/v1/audio/default/{reference_id}")
    assert sound.status_code == 200 and not sound.headers["content-type"].startswith("text/html")
    for path in TRAVERSALS:
        for where in ("references", "audio"):
            assert (await site.client.get(f"/api/v1/{where}/default/{path}")).status_code == 404
            assert (await site.client.get(f"/api/v1/{where}/{path}/x")).status_code == 404
        assert (await site.client.get(f"/static/{path}")).status_code == 404
        assert (await site.client.get(f"/docs/{path}")).status_code == 404
        await site.upload(("x.wav", b"x"), status=404, catalog=path)
        await site.post("/search", 404, files={"file": (path, b"x")}, data={"catalog": path})
        await site.get(f"/jobs/{path}", 404)


async def test_sound_that_is_none_or_too_much_of_it_is_refused(house, recording, tmp_path):
    house.write(http={"max_reference_s": 20, "max_clip_s": 10})
    bomb = tmp_path / "bomb.flac"
    silence = [
        "ffmpeg",
        "-nostdin",
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "anullsrc=r=8000:cl=mono",
        "-t",
        "3600",
    ]
    subprocess.run([*silence, str(bomb)], check=True)  # noqa: ASYNC221
    assert bomb.stat().st_size < 1_000_000
    bad = {
        "list.m3u": b"#EXTM3U\n/etc/passwd\n",
        "hls.mp3": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n",
        "concat.wav": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "manifest.mp4": b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>',
        "zip.wav": b"PK\x03\x04" + bytes(1000),
        "bomb.flac": bomb.read_bytes(),
    }
    async with house.daemon() as site:
        job = await site.finished((await site.upload(*bad.items()))["job"])
        assert {row["file"]: row["status"] for row in job["rows"]} == dict.fromkeys(bad, "unreadable")
        reasons = {row["file"]: row["reason"] for row in job["rows"]}
        assert "longer than the 20 s" in reasons["bomb.flac"] and "playlist" in reasons["hls.mp3"]
        for name, content in bad.items():
            problem = await site.post("/search", 422, files={"file": (name, content)})
            assert str(house.directory) not in json.dumps(problem)
        assert await site.get("/references/count") == {"count": 0}

        async def tidy():
            return not [path for path in (house.directory / "data" / "uploads").rglob("*") if path.is_file()]

        await until(tidy)


WRITES = (
    ("POST", "/api/v1/references"),
    ("POST", "/api/v1/references/paths"),
    ("POST", "/api/v1/references/delete"),
    ("PATCH", "/api/v1/references/default/x"),
    ("DELETE", "/api/v1/references/default/x"),
    ("POST", "/api/v1/jobs/x/cancel"),
    ("POST", "/api/v1/streams"),
    ("POST", "/api/v1/streams/test"),
    ("DELETE", "/api/v1/streams/x"),
    ("POST", "/api/v1/streams/x/pause"),
    ("POST", "/api/v1/streams/x/resume"),
    ("POST", "/api/v1/streams/x/restart"),
    ("POST", "/api/v1/deliveries/00000000-0000-0000-0000-000000000000/replay"),
)
READS = (("POST", "/api/v1/search"),)
ADMINS = (("POST", "/-/reload"),)


PARAMETER = re.compile(r"\{[^}]+\}")


async def _operations(site: Site) -> list[tuple[str, str]]:
    """Every operation that the daemon announces."""
    paths = (await site.get("/openapi.json"))["paths"]
    return [(method.upper(), path) for path, operations in paths.items() for method in operations]


async def test_no_operation_that_changes_something_is_forgotten_here(site):
    announced = {(method, path) for method, path in await _operations(site) if method != "GET"}
    tested = (*WRITES, *READS, *ADMINS)
    for method, template in announced:
        # Braces are all that is left to escape in such a template.
        pattern = re.compile(PARAMETER.sub("[^/].*", template))
        assert any(one == method and pattern.fullmatch(path) for one, path in tested), (method, template)
    assert len(announced) >= len(tested) - 2  # pause, resume and restart are one operation


async def _status(site: Site, method: str, path: str, **headers: str) -> int:
    return (await site.client.request(method, path, headers=headers)).status_code


async def test_other_pages_and_names_made_to_point_here_may_nothing(house, site):
    for method, path in (*WRITES, *READS, *ADMINS):
        assert await _status(site, method, path, Origin="http://evil.example") == 403, path
        assert await _status(site, method, path, Origin="null") == 403, path
        assert await _status(site, method, path, Host="evil.example") == 421, path
    assert await _status(site, "GET", "/api/v1/matches", Host="evil.example:8710") == 421
    assert await _status(site, "GET", "/metrics", Host="127.0.0.1.evil.example") == 421
    here = f"http://127.0.0.1:{house.port}"
    assert await _status(site, "POST", "/api/v1/streams/x/pause", Origin=here) == 404
    answer = await site.client.get("/", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("protected", [False, True])
async def test_each_operation_needs_its_scope(house, protected):
    house.write(http={"protect_reads": protected})
    async with house.deployment() as deployment:
        tokens = {scope: await Tokens(deployment.pool).add(scope.value, scope) for scope in Scope}
    async with house.daemon() as site:
        for needed, operations in ((Scope.READ, READS), (Scope.WRITE, WRITES), (Scope.ADMIN, ADMINS)):
            for method, path in operations:
                assert await _status(site, method, path) == 401, path
                assert await _status(site, method, path, Authorization="Bearer wrong") == 401, path
                for scope, token in tokens.items():
                    got = await _status(site, method, path, Authorization=f"Bearer {token}")
                    assert (got == 403) is not scope.includes(needed), (path, scope, got)
                    assert got != 401 and got < 500
        reads = [path for method, path in await _operations(site) if method == "GET" and path.startswith("/api/")]
        assert len(reads) >= 14
        for template in reads:
            path = PARAMETER.sub("x", template) + ("?for_s=0.1" if template.endswith("/events") else "")
            open_to_all = await _status(site, "GET", path)
            assert (open_to_all == 401) is protected and open_to_all in {200, 401, 404, 422}, path
            with_token = await _status(site, "GET", path, Authorization=f"Bearer {tokens[Scope.READ]}")
            assert with_token in {200, 404, 422}, path


async def test_too_many_requests_are_put_off(house):
    house.write(http={"writes_per_minute": 12, "searches_per_minute": 6})
    async with house.daemon() as site:
        writes = [await site.client.delete("/api/v1/streams/none") for _ in range(5)]
        assert [answer.status_code for answer in writes[:2]] == [404, 404]
        (late, *_) = [answer for answer in writes if answer.status_code == 429]
        assert int(late.headers["retry-after"]) >= 1
        assert late.headers["content-type"] == "application/problem+json"
        assert (await site.client.get("/api/v1/streams")).status_code == 200


async def test_the_reference_in_the_browser_loads_nothing_from_elsewhere(site):
    page = await site.client.get("/docs")
    assert "https://" not in page.text and "http://" not in page.text
    for path in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        answer = await site.client.get(f"/docs/{path}")
        assert answer.status_code == 200 and f"/docs/{path}" in page.text
    assert "unsafe" not in page.headers["content-security-policy"]
