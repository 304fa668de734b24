"""Matches and deliveries through the API: filtered, page by page, and exported whole."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from monitor.record.outbox import Outbox
from monitor.record.store import Store
from monitor.types import MatchState
from monitor.web import matches
from tests.integration.record.events import EVENING_S, Listener, life, make_match
from tests.integration.web.conftest import Site

ENDED = (MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED)
RETRACTED = (MatchState.PROVISIONAL, MatchState.RETRACTED)
#: Begins a formula in a spreadsheet, and holds all that a cell has to be quoted for.
TITLE = '=HYPERLINK("http://evil.example")'
ARTIST = 'Sünje, "the\nSecond"'


@pytest.fixture
async def seven(site: Site, recording) -> list[str]:
    """Ids of seven matches, the newest first: the fourth was retracted, the last is of a reference with a name."""
    await site.finished(
        (await site.upload(("tune.wav", recording(1)), title=TITLE, artist=ARTIST, isrc="DEA111"))["job"]
    )
    store = Store(site.pool)
    epochs = {name: await store.begin_listening(name) for name in ("radio", "other")}
    ids = []
    for number in range(7):
        about: dict[str, Any] = {"catalog": "default", "reference_id": "tune"} if number == 6 else {}
        match = make_match(
            stream="other" if number % 3 == 2 else "radio",
            start_s=EVENING_S - 60 * number,
            end_s=EVENING_S + 5,
            **about,
        )
        await store.record_events(life(match, *(RETRACTED if number == 3 else ENDED)), epochs=epochs)
        ids.append(str(match.match_id))
    return ids


async def listed(site: Site, query: str) -> list[str]:
    return [match["match_id"] for match in (await site.get(f"/matches?{query}"))["matches"]]


async def test_each_filter_is_heeded_and_pages_join(site, seven):
    assert await listed(site, "") == seven
    assert await listed(site, "stream=other") == [seven[2], seven[5]]
    assert await listed(site, "state=retracted") == [seven[3]]
    assert await listed(site, "state=confirmed&state=ended") == seven[:3] + seven[4:]
    assert await listed(site, "reference_id=tune&catalog=default") == [seven[6]]
    assert await listed(site, "reference_id=tune&catalog=songs") == []
    assert await listed(site, "q=s%C3%BCnje+dea1") == [seven[6]]
    assert await listed(site, "q=%25") == []
    # 23:59:50 is the newest, each older one a minute earlier.
    assert await listed(site, "since=2026-03-01T23:57:50Z") == seven[:3]
    assert await listed(site, "until=2026-03-01T23:57:50Z&stream=radio") == [seven[3], seven[4], seven[6]]
    assert await listed(site, "since=2026-03-02T00:57:50%2B01:00&until=2026-03-01T23:59:50") == seven[1:3]

    found, after = [], ""
    while after is not None:
        page = await site.get(
            "/matches",
            params={"limit": 3, "stream": "radio", "after": after} if after else {"limit": 3, "stream": "radio"},
        )
        assert len(page["matches"]) <= 3
        found += [match["match_id"] for match in page["matches"]]
        after = page["next"]
    assert found == [seven[0], seven[1], seven[3], seven[4], seven[6]]
    await site.get("/matches?after=nonsense", 422)
    await site.get("/matches?state=unheard", 422)


async def test_a_match_tells_its_life(site, seven):
    match = await site.get(f"/matches/{seven[6]}")
    assert [step["state"] for step in match["events"]] == ["provisional", "confirmed", "ended"]
    assert (match["title"], match["artist"], match["stream"]) == (TITLE, ARTIST, "radio")
    assert match["reference_duration_s"] == pytest.approx(8.0)
    assert (await site.get(f"/matches/{seven[0]}"))["reference_duration_s"] is None


async def test_a_table_for_spreadsheets_is_whole_and_no_name_in_it_is_a_formula(site, seven, monkeypatch):
    monkeypatch.setattr(matches, "_EXPORT_PAGE", 3)  # several pages of the log become one file
    answer = await site.client.get("/api/v1/matches?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "matches.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["match_id"] for row in rows] == seven
    assert list(rows[0]) == list((await site.get("/matches"))["matches"][0])
    assert (rows[6]["title"], rows[6]["artist"]) == (f"'{TITLE}", ARTIST)
    assert (rows[0]["start_at"], rows[0]["state"], rows[0]["title"]) == ("2026-03-01T23:59:50.000000Z", "ended", "")
    by_header = await site.client.get("/api/v1/matches?stream=other", headers={"Accept": "text/csv, */*;q=0.1"})
    assert [row["match_id"] for row in csv.DictReader(io.StringIO(by_header.text))] == [seven[2], seven[5]]


async def test_lines_of_json_are_what_the_listing_says(site, seven, monkeypatch):
    monkeypatch.setattr(matches, "_EXPORT_PAGE", 2)
    answer = await site.client.get("/api/v1/matches?format=jsonl")
    assert answer.headers["content-type"].startswith("application/jsonl")
    assert [json.loads(line) for line in answer.text.splitlines()] == (await site.get("/matches"))["matches"]
    older = await site.client.get(
        "/api/v1/matches?until=2026-03-01T23:57:00Z", headers={"Accept": "application/x-ndjson"}
    )
    assert [json.loads(line)["match_id"] for line in older.text.splitlines()] == seven[3:]
    assert (await site.client.get("/api/v1/matches?format=jsonl&stream=none")).text == ""


async def test_deliveries_are_listed_page_by_page_and_sent_again(site):
    store, outbox = Store(site.pool), Outbox(site.pool)
    epochs = {"radio": await store.begin_listening("radio")}
    for _ in range(3):
        await store.record_events(
            life(make_match(), MatchState.PROVISIONAL), epochs=epochs, webhooks=[Listener(name="desk")]
        )
    sent = await outbox.claim("desk", now_s=2_000_000_000.0, lease_s=1)
    await outbox.delivered(sent.delivery_id, now_s=2_000_000_000.0, status_code=204)
    first = await site.get("/deliveries?endpoint=desk&limit=2")
    rest = await site.get(f"/deliveries?endpoint=desk&limit=2&after={first['next']}")
    assert (len(first["deliveries"]), len(rest["deliveries"]), rest["next"]) == (2, 1, None)
    assert len({row["delivery_id"] for row in first["deliveries"] + rest["deliveries"]}) == 3
    (row,) = (await site.get("/deliveries?state=delivered"))["deliveries"]
    assert (row["delivery_id"], row["type"], row["status_code"]) == (str(sent.delivery_id), "match.provisional", 204)
    assert await site.post(f"/deliveries/{sent.delivery_id}/replay") == {"replayed": 1}
    assert (await site.get("/deliveries?state=delivered"))["deliveries"] == []
    await site.post(f"/deliveries/{sent.delivery_id}/replay", 404)
    await site.get("/deliveries?endpoint=none&after=x", 422)
