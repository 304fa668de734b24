"""The deliveries table: claimed for an attempt, delivered, put off, or given up; listed and replayed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from monitor.errors import DeliveryError, DeliveryReason
from monitor.record.border import statement, transaction
from monitor.record.rows import Delivery, DeliveryState, at, delivery_from_row, seconds

#: No earlier event of the row's match waits for the same endpoint.
_FIRST = (
    "NOT EXISTS (SELECT FROM deliveries earlier WHERE earlier.match_id = waiting.match_id"
    " AND earlier.sequence < waiting.sequence AND earlier.endpoint = waiting.endpoint AND earlier.state = 'pending')"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """What waits for one endpoint."""

    deliveries: int
    #: When the first of them may be claimed; None if nothing waits.
    next_attempt_s: float | None


class Outbox:
    """Deliveries in PostgreSQL. All methods raise UnreachableError and may then be called again."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def claim(self, endpoint: str, *, now_s: float, lease_s: float) -> Delivery | None:
        """The delivery of the endpoint that has been due longest, its attempt counted, or None if none is due.

        A match's later event is not due while an earlier one waits. Nobody else gets the delivery within `lease_s`; if
        it is not finished or put off by then, it is due again.
        """
        async with transaction(self._pool, f"claim a delivery to {endpoint}") as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                "UPDATE deliveries SET attempts = attempts + 1, next_attempt_at = %s WHERE delivery_id ="  # noqa: S608
                " (SELECT delivery_id FROM deliveries waiting WHERE endpoint = %s AND state = 'pending'"
                f" AND next_attempt_at <= %s AND {_FIRST} ORDER BY next_attempt_at, sequence LIMIT 1"
                " FOR UPDATE SKIP LOCKED) RETURNING *",
                [at(now_s + lease_s), endpoint, at(now_s)],
            )
            row = await cursor.fetchone()
            return None if row is None else delivery_from_row(row)

    async def delivered(self, delivery_id: UUID, *, now_s: float, status_code: int) -> None:
        """The endpoint has accepted the delivery."""
        async with transaction(self._pool, "record a delivery") as connection:
            await connection.execute(
                "UPDATE deliveries SET state = 'delivered', finished_at = %s, status_code = %s, reason = NULL,"
                " detail = '' WHERE delivery_id = %s AND state = 'pending'",
                [at(now_s), status_code, delivery_id],
            )

    async def put_off(self, delivery_id: UUID, error: DeliveryError, *, until_s: float) -> None:
        """The attempt failed; the next is due at `until_s`."""
        async with transaction(self._pool, "put a delivery off") as connection:
            await connection.execute(
                "UPDATE deliveries SET next_attempt_at = %s, status_code = %s, reason = %s, detail = %s"
                " WHERE delivery_id = %s AND state = 'pending'",
                [at(until_s), error.status_code, error.reason, str(error), delivery_id],
            )

    async def give_up(self, delivery_id: UUID, error: DeliveryError, *, now_s: float) -> None:
        """The delivery is dead: listed, and sent again only by a replay."""
        async with transaction(self._pool, "give a delivery up") as connection:
            await connection.execute(
                "UPDATE deliveries SET state = 'dead', finished_at = %s, status_code = %s, reason = %s, detail = %s"
                " WHERE delivery_id = %s AND state = 'pending'",
                [at(now_s), error.status_code, error.reason, str(error), delivery_id],
            )

    async def bury(self, endpoint: str, *, now_s: float) -> int:
        """All that waits for a disabled endpoint is dead; returns how many deliveries that were."""
        async with transaction(self._pool, f"give up what waits for {endpoint}") as connection:
            cursor = await connection.execute(
                "UPDATE deliveries SET state = 'dead', finished_at = %s, reason = %s,"
                " detail = 'the endpoint is disabled' WHERE endpoint = %s AND state = 'pending'",
                [at(now_s), DeliveryReason.GONE, endpoint],
            )
            return cursor.rowcount

    async def waiting(self, endpoint: str) -> Waiting:
        """How many deliveries wait for the endpoint, and until when."""
        async with transaction(self._pool, f"count what waits for {endpoint}") as connection:
            cursor = await connection.execute(
                "SELECT (SELECT count(*) FROM deliveries WHERE endpoint = %(endpoint)s AND state = 'pending'),"  # noqa: S608
                " (SELECT next_attempt_at FROM deliveries waiting WHERE endpoint = %(endpoint)s AND state = 'pending'"
                f" AND {_FIRST} ORDER BY next_attempt_at LIMIT 1)",
                {"endpoint": endpoint},
            )
            ((count, first),) = await cursor.fetchall()
            return Waiting(deliveries=count, next_attempt_s=None if first is None else seconds(first))

    async def pending(self) -> dict[str, int]:
        """How many deliveries wait, by endpoint, also for endpoints that are configured no longer."""
        return await self._count(DeliveryState.PENDING)

    async def dead(self) -> dict[str, int]:
        """How many deliveries were given up, by endpoint, also to endpoints that are configured no longer."""
        return await self._count(DeliveryState.DEAD)

    async def deliveries(
        self,
        *,
        states: Collection[DeliveryState] = tuple(DeliveryState),
        endpoint: str | None = None,
        limit: int = 100,
        before: tuple[float, UUID] | None = None,
    ) -> list[Delivery]:
        """Deliveries, the newest first; `before` is (created_s, delivery_id) of the last row so far."""
        async with statement(self._pool, "list deliveries") as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                "SELECT * FROM deliveries WHERE state = ANY(%(states)s)"
                " AND (%(endpoint)s::text IS NULL OR endpoint = %(endpoint)s) AND (%(created)s::timestamptz IS NULL"
                " OR (created_at, delivery_id) < (%(created)s, %(delivery_id)s::uuid))"
                " ORDER BY created_at DESC, delivery_id DESC LIMIT %(limit)s",
                {
                    "states": [state.value for state in states],
                    "endpoint": endpoint,
                    "created": None if before is None else at(before[0]),
                    "delivery_id": None if before is None else before[1],
                    "limit": limit,
                },
            )
            return [delivery_from_row(row) for row in await cursor.fetchall()]

    async def replay(
        self, *, now_s: float, delivery_ids: Collection[UUID] | None = None, endpoint: str | None = None
    ) -> int:
        """Make deliveries due at once, under their old ids, and enable their endpoints; returns how many.

        With ids those that are finished, delivered ones too; else the dead ones, of `endpoint` if it is given.
        """
        async with transaction(self._pool, "replay deliveries") as connection:
            cursor = await connection.execute(
                "UPDATE deliveries SET state = 'pending', attempts = 0, finished_at = NULL, next_attempt_at = %(now)s"
                " WHERE (%(endpoint)s::text IS NULL OR endpoint = %(endpoint)s)"
                " AND CASE WHEN %(ids)s::uuid[] IS NULL THEN state = 'dead'"
                " ELSE state <> 'pending' AND delivery_id = ANY(%(ids)s) END RETURNING endpoint",
                {"now": at(now_s), "endpoint": endpoint, "ids": None if delivery_ids is None else list(delivery_ids)},
            )
            endpoints = [row[0] for row in await cursor.fetchall()]
            await connection.execute(
                "UPDATE webhook_endpoints SET failures = 0, held_until = NULL, disabled_at = NULL"
                " WHERE endpoint = ANY(%s)",
                [[*endpoints, *([endpoint] if endpoint else [])]],
            )
            return len(endpoints)

    async def _count(self, state: DeliveryState) -> dict[str, int]:
        async with transaction(self._pool, f"count {state} deliveries") as connection:
            cursor = await connection.execute(
                "SELECT endpoint, count(*) FROM deliveries WHERE state = %s GROUP BY endpoint ORDER BY endpoint",
                [state],
            )
            return dict(await cursor.fetchall())
