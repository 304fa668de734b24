"""Files into a catalog: what became of each is one row of the answer, and nothing that is wrong with one stops another.

Interrupted and run again it goes on where it was: what is loaded is told by path, size and time of change, then by the
bytes' digest; what was half loaded is cleared first (see `writer`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.catalog.intake import Intake, LoadResult
from monitor.catalog.item import LoadItem
from monitor.catalog.listing import listed
from monitor.catalog.references import ReferenceRow, References
from monitor.catalog.writer import CatalogWriter
from monitor.embed import Embedder
from monitor.errors import MonitorError
from monitor.types import LoadStatus

#: A folder's file that changed so recently may still be being copied: the next scan takes it.
_SETTLED_S = 10.0

#: Size and time of change (ns) of a file.
FileMark = tuple[int, int]

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a run is; counts only grow."""

    files_total: int
    bytes_total: int
    files_done: int = 0
    bytes_done: int = 0
    #: Seconds of sound that were decoded.
    audio_s: float = 0.0
    #: Results in the order in which they came.
    results: list[LoadResult] = field(default_factory=list)


class Loader:
    """Loads files into one catalog, several at once, with one thread for the model.

    The catalog is made if there is none of that name; if it was made by another model, ConfigError names both. Files
    of more sound than `max_duration_s` are refused once so much of them is decoded.
    """

    def __init__(
        self,
        *,
        pool: AsyncConnectionPool[Any],
        milvus_uri: str,
        milvus_token: str | None,
        catalog: str,
        embedder: Embedder,
        ffmpeg: FfmpegProgram,
        parallel: int | None = None,
        max_duration_s: float | None = None,
    ) -> None:
        self._pool, self._milvus_uri, self._milvus_token = pool, milvus_uri, milvus_token
        self._name, self._embedder, self._ffmpeg = catalog, embedder, ffmpeg
        self._max_duration_s = max_duration_s
        self._parallel = parallel or min(8, (os.cpu_count() or 1) + 1)

    async def add(
        self,
        items: Sequence[LoadItem],
        *,
        dry_run: bool = False,
        on_progress: Callable[[Progress, LoadResult | None], None] = lambda _progress, _result: None,
    ) -> list[LoadResult]:
        """A result for each item, in their order. Each that is added or replaced answers searches by then.

        With `dry_run` files are decoded and compared, and nothing is changed. `on_progress` is called with each result,
        and with None when more sound was decoded. Raises ConfigError, UnreachableError or StorageError, and may be
        cancelled: results told until then hold, and every other file is whole in the catalog or has left nothing
        behind.
        """
        sizes = await asyncio.to_thread(lambda: [_size_bytes(item) for item in items])
        progress = Progress(files_total=len(items), bytes_total=sum(sizes))
        references = References(self._pool)
        if dry_run:
            catalog = await references.catalog(self._name)
            if catalog is not None:
                catalog.check_model(self._embedder)
            intake = self._intake(await self._known(references), None, None)
            return await self._load_all(intake, items, sizes, progress, on_progress)
        catalog = await references.create_catalog(self._name, self._embedder)
        opening = CatalogWriter.open(
            pool=self._pool, milvus_uri=self._milvus_uri, milvus_token=self._milvus_token, catalog=catalog
        )
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed") as executor:
            async with opening as writer:
                intake = self._intake(await self._known(references), writer, executor)
                try:
                    return await self._load_all(intake, items, sizes, progress, on_progress)
                finally:
                    await writer.flush()

    def _intake(
        self, known: dict[str, ReferenceRow], writer: CatalogWriter | None, executor: Executor | None
    ) -> Intake:
        return Intake(
            catalog=self._name,
            embedder=self._embedder,
            ffmpeg=self._ffmpeg,
            known=known,
            writer=writer,
            executor=executor,
            max_duration_s=self._max_duration_s,
        )

    async def _known(self, references: References) -> dict[str, ReferenceRow]:
        return {row.reference.reference_id: row for row in await references.rows(self._name)}

    async def _load_all(
        self,
        intake: Intake,
        items: Sequence[LoadItem],
        sizes: Sequence[int],
        progress: Progress,
        on_progress: Callable[[Progress, LoadResult | None], None],
    ) -> list[LoadResult]:
        results: list[LoadResult | None] = [None] * len(items)

        def heard(duration_s: float) -> None:
            progress.audio_s += duration_s
            on_progress(progress, None)

        async def work(queue: Iterator[tuple[int, LoadItem]]) -> None:
            for position, item in queue:
                results[position] = result = await intake.load(item, heard)
                progress.files_done += 1
                progress.bytes_done += sizes[position]
                progress.results.append(result)
                on_progress(progress, result)

        queue = iter(list(enumerate(items)))
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._parallel, len(items))):
                    group.create_task(work(queue), name=f"load {number}")
        except BaseExceptionGroup as errors:
            # Whatever is not about one file ends the run; the first such error says why.
            raise _first(errors) from errors
        return [result for result in results if result is not None]


async def rescan(
    folders: Sequence[Path],
    *,
    pool: AsyncConnectionPool[Any],
    milvus_uri: str,
    milvus_token: str | None,
    catalog: str,
    embedder: Embedder,
    ffmpeg: FfmpegProgram,
    now: Callable[[], float] = time.time,
    refused: MutableMapping[Path, FileMark] | None = None,
) -> list[LoadResult]:
    """What the folders hold is loaded: new files, changed files; of files that are gone the references stay.

    Files that changed within the last 10 s are left for the next scan. Bad files are logged, and put into `refused`:
    as long as one stays as it is, it is not looked at again. Raises as `Loader.add`.
    """
    refused = {} if refused is None else refused
    items = await asyncio.to_thread(listed, folders)
    marks = await asyncio.to_thread(lambda: {item.path: _mark(item.path) for item in items})
    settled = [
        item
        for item in items
        if _settled(marks[item.path], now())
        and (marks[item.path] is None or refused.get(item.path) != marks[item.path])
    ]
    loader = Loader(
        pool=pool,
        milvus_uri=milvus_uri,
        milvus_token=milvus_token,
        catalog=catalog,
        embedder=embedder,
        ffmpeg=ffmpeg,
        parallel=1,  # in the background of the daemon
    )
    results = await loader.add(settled)
    for path in refused.keys() - marks.keys():
        del refused[path]
    for item, result in zip(settled, results, strict=True):
        refused.pop(item.path, None)
        if result.bad:
            if (mark := marks[item.path]) is not None and result.status is not LoadStatus.FAILED:
                refused[item.path] = mark
            log.warning("not loaded: %s", result.reason, extra={"action": "catalog_file_refused", "catalog": catalog})
    return results


def _size_bytes(item: LoadItem) -> int:
    try:
        return 0 if item.problem else item.path.stat().st_size
    except OSError:
        return 0


def _mark(path: Path) -> FileMark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _settled(mark: FileMark | None, now_s: float) -> bool:
    return mark is None or mark[1] / 1e9 <= now_s - _SETTLED_S


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """An error for the user rather than a bug that it may have caused; else the first."""
    leaves = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in errors.exceptions]
    return next((error for error in leaves if isinstance(error, MonitorError)), leaves[0])
