from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from monitor.errors import DeliveryError, DeliveryReason
from monitor.record.outbox import Outbox, Waiting
from monitor.record.rows import Delivery, DeliveryState
from monitor.record.store import Store
from monitor.types import MatchEvent, MatchState
from tests.integration.record.events import EVENING_S, Listener, life, make_event, make_match

NOW_S = EVENING_S + 60
FAILURE = DeliveryError(DeliveryReason.SERVER_ERROR, "oops", status_code=500)


@pytest.fixture
async def three(store: Store, epoch: int) -> list[UUID]:
    """Three matches, told of by the numbers 0, 1 and 2, of which one event each waits for "desk" and "archive"."""
    events = [make_event(number) for number in range(3)]
    await tell(store, epoch, events)
    return [event.match.match_id for event in events]


async def tell(store: Store, epoch: int, events: list[MatchEvent]) -> None:
    webhooks = [Listener(name="desk"), Listener(name="archive")]
    for event in events:
        await store.record_events([event], epochs={"radio": epoch}, webhooks=webhooks)


async def claim(outbox: Outbox, *, now_s: float = NOW_S, lease_s: float = 10) -> Delivery:
    claimed = await outbox.claim("desk", now_s=now_s, lease_s=lease_s)
    assert claimed is not None
    return claimed


async def test_claims_come_in_order_and_nobody_else_gets_them(outbox: Outbox, three: list[UUID]) -> None:
    first = await claim(outbox)
    others = await asyncio.gather(*(outbox.claim("desk", now_s=NOW_S, lease_s=10) for _ in range(5)))

    claimed = [first, *(other for other in others if other is not None)]
    assert sorted(delivery.sequence for delivery in claimed) == [0, 1, 2]
    assert first.sequence == 0
    assert [delivery.match_id for delivery in sorted(claimed, key=lambda delivery: delivery.sequence)] == three
    assert {(delivery.endpoint, delivery.attempts) for delivery in claimed} == {("desk", 1)}
    assert await outbox.waiting("desk") == Waiting(deliveries=3, next_attempt_s=NOW_S + 10)


async def test_a_claim_that_nobody_finishes_is_due_again_with_the_same_id_and_body(
    outbox: Outbox, three: list[UUID]
) -> None:
    first = await claim(outbox)
    for _ in range(2):
        await outbox.delivered((await claim(outbox)).delivery_id, now_s=NOW_S, status_code=200)
    assert await outbox.claim("desk", now_s=NOW_S + 9, lease_s=10) is None

    again = await claim(outbox, now_s=NOW_S + 10)

    assert (again.delivery_id, again.body, again.attempts) == (first.delivery_id, first.body, 2)


async def test_a_delivery_put_off_waits_and_says_why(outbox: Outbox, three: list[UUID]) -> None:
    first = await claim(outbox)
    await outbox.put_off(first.delivery_id, FAILURE, until_s=NOW_S + 300)

    assert [(await claim(outbox)).sequence for _ in range(2)] == [1, 2]
    (row,) = [row for row in await outbox.deliveries(endpoint="desk") if row.delivery_id == first.delivery_id]
    assert (row.state, row.next_attempt_s, row.reason, row.detail) == ("pending", NOW_S + 300, "server_error", "oops")


async def test_nothing_is_due_before_its_event_was_decided(outbox: Outbox, three: list[UUID]) -> None:
    assert await outbox.claim("desk", now_s=EVENING_S, lease_s=10) is None


async def test_finished_deliveries_stay_finished(outbox: Outbox, three: list[UUID]) -> None:
    accepted, refused = await claim(outbox), await claim(outbox)
    await outbox.delivered(accepted.delivery_id, now_s=NOW_S, status_code=204)
    await outbox.give_up(refused.delivery_id, FAILURE, now_s=NOW_S)
    # An attempt that outlived its lease reports after another one has settled the matter.
    await outbox.give_up(accepted.delivery_id, FAILURE, now_s=NOW_S)
    await outbox.put_off(accepted.delivery_id, FAILURE, until_s=NOW_S)
    await outbox.delivered(refused.delivery_id, now_s=NOW_S, status_code=204)

    rows = {row.delivery_id: row for row in await outbox.deliveries(endpoint="desk")}
    said = [
        (rows[delivery.delivery_id].state, rows[delivery.delivery_id].status_code, rows[delivery.delivery_id].reason)
        for delivery in (accepted, refused)
    ]
    assert said == [("delivered", 204, None), ("dead", 500, "server_error")]
    assert rows[accepted.delivery_id].finished_s == NOW_S
    assert await outbox.pending() == {"archive": 3, "desk": 1}


