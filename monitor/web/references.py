"""The references: listed, counted, shown, described anew, deleted; new ones come as jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from monitor.catalog.item import METADATA_COLUMNS
from monitor.catalog.references import ReferenceRow
from monitor.catalog.register import Register, Wanted
from monitor.record.rows import iso
from monitor.types import ReferenceState
from monitor.web.paging import After, Limit, cursor, key_of
from monitor.web.problem import documented, not_found
from monitor.web.text import Filter, Segment, Words, words_of


class Generic(BaseModel):
    """Why a reference is too common to tell anything by."""

    reason: str
    share: float


class Reference(BaseModel):
    """One recording of a catalog."""

    catalog: str
    reference_id: str
    state: ReferenceState
    title: str | None
    artist: str | None
    isrc: str | None
    owner: str | None
    label: str | None
    attributes: dict[str, str] = Field(description="Every further column of the manifest, as given.")
    path: str
    duration_s: float
    windows: int
    added_at: datetime
    updated_at: datetime
    generic: Generic | None


class ReferencePage(BaseModel):
    """References by catalog and id."""

    references: list[Reference]
    next: str | None


class Count(BaseModel):
    """How many there are."""

    count: int


def reference_fields(row: ReferenceRow) -> dict[str, Any]:
    """A reference as the API says it."""
    reference = row.reference
    return {
        "catalog": reference.catalog,
        "reference_id": reference.reference_id,
        "state": reference.state.value,
        **{name: getattr(reference, name) for name in METADATA_COLUMNS},
        "attributes": dict(reference.attributes),
        "path": reference.path,
        "duration_s": reference.duration_s,
        "windows": reference.windows,
        "added_at": iso(row.added_s),
        "updated_at": iso(row.updated_s),
        "generic": None,
    }


def routes(register: Register) -> APIRouter:
    """The operations that read references."""
    router = APIRouter(prefix="/references", tags=["references"])

    @router.get("", response_model=ReferencePage, responses=documented(422, 503))
    async def list_references(
        *,
        q: Words = None,
        catalog: Filter = None,
        label: Filter = None,
        owner: Filter = None,
        state: Annotated[ReferenceState, Query(description="Only ready ones answer searches.")] = ReferenceState.READY,
        limit: Limit = 50,
        after: After = None,
    ) -> Response:
        """References that pass every filter, by catalog and id."""
        wanted = Wanted(catalog=catalog, label=label, owner=owner, words=words_of(q), states=(state,))
        rows = await register.page(wanted, limit=limit + 1, after=key_of(after, str, str, _number))
        last = rows[limit - 1].reference if len(rows) > limit else None
        following = None if last is None else cursor(last.catalog, last.reference_id, last.number)
        return JSONResponse({"references": [reference_fields(row) for row in rows[:limit]], "next": following})

    @router.get("/count", response_model=Count, responses=documented(422, 503))
    async def count_references(
        q: Words = None, catalog: Filter = None, label: Filter = None, owner: Filter = None
    ) -> Response:
        """How many references answer searches."""
        wanted = Wanted(catalog=catalog, label=label, owner=owner, words=words_of(q))
        return JSONResponse({"count": await register.count(wanted)})

    @router.get("/{catalog}/{reference_id:path}", response_model=Reference, responses=documented(404, 422, 503))
    async def get_reference(catalog: Segment, reference_id: Segment) -> Response:
        """One reference."""
        return JSONResponse(reference_fields(await ready(register, catalog, reference_id)))

    return router


async def ready(register: Register, catalog: str, reference_id: str) -> ReferenceRow:
    """The reference that answers searches. Raises ProblemError."""
    row = (await register.get(catalog, [reference_id])).get(reference_id)
    if row is None:
        raise not_found(f"reference {reference_id} in catalog {catalog}")
    return row


def _number(key: Any) -> int:
    number = int(key)
    if not 0 <= number < 1 << 63:
        raise ValueError(key)
    return number
