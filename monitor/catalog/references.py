"""The catalog's rows in PostgreSQL: which references there are, which are ready, and what they were made from."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from monitor.catalog.item import METADATA_COLUMNS, Metadata
from monitor.embed import Embedder
from monitor.errors import ConfigError, MonitorError
from monitor.servers.border import database_errors, transaction
from monitor.types import Reference, ReferenceState

Connection = psycopg.AsyncConnection[Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogRow:
    """A catalog: a set of references, embedded by one model into one Milvus collection."""

    name: str
    embedder: str
    model_id: str
    dimension: int
    window_s: float
    hop_s: float
    collection: str
    #: Raised by every change of the references.
    version: int

    def check_model(self, embedder: Embedder) -> None:
        """Raise ConfigError unless the catalog was made by this very model, its windows as far apart."""
        if self.model_id != embedder.model_id:
            raise ConfigError(
                f"catalog {self.name} was made by model {self.model_id}, the embedder in use is {embedder.model_id};"
                " use that model, or load the references into another catalog (monitor catalog add --catalog NAME)"
            )
        if self.hop_s != embedder.reference_hop_s:
            raise ConfigError(
                f"the windows of catalog {self.name} lie {self.hop_s:g} s apart, this version takes references every"
                f" {embedder.reference_hop_s:g} s; load them into another catalog (monitor catalog add --catalog NAME)"
            )

    def windows_in(self, duration_s: float) -> int:
        """At least as many as there are windows in that much sound, one more at most."""
        return max(0, 2 + int((duration_s - self.window_s) / self.hop_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """What tells whether a file is still the one that was loaded."""

    size_bytes: int
    #: Unix time of its last change, whole microseconds.
    modified_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceRow:
    """A reference and the state of its file when it was loaded."""

    reference: Reference
    file: FileState
    #: Unix seconds.
    added_s: float
    updated_s: float


class Guard:
    """Holds the rows that this process is loading, by locks of one connection: they end with it, however it ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, pool: AsyncConnectionPool[Any]) -> AsyncIterator[Guard]:
        """A guard on a connection of its own, which holds nothing at the end."""
        with database_errors("guard the references"):
            connection = await pool.getconn()
            try:
                await connection.set_autocommit(True)
                yield cls(connection)
            finally:
                if not connection.closed:
                    with suppress(psycopg.Error):
                        await connection.execute("SELECT pg_advisory_unlock_all()")
                        await connection.set_autocommit(False)
                await pool.putconn(connection)

    async def hold(self, number: int) -> None:
        """The row is held, waiting for whoever holds it."""
        with database_errors("guard a reference"):
            await self._connection.execute("SELECT pg_advisory_lock(%s)", [lock_key("reference", number)])

    async def try_hold(self, number: int) -> bool:
        """Whether the row is held now; False if another process holds it."""
        with database_errors("guard a reference"):
            cursor = await self._connection.execute("SELECT pg_try_advisory_lock(%s)", [lock_key("reference", number)])
            return await cursor.fetchone() == (True,)

    async def release(self, number: int) -> None:
        """The row is not held."""
        with database_errors("release a reference"):
            await self._connection.execute("SELECT pg_advisory_unlock(%s)", [lock_key("reference", number)])


