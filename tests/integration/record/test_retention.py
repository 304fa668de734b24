from __future__ import annotations

import asyncio
from typing import Any

from psycopg_pool import AsyncConnectionPool

from monitor.record.listings import Listings
from monitor.record.outbox import Outbox
from monitor.record.store import Store
from monitor.types import Gap, StreamState, StreamStatus
from tests.integration.record.events import EVENING_S, Listener, make_event

DAY_S = 86_400.0
KEEP = {"hits_days": 2, "history_days": 3, "deliveries_days": 4}


async def partitions(pool: AsyncConnectionPool[Any]) -> list[str]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'match_hits'::regclass ORDER BY 1"
        )
        return [row[0] for row in await cursor.fetchall()]


async def test_hits_lie_in_the_partition_of_their_utc_day(
    store: Store, listings: Listings, pool: AsyncConnectionPool[Any], epoch: int
) -> None:
    hits_s = (EVENING_S + 9.75, EVENING_S + 10.0)
    async with pool.connection() as connection:
        await connection.execute("ALTER DATABASE " + connection.info.dbname + " SET TimeZone = 'Pacific/Auckland'")
    await pool.check()
    for _ in range(4):  # whatever connection is used
        await store.record_events([make_event(hits_s=hits_s)], epochs={"radio": epoch})

    assert await partitions(pool) == ["match_hits_20260301", "match_hits_20260302"]
    assert [hit.window_start_s for hit in await listings.hits((await listings.matches())[0])] == list(hits_s)


async def test_old_days_of_hits_are_dropped_and_made_again_for_a_late_hit(
    store: Store, listings: Listings, pool: AsyncConnectionPool[Any], epoch: int
) -> None:
    events = [make_event(hits_s=(EVENING_S - day * DAY_S,)) for day in range(5)]
    await store.record_events(events, epochs={"radio": epoch})

    gone = await store.retain(**KEEP, now_s=EVENING_S)

    assert gone == {"days_of_hits": 2, "stream_states": 0, "gaps": 0, "deliveries": 0}
    assert await partitions(pool) == ["match_hits_20260227", "match_hits_20260228", "match_hits_20260301"]
    assert len(await listings.matches()) == 5
    late = make_event(hits_s=(EVENING_S - 4 * DAY_S,))
    assert await store.record_events([late], epochs={"radio": epoch}) == [late]


async def test_recording_and_dropping_at_once_lose_nothing_that_is_young(
    store: Store, pool: AsyncConnectionPool[Any], epoch: int
) -> None:
    days = [EVENING_S - day * DAY_S for day in range(6)]
    recording = [
        store.record_events([make_event(hits_s=(day_s,))], epochs={"radio": epoch}) for day_s in days for _ in range(3)
    ]
    dropping = [store.retain(**KEEP, now_s=EVENING_S) for _ in range(3)]

    await asyncio.gather(*recording, *dropping)

    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM match_hits WHERE window_start_at >= '2026-02-27Z'")
        assert await cursor.fetchone() == (9,)


async def test_old_states_gaps_and_finished_deliveries_go_and_waiting_ones_stay(
    store: Store, listings: Listings, outbox: Outbox, epoch: int
) -> None:
    for age_days in (1, 2, 4, 5):
        at_s = EVENING_S - age_days * DAY_S
        await store.record_status(
            StreamStatus(stream="radio", state=StreamState.SILENT, reason=None, detail="", since_s=at_s), epoch=epoch
        )
        await store.record_gap(Gap(stream="radio", start_s=at_s, end_s=at_s + 9, reason="dns"), epoch=epoch)
        await store.record_events([make_event()], epochs={"radio": epoch}, webhooks=[Listener(name="desk")])
        if age_days != 1:
            claimed = await outbox.claim("desk", now_s=EVENING_S + 60, lease_s=1)
            assert claimed is not None
            await outbox.delivered(claimed.delivery_id, now_s=at_s, status_code=204)
    await store.record_events([make_event()], epochs={"radio": epoch}, webhooks=[Listener(name="forgotten")])

    assert await store.retain(**KEEP, now_s=EVENING_S) == {
        "days_of_hits": 0,
        "stream_states": 2,
        "gaps": 2,
        "deliveries": 1,
    }
    assert await outbox.pending() == {"desk": 1, "forgotten": 1}
    assert len(await listings.matches()) == 5