async def test_a_later_event_of_a_match_waits_for_the_earlier_ones_to_the_same_endpoint(
    outbox: Outbox, store: Store, epoch: int
) -> None:
    await tell(store, epoch, life(make_match(), MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED))
    first = await claim(outbox)
    assert first.sequence == 0
    assert await outbox.claim("desk", now_s=NOW_S + 1, lease_s=10) is None
    # Nothing may be claimed before the earlier one is due again, though the later ones are.
    assert await outbox.waiting("desk") == Waiting(deliveries=3, next_attempt_s=NOW_S + 10)
    other = await outbox.claim("archive", now_s=NOW_S, lease_s=10)
    assert other is not None
    assert other.sequence == 0

    await outbox.put_off(first.delivery_id, FAILURE, until_s=NOW_S + 300)
    assert await outbox.claim("desk", now_s=NOW_S + 299, lease_s=10) is None
    assert (await claim(outbox, now_s=NOW_S + 300)).sequence == 0
    await outbox.delivered(first.delivery_id, now_s=NOW_S + 300, status_code=204)
    second = await claim(outbox, now_s=NOW_S + 300)
    assert second.sequence == 1
    await outbox.give_up(second.delivery_id, FAILURE, now_s=NOW_S + 300)
    assert (await claim(outbox, now_s=NOW_S + 300)).sequence == 2
    # A dead letter that is replayed is late, and holds nobody up but those that wait.
    assert await outbox.replay(now_s=NOW_S + 301, delivery_ids=[second.delivery_id]) == 1
    assert (await claim(outbox, now_s=NOW_S + 311)).sequence == 1


async def test_what_waits_for_a_disabled_endpoint_is_dead(outbox: Outbox, three: list[UUID]) -> None:
    assert await outbox.bury("desk", now_s=NOW_S) == 3
    assert await outbox.pending() == {"archive": 3}
    assert await outbox.dead() == {"desk": 3}
    assert {row.reason for row in await outbox.deliveries(states=[DeliveryState.DEAD])} == {"gone"}


async def test_the_dead_are_replayed_under_their_ids(outbox: Outbox, three: list[UUID]) -> None:
    before = {row.delivery_id for row in await outbox.deliveries(endpoint="desk")}
    for endpoint in ("desk", "archive"):
        await outbox.bury(endpoint, now_s=NOW_S)

    assert await outbox.replay(now_s=NOW_S + 100, endpoint="desk") == 3

    assert await outbox.pending() == {"desk": 3}
    again = await claim(outbox, now_s=NOW_S + 100)
    assert again.attempts == 1
    assert again.delivery_id in before
    assert await outbox.replay(now_s=NOW_S) == 3


async def test_replay_by_id_also_sends_again_what_was_accepted_but_never_what_waits(
    outbox: Outbox, three: list[UUID]
) -> None:
    accepted = await claim(outbox)
    await outbox.delivered(accepted.delivery_id, now_s=NOW_S, status_code=204)
    waiting = await claim(outbox)

    assert await outbox.replay(now_s=NOW_S) == 0
    ids = [accepted.delivery_id, waiting.delivery_id]
    assert await outbox.replay(now_s=NOW_S, delivery_ids=ids) == 1
    assert await outbox.replay(now_s=NOW_S, delivery_ids=[]) == 0

    assert await outbox.pending() == {"archive": 3, "desk": 3}


async def test_deliveries_are_listed_in_pages_newest_first(outbox: Outbox, three: list[UUID]) -> None:
    found: list[Delivery] = []
    while page := await outbox.deliveries(
        endpoint="archive", limit=2, before=(found[-1].created_s, found[-1].delivery_id) if found else None
    ):
        found += page
    assert [row.sequence for row in found] == [2, 1, 0]
    assert {row.endpoint for row in found} == {"archive"}
