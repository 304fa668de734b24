from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from monitor.errors import ServerReason, StaleEpochError, UnreachableError
from monitor.record.listings import Listings
from monitor.record.outbox import Outbox
from monitor.record.store import Store
from monitor.types import Gap, Match, MatchEvent, MatchState, StreamState, StreamStatus
from tests.integration.record.events import EVENING_S, Listener, life, make_event, make_match

PROVISIONAL, CONFIRMED, ENDED, RETRACTED = MatchState

DESK = Listener(name="desk")
COUNTER = Listener(name="counter", states=frozenset({CONFIRMED}))


async def rows_of(pool: AsyncConnectionPool[Any], table: str) -> int:
    async with pool.connection() as connection:
        cursor = await connection.execute(f"SELECT count(*) FROM {table}")
        return int((await cursor.fetchall())[0][0])


async def everything(pool: AsyncConnectionPool[Any]) -> dict[str, int]:
    tables = ("matches", "match_events", "match_hits", "deliveries")
    return {table: await rows_of(pool, table) for table in tables}


async def test_an_airing_is_one_row_that_holds_all_of_its_match(store: Store, listings: Listings, epoch: int) -> None:
    events = life(make_match(), PROVISIONAL, CONFIRMED, ENDED)

    for event in events:
        assert await store.record_events([event], epochs={"radio": epoch}) == [event]

    (row,) = await listings.matches()
    last = events[-1].match
    assert Match(**{name: getattr(row, name) for name in Match.__dataclass_fields__}) == last
    assert (row.sequence, row.epoch, row.decided_s) == (2, epoch, events[-1].decided_s)
    assert [event.state for event in await listings.events(last.match_id)] == [PROVISIONAL, CONFIRMED, ENDED]
    assert await listings.match(last.match_id) == row


async def test_each_event_is_delivered_to_each_webhook_that_wants_its_state(
    store: Store, outbox: Outbox, epoch: int
) -> None:
    events = life(make_match(), PROVISIONAL, CONFIRMED, ENDED)

    await store.record_events(events, epochs={"radio": epoch}, webhooks=[DESK, COUNTER])

    sent = [(delivery.endpoint, json.loads(delivery.body)["type"]) for delivery in await outbox.deliveries()]
    assert sorted(sent) == [
        ("counter", "match.confirmed"),
        ("desk", "match.confirmed"),
        ("desk", "match.ended"),
        ("desk", "match.provisional"),
    ]
    assert await outbox.pending() == {"counter": 1, "desk": 3}


async def test_a_webhook_says_everything_with_its_unit(
    store: Store, outbox: Outbox, epoch: int, pool: AsyncConnectionPool[Any]
) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO catalogs (name, embedder, model_id, dimension, window_s, hop_s, collection)"
            " VALUES ('songs', 'fingerprint', 'fingerprint-1', 128, 1, 0.5, 'songs')"
        )
        await connection.execute(
            "INSERT INTO catalog_references (catalog, reference_id, state, path, title, artist, isrc, owner, label)"
            " VALUES ('songs', 'piece-1', 'loading', '/new', 'New', NULL, NULL, NULL, NULL),"
            " ('songs', 'piece-1', 'ready', '/x', 'Élégie', 'Trio', 'XX1', 'Us', 'Ours')"
        )
    event = make_event(match=make_match(start_s=EVENING_S + 0.25))

    await store.record_events([event], epochs={"radio": epoch}, webhooks=[DESK])

    (delivery,) = await outbox.deliveries()
    assert json.loads(delivery.body) == {
        "type": "match.provisional",
        "timestamp": "2026-03-01T23:59:59.500000Z",
        "data": {
            "match_id": str(event.match.match_id),
            "sequence": 0,
            "state": "provisional",
            "stream": "radio",
            "catalog": "songs",
            "reference_id": "piece-1",
            "title": "Élégie",
            "artist": "Trio",
            "isrc": "XX1",
            "owner": "Us",
            "label": "Ours",
            "start_s": EVENING_S + 0.25,
            "start_at": "2026-03-01T23:59:50.250000Z",
            "end_s": EVENING_S + 8.5,
            "end_at": "2026-03-01T23:59:58.500000Z",
            "reference_start_s": 30.5,
            "reference_end_s": 38.75,
            "origin_s": EVENING_S - 30.25,
            "origin_at": "2026-03-01T23:59:19.750000Z",
            "tempo_ratio": 1.0,
            "evidence_nats": 42.0,
            "score": 0.75,
            "last_hit_s": EVENING_S + 7.75,
            "last_hit_at": "2026-03-01T23:59:57.750000Z",
            "decided_s": EVENING_S + 9.5,
            "decided_at": "2026-03-01T23:59:59.500000Z",
            "model_id": "fingerprint-0123456789ab",
            "interrupted": False,
            "reopened": False,
            "unheard_s": 0.0,
        },
    }


