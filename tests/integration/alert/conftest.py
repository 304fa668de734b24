from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from benchmarks.faults.receiver import Receiver, receiving
from monitor.alert.attempt import Endpoint
from monitor.alert.delivery import Deliverer
from monitor.errors import DeliveryReason
from monitor.record.outbox import Outbox
from monitor.record.store import Store
from monitor.types import EndpointState, MatchState
from tests.integration.record.events import EVENING_S, make_event, make_match

SCHEDULE_S = (10.0, 100.0)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(
        database, min_size=1, max_size=4, open=False, timeout=30, check=AsyncConnectionPool.check_connection
    ) as opened:
        yield opened


@pytest.fixture
def outbox(pool: AsyncConnectionPool[Any]) -> Outbox:
    return Outbox(pool)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


@dataclass
class Clock:
    now_s: float = EVENING_S + 60

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Counts:
    """What the deliverer counted."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, DeliveryReason]] = field(default_factory=Counter)
    waiting: dict[str, int] = field(default_factory=dict)
    dead: Counter[tuple[str, DeliveryReason]] = field(default_factory=Counter)
    #: Each endpoint's states in order, no state twice in a row.
    states: dict[str, list[EndpointState]] = field(default_factory=dict)

    def delivered(self, endpoint: str) -> None:
        self.accepted[endpoint] += 1

    def failed(self, endpoint: str, reason: DeliveryReason) -> None:
        self.refused[endpoint, reason] += 1

    def pending(self, endpoint: str, deliveries: int) -> None:
        self.waiting[endpoint] = deliveries

    def gave_up(self, endpoint: str, reason: DeliveryReason, deliveries: int = 1) -> None:
        self.dead[endpoint, reason] += deliveries

    def endpoint_is(self, endpoint: str, state: EndpointState) -> None:
        known = self.states.setdefault(endpoint, [])
        if known[-1:] != [state]:
            known.append(state)


@pytest.fixture
def counts() -> Counts:
    return Counts()


Record = Callable[..., Awaitable[None]]


@pytest.fixture
async def record(pool: AsyncConnectionPool[Any]) -> Record:
    """Records as many provisional matches as asked for, to be told to the endpoints."""
    store = Store(pool)
    epoch = await store.begin_listening("radio")

    async def matches(number: int, *endpoints: Endpoint) -> None:
        for _ in range(number):
            event = make_event(0, MatchState.PROVISIONAL, match=make_match())
            await store.record_events([event], epochs={"radio": epoch}, webhooks=endpoints)

    return matches


Run = Callable[..., Deliverer]


@pytest.fixture
async def run(pool: AsyncConnectionPool[Any], counts: Counts, clock: Clock) -> AsyncIterator[Run]:
    """Starts deliverers, which end with the test."""
    tasks: list[asyncio.Task[None]] = []

    def start(*endpoints: Endpoint, poll_s: float = 0.02) -> Deliverer:
        deliverer = Deliverer(
            pool=pool, endpoints=endpoints, metrics=counts, now=clock, schedule_s=SCHEDULE_S, poll_s=poll_s
        )
        tasks.append(asyncio.create_task(deliverer.run(), name=f"deliverer {len(tasks)}"))
        deliverer_tasks[deliverer] = tasks[-1]
        return deliverer

    deliverer_tasks.clear()
    yield start
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome


#: The task in which each deliverer of the running test runs.
deliverer_tasks: dict[Deliverer, asyncio.Task[None]] = {}


async def eventually(condition: Callable[[], Any]) -> None:
    """Returns when the condition (which may be asynchronous) holds; the test's own time limit ends it otherwise."""
    while True:
        held = condition()
        if await held if isinstance(held, Awaitable) else held:
            return
        await asyncio.sleep(0.01)
