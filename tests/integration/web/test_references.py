"""References come as jobs, are found, played, described anew and deleted."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import pytest

from tests.integration.catalog.sound import RATE_HZ
from tests.integration.web.conftest import until


def part_of(recording: bytes, start_s: float, end_s: float) -> bytes:
    """A stretch of a WAV file, as a WAV file."""
    with wave.open(io.BytesIO(recording)) as file:
        file.setpos(int(start_s * RATE_HZ))
        frames = file.readframes(int((end_s - start_s) * RATE_HZ))
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(frames)
    return made.getvalue()


def uploaded(house) -> list[str]:
    directory = house.directory / "data" / "uploads"
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


async def test_a_reference_from_upload_to_deletion(house, site, recording):
    one, two = recording(1, 30.0), recording(2, 8.0)
    answer = await site.upload(
        ("one.wav", one), ("two.wav", two), ("again.wav", one), ("notes.mp3", b"not sound at all"), ("none.wav", b"")
    )
    job = await site.finished(answer["job"])
    assert (job["state"], job["done"], job["total"]) == ("done", 5, 5)
    rows = {row["file"]: row for row in job["rows"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "one.wav": "added",
        "two.wav": "added",
        "again.wav": "duplicate",
        "notes.mp3": "unreadable",
        "none.wav": "unreadable",
    }
    assert rows["notes.mp3"]["reason"].startswith("notes.mp3 is text")
    assert uploaded(house) == ["one.wav", "two.wav"]
    assert (await site.get("/jobs"))["jobs"][0] == job

    assert await site.get("/references/count") == {"count": 2}
    page = await site.get("/references", params={"limit": 1})
    assert [row["reference_id"] for row in page["references"]] == ["one"]
    rest = await site.get("/references", params={"limit": 1, "after": page["next"]})
    assert ([row["reference_id"] for row in rest["references"]], rest["next"]) == (["two"], None)

    edited = await site.patch("/references/default/one", json={"title": "Ein Lied", "owner": "ACME", "isrc": ""})
    assert (edited["title"], edited["owner"], edited["isrc"]) == ("Ein Lied", "ACME", None)
    found = await site.get("/references", params={"q": "lied acme", "owner": "ACME", "catalog": "default"})
    assert [row["reference_id"] for row in found["references"]] == ["one"]
    assert await site.get("/references/count", params={"q": "100%"}) == {"count": 0}
    await site.patch("/references/default/none", 404, json={"title": "x"})
    await site.patch("/references/default/one", 422, json={"path": "/etc/passwd"})

    sound = await site.client.get("/api/v1/audio/default/one", headers={"Range": "bytes=4-11"})
    assert (sound.status_code, sound.content) == (206, one[4:12])
    assert sound.headers["content-type"] in {"audio/x-wav", "audio/wav", "audio/vnd.wave"}
    assert "sandbox" in sound.headers["content-security-policy"]
    assert (await site.client.get("/api/v1/audio/default/one")).content == one
    mp3 = await site.client.get("/api/v1/audio/default/one", params={"format": "mp3"})
    assert mp3.headers["content-type"] == "audio/mpeg" and len(mp3.content) > 20_000

    async def nearest():
        answer = await site.post(
            "/search", files={"file": ("clip.wav", part_of(one, 10, 20))}, data={"mode": "similar", "k": "1"}
        )
        # What was added, and what was said of it, is seen within seconds.
        return [row for row in answer["results"] if row["title"]]

    (best,) = await until(nearest)
    assert (best["reference_id"], best["title"], best["rank"]) == ("one", "Ein Lied", 1)
    assert best["reference_start_s"] - best["clip_start_s"] == pytest.approx(10, abs=0.5)
    same = await site.post("/search", files={"file": ("clip.wav", part_of(one, 5, 25))}, data={"mode": "same"})
    assert same["duration_s"] == pytest.approx(20, abs=0.1)
    (match,) = same["results"]
    assert (match["reference_id"], match["artist"]) == ("one", None)
    assert match["reference_start_s"] - match["start_s"] == pytest.approx(5, abs=0.3)

    await site.delete("/references/default/one", 204)
    await site.get("/audio/default/one", 404)
    gone = await site.post("/references/delete", json={"catalog": "default", "reference_ids": ["two", "one"]})
    assert gone == {"deleted": ["two"], "missing": ["one"]}
    assert await site.get("/references/count") == {"count": 0}
    assert uploaded(house) == []


async def test_a_given_id_replaces_and_the_earlier_file_goes(house, site, recording):
    first = await site.upload(("a.wav", recording(3)), reference_id="jingle", title="Old")
    await site.finished(first["job"])
    second = await site.upload(("b.wav", recording(4)), reference_id="jingle", artist="Band")
    job = await site.finished(second["job"])
    assert [row["status"] for row in job["rows"]] == ["replaced"]
    row = await site.get("/references/default/jingle")
    assert (row["title"], row["artist"]) == ("Old", "Band")
    assert uploaded(house) == ["b.wav"]


async def test_paths_are_imported_from_allowed_directories_alone(house, recording, tmp_path):
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for directory in (allowed / "deep", other):
        directory.mkdir(parents=True)
    (allowed / "deep" / "song.wav").write_bytes(recording(5))
    (other / "secret.wav").write_bytes(recording(6))
    (allowed / "link.wav").symlink_to(other / "secret.wav")
    (allowed / "list.m3u").write_text(f"{other / 'secret.wav'}\n")
    house.write(http={"import_dirs": [str(allowed)]})
    async with house.daemon() as site:
        for path in (str(other), f"{allowed}/../other", "/etc/passwd", str(allowed / "link.wav"), "secret.wav"):
            await site.post("/references/paths", 422, json={"paths": [path]})
        answer = await site.post("/references/paths", 202, json={"paths": [str(allowed), str(allowed / "list.m3u")]})
        job = await site.finished(answer["job"])
        told = {Path(row["file"]).name: row["status"] for row in job["rows"]}
        assert told == {"song.wav": "added", "link.wav": "failed", "secret.wav": "failed"}
        assert [row["reference_id"] for row in (await site.get("/references"))["references"]] == ["deep/song"]

        # What took the file's place since is not given away.
        assert (await site.client.get("/api/v1/audio/default/deep/song")).status_code == 200
        (allowed / "deep" / "song.wav").unlink()
        (allowed / "deep" / "song.wav").symlink_to("/etc/passwd")
        await site.get("/audio/default/deep/song", 404)


async def test_a_job_goes_on_without_its_client_and_can_be_cancelled(house, site, recording):
    first = (await site.upload(*[(f"{number}.wav", recording(number, 20.0)) for number in range(10, 14)]))["job"]
    second = (await site.upload(("late.wav", recording(20)), ("later.wav", recording(21))))["job"]
    cancelled = await site.post(f"/jobs/{second['job_id']}/cancel")
    assert cancelled["state"] == "cancelled" and {row["status"] for row in cancelled["rows"]} == {None}
    job = await site.finished(first)
    assert (job["state"], job["done"]) == ("done", 4)

    async def tidy():
        return len(uploaded(house)) == 4

    await until(tidy)
    await site.get("/jobs/none", 404)