async def test_a_match_keeps_the_description_that_it_aired_with(
    store: Store, listings: Listings, epoch: int, pool: AsyncConnectionPool[Any]
) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO catalogs (name, embedder, model_id, dimension, window_s, hop_s, collection)"
            " VALUES ('songs', 'fingerprint', 'fingerprint-1', 128, 1, 0.5, 'songs')"
        )
        await connection.execute(
            "INSERT INTO catalog_references (catalog, reference_id, state, path, title)"
            " VALUES ('songs', 'piece-1', 'ready', '/x', 'First title')"
        )
    provisional, ended = life(make_match(), PROVISIONAL, RETRACTED)
    await store.record_events([provisional], epochs={"radio": epoch})
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM catalog_references")

    await store.record_events([ended], epochs={"radio": epoch})

    (row,) = await listings.matches()
    assert (row.state, row.title) == (RETRACTED, "First title")


async def test_an_update_moves_the_row_and_adds_hits_but_tells_nobody(
    store: Store, listings: Listings, outbox: Outbox, epoch: int
) -> None:
    match = make_match()
    first = make_event(match=match, hits_s=(EVENING_S,))
    update = make_event(1, match=match, end_s=match.end_s + 5, changed=False, hits_s=(EVENING_S, EVENING_S + 0.5))
    await store.record_events([first], epochs={"radio": epoch}, webhooks=[DESK])

    assert await store.record_events([update], epochs={"radio": epoch}, webhooks=[DESK]) == [update]
    assert await store.record_events([update], epochs={"radio": epoch}, webhooks=[DESK]) == []

    (row,) = await listings.matches()
    assert (row.end_s, row.sequence) == (match.end_s + 5, 1)
    assert len(await listings.events(match.match_id)) == len(await outbox.deliveries()) == 1
    assert [hit.window_start_s for hit in await listings.hits(row)] == [EVENING_S, EVENING_S + 0.5]


LIVES = st.tuples(
    st.lists(st.just(PROVISIONAL), min_size=1, max_size=3),
    st.lists(st.just(CONFIRMED), max_size=3),
).flatmap(lambda parts: st.sampled_from([[ENDED], [RETRACTED], []]).map(lambda end: [*parts[0], *parts[1], *end]))


