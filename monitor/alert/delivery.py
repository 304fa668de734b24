"""From the outbox to the endpoints: at least once, each endpoint at its own pace, nothing forgotten."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import httpx
from psycopg_pool import AsyncConnectionPool

from monitor.alert.attempt import FINAL, Endpoint, open_client, post
from monitor.alert.pace import Rate, rest_s
from monitor.errors import DeliveryError, DeliveryReason, UnreachableError
from monitor.record.endpoints import TRIP_AFTER, Endpoints, Standing
from monitor.record.outbox import Outbox
from monitor.record.rows import Delivery
from monitor.types import EndpointState

log = logging.getLogger(__name__)

#: Waits after the first, second, ... failed attempt, as Standard Webhooks 1.0 suggests: 75 hours in all.
RETRY_SCHEDULE_S: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: Each wait is lengthened or shortened by at most this share, so that what failed together does not return together.
_JITTER = 0.1
#: A claimed delivery is due again so long after its attempt must have ended.
_LEASE_MARGIN_S = 10.0
#: Answers by which an endpoint shows that it is there, whatever it thinks of this delivery.
_ALIVE = frozenset({DeliveryReason.CLIENT_ERROR, DeliveryReason.UNSENDABLE, DeliveryReason.GONE})
#: With these and `Retry-After` an endpoint asks to be left alone altogether.
_THROTTLING = frozenset({429, 503})
#: What waits is counted so often while deliveries flow.
_COUNT_EVERY_S = 1.0
#: When an endpoint accepted something last is written so often.
_ACCEPTED_EVERY_S = 60.0


class DeliveryMetrics(Protocol):
    """What is counted, by endpoint."""

    def delivered(self, endpoint: str) -> None:
        """An attempt was accepted."""

    def failed(self, endpoint: str, reason: DeliveryReason) -> None:
        """An attempt was not accepted."""

    def gave_up(self, endpoint: str, reason: DeliveryReason, deliveries: int = 1) -> None:
        """Deliveries are dead."""

    def pending(self, endpoint: str, deliveries: int) -> None:
        """So many deliveries wait."""

    def endpoint_is(self, endpoint: str, state: EndpointState) -> None:
        """Whether the endpoint is sent to."""


class Deliverer:
    """Delivers what the outbox holds for its endpoints, each in a task of its own, one request at a time.

    2xx ends a delivery. 408, 429, 5xx, redirects (never followed) and trouble on the way are tried again on
    `schedule_s`, or when `Retry-After` says, and given up after its end. Any other answer gives the delivery up at
    once; 410 disables the endpoint too. Receivers see each `webhook-id` at least once, and its body is the same each
    time; of one match they never see a later event before an earlier one, unless that was given up. An endpoint that
    fails five times in a row is tried rarely, one delivery at a time, until it accepts one.
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
        self._outbox, self._standings = Outbox(pool), Endpoints(pool)
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
            standings=self._standings,
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
        standings: Endpoints,
        metrics: DeliveryMetrics,
        now: Callable[[], float],
        schedule_s: Sequence[float],
        poll_s: float,
    ) -> None:
        _ = endpoint.keys  # an unusable secret is refused before anything is sent
        self.endpoint = endpoint
        #: Set while nothing is due.
        self.idle = asyncio.Event()
        self._outbox, self._standings, self._metrics, self._now = outbox, standings, metrics, now
        self._schedule_s, self._poll_s = schedule_s, poll_s
        self._client = open_client(endpoint)
        self._rate = Rate(per_s=endpoint.rate_per_s)
        self._awake = asyncio.Event()
        #: Why the latest attempt failed; the log is told when this changes.
        self._trouble: DeliveryReason | None = None
        self._state: EndpointState | None = None
        self._counted_s = -float("inf")
        self._cut_off = False

    def wake(self) -> None:
        """Look for what is due now."""
        self._awake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with self._client as client:
            # A library that is cancelled while its connection fails may raise the failure and forget the cancellation.
            while not _is_cancelled():
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
        raise asyncio.CancelledError

    async def _step(self, client: httpx.AsyncClient) -> float:
        """Do what is due first; returns for how many seconds nothing else is."""
        name, loop = self.endpoint.name, asyncio.get_running_loop()
        if (wait_s := self._rate.wait_s(loop.time())) > 0:
            await asyncio.sleep(wait_s)
        now_s = self._now()
        standing = await self._standings.standing(name, url=self.endpoint.url)
        self._stands(standing.state(now_s))
        if standing.disabled_s is not None:
            if buried := await self._outbox.bury(name, now_s=now_s):
                self._metrics.gave_up(name, DeliveryReason.GONE, buried)
                log.warning("%d deliveries to %s given up: it is disabled", buried, name, extra=self._words("buried"))
            return await self._rest()
        if standing.held_until_s is not None and now_s < standing.held_until_s:
            return await self._rest(standing.held_until_s)
        lease_s = self.endpoint.longest_attempt_s + _LEASE_MARGIN_S
        delivery = await self._outbox.claim(name, now_s=now_s, lease_s=lease_s)
        if delivery is None:
            return await self._rest()
        self.idle.clear()
        self._rate.spend(loop.time())
        try:
            code = await post(
                client, self.endpoint, delivery_id=str(delivery.delivery_id), body=delivery.body, now_s=now_s
            )
        except DeliveryError as error:
            await self._failed(delivery, standing, error)
        else:
            await self._accepted(delivery, standing, code)
        if loop.time() - self._counted_s >= _COUNT_EVERY_S:
            await self._rest()
        return 0.0

    async def _rest(self, held_until_s: float = 0.0) -> float:
        waiting = await self._outbox.waiting(self.endpoint.name)
        self._counted_s = asyncio.get_running_loop().time()
        self._metrics.pending(self.endpoint.name, waiting.deliveries)
        if waiting.next_attempt_s is None:
            return self._poll_s
        # Never shorter than this, so that clocks which disagree by a little do not make a busy loop.
        return max(min(max(waiting.next_attempt_s, held_until_s) - self._now(), self._poll_s), 0.0) + 0.01

    async def _accepted(self, delivery: Delivery, standing: Standing, status_code: int) -> None:
        name, now_s = self.endpoint.name, self._now()
        await self._outbox.delivered(delivery.delivery_id, now_s=now_s, status_code=status_code)
        self._metrics.delivered(name)
        unwritten_s = now_s - (standing.accepted_s or -float("inf"))
        if standing.failures or standing.held_until_s is not None or unwritten_s >= _ACCEPTED_EVERY_S:
            await self._standings.accepted(name, url=self.endpoint.url, now_s=now_s)
        self._stands(EndpointState.ACCEPTING)
        if self._trouble is not None:
            log.info("deliveries to %s are accepted again", name, extra=self._words("deliveries_accepted"))
        self._trouble = None

    async def _failed(self, delivery: Delivery, standing: Standing, error: DeliveryError) -> None:
        name, now_s, reason = self.endpoint.name, self._now(), error.reason
        self._metrics.failed(name, reason)
        if reason is not self._trouble:
            said = f"a delivery to {name} failed: {_cause(error)}"
            log.warning("%s", said, extra=self._words("delivery_failed", reason))
            self._trouble = reason
        standing = self._judged(standing, error, now_s)
        await self._standings.failed(
            name,
            error,
            url=self.endpoint.url,
            now_s=now_s,
            failures=standing.failures,
            held_until_s=standing.held_until_s,
            disabled=standing.disabled_s is not None,
        )
        self._stands(standing.state(now_s))
        if reason in FINAL or delivery.attempts > len(self._schedule_s):
            await self._outbox.give_up(delivery.delivery_id, error, now_s=now_s)
            self._metrics.gave_up(name, reason)
            said = f"{delivery.delivery_id} to {name} given up after attempt {delivery.attempts}: {_cause(error)}"
            log.error("delivery %s", said, extra=self._words("delivery_dead", reason))
            return
        wait_s = _jittered(self._schedule_s[delivery.attempts - 1])
        until_s = now_s + max(wait_s, error.retry_after_s or 0.0)
        await self._outbox.put_off(delivery.delivery_id, error, until_s=until_s)

    @staticmethod
    def _judged(standing: Standing, error: DeliveryError, now_s: float) -> Standing:
        failures = 0 if error.reason in _ALIVE else standing.failures + 1
        wait_s = _jittered(rest_s(failures))
        if error.status_code in _THROTTLING:
            wait_s = max(wait_s, error.retry_after_s or 0.0)
        return replace(
            standing,
            failures=failures,
            held_until_s=now_s + wait_s if wait_s else None,
            disabled_s=now_s if error.reason is DeliveryReason.GONE else None,
        )

    def _stands(self, state: EndpointState) -> None:
        """The metrics know the state, and the log the bad ones, once."""
        self._metrics.endpoint_is(self.endpoint.name, state)
        before, self._state = self._state, state
        if state is before:
            return
        if state is EndpointState.DISABLED:
            said = f"{self.endpoint.name} is disabled: it answered 410 Gone; `monitor deliveries enable` undoes that"
            log.error("%s", said, extra=self._words("endpoint_disabled", DeliveryReason.GONE))
        elif state is EndpointState.TRIPPED:
            said = (
                f"{self.endpoint.name} failed {TRIP_AFTER} times in a row or more: it is tried rarely until it accepts"
            )
            log.warning("%s", said, extra=self._words("endpoint_tripped", self._trouble))

    async def _sleep(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._awake.wait()
        except TimeoutError:
            return

    def _words(self, action: str, reason: DeliveryReason | None = None) -> dict[str, str]:
        words = {"action": action, "endpoint": self.endpoint.name}
        return words if reason is None else words | {"reason": reason.value}


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _jittered(wait_s: float) -> float:
    return wait_s * (1 + _JITTER * random.uniform(-1, 1))  # noqa: S311


def _cause(error: DeliveryError) -> str:
    code = "" if error.status_code is None else f" ({error.status_code})"
    return f"{error.reason}{code} {error}".rstrip()
