from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from monitor.record.listings import Listings
from monitor.record.store import Store
from monitor.types import Gap, Match, MatchState, StreamState, StreamStatus
from tests.integration.record.events import EVENING_S, life, make_match, uuid_of

PROVISIONAL, CONFIRMED, ENDED, RETRACTED = MatchState
LIVES: dict[MatchState, tuple[MatchState, ...]] = {
    PROVISIONAL: (PROVISIONAL,),
    CONFIRMED: (PROVISIONAL, CONFIRMED),
    ENDED: (PROVISIONAL, CONFIRMED, ENDED),
    RETRACTED: (PROVISIONAL, RETRACTED),
}


@pytest.fixture
async def log(store: Store) -> list[Match]:
    """Forty matches of two streams and three references in all states, three at a time with the same start."""
    epochs = {stream: await store.begin_listening(stream) for stream in ("radio", "other")}
    matches = []
    for number in range(40):
        state = list(MatchState)[number % 4]
        match = make_match(
            match_id=uuid_of(number * 7919 % 997),
            stream="radio" if number % 3 else "other",
            reference_id=f"piece-{number % 5}",
            catalog="songs" if number % 7 else "jingles",
            start_s=EVENING_S + number // 3 + 0.123456,
        )
        events = life(match, *LIVES[state])
        await store.record_events(events, epochs=epochs)
        matches.append(events[-1].match)
    return matches


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    since_s=st.none() | st.integers(-1, 15).map(lambda offset: EVENING_S + offset),
    until_s=st.none() | st.integers(-1, 15).map(lambda offset: EVENING_S + offset),
    stream=st.none() | st.sampled_from(["radio", "other", "none"]),
    reference_id=st.none() | st.sampled_from(["piece-0", "piece-3", "none"]),
    catalog=st.none() | st.sampled_from(["songs", "jingles"]),
    words=st.lists(st.sampled_from(["piece", "ECE-3", "4", "%"]), max_size=2),
    # Of few references each is looked up; for words of many the log is read.
    few=st.sampled_from([0, 2, 1000]),
    states=st.sets(st.sampled_from(MatchState)),
    limit=st.integers(1, 50),
)
async def test_pages_hold_every_wanted_match_once_newest_first(
    listings: Listings,
    log: list[Match],
    since_s: float | None,
    until_s: float | None,
    stream: str | None,
    reference_id: str | None,
    catalog: str | None,
    words: list[str],
    few: int,
    states: Collection[MatchState],
    limit: int,
) -> None:
    wanted = [
        match.match_id
        for match in sorted(log, key=lambda match: (match.start_s, match.match_id), reverse=True)
        if (since_s is None or match.start_s >= since_s)
        and (until_s is None or match.start_s < until_s)
        and stream in (None, match.stream)
        and reference_id in (None, match.reference_id)
        and catalog in (None, match.catalog)
        and all(word.lower() in match.reference_id for word in words)
        and match.state in states
    ]
    found: list[UUID] = []
    before: tuple[float, UUID] | None = None
    while True:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("monitor.record.listings._FEW_REFERENCES", few)
            page = await listings.matches(
                since_s=since_s,
                until_s=until_s,
                stream=stream,
                reference_id=reference_id,
                catalog=catalog,
                words=words,
                states=states,
                limit=limit,
                before=before,
            )
        assert len(page) <= limit
        found += [match.match_id for match in page]
        if len(page) < limit:
            break
        before = (page[-1].start_s, page[-1].match_id)
    assert found == wanted


