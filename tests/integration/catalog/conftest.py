"""The index's contract is tested on Milvus Lite and on a full Milvus server alike."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool
from pymilvus import MilvusClient

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.catalog.index import CHANNEL, VectorIndex
from monitor.catalog.intake import LoadResult
from monitor.catalog.listing import listed
from monitor.catalog.loader import Loader
from monitor.catalog.references import CatalogRow, References
from monitor.catalog.search import CatalogReader
from monitor.catalog.writer import CatalogWriter
from monitor.embed import Embedder
from monitor.types import ReferenceState, Vectors
from tests.integration.catalog.sound import Bands

_numbers = count(1)


@pytest.fixture(scope="session")
def full_milvus(session_dir: Path) -> Iterator[str]:
    """URI of a full Milvus server, alone in a network namespace."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("full Milvus: the package `milvus` is not installed (Linux on x86-64 only)")
    unshare = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("full Milvus: `unshare --net` is not allowed here")
    directory, path = session_dir / "full-milvus", session_dir / "full-milvus.socket"
    program = Path(__file__).with_name("full_milvus.py")
    with (
        (session_dir / "full-milvus.log").open("wb") as log,
        subprocess.Popen(
            [*unshare, sys.executable, str(program), str(directory), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == b"ready\n", (session_dir / "full-milvus.log").read_text(errors="replace")[-2000:]
        yield f"unix:{path}"
        process.stdin.close()
        process.wait(60)


@pytest.fixture(params=["lite", "full"])
def milvus_uri(request: pytest.FixtureRequest) -> str:
    """URI of each kind of Milvus in turn."""
    uri: str = request.getfixturevalue({"lite": "milvus_lite", "full": "full_milvus"}[request.param])
    return uri


@pytest.fixture
def make_index(milvus_uri: str) -> Iterator[Callable[..., VectorIndex]]:
    """Opens indexes; their collections are dropped after the test."""
    made: dict[str, VectorIndex] = {}

    def make(*, dimension: int = 16, collection: str | None = None) -> VectorIndex:
        index = VectorIndex(
            uri=milvus_uri, token=None, collection=collection or f"test_{next(_numbers)}", dimension=dimension
        )
        made.setdefault(index.collection, index)
        return index

    yield make
    for index in made.values():
        index.drop()
        index.close()


@contextmanager
def plain_client(uri: str) -> Iterator[MilvusClient]:
    """pymilvus without our index, to spoil what the index holds; on a channel of its own, see `index`."""
    client = MilvusClient(uri, dedicated=True, grpc_options=CHANNEL)
    yield client
    client.close()


def unit_vectors(count: int, *, dimension: int = 16, seed: int = 0) -> Vectors:
    """Random unit vectors (count, dimension)."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """Connections to an empty, migrated database."""
    async with AsyncConnectionPool(database, min_size=1, max_size=8, open=False) as pool:
        yield pool


@dataclass(frozen=True, kw_only=True)
class Library:
    """A catalog of the test's own, with what it takes to work on it."""

    pool: AsyncConnectionPool[Any]
    milvus_uri: str
    ffmpeg: FfmpegProgram
    name: str = "test"

    def loader(self, embedder: Embedder, *, parallel: int = 3) -> Loader:
        return Loader(
            pool=self.pool,
            milvus_uri=self.milvus_uri,
            milvus_token=None,
            catalog=self.name,
            embedder=embedder,
            ffmpeg=self.ffmpeg,
            parallel=parallel,
        )

    async def add(self, *paths: Path, manifests: Sequence[Path] = (), **options: Any) -> list[LoadResult]:
        return await self.loader(Bands()).add(listed(paths, manifests=manifests), **options)

    async def row(self) -> CatalogRow:
        catalog = await References(self.pool).catalog(self.name)
        assert catalog is not None
        return catalog

    @asynccontextmanager
    async def writer(self, *, clear: bool = False) -> AsyncIterator[CatalogWriter]:
        async with CatalogWriter.open(
            pool=self.pool, milvus_uri=self.milvus_uri, milvus_token=None, catalog=await self.row(), clear=clear
        ) as writer:
            yield writer

    @asynccontextmanager
    async def reader(self, embedder: Embedder | None = None) -> AsyncIterator[CatalogReader]:
        reader = await CatalogReader.open(
            name=self.name, pool=self.pool, milvus_uri=self.milvus_uri, milvus_token=None, embedder=embedder or Bands()
        )
        try:
            yield reader
        finally:
            await reader.close()

    async def state(self) -> tuple[dict[str, int], int]:
        """Windows by reference (of every row, in any state), and vectors in Milvus."""
        references = await References(self.pool).rows(self.name, tuple(ReferenceState))
        async with self.writer() as writer:
            vectors = await asyncio.to_thread(writer.index.count_all)
        names = [row.reference.reference_id for row in references]
        assert len(set(names)) == len(names), names
        assert {row.reference.state for row in references} <= {ReferenceState.READY}
        return {row.reference.reference_id: row.reference.windows for row in references}, vectors


@pytest.fixture
async def library(pool: AsyncConnectionPool[Any], milvus_lite: str, ffmpeg: FfmpegProgram) -> AsyncIterator[Library]:
    """A catalog on Milvus Lite."""
    library = Library(pool=pool, milvus_uri=milvus_lite, ffmpeg=ffmpeg)
    yield library
    await drop(library)


async def drop(library: Library) -> None:
    """No collection of the library's database is left."""
    for catalog in await References(library.pool).catalogs():
        index = VectorIndex(
            uri=library.milvus_uri, token=None, collection=catalog.collection, dimension=catalog.dimension
        )
        index.drop()
        index.close()