class References:
    """All methods raise UnreachableError (or StorageError: disk full) when PostgreSQL fails, having changed nothing."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def catalogs(self) -> list[CatalogRow]:
        """All catalogs, by name."""
        async with transaction(self._pool, "list the catalogs") as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute("SELECT * FROM catalogs ORDER BY name")
            return [_catalog(row) for row in await cursor.fetchall()]

    async def catalog(self, name: str) -> CatalogRow | None:
        """The catalog, or None if there is none of that name."""
        return next((catalog for catalog in await self.catalogs() if catalog.name == name), None)

    async def create_catalog(self, name: str, embedder: Embedder) -> CatalogRow:
        """The catalog exists; if it did before, it is unchanged, and ConfigError is raised if its model is another."""
        # A part of chance: a collection that a lost database left behind is never taken for this one.
        collection = f"monitor_{re.sub(r'[^A-Za-z0-9_]', '_', name)}_{secrets.token_hex(4)}"
        async with transaction(self._pool, f"make the catalog {name}") as connection:
            await connection.execute(
                "INSERT INTO catalogs (name, embedder, model_id, dimension, window_s, hop_s, collection)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING",
                [
                    *(name, embedder.model_id.rpartition("-")[0], embedder.model_id, embedder.dimension),
                    *(embedder.window_s, embedder.reference_hop_s, collection),
                ],
            )
        catalog = await self.catalog(name)
        assert catalog is not None  # noqa: S101
        catalog.check_model(embedder)
        return catalog

    async def version(self, catalog: str) -> int:
        """The catalog's version, raised by every change of its references; 0 if there is no such catalog."""
        async with transaction(self._pool, "read the catalog's version") as connection:
            cursor = await connection.execute("SELECT version FROM catalogs WHERE name = %s", [catalog])
            row = await cursor.fetchone()
            return 0 if row is None else int(row[0])

    async def rows(
        self, catalog: str, states: Collection[ReferenceState] = (ReferenceState.READY,)
    ) -> list[ReferenceRow]:
        """The references in these states, by id."""
        async with transaction(self._pool, "read the references") as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                "SELECT * FROM catalog_references WHERE catalog = %s AND state = ANY (%s)"
                ' ORDER BY reference_id COLLATE "C", number',
                [catalog, list(states)],
            )
            return [reference_row(row) async for row in cursor]

    async def ready(self, catalog: str) -> dict[int, Reference]:
        """The references that answer searches, by number."""
        return {row.reference.number: row.reference for row in await self.rows(catalog)}

    async def begin_loading(self, reference: Reference, file: FileState, *, guard: Guard) -> int | str | None:
        """A row in state loading, whose number is returned, held by `guard`.

        `reference.number` and `.state` are ignored. If the catalog already has the same audio under another id, that id
        is returned instead and nothing is written; None if another process is loading this id now.
        """
        async with transaction(self._pool, "begin to load a reference") as own:
            # Orders the loaders of one catalog, so that two copies of one recording see each other.
            await own.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("loading", reference.catalog)])
            cursor = await own.execute(
                "SELECT reference_id FROM catalog_references WHERE catalog = %s AND audio_sha256 = %s"
                " AND reference_id <> %s AND state IN ('ready', 'loading') ORDER BY number LIMIT 1",
                [reference.catalog, reference.audio_sha256, reference.reference_id],
            )
            if (row := await cursor.fetchone()) is not None:
                return str(row[0])
            cursor = await own.execute(
                "INSERT INTO catalog_references (catalog, reference_id, state, path, title, artist, isrc, owner, label,"
                " attributes, duration_s, windows, file_sha256, file_size_bytes, file_modified_at, audio_sha256)"
                " VALUES (%s, %s, 'loading', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (catalog, reference_id) WHERE state = 'loading' DO NOTHING RETURNING number",
                [
                    *(reference.catalog, reference.reference_id, reference.path),
                    *(getattr(reference, column) for column in METADATA_COLUMNS),
                    *(json.dumps(dict(reference.attributes)), reference.duration_s, reference.windows),
                    *(reference.file_sha256, file.size_bytes, _at(file.modified_us), reference.audio_sha256),
                ],
            )
            if (row := await cursor.fetchone()) is None:
                return None
            number = int(row[0])
            # Before the row can be seen: a row in state loading that nobody holds is a dead loader's leftover.
            await guard.hold(number)
            return number

    async def finish_loading(self, number: int) -> list[Reference]:
        """The row is ready, and those that were ready under its id are deleting; these are returned."""
        async with transaction(self._pool, "make a reference ready") as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(
                "UPDATE catalog_references old SET state = 'deleting', updated_at = now()"
                " FROM catalog_references new WHERE new.number = %s AND old.catalog = new.catalog"
                " AND old.reference_id = new.reference_id AND old.state = 'ready' RETURNING old.*",
                [number],
            )
            replaced = [reference_row(row).reference for row in await cursor.fetchall()]
            cursor = await connection.execute(
                "UPDATE catalog_references SET state = 'ready', updated_at = now()"
                " WHERE number = %s AND state = 'loading' RETURNING number",
                [number],
            )
            if await cursor.fetchone() is None:
                raise MonitorError(f"reference number {number} was removed while it was loading; run the command again")
            return replaced

    async def describe(self, number: int, *, path: str, file: FileState, sha256: str, metadata: Metadata) -> None:
        """The reference's path, file state, digest and metadata are these; its audio is what it was."""
        async with transaction(self._pool, "describe a reference") as connection:
            await connection.execute(
                "UPDATE catalog_references SET path = %s, file_size_bytes = %s, file_modified_at = %s,"
                " file_sha256 = %s, title = %s, artist = %s, isrc = %s, owner = %s, label = %s, attributes = %s,"
                " updated_at = now() WHERE number = %s",
                [
                    *(path, file.size_bytes, _at(file.modified_us), sha256),
                    *(getattr(metadata, column) for column in METADATA_COLUMNS),
                    *(json.dumps(dict(metadata.attributes)), number),
                ],
            )

    async def condemn(self, numbers: Iterable[int]) -> None:
        """These rows are in state deleting: no search shows them, and whoever cleans up next deletes them."""
        async with transaction(self._pool, "remove references") as connection:
            await connection.execute(
                "UPDATE catalog_references SET state = 'deleting', updated_at = now() WHERE number = ANY (%s)",
                [list(numbers)],
            )

    async def give_up(self, number: int) -> bool:
        """Whether the row is not ready; then it is in state deleting, if it is there at all."""
        async with transaction(self._pool, "give up loading a reference") as connection:
            # Writing to the row waits for a commit that is still on its way, which reading would not see.
            await connection.execute(
                "UPDATE catalog_references SET state = 'deleting', updated_at = now()"
                " WHERE number = %s AND state = 'loading'",
                [number],
            )
            cursor = await connection.execute(
                "SELECT 1 FROM catalog_references WHERE number = %s AND state = 'ready'", [number]
            )
            return await cursor.fetchone() is None

    async def forget(self, number: int) -> None:
        """The row of a reference in state loading or deleting is gone. Its vectors must be gone before."""
        async with transaction(self._pool, "remove a reference") as connection:
            await connection.execute("DELETE FROM catalog_references WHERE number = %s AND state <> 'ready'", [number])