@st.composite
def deliveries_of_lives(draw: st.DrawFn) -> tuple[list[MatchEvent], list[list[MatchEvent]]]:
    """Two lives, some events mere updates, and batches that hold them in order, some of them again and again."""
    events: list[MatchEvent] = []
    for _ in range(2):
        match, seen = make_match(), set[MatchState]()
        for sequence, state in enumerate(draw(LIVES)):
            changed = state not in seen or draw(st.booleans())
            seen.add(state)
            at_s = EVENING_S + 0.5 * sequence
            events.append(make_event(sequence, state, match=match, changed=changed, hits_s=(at_s, at_s + 20)))
    batches: list[list[MatchEvent]] = []
    position = 0
    while position < len(events):
        begin = draw(st.integers(0, position))
        position = draw(st.integers(position + 1, len(events)))
        batches.append(events[begin:position])
    return events, batches


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(deliveries_of_lives())
async def test_events_recorded_again_and_again_are_recorded_once(
    store: Store,
    listings: Listings,
    pool: AsyncConnectionPool[Any],
    recorded: tuple[list[MatchEvent], list[list[MatchEvent]]],
) -> None:
    events, batches = recorded
    epoch = await store.begin_listening("radio")
    before = await everything(pool)
    new: list[MatchEvent] = []
    for batch in batches:
        new += await store.record_events(batch, epochs={"radio": epoch}, webhooks=[DESK])

    assert new == events
    told = [event for event in events if event.changed]
    after = await everything(pool)
    assert {table: after[table] - before[table] for table in after} == {
        "matches": 2,
        "match_events": len(told),
        "match_hits": 2 * len(events),
        "deliveries": len(told),
    }
    for last in {event.match.match_id: event for event in events}.values():
        row = await listings.match(last.match.match_id)
        assert row is not None
        assert (row.state, row.sequence, row.end_s) == (last.match.state, last.sequence, last.match.end_s)


@pytest.mark.parametrize(
    ("known", "claimed"),
    [
        (ENDED, CONFIRMED),
        (ENDED, ENDED),
        (ENDED, RETRACTED),
        (RETRACTED, CONFIRMED),
        (CONFIRMED, PROVISIONAL),
    ],
)
async def test_a_state_never_goes_backwards(
    store: Store,
    listings: Listings,
    outbox: Outbox,
    epoch: int,
    known: MatchState,
    claimed: MatchState,
    caplog: pytest.LogCaptureFixture,
) -> None:
    match = make_match()
    await store.record_events([make_event(1, known, match=match)], epochs={"radio": epoch}, webhooks=[DESK])
    (before,) = await listings.matches()

    with caplog.at_level(logging.WARNING, "monitor"):
        refused = await store.record_events(
            [make_event(2, claimed, match=match, hits_s=(EVENING_S,))], epochs={"radio": epoch}, webhooks=[DESK]
        )

    assert refused == []
    assert await listings.matches() == [before]
    assert await listings.hits(before) == []
    assert await outbox.pending() == {"desk": 1}
    assert [record.action for record in caplog.records] == ["event_refused"]  # type: ignore[attr-defined]


async def test_an_event_that_comes_late_is_told_but_does_not_turn_the_row_back(
    store: Store, listings: Listings, outbox: Outbox, epoch: int
) -> None:
    provisional, confirmed = life(make_match(), PROVISIONAL, CONFIRMED)
    await store.record_events([confirmed], epochs={"radio": epoch}, webhooks=[DESK])

    assert await store.record_events([provisional], epochs={"radio": epoch}, webhooks=[DESK]) == [provisional]

    (row,) = await listings.matches()
    assert (row.state, row.sequence) == (CONFIRMED, 1)
    assert await outbox.pending() == {"desk": 2}


async def test_writers_that_write_the_same_at_once_write_it_once(
    store: Store, pool: AsyncConnectionPool[Any], epoch: int
) -> None:
    other = await store.begin_listening("other")
    events = [
        make_event(0, match=make_match(stream=stream), hits_s=(EVENING_S + day * 86_400,))
        for stream in ("radio", "other")
        for day in range(3)
    ]
    batches = [events, events[::-1], events[2:] + events[:2], events[1:]]

    recorded = await asyncio.gather(
        *(store.record_events(batch, epochs={"radio": epoch, "other": other}, webhooks=[DESK]) for batch in batches)
    )

    assert sum(map(len, recorded)) == 6
    assert await everything(pool) == {"matches": 6, "match_events": 6, "match_hits": 6, "deliveries": 6}


