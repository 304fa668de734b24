"""The references: listed, counted, shown, described anew, deleted; new ones come as jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from monitor.catalog.item import METADATA_COLUMNS
from monitor.catalog.references import ReferenceRow
from monitor.catalog.register import Register, Wanted
from monitor.record.rows import iso
from monitor.types import ReferenceState
from monitor.web.authority import SECURED
from monitor.web.daemon import Daemon
from monitor.web.paging import After, Limit, cursor, key_of
from monitor.web.problem import documented, not_found
from monitor.web.text import Filter, Segment, Storable, Words, words_of

Text = Annotated[Storable, Field(max_length=1000)]
Said = Annotated[Storable | None, Field(max_length=1000)]


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
    }


class Description(BaseModel):
    """What is to be said of a reference; what is absent stays, what is null or empty is unsaid."""

    model_config = ConfigDict(extra="forbid")

    title: Said = None
    artist: Said = None
    isrc: Said = None
    owner: Said = None
    label: Said = None
    attributes: dict[Text, Text] | None = Field(default=None, max_length=100)


class Doomed(BaseModel):
    """References of one catalog that are to be deleted."""

    model_config = ConfigDict(extra="forbid")

    catalog: Storable = Field(max_length=1000)
    reference_ids: list[Storable] = Field(min_length=1, max_length=1000)


class Deleted(BaseModel):
    """Which of them are deleted, and which were not there."""

    deleted: list[str]
    missing: list[str]


def routes(daemon: Daemon, register: Register, *, may_write: Sequence[Callable[..., Any]]) -> APIRouter:
    """The operations on references that are there."""
    router = APIRouter(prefix="/references", tags=["references"])
    writing: dict[str, Any] = {"dependencies": [Depends(check) for check in may_write], "openapi_extra": SECURED}

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

    @router.patch(
        "/{catalog}/{reference_id:path}",
        response_model=Reference,
        responses=documented(401, 403, 404, 422, 429, 503),
        **writing,
    )
    async def describe_reference(catalog: Segment, reference_id: Segment, said: Description) -> Response:
        """The reference is described so; matches that are in the log keep what was said of it then."""
        changes = said.model_dump(exclude_unset=True)
        attributes = changes.pop("attributes", None)
        unsaid = {name: value or None for name, value in changes.items()}
        row = await register.describe(catalog, reference_id, unsaid, attributes)
        if row is None:
            raise not_found(f"reference {reference_id} in catalog {catalog}")
        return JSONResponse(reference_fields(row))

    @router.delete(
        "/{catalog}/{reference_id:path}",
        status_code=204,
        responses=documented(401, 403, 404, 422, 429, 503, 507),
        **writing,
    )
    async def delete_reference(catalog: Segment, reference_id: Segment) -> Response:
        """The reference answers no search any more; a file that was uploaded for it is gone."""
        await daemon.remove_references(catalog, [(await ready(register, catalog, reference_id)).reference])
        return Response(status_code=204)

    @router.post("/delete", response_model=Deleted, responses=documented(401, 403, 422, 429, 503, 507), **writing)
    async def delete_references(doomed: Doomed) -> Response:
        """As for one; those that are not there are named."""
        rows = await register.get(doomed.catalog, doomed.reference_ids)
        if rows:
            await daemon.remove_references(doomed.catalog, [row.reference for row in rows.values()])
        wanted = dict.fromkeys(doomed.reference_ids)
        deleted = [name for name in wanted if name in rows]
        return JSONResponse({"deleted": deleted, "missing": [name for name in wanted if name not in rows]})

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
