"""From the outbox to the endpoints: at least once, each endpoint at its own pace, nothing forgotten."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import httpx
from psycopg_pool import AsyncConnectionPool

from monitor.alert.attempt import FINAL, Endpoint, Outcome, open_client, post
from monitor.errors import DeliveryReason, UnreachableError
from monitor.record.outbox import Outbox
from monitor.record.rows import Delivery

log = logging.getLogger(__name__)

#: Waits after the first, second, ... failed attempt, as Standard Webhooks 1.0 suggests: 75 hours in all.
RETRY_SCHEDULE_S: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: Each wait is lengthened or shortened by at most this share, so that what failed together does not return together.
_JITTER = 0.1
#: A claimed delivery is due again so long after its attempt must have ended.
_LEASE_MARGIN_S = 10.0


class DeliveryMetrics(Protocol):
    """What is counted, by endpoint."""

    def delivered(self, endpoint: str) -> None:
        """An attempt was accepted."""

    def failed(self, endpoint: str, reason: DeliveryReason) -> None:
        """An attempt was not accepted."""

    def pending(self, endpoint: str, deliveries: int) -> None:
        """So many deliveries wait."""


class Deliverer:
    """Delivers what the outbox holds for its endpoints, each in a task of its own, one request at a time.

    2xx ends a delivery. 408, 429, 5xx and trouble on the way are tried again on `schedule_s`, or when `Retry-After`
    says, and given up after its end. Any other answer gives the delivery up at once; 410 disables the endpoint too.
    Receivers see each `webhook-id` at least once, and its body is the same each time.
    """

    def __init__(
        self,
        *,
        pool: AsyncConnectionPool[Any],
        endpoints: Iterable[Endpoint],
        metrics: DeliveryMetrics,
        now: Callable[[], float] = time.time,
        schedule_s: Sequence[float] = RETRY_SCHEDULE_S,
        poll_s: float = 5.0,
    ) -> None:
        self._outbox = Outbox(pool)
        self._metrics, self._now, self._schedule_s, self._poll_s = metrics, now, schedule_s, poll_s
        self._couriers = {endpoint.name: self._courier(endpoint) for endpoint in endpoints}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints that are delivered to."""
        return tuple(courier.endpoint for courier in self._couriers.values())

    async def run(self) -> None:
        """Deliver until cancelled. A delivery that is on its way then is sent again by the next run."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for name in self._couriers:
                    self._start(name)
                await asyncio.Event().wait()
        finally:
            self._group = None

    def wake(self) -> None:
        """New deliveries were recorded: look now."""
        for courier in self._couriers.values():
            courier.wake()

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """Go on with these endpoints; those that did not change are not disturbed.

        What waits for an endpoint that is named no longer stays in the outbox until it is named again. Raises
        ConfigError, and then has changed nothing.
        """
        wanted = {endpoint.name: endpoint for endpoint in endpoints}
        couriers = {
            name: known
            if (known := self._couriers.get(name)) is not None and known.endpoint == endpoint
            else self._courier(endpoint)
            for name, endpoint in wanted.items()
        }
        changed = {name for name, courier in self._couriers.items() if couriers.get(name) is not courier}
        started = {name for name, courier in couriers.items() if self._couriers.get(name) is not courier}
        self._couriers = couriers
        for name in changed:
            if (task := self._tasks.pop(name, None)) is not None:
                task.cancel(f"webhook {name} was changed")
        for name in started:
            self._start(name)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is due any more, at most `timeout_s`; True if so."""
        for courier in self._couriers.values():
            courier.idle.clear()
            courier.wake()
        try:
            async with asyncio.timeout(timeout_s):
                for courier in list(self._couriers.values()):
                    await courier.idle.wait()
        except TimeoutError:
            return False
        return True

    def _courier(self, endpoint: Endpoint) -> Courier:
        return Courier(
            endpoint=endpoint,
            outbox=self._outbox,
            metrics=self._metrics,
            now=self._now,
            schedule_s=self._schedule_s,
            poll_s=self._poll_s,
        )

    def _start(self, name: str) -> None:
        if self._group is not None:
            self._tasks[name] = self._group.create_task(self._couriers[name].run(), name=f"deliver to {name}")