async def test_the_writes_of_an_earlier_listener_are_refused(
    store: Store, pool: AsyncConnectionPool[Any], epoch: int
) -> None:
    other = await store.begin_listening("other")
    assert await store.begin_listening("radio") == epoch + 1
    status = StreamStatus(stream="radio", state=StreamState.RECEIVING, reason=None, detail="", since_s=EVENING_S)
    gap = Gap(stream="radio", start_s=EVENING_S, end_s=EVENING_S + 1, reason="timeout")
    events = [make_event(match=make_match(stream="other")), make_event(hits_s=(EVENING_S,))]

    with pytest.raises(StaleEpochError, match="another listener has taken over stream radio") as caught:
        await store.record_events(events, epochs={"radio": epoch, "other": other}, webhooks=[DESK])
    assert caught.value.streams == {"radio"}
    for write in (
        store.record_status(status, epoch=epoch),
        store.record_gap(gap, epoch=epoch),
        store.record_heard({"radio": EVENING_S}, epochs={"radio": epoch}),
    ):
        with pytest.raises(StaleEpochError):
            await write

    assert set((await everything(pool)).values()) == {0}
    assert await rows_of(pool, "gaps") == await rows_of(pool, "stream_states") == 0
    assert await store.heard_until("radio") is None
    assert await store.record_events(events[:1], epochs={"other": other}) == events[:1]


async def test_a_stream_that_nobody_began_to_listen_to_cannot_be_written(store: Store) -> None:
    with pytest.raises(StaleEpochError):
        await store.record_events([make_event()], epochs={"radio": 1})


async def blocked(connection: psycopg.AsyncConnection[Any]) -> int:
    """The process id of the server's session that waits for a lock."""
    while True:
        cursor = await connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        if row := await cursor.fetchone():
            return int(row[0])
        await asyncio.sleep(0.01)


async def test_a_transaction_that_is_cut_in_the_middle_leaves_nothing(
    store: Store, pool: AsyncConnectionPool[Any], database: str, epoch: int
) -> None:
    event = make_event(hits_s=(EVENING_S,))
    async with await psycopg.AsyncConnection.connect(database) as other:
        # The deliveries come after matches and events, so the writer stops halfway.
        await other.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
        recording = asyncio.create_task(store.record_events([event], epochs={"radio": epoch}, webhooks=[DESK]))
        await other.execute("SELECT pg_terminate_backend(%s)", [await blocked(other)])

    with pytest.raises(UnreachableError, match="cannot record matches") as caught:
        await recording

    assert caught.value.reason is ServerReason.UNREACHABLE
    assert set((await everything(pool)).values()) == {0}
    assert await store.record_events([event], epochs={"radio": epoch}, webhooks=[DESK]) == [event]
    assert set((await everything(pool)).values()) == {1}


