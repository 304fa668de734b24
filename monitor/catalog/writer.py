"""The only one that changes a catalog: row and vectors together, so that neither is ever left without the other.

A reference's row is written in state loading before its first vector, and turns ready after its last one was read back.
A row is deleted after its last vector. So whatever ends a process in between, the row tells the next one what to clear.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from psycopg_pool import AsyncConnectionPool

from monitor.catalog.index import VectorIndex, damaged, vector_id
from monitor.catalog.recording import Recording
from monitor.catalog.references import CatalogRow, FileState, Guard, References, lock_key
from monitor.errors import MonitorError, ServerReason, UnreachableError
from monitor.servers.border import transaction
from monitor.types import Reference, ReferenceState, Vectors

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Vectors that are written under one lock: other writers of the collection wait for no longer than that.
_BATCH = 4096
#: Written vectors after which they are flushed: searches would become slow, see `VectorIndex.flush`.
_FLUSH_VECTORS = 20_000
#: Vectors that are not given back are asked for again, alone, after so long.
_READ_AGAIN_AFTER_S = (0.0, 1.0, 4.0)

_UNFINISHED = (ReferenceState.LOADING, ReferenceState.DELETING)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The reference is ready; `replaced` says whether an earlier version was."""

    replaced: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SameAudio:
    """Nothing was stored: this reference of the catalog has the same audio."""

    reference_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """Nothing was stored: another process is loading the same reference."""


class CatalogWriter:
    """Stores and removes references of one catalog. Several writers, also in other processes, may work at once."""

    def __init__(
        self, *, pool: AsyncConnectionPool[Any], catalog: CatalogRow, index: VectorIndex, guard: Guard
    ) -> None:
        self.catalog = catalog
        self.index = index
        self.references = References(pool)
        self._pool = pool
        self._guard = guard
        self._unflushed = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        pool: AsyncConnectionPool[Any],
        milvus_uri: str,
        milvus_token: str | None,
        catalog: CatalogRow,
        clear: bool = True,
    ) -> AsyncIterator[CatalogWriter]:
        """A writer whose collection exists; with `clear`, what earlier processes left half done is gone.

        Raises UnreachableError, StorageError or ConfigError as `References` and `VectorIndex` do.
        """
        index = await in_thread(open_index, milvus_uri, milvus_token, catalog)
        try:
            async with Guard.open(pool) as guard:
                writer = cls(pool=pool, catalog=catalog, index=index, guard=guard)
                if clear:
                    await writer.clear_leftovers()
                yield writer
        finally:
            await in_thread(index.close)

    async def store(self, reference: Reference, recording: Recording, file: FileState) -> Stored | SameAudio | Busy:
        """The reference is ready with all its vectors, in place of the one that was ready under its id, if any was.

        `reference.number`, `.state` are ignored. Until then the earlier one answers searches. If anything fails or the
        task is cancelled before it is ready, nothing of the new one is left (or, if that fails too, nothing that a
        search would show).
        """
        number = await self.references.begin_loading(reference, file, guard=self._guard)
        if number is None:
            return Busy()
        if isinstance(number, str):
            return SameAudio(reference_id=number)
        try:
            await self._write_vectors(number, recording)
            replaced = await self.references.finish_loading(number)
        except BaseException:
            # What this leaves, for want of a server or of time, the next writer clears.
            with suppress(MonitorError):
                # Who is cancelled, or loses the connection, while the last commit is on its way does not know of it.
                if await self.references.give_up(number):
                    await self._erase(number, recording.windows)
            raise
        finally:
            with suppress(MonitorError):
                await self._guard.release(number)
        for earlier in replaced:
            await self._erase(earlier.number, self.catalog.windows_in(earlier.duration_s))
        return Stored(replaced=bool(replaced))

    async def remove(self, references: Collection[Reference]) -> None:
        """None of the references answers a search, and then nothing is left of them."""
        await self.references.condemn(reference.number for reference in references)
        for reference in references:
            await self._erase(reference.number, self.catalog.windows_in(reference.duration_s))

    async def leftovers(self) -> list[Reference]:
        """References that a process began to load or to remove and did not finish, as far as nobody is at it now."""
        left = []
        for reference in await self._unfinished():
            number = reference.number
            if await self._guard.try_hold(number):
                await self._guard.release(number)
                # It may have been finished between the two looks.
                if any(number == again.number for again in await self._unfinished()):
                    left.append(reference)
        return left

    async def clear_leftovers(self) -> int:
        """Nothing is left of the leftovers; how many there were."""
        left = await self.leftovers()
        for reference in left:
            await self._erase(reference.number, self.catalog.windows_in(reference.duration_s))
        if left:
            log.info(
                "cleared %d references of catalog %s that an earlier run left unfinished",
                *(len(left), self.catalog.name),
                extra={"action": "catalog_leftovers_cleared"},
            )
        return len(left)

    async def rewrite(self, number: int, recording: Recording) -> None:
        """The vectors of a reference whose row is right are those of the recording. It stays searchable."""
        await self._write_vectors(number, recording)

    async def delete_vectors(self, number: int) -> None:
        """No vector of that number is left: for vectors without a row."""
        await self._alone(self.index.delete_reference, number)

    async def flush(self) -> None:
        """What was written is searched fast."""
        if self._unflushed:
            self._unflushed = 0
            await self._alone(self.index.flush)

    async def _unfinished(self) -> list[Reference]:
        return [row.reference for row in await self.references.rows(self.catalog.name, _UNFINISHED)]

    async def _write_vectors(self, number: int, recording: Recording) -> None:
        ids = vector_id(number, 0) + recording.kept
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            await self._alone(self.index.insert, ids[part], recording.vectors[part], recording.levels[part])
        found, vectors = await self._read_back(ids)
        if len(found) != len(ids) or damaged(vectors).any():
            raise UnreachableError(
                f"Milvus took {len(ids)} vectors and gives {len(found)} back, {int(damaged(vectors).sum())} of them"
                " damaged; see its log and run monitor catalog verify",
                ServerReason.CORRUPT,
            )
        self._unflushed += len(ids)
        if self._unflushed >= _FLUSH_VECTORS:
            await self.flush()

    async def _read_back(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        """What the server gives for ids that it took. While another writer flushes, Milvus Lite may leave some out."""
        found, vectors = await in_thread(self.index.vectors, ids)
        for wait_s in _READ_AGAIN_AFTER_S:
            if len(found) == len(ids):
                break
            await asyncio.sleep(wait_s)
            found, vectors = await self._alone(self.index.vectors, ids)
        return found, vectors

    async def _erase(self, number: int, windows: int) -> None:
        await self._alone(self.index.delete_reference, number, windows)
        await self.references.forget(number)

    async def _alone(self, write: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        async with transaction(self._pool, "lock the catalog for writing") as connection:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(%s)", [lock_key("collection", self.catalog.collection)]
            )
            return await in_thread(write, *args, **kwargs)


def open_index(uri: str, token: str | None, catalog: CatalogRow) -> VectorIndex:
    """The catalog's collection, existing and loaded. Blocks."""
    index = VectorIndex(uri=uri, token=token, collection=catalog.collection, dimension=catalog.dimension)
    try:
        index.ensure()
    except BaseException:
        index.close()
        raise
    return index


async def in_thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run `call` in a thread. A cancelled task waits for its end, so that nothing goes on behind the caller's back."""
    running = asyncio.create_task(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(MonitorError, ValueError):
            await running
        raise