class Courier:
    """Delivers to one endpoint."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        outbox: Outbox,
        metrics: DeliveryMetrics,
        now: Callable[[], float],
        schedule_s: Sequence[float],
        poll_s: float,
    ) -> None:
        _ = endpoint.keys  # an unusable secret is refused before anything is sent
        self.endpoint = endpoint
        #: Set while nothing is due.
        self.idle = asyncio.Event()
        self._outbox, self._metrics, self._now = outbox, metrics, now
        self._schedule_s, self._poll_s = schedule_s, poll_s
        self._awake = asyncio.Event()
        #: Until then the endpoint asked to be left alone.
        self._held_until_s = 0.0
        #: Why the latest attempt failed; the log is told when this changes.
        self._trouble: DeliveryReason | None = None
        self._cut_off = False

    def wake(self) -> None:
        """Look for what is due now."""
        self._awake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with open_client(self.endpoint) as client:
            while True:
                self._awake.clear()
                try:
                    wait_s = await self._step(client)
                    self._cut_off = False
                    # Whoever woke it meanwhile knows of something newer than what this step saw.
                    if wait_s > 0 and not self._awake.is_set():
                        self.idle.set()
                except UnreachableError as error:
                    if not self._cut_off:
                        log.warning("deliveries wait: %s", error, extra=self._words("deliveries_wait"))
                    self._cut_off = True
                    wait_s = self._poll_s
                if wait_s > 0:
                    await self._sleep(wait_s)

    async def _step(self, client: httpx.AsyncClient) -> float:
        """Do what is due first; returns for how many seconds nothing else is."""
        name, now_s = self.endpoint.name, self._now()
        if await self._outbox.is_disabled(name, url=self.endpoint.url):
            if buried := await self._outbox.bury(name, now_s=now_s):
                log.warning("%d deliveries to %s given up: it is disabled", buried, name, extra=self._words("buried"))
            return await self._rest()
        if now_s < self._held_until_s:
            return await self._rest()
        lease_s = self.endpoint.timeout_s + _LEASE_MARGIN_S
        delivery = await self._outbox.claim(name, now_s=now_s, lease_s=lease_s)
        if delivery is None:
            return await self._rest()
        self.idle.clear()
        outcome = await post(
            client, self.endpoint, delivery_id=str(delivery.delivery_id), body=delivery.body, now_s=now_s
        )
        await self._settle(delivery, outcome)
        return 0.0

    async def _rest(self) -> float:
        waiting = await self._outbox.waiting(self.endpoint.name)
        self._metrics.pending(self.endpoint.name, waiting.deliveries)
        if waiting.next_attempt_s is None:
            return self._poll_s
        # Never shorter than this, so that clocks which disagree by a little do not make a busy loop.
        return min(max(waiting.next_attempt_s, self._held_until_s) - self._now() + 0.01, self._poll_s)

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        name, now_s, reason = self.endpoint.name, self._now(), outcome.reason
        if reason is None:
            await self._outbox.delivered(delivery.delivery_id, now_s=now_s, status_code=outcome.status_code or 0)
            self._metrics.delivered(name)
            if self._trouble is not None:
                log.info("deliveries to %s are accepted again", name, extra=self._words("deliveries_accepted"))
            self._trouble = None
            return
        self._metrics.failed(name, reason)
        if reason is not self._trouble:
            log.warning("a delivery to %s failed: %s", name, _cause(outcome), extra=self._words("delivery_failed"))
            self._trouble = reason
        if reason is DeliveryReason.GONE:
            await self._outbox.disable(name, url=self.endpoint.url, now_s=now_s)
        if outcome.throttled:
            self._held_until_s = now_s + (outcome.retry_after_s or 0.0)
        if reason in FINAL or delivery.attempts > len(self._schedule_s):
            await self._outbox.give_up(
                delivery.delivery_id,
                now_s=now_s,
                status_code=outcome.status_code,
                reason=reason,
                detail=outcome.detail,
            )
            said = (delivery.delivery_id, name, delivery.attempts, _cause(outcome))
            words = self._words("delivery_dead")
            log.error("delivery %s to %s given up after attempt %d: %s", *said, extra=words)
            return
        wait_s = self._schedule_s[delivery.attempts - 1] * (1 + _JITTER * random.uniform(-1, 1))  # noqa: S311
        await self._outbox.put_off(
            delivery.delivery_id,
            until_s=now_s + max(wait_s, outcome.retry_after_s or 0.0),
            status_code=outcome.status_code,
            reason=reason,
            detail=outcome.detail,
        )

    async def _sleep(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._awake.wait()
        except TimeoutError:
            return

    def _words(self, action: str) -> dict[str, str]:
        return {"action": action, "endpoint": self.endpoint.name}


def _cause(outcome: Outcome) -> str:
    code = "" if outcome.status_code is None else f" ({outcome.status_code})"
    return f"{outcome.reason}{code} {outcome.detail}".rstrip()