async def test_a_new_listener_waits_for_the_write_that_it_supersedes(
    store: Store, listings: Listings, database: str, epoch: int
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
        recording = asyncio.create_task(store.record_events([make_event()], epochs={"radio": epoch}, webhooks=[DESK]))
        await blocked(other)
        beginning = asyncio.create_task(store.begin_listening("radio"))
        await asyncio.sleep(0.1)
        assert not beginning.done()
    await recording
    assert await beginning == epoch + 1
    assert len(await listings.matches()) == 1


async def test_open_matches_can_be_taken_up_again(store: Store, epoch: int) -> None:
    lives = {
        "provisional": [PROVISIONAL],
        "confirmed": [PROVISIONAL, CONFIRMED],
        "ended": [PROVISIONAL, CONFIRMED, ENDED],
        "retracted": [PROVISIONAL, RETRACTED],
    }
    for name, states in lives.items():
        await store.record_events(life(make_match(reference_id=name), *states), epochs={"radio": epoch})
    await store.record_events(life(make_match(catalog="jingles"), PROVISIONAL), epochs={"radio": epoch})

    restored = await store.open_matches("radio", "songs")

    assert {(match.reference_id, match.state, match.sequence) for match in restored} == {
        ("provisional", PROVISIONAL, 0),
        ("confirmed", CONFIRMED, 1),
    }
    assert len(await store.open_matches("radio")) == 3
    assert await store.open_matches("other") == []


async def test_what_no_restart_resumes_is_closed_and_told(
    store: Store, listings: Listings, outbox: Outbox, epoch: int
) -> None:
    await store.record_events(life(make_match(catalog="old"), PROVISIONAL), epochs={"radio": epoch})
    await store.record_events(life(make_match(catalog="old"), PROVISIONAL, CONFIRMED), epochs={"radio": epoch})
    kept = make_match(catalog="songs")
    await store.record_events(life(kept, PROVISIONAL), epochs={"radio": epoch})
    epoch = await store.begin_listening("radio")
    close = {"epoch": epoch, "decided_s": EVENING_S + 600, "webhooks": [DESK], "except_catalogs": {"songs"}}

    closed = await store.close_matches("radio", **close)  # type: ignore[arg-type]

    assert [(event.sequence, event.match.state) for event in closed] in (
        [(1, RETRACTED), (2, ENDED)],
        [(2, ENDED), (1, RETRACTED)],
    )
    assert await store.close_matches("radio", **close) == []  # type: ignore[arg-type]
    assert [match.match_id for match in await store.open_matches("radio")] == [kept.match_id]
    assert await outbox.pending() == {"desk": 2}
    ended = await listings.matches(states=[ENDED])
    assert [match.end_s for match in ended] == [kept.end_s]


async def test_states_are_kept_and_the_latest_is_shown(store: Store, listings: Listings, epoch: int) -> None:
    connecting = StreamStatus(
        stream="radio", state=StreamState.CONNECTING, reason=None, detail="", since_s=EVENING_S + 1
    )
    stalled = replace(
        connecting, state=StreamState.STALLED, reason="stalled", detail="no \0 bytes", since_s=EVENING_S + 5
    )
    for status in (connecting, stalled, connecting, stalled):
        await store.record_status(status, epoch=epoch)

    (row,) = await listings.streams()
    assert row.status == replace(stalled, detail="no  bytes")
    assert [status.state for status in await listings.history("radio")] == [StreamState.STALLED, StreamState.CONNECTING]

    # The clock was set back, and then the daemon was restarted.
    epoch = await store.begin_listening("radio")
    back = replace(connecting, since_s=EVENING_S - 100)
    await store.record_status(back, epoch=epoch)
    (row,) = await listings.streams()
    assert row.status == back


@pytest.mark.parametrize("state", StreamState)
async def test_the_database_knows_every_state_of_a_stream(
    store: Store, listings: Listings, epoch: int, state: StreamState
) -> None:
    status = StreamStatus(stream="radio", state=state, reason=None, detail="", since_s=EVENING_S)
    await store.record_status(status, epoch=epoch)
    assert (await listings.streams())[0].status == status


async def test_a_gap_that_goes_on_is_one_row(store: Store, listings: Listings, epoch: int) -> None:
    for length_s in (1.0, 60.0, 30.0):
        gap = Gap(stream="radio", start_s=EVENING_S, end_s=EVENING_S + length_s, reason="dns")
        await store.record_gap(gap, epoch=epoch)
    assert await listings.gaps() == [Gap(stream="radio", start_s=EVENING_S, end_s=EVENING_S + 60, reason="dns")]


async def test_a_gap_without_length_is_none(store: Store, listings: Listings, epoch: int) -> None:
    for length_s in (0.0, -1.0, 1e-7):
        gap = Gap(stream="radio", start_s=EVENING_S, end_s=EVENING_S + length_s, reason="dns")
        await store.record_gap(gap, epoch=epoch)
    assert await listings.gaps() == []


async def test_how_far_a_stream_was_heard_never_goes_back(store: Store, listings: Listings, epoch: int) -> None:
    assert await store.heard_until("radio") is None
    for until_s in (EVENING_S, EVENING_S + 5, EVENING_S + 3):
        await store.record_heard({"radio": until_s}, epochs={"radio": epoch})
    assert await store.heard_until("radio") == EVENING_S + 5
    assert (await listings.streams())[0].heard_until_s == EVENING_S + 5
    assert await store.heard_until("unknown") is None


async def test_a_gap_that_goes_on_for_another_reason_keeps_the_first_one(
    store: Store, listings: Listings, epoch: int
) -> None:
    growing = [(10, "stalled"), (20, "stalled"), (30, "dns"), (60, "dns"), (20, "stalled"), (70, "auth")]
    for length_s, reason in growing * 2:
        gap = Gap(stream="radio", start_s=EVENING_S, end_s=EVENING_S + length_s, reason=reason)
        await store.record_gap(gap, epoch=epoch)
    pieces = [(0, 20, "stalled"), (20, 60, "dns"), (60, 70, "auth")]
    expected = [
        Gap(stream="radio", start_s=EVENING_S + start_s, end_s=EVENING_S + end_s, reason=reason)
        for start_s, end_s, reason in pieces
    ]
    assert sorted(await listings.gaps(), key=lambda gap: gap.start_s) == expected


async def test_an_airing_says_how_much_of_it_was_not_heard(store: Store, listings: Listings, epoch: int) -> None:
    match = make_match(start_s=EVENING_S, end_s=EVENING_S + 60)
    for start_s, end_s in ((-20, -5), (10, 14), (30, 36), (70, 90)):
        gap = Gap(stream="radio", start_s=EVENING_S + start_s, end_s=EVENING_S + end_s, reason="stalled")
        await store.record_gap(gap, epoch=epoch)
    await store.record_events(life(match, PROVISIONAL, CONFIRMED), epochs={"radio": epoch})
    (row,) = await listings.matches()
    assert row.unheard_s == 10.0


async def test_a_match_that_an_interruption_ended_can_be_opened_again(
    store: Store, listings: Listings, outbox: Outbox, epoch: int
) -> None:
    first, second, third = life(make_match(), PROVISIONAL, CONFIRMED, ENDED)
    await store.record_events([first, second, replace(third, interrupted=True)], epochs={"radio": epoch})
    assert await store.open_matches("radio") == []
    assert await store.open_matches("radio", interrupted_since_s=third.match.last_hit_s + 1) == []
    (row,) = await store.open_matches("radio", interrupted_since_s=third.match.last_hit_s - 1)
    assert row.state is ENDED and row.interrupted

    again = make_event(3, CONFIRMED, match=third.match)
    over = make_event(4, ENDED, match=third.match)
    epoch = await store.begin_listening("radio")
    assert await store.record_events([again, over], epochs={"radio": epoch}, webhooks=[DESK]) == [again, over]
    refused = make_event(5, CONFIRMED, match=third.match)
    assert await store.record_events([refused], epochs={"radio": epoch}) == []

    (row,) = await listings.matches()
    assert (row.state, row.interrupted, row.sequence) == (ENDED, False, 4)
    bodies = [json.loads(delivery.body) for delivery in await outbox.deliveries()]
    assert {(body["type"], body["data"]["reopened"]) for body in bodies} == {
        ("match.confirmed", True),
        ("match.ended", False),
    }


async def test_what_nobody_goes_on_with_is_ended_and_what_somebody_does_is_not(store: Store, epoch: int) -> None:
    others = {name: await store.begin_listening(name) for name in ("gone", "elsewhere")}
    matches = {name: make_match(stream=name) for name in ("radio", *others)}
    for name, match in matches.items():
        await store.record_events(life(match, PROVISIONAL, CONFIRMED), epochs={"radio": epoch} | others)
        assert [row.match_id for row in await store.open_matches(name)] == [match.match_id]
    # Another daemon hears this one, and has only not found the match again for a while.
    await store.record_heard({"elsewhere": EVENING_S + 700}, epochs=others)
    ended = await store.end_abandoned(listened=["radio"], before_s=EVENING_S + 600, decided_s=EVENING_S + 1200)
    assert [(event.match.stream, event.match.state) for event in ended] == [("gone", ENDED)]
    assert [len(await store.open_matches(name)) for name in matches] == [1, 0, 1]