def lock_key(kind: str, name: object) -> int:
    """The key of an advisory lock: 64 bits told from what it guards."""
    return int.from_bytes(hashlib.sha256(f"monitor.{kind}:{name}".encode()).digest()[:8], "big", signed=True)


def _catalog(row: Mapping[str, Any]) -> CatalogRow:
    return CatalogRow(
        **{key: row[key] for key in ("name", "embedder", "model_id", "dimension", "window_s", "hop_s")},
        collection=row["collection"],
        version=row["version"],
    )


def reference_row(row: Mapping[str, Any]) -> ReferenceRow:
    """A row of `catalog_references`."""
    plain = ("catalog", "reference_id", "number", "path", *METADATA_COLUMNS, "attributes", "duration_s", "windows")
    modified = row["file_modified_at"]
    return ReferenceRow(
        reference=Reference(
            **{key: row[key] for key in plain},
            state=ReferenceState(row["state"]),
            file_sha256=row["file_sha256"],
            audio_sha256=row["audio_sha256"],
        ),
        file=FileState(
            size_bytes=row["file_size_bytes"],
            modified_us=0 if modified is None else (modified - _EPOCH) // timedelta(microseconds=1),
        ),
        added_s=row["added_at"].timestamp(),
        updated_s=row["updated_at"].timestamp(),
    )


def _at(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
