"""What is known of each webhook endpoint: how it fared lately, and whether it is sent to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from monitor.errors import DeliveryError
from monitor.record.border import transaction
from monitor.record.rows import at, seconds
from monitor.types import EndpointState

#: Failures in a row after which an endpoint is tried rarely.
TRIP_AFTER = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How an endpoint fared lately."""

    #: Attempts in a row that failed through the endpoint's fault, or that of the way to it.
    failures: int = 0
    #: Nothing is sent before then.
    held_until_s: float | None = None
    #: Since then nothing is sent at all.
    disabled_s: float | None = None
    #: When it accepted something last, right to a minute, and when it failed last, and how.
    accepted_s: float | None = None
    failed_s: float | None = None
    reason: str | None = None
    status_code: int | None = None
    detail: str = ""

    def state(self, now_s: float) -> EndpointState:
        """Whether the endpoint is sent to."""
        if self.disabled_s is not None:
            return EndpointState.DISABLED
        if self.failures >= TRIP_AFTER:
            return EndpointState.TRIPPED
        if self.held_until_s is not None and now_s < self.held_until_s:
            return EndpointState.HELD
        return EndpointState.ACCEPTING


class Endpoints:
    """Standings in PostgreSQL, each of an endpoint under one URL. All methods raise UnreachableError."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def standing(self, endpoint: str, *, url: str) -> Standing:
        """How the endpoint fared under this URL; nothing is held against one that is not known yet."""
        async with transaction(self._pool, f"read how {endpoint} fares") as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                "SELECT * FROM webhook_endpoints WHERE endpoint = %s AND url_sha256 = %s", [endpoint, _sha256(url)]
            )
            row = await cursor.fetchone()
            return Standing() if row is None else _standing(row)

    async def accepted(self, endpoint: str, *, url: str, now_s: float) -> None:
        """The endpoint has accepted a delivery: nothing is held against it."""
        async with transaction(self._pool, f"record that {endpoint} accepts") as connection:
            await connection.execute(
                "INSERT INTO webhook_endpoints (endpoint, url_sha256, accepted_at) VALUES (%(endpoint)s, %(url)s,"
                " %(now)s) ON CONFLICT (endpoint) DO UPDATE SET url_sha256 = EXCLUDED.url_sha256, failures = 0,"
                " held_until = NULL, disabled_at = NULL, accepted_at = EXCLUDED.accepted_at",
                {"endpoint": endpoint, "url": _sha256(url), "now": at(now_s)},
            )

    async def failed(
        self,
        endpoint: str,
        error: DeliveryError,
        *,
        url: str,
        now_s: float,
        failures: int,
        held_until_s: float | None,
        disabled: bool,
    ) -> None:
        """The endpoint has not accepted a delivery, for the `failures`-th time in a row."""
        async with transaction(self._pool, f"record that {endpoint} fails") as connection:
            await connection.execute(
                "INSERT INTO webhook_endpoints (endpoint, url_sha256, failures, held_until, disabled_at, failed_at,"
                " reason, status_code, detail) VALUES (%(endpoint)s, %(url)s, %(failures)s, %(held)s, %(disabled)s,"
                " %(now)s, %(reason)s, %(code)s, %(detail)s) ON CONFLICT (endpoint) DO UPDATE SET"
                " url_sha256 = EXCLUDED.url_sha256, failures = EXCLUDED.failures, held_until = EXCLUDED.held_until,"
                " disabled_at = EXCLUDED.disabled_at, failed_at = EXCLUDED.failed_at, reason = EXCLUDED.reason,"
                " status_code = EXCLUDED.status_code, detail = EXCLUDED.detail",
                {
                    "endpoint": endpoint,
                    "url": _sha256(url),
                    "failures": failures,
                    "held": None if held_until_s is None else at(held_until_s),
                    "disabled": at(now_s) if disabled else None,
                    "now": at(now_s),
                    "reason": error.reason,
                    "code": error.status_code,
                    "detail": str(error),
                },
            )

    async def enable(self, endpoint: str) -> bool:
        """The endpoint is sent to at once, whatever was held against it; False if nothing was."""
        async with transaction(self._pool, f"enable {endpoint}") as connection:
            cursor = await connection.execute(
                "UPDATE webhook_endpoints SET failures = 0, held_until = NULL, disabled_at = NULL WHERE endpoint = %s"
                " AND (failures > 0 OR held_until IS NOT NULL OR disabled_at IS NOT NULL)",
                [endpoint],
            )
            return cursor.rowcount > 0


def _standing(row: Mapping[str, Any]) -> Standing:
    times = ("held_until", "disabled", "accepted", "failed")
    columns = {name: row["held_until" if name == "held_until" else f"{name}_at"] for name in times}
    return Standing(
        failures=row["failures"],
        reason=row["reason"],
        status_code=row["status_code"],
        detail=row["detail"],
        **{f"{name}_s": None if time is None else seconds(time) for name, time in columns.items()},
    )


def _sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
