"""Opaque cursors: where a page ended, given back to continue there."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query

from monitor.web.problem import ProblemError

Limit = Annotated[int, Query(ge=1, le=500, description="Most rows of one page.")]
After = Annotated[str | None, Query(max_length=4000, description="`next` of the page before.")]


def cursor(*key: str | float) -> str:
    """The key of a page's last row as opaque text."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def key_of(after: str | None, *kinds: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """The key within a cursor whose parts are of these kinds; None without one. Raises ProblemError for another's."""
    if after is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        if not isinstance(key, list) or len(key) != len(kinds):
            raise ValueError(after)
        if any(isinstance(part, str) and ("\0" in part or not part.isprintable()) for part in key):
            raise ValueError(after)
        return tuple(kind(part) for kind, part in zip(kinds, key, strict=True))
    except (ValueError, TypeError, AttributeError, OverflowError, binascii.Error, RecursionError):
        raise ProblemError(
            422,
            "query.after: not a cursor of this list; give `next` of the page before as it stood",
            errors=[{"field": "query.after", "detail": "not a cursor of this list"}],
        ) from None
