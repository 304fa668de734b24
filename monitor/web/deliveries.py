"""Webhooks: which wait, which were given up and why, and sending them again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from monitor.record.outbox import Outbox
from monitor.record.rows import Delivery as DeliveryRow
from monitor.record.rows import DeliveryState, delivery_as_json
from monitor.web.authority import SECURED
from monitor.web.matches import start_of
from monitor.web.paging import After, Limit, cursor, key_of
from monitor.web.problem import ProblemError, documented
from monitor.web.text import Filter

_FIELDS = (
    "delivery_id", "endpoint", "match_id", "sequence", "state", "attempts", "created_at", "next_attempt_at",
    "finished_at", "status_code", "reason", "detail",
)  # fmt: skip


class Delivery(BaseModel):
    """One webhook to one endpoint."""

    delivery_id: UUID
    endpoint: str
    match_id: UUID
    sequence: int
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_attempt_at: datetime
    finished_at: datetime | None
    status_code: int | None
    reason: str | None
    detail: str


class DeliveryPage(BaseModel):
    """Deliveries, the newest first."""

    deliveries: list[Delivery]
    next: str | None


class Replayed(BaseModel):
    """How many deliveries are due again."""

    replayed: int


def routes(outbox: Outbox, *, may_write: Sequence[Callable[..., Any]], wake: Callable[[], None]) -> APIRouter:
    """The operations on deliveries; `wake` tells whoever sends them."""
    router = APIRouter(prefix="/deliveries", tags=["deliveries"])

    @router.get("", response_model=DeliveryPage, responses=documented(422, 503))
    async def list_deliveries(
        endpoint: Filter = None,
        state: Annotated[list[DeliveryState] | None, Query(description="May be given several times.")] = None,
        limit: Limit = 50,
        after: After = None,
    ) -> Response:
        """Deliveries that pass every filter, the newest first."""
        found = await outbox.deliveries(
            states=tuple(state) if state else tuple(DeliveryState),
            endpoint=endpoint,
            limit=limit + 1,
            before=key_of(after, start_of, UUID),
        )
        last = found[limit - 1] if len(found) > limit else None
        following = None if last is None else cursor(last.created_s, str(last.delivery_id))
        return JSONResponse({"deliveries": [_fields(delivery) for delivery in found[:limit]], "next": following})

    @router.post(
        "/{delivery_id}/replay",
        response_model=Replayed,
        responses=documented(401, 403, 404, 422, 429, 503),
        dependencies=[Depends(check) for check in may_write],
        openapi_extra=SECURED,
    )
    async def replay_delivery(delivery_id: UUID) -> Response:
        """A delivery that was accepted or given up is sent again, under its old id."""
        count = await outbox.replay(now_s=time.time(), delivery_ids=[delivery_id])
        if count == 0:
            raise ProblemError(404, f"no delivery {delivery_id} was accepted or given up")
        wake()
        return JSONResponse({"replayed": count})

    return router


def _fields(delivery: DeliveryRow) -> dict[str, Any]:
    said = delivery_as_json(delivery)
    return {name: said[name] for name in _FIELDS} | {"type": str(said["body"].get("type", ""))}