async def test_counts_name_every_state(listings: Listings, log: list[Match]) -> None:
    assert await listings.count_matches() == dict.fromkeys(MatchState, 10)
    assert await listings.count_matches(since_s=EVENING_S + 13) == {
        PROVISIONAL: 0,
        CONFIRMED: 0,
        ENDED: 0,
        RETRACTED: 1,
    }
    assert sum((await listings.count_matches(stream="other")).values()) == 14
    assert await listings.count_matches(stream="none") == dict.fromkeys(MatchState, 0)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"stream": "radio-7"},
        {"reference_id": "piece-7"},
        {"states": [RETRACTED]},
        {"stream": "radio-7", "states": [PROVISIONAL, RETRACTED]},
        {"since_s": EVENING_S, "until_s": EVENING_S + 3600, "stream": "radio-7"},
    ],
)
async def test_a_page_reads_a_page_of_rows_however_long_the_log_is(
    listings: Listings, pool: AsyncConnectionPool[Any], filters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO matches (match_id, stream, catalog, reference_id, state, start_at, end_at, reference_start_s,"
            " reference_end_s, origin_at, tempo_ratio, evidence_nats, score, last_hit_at, model_id, epoch, sequence,"
            " decided_at) SELECT gen_random_uuid(), 'radio-' || mod(n, 20), 'songs', 'piece-' || mod(n, 37),"
            " CASE WHEN mod(n, 1000) = 7 THEN 'retracted' WHEN n > 19990 THEN 'provisional' ELSE 'ended' END,"
            " t, t, 0, 0, t, 1, 1, 1, t, 'm', 1, 1, t FROM generate_series(1, 20000) n,"
            " LATERAL (SELECT to_timestamp(%s + n * 10) AS t) AS times",
            [EVENING_S],
        )
        await connection.execute("ANALYZE matches")
    explained: list[dict[str, Any]] = []
    read = listings._read

    async def explain(doing: str, query: Any, values: dict[str, Any]) -> list[dict[str, Any]]:
        plan = await read(doing, b"EXPLAIN (ANALYZE, FORMAT JSON) " + query, values)
        explained.append(plan[0]["QUERY PLAN"][0]["Plan"])
        return await read(doing, query, values)

    monkeypatch.setattr(listings, "_read", explain)
    page = await listings.matches(limit=10, **filters)
    assert page
    last = page[-1]
    await listings.matches(limit=10, before=(last.start_s, last.match_id), **filters)

    def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
        return [plan, *(below for child in plan.get("Plans", ()) for below in scans(child))]

    nodes = [node for plan in explained for node in scans(plan)]
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}, json.dumps(explained, indent=1)
    # At most a page of each state is read, and nothing is read to be thrown away.
    assert max(node["Actual Rows"] for node in nodes if "Index Name" in node) <= 40
    assert sum(node.get("Rows Removed by Filter", 0) for node in nodes) == 0


async def test_the_history_of_a_stream_comes_in_pages(store: Store, listings: Listings, epoch: int) -> None:
    # Two states of one instant stay in the order in which they were taken up.
    for offset_s, state in ((0, "connecting"), (1, "backing_off"), (1, "connecting"), (2, "receiving"), (9, "stopped")):
        status = StreamStatus(
            stream="radio", state=StreamState(state), reason=None, detail="", since_s=EVENING_S + offset_s
        )
        await store.record_status(status, epoch=epoch)

    first = await listings.history("radio", until_s=EVENING_S + 9, limit=2)
    second = await listings.history("radio", limit=2, before=(first[-1].since_s, first[-1].number))

    assert [status.state.value for status in first + second] == ["receiving", "connecting", "backing_off", "connecting"]
    assert [status.state for status in await listings.history("radio", since_s=EVENING_S + 9)] == [StreamState.STOPPED]
    assert await listings.history("other") == []


async def test_gaps_that_reach_into_a_span_are_listed(store: Store, listings: Listings, epoch: int) -> None:
    other = await store.begin_listening("other")
    long = Gap(stream="radio", start_s=EVENING_S, end_s=EVENING_S + 100, reason="dns")
    short = Gap(stream="radio", start_s=EVENING_S + 200, end_s=EVENING_S + 201, reason="tls")
    same = Gap(stream="other", start_s=EVENING_S + 200, end_s=EVENING_S + 230, reason="tls")
    for gap, of in ((long, epoch), (short, epoch), (same, other)):
        await store.record_gap(gap, epoch=of)

    assert await listings.gaps() == [short, same, long]
    assert await listings.gaps(stream="radio") == [short, long]
    assert await listings.gaps(since_s=EVENING_S + 50, until_s=EVENING_S + 60) == [long]
    assert await listings.gaps(since_s=EVENING_S + 100, until_s=EVENING_S + 200) == []
    assert await listings.gaps(limit=1, before=(short.start_s, short.stream)) == [same]
