"""What those who only read a catalog see of it: its ready references, their nearest windows, their own vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg_pool import AsyncConnectionPool

from monitor.catalog.index import MAX_WINDOWS, WINDOW_BITS, VectorIndex, damaged, vector_id
from monitor.catalog.references import CatalogRow, References
from monitor.catalog.writer import in_thread, open_index
from monitor.embed import Embedder
from monitor.embed.spectrogram import Spectrograph
from monitor.types import Neighbour, Reference, Spectrogram, Vectors

#: Neighbours asked for, in place of k, where vectors of references that are not ready took places among the k.
_MORE = 8


class CatalogReader:
    """A view of one catalog, as of the last `refresh`. Methods raise UnreachableError when a server does not answer."""

    def __init__(
        self,
        *,
        catalog: CatalogRow,
        index: VectorIndex,
        references: References,
        windows_per_hop: int,
        spectrograph: Spectrograph,
    ) -> None:
        """`windows_per_hop` of the catalog's windows begin within one hop of a stream."""
        self.name = catalog.name
        self._per_hop, self._spectrograph = windows_per_hop, spectrograph
        self.catalog = catalog
        self._index = index
        self._source = references
        self._version: int | None = None
        self._by_number: Mapping[int, Reference] = {}
        self._by_id: Mapping[str, Reference] = {}
        self._canary: Reference | None = None

    @classmethod
    async def open(
        cls,
        *,
        name: str,
        pool: AsyncConnectionPool[Any],
        milvus_uri: str,
        milvus_token: str | None,
        embedder: Embedder,
    ) -> CatalogReader:
        """The catalog as it is now; one that nobody has filled yet is made, empty.

        Raises ConfigError, with both ids, when it was made by another model; UnreachableError.
        """
        references = References(pool)
        catalog = await references.create_catalog(name, embedder)
        index = await in_thread(open_index, milvus_uri, milvus_token, catalog)
        per_hop = embedder.hop_samples // embedder.reference_hop_samples
        reader = cls(
            catalog=catalog,
            index=index,
            references=references,
            windows_per_hop=per_hop,
            spectrograph=Spectrograph.for_embedder(embedder),
        )
        await reader.refresh()
        return reader

    @property
    def references(self) -> Mapping[str, Reference]:
        """The ready references by id."""
        return self._by_id

    def reveal(self, canary: Reference) -> None:
        """From now on all methods know the canary too, which is in no listing."""
        self._canary = canary
        self._by_number = {**self._by_number, canary.number: canary}

    def reference(self, reference_id: str) -> Reference | None:
        """The ready reference of that id, or the canary if it was revealed."""
        canary = self._canary
        return canary if canary and canary.reference_id == reference_id else self._by_id.get(reference_id)

    async def refresh(self) -> bool:
        """References added, replaced or removed until now are seen. True if there were any."""
        version = await self._source.version(self.name)
        if version == self._version:
            return False
        ready = await self._source.ready(self.name)
        self._version, self._by_number = version, ready
        if self._canary is not None:
            self._by_number = {**ready, self._canary.number: self._canary}
        self._by_id = {reference.reference_id: reference for reference in ready.values()}
        self._index.fit_search_to_size(sum(reference.windows for reference in ready.values()))
        return True

    async def search(self, vectors: Vectors, k: int) -> list[list[Neighbour]]:
        """For each of the vectors (Q, dimension) its k nearest windows of ready references, best first; one call.

        Of the windows within one hop of a stream only the nearest counts.
        """
        if not len(vectors):
            return []
        # They are found by the version that was read, even if `refresh` reads another meanwhile.
        find = partial(_neighbours, by_number=self._by_number, hop_s=self.catalog.hop_s, per_hop=self._per_hop)
        asked = k * self._per_hop
        ids, similarities = await asyncio.to_thread(self._index.search, vectors, asked)
        found = [find(*near)[:k] for near in zip(ids, similarities, strict=True)]
        short = [row for row, near in enumerate(found) if len(near) < k and asked <= np.count_nonzero(ids[row] >= 0)]
        if short:
            ids, similarities = await asyncio.to_thread(self._index.search, vectors[short], asked * _MORE)
            for row, near in zip(short, zip(ids, similarities, strict=True), strict=True):
                found[row] = find(*near)[:k]
        return found

    async def search_readings(self, windows: Sequence[tuple[Vectors, list[int]]], k: int) -> list[list[Neighbour]]:
        """For each window's readings (R, dimension) that are due the k nearest windows of each, in one call."""
        asked = [readings[due] for readings, due in windows]
        found = iter(await self.search(np.concatenate(asked), k)) if asked else iter(())
        return [
            [near if reading == 0 else replace(near, reading=reading) for reading in due for near in next(found)]
            for _, due in windows
        ]

    async def stretch(self, reference_id: str, start_s: float, end_s: float) -> tuple[NDArray[np.float64], Vectors]:
        """Starts (R,) in [start_s, end_s), ascending, and vectors (R, dimension) of a reference's own windows.

        Silent windows have none. Nothing comes of a reference that is not there any more.
        """
        nothing = np.empty(0, dtype=np.float64), np.empty((0, self.catalog.dimension), dtype=np.float32)
        if not (within := self._within(reference_id, start_s, end_s)):
            return nothing
        ids, vectors = await asyncio.to_thread(self._index.vectors, within)
        sound = ~damaged(vectors)
        return (ids[sound] & (MAX_WINDOWS - 1)).astype(np.float64) * self.catalog.hop_s, vectors[sound]

    async def spectrogram(self, reference_id: str, start_s: float, end_s: float) -> Spectrogram | None:
        """The frames of the reference's windows that start in [start_s, end_s); None where it has none."""
        if not (within := self._within(reference_id, start_s, end_s)):
            return None
        ids, rows = await asyncio.to_thread(self._index.levels, within)
        return self._spectrograph.assembled(ids & (MAX_WINDOWS - 1), rows)

    def _within(self, reference_id: str, start_s: float, end_s: float) -> list[int]:
        """Ids of the vectors of the reference's windows that start in [start_s, end_s), as far as they have any."""
        if (reference := self.reference(reference_id)) is None:
            return []
        hop_s, windows = self.catalog.hop_s, self.catalog.windows_in(reference.duration_s)
        first, last = max(0, int(start_s / hop_s) - 1), min(windows, int(end_s / hop_s) + 2)
        return [
            vector_id(reference.number, window) for window in range(first, last) if start_s <= window * hop_s < end_s
        ]

    async def server_version(self) -> str:
        """What Milvus says of itself."""
        return await asyncio.to_thread(self._index.server_version)

    async def close(self) -> None:
        """The connection to Milvus is given back."""
        await in_thread(self._index.close)


def _neighbours(
    ids: NDArray[np.int64],
    similarities: NDArray[np.float32],
    *,
    by_number: Mapping[int, Reference],
    hop_s: float,
    per_hop: int,
) -> list[Neighbour]:
    found, taken = [], set()
    for key, similarity in zip(ids.tolist(), similarities.tolist(), strict=True):
        if key >= 0 and (reference := by_number.get(key >> WINDOW_BITS)) is not None:
            window = key & (MAX_WINDOWS - 1)
            second = reference.number, window // per_hop
            if second in taken:
                continue
            taken.add(second)
            found.append(
                Neighbour(reference_id=reference.reference_id, reference_start_s=window * hop_s, similarity=similarity)
            )
    return found
