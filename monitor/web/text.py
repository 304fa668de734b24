"""Text that comes in requests: what PostgreSQL cannot hold is refused before it gets there."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator

from monitor.catalog.item import unstorable


def _storable(text: str) -> str:
    if unstorable(text):
        raise ValueError("holds a zero character or is not UTF-8")
    return text


Storable = Annotated[str, AfterValidator(_storable)]
#: The value of a filter, or no filter.
Filter = Annotated[Storable | None, Query(max_length=1000)]
#: A part of a path.
Segment = Annotated[Storable, Path(max_length=1000)]
#: Words that are looked for, or none.
Words = Annotated[Storable | None, Query(max_length=1000, description="Words that must all be found.")]


def words_of(query: str | None) -> tuple[str, ...]:
    """The words that are looked for, at most eight."""
    return tuple(dict.fromkeys((query or "").split()))[:8]
