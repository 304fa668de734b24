"""The references of all catalogs as people look through them: page by page, described anew, counted."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from monitor.catalog.item import METADATA_COLUMNS
from monitor.catalog.references import ReferenceRow, reference_row
from monitor.servers.border import statement
from monitor.types import ReferenceState

#: Where words are looked for.
_TEXT = sql.SQL("lower(concat_ws(' ', reference_id, title, artist, isrc, owner, label))")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which references are asked for; None and nothing mean any."""

    catalog: str | None = None
    label: str | None = None
    owner: str | None = None
    words: Sequence[str] = ()
    states: Collection[ReferenceState] = (ReferenceState.READY,)


class Register:
    """All methods raise UnreachableError when PostgreSQL fails, having changed nothing."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def page(
        self, wanted: Wanted, *, limit: int, after: tuple[str, str, int] | None = None
    ) -> list[ReferenceRow]:
        """References by catalog and id; `after` is (catalog, reference_id, number) of the last one so far."""
        conditions, values = _conditions(wanted)
        if after is not None:
            conditions.append(sql.SQL("(catalog, reference_id, number) > (%(catalog_after)s, %(id_after)s, %(after)s)"))
            values |= {"catalog_after": after[0], "id_after": after[1], "after": after[2]}
        query = sql.SQL(
            "SELECT * FROM catalog_references WHERE {} ORDER BY catalog, reference_id, number LIMIT %(limit)s"
        ).format(sql.SQL(" AND ").join(conditions))
        return await self._rows("list references", query, values | {"limit": limit})

    async def count(self, wanted: Wanted) -> int:
        """How many there are."""
        conditions, values = _conditions(wanted)
        query = sql.SQL("SELECT count(*) FROM catalog_references WHERE {}").format(sql.SQL(" AND ").join(conditions))
        async with statement(self._pool, "count references") as connection:
            ((count,),) = await (await connection.execute(query, values)).fetchall()
            return int(count)

    async def get(self, catalog: str, reference_ids: Collection[str]) -> dict[str, ReferenceRow]:
        """The ready ones of these references, by id."""
        query = sql.SQL(
            "SELECT * FROM catalog_references WHERE catalog = %(catalog)s AND state = 'ready'"
            " AND reference_id = ANY (%(ids)s)"
        )
        rows = await self._rows("read references", query, {"catalog": catalog, "ids": list(reference_ids)})
        return {row.reference.reference_id: row for row in rows}

    async def of_paths(self, paths: Collection[str]) -> set[str]:
        """Those of the paths from which some reference, in whatever state, was loaded."""
        async with statement(self._pool, "look for files of references") as connection:
            cursor = await connection.execute(
                "SELECT path FROM catalog_references WHERE path = ANY (%s)", [list(paths)]
            )
            return {path for (path,) in await cursor.fetchall()}

    async def describe(
        self, catalog: str, reference_id: str, said: Mapping[str, str | None], attributes: Mapping[str, str] | None
    ) -> ReferenceRow | None:
        """The ready reference is described so; what is not said stays. None if there is none."""
        assert said.keys() <= set(METADATA_COLUMNS)  # noqa: S101
        changes: list[sql.Composable] = [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in said
        ]
        if attributes is not None:
            changes.append(sql.SQL("attributes = %(attributes)s"))
        query = sql.SQL(
            "UPDATE catalog_references SET {} WHERE catalog = %(catalog)s AND reference_id = %(reference_id)s"
            " AND state = 'ready' RETURNING *"
        ).format(sql.SQL(", ").join([*changes, sql.SQL("updated_at = now()")]))
        values = {**said, "attributes": json.dumps(dict(attributes or {}))}
        rows = await self._rows(
            "describe a reference", query, values | {"catalog": catalog, "reference_id": reference_id}
        )
        return rows[0] if rows else None

    async def _rows(self, doing: str, query: sql.SQL | sql.Composed, values: Mapping[str, Any]) -> list[ReferenceRow]:
        async with statement(self._pool, doing) as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(query, values)
            return [reference_row(row) for row in await cursor.fetchall()]


def _conditions(wanted: Wanted) -> tuple[list[sql.Composable], dict[str, Any]]:
    conditions: list[sql.Composable] = [sql.SQL("state = ANY (%(states)s)")]
    values: dict[str, Any] = {"states": [state.value for state in wanted.states]}
    for name in ("catalog", "label", "owner"):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)))
            values[name] = value
    if wanted.words:
        conditions.append(_TEXT + sql.SQL(" LIKE ALL (%(patterns)s)"))
        values["patterns"] = [containing(word) for word in wanted.words]
    return conditions, values


def containing(word: str) -> str:
    """The LIKE pattern of texts in lower case that hold the word."""
    escaped = word.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
