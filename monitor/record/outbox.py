"""The deliveries table: claimed for an attempt, delivered, put off, or given up; listed and replayed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from monitor.errors import DeliveryReason
from monitor.record.border import transaction
from monitor.record.rows import Delivery, DeliveryState, at, delivery_from_row, seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """What waits for one endpoint."""

    deliveries: int
    #: When the first of them is due; None if nothing waits.
    next_attempt_s: float | None


class Outbox:
    """Deliveries in PostgreSQL. All methods raise UnreachableError and may then be called again."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def claim(self, endpoint: str, *, now_s: float, lease_s: float) -> Delivery | None:
        """The delivery of the endpoint that has been due longest, its attempt counted, or None if none is due.

        Nobody else gets it within `lease_s`; if it is not finished or put off by then, it is due again.
        """
        async with transaction(self._pool, f"claim a delivery to {endpoint}") as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                "UPDATE deliveries SET attempts = attempts + 1, next_attempt_at = %s WHERE delivery_id ="
                " (SELECT delivery_id FROM deliveries WHERE endpoint = %s AND state = 'pending'"
                " AND next_attempt_at <= %s ORDER BY next_attempt_at, sequence LIMIT 1 FOR UPDATE SKIP LOCKED)"
                " RETURNING *",
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

    async def put_off(
        self, delivery_id: UUID, *, until_s: float, status_code: int | None, reason: DeliveryReason, detail: str
    ) -> None:
        """The attempt failed; the next is due at `until_s`."""
        async with transaction(self._pool, "put a delivery off") as connection:
            await connection.execute(
                "UPDATE deliveries SET next_attempt_at = %s, status_code = %s, reason = %s, detail = %s"
                " WHERE delivery_id = %s AND state = 'pending'",
                [at(until_s), status_code, reason, detail, delivery_id],
            )

    async def give_up(
        self, delivery_id: UUID, *, now_s: float, status_code: int | None, reason: DeliveryReason, detail: str
    ) -> None:
        """The delivery is dead: listed, and sent again only by a replay."""
        async with transaction(self._pool, "give a delivery up") as connection:
            await connection.execute(
                "UPDATE deliveries SET state = 'dead', finished_at = %s, status_code = %s, reason = %s, detail = %s"
                " WHERE delivery_id = %s AND state = 'pending'",
                [at(now_s), status_code, reason, detail, delivery_id],
            )

    async def disable(self, endpoint: str, *, url: str, now_s: float) -> None:
        """The endpoint said that it is gone: nothing is sent to it at this URL until a replay asks for it."""
        async with transaction(self._pool, f"disable {endpoint}") as connection:
            await connection.execute(
                "INSERT INTO disabled_endpoints (endpoint, url_sha256, disabled_at) VALUES (%s, %s, %s)"
                " ON CONFLICT (endpoint) DO UPDATE SET url_sha256 = EXCLUDED.url_sha256,"
                " disabled_at = EXCLUDED.disabled_at",
                [endpoint, _sha256(url), at(now_s)],
            )

    async def is_disabled(self, endpoint: str, *, url: str) -> bool:
        """True if the endpoint was disabled under this URL."""
        async with transaction(self._pool, f"look whether {endpoint} is disabled") as connection:
            cursor = await connection.execute(
                "SELECT FROM disabled_endpoints WHERE endpoint = %s AND url_sha256 = %s", [endpoint, _sha256(url)]
            )
            return cursor.rowcount > 0

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
                "SELECT count(*), min(next_attempt_at) FROM deliveries WHERE endpoint = %s AND state = 'pending'",
                [endpoint],
            )
            ((count, first),) = await cursor.fetchall()
            return Waiting(deliveries=count, next_attempt_s=None if first is None else seconds(first))

    async def pending(self) -> dict[str, int]:
        """How many deliveries wait, by endpoint, also for endpoints that are configured no longer."""
        async with transaction(self._pool, "count pending deliveries") as connection:
            cursor = await connection.execute(
                "SELECT endpoint, count(*) FROM deliveries WHERE state = 'pending' GROUP BY endpoint ORDER BY endpoint"
            )
            return dict(await cursor.fetchall())

    async def deliveries(
        self,
        *,
        states: Collection[DeliveryState] = tuple(DeliveryState),
        endpoint: str | None = None,
        limit: int = 100,
        before: tuple[float, UUID] | None = None,
    ) -> list[Delivery]:
        """Deliveries, the newest first; `before` is (created_s, delivery_id) of the last row so far."""
        async with transaction(self._pool, "list deliveries") as connection:
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
                "DELETE FROM disabled_endpoints WHERE endpoint = ANY(%s)",
                [[*endpoints, *([endpoint] if endpoint else [])]],
            )
            return len(endpoints)


def _sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
