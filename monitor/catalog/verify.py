"""Do rows and vectors agree? Milvus Lite can lose a segment, or give garbage, without a word: this is how it shows."""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from psycopg_pool import AsyncConnectionPool

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.catalog import canary
from monitor.catalog.canary import CANARY_NUMBER
from monitor.catalog.index import WINDOW_BITS, VectorIndex, damaged, vector_id
from monitor.catalog.recording import read_recording
from monitor.catalog.references import CatalogRow, References
from monitor.catalog.writer import CatalogWriter, in_thread, open_index
from monitor.embed import Embedder
from monitor.errors import InputError
from monitor.types import Reference, ReferenceState

#: Vectors whose length a survey looks at, one of each of so many references.
_SAMPLE = 512


class FindingKind(enum.StrEnum):
    """In what way rows and vectors can disagree."""

    #: Fewer or more vectors than the row says, or none.
    COUNT = "count"
    #: Vectors that no embedder can have given.
    DAMAGED = "damaged"
    #: Vectors of a number that has no row.
    ORPHANS = "orphans"
    #: A row that was being loaded or removed by a process that is gone.
    UNFINISHED = "unfinished"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One disagreement."""

    kind: FindingKind
    #: None for vectors without a row.
    reference_id: str | None
    number: int
    #: One sentence.
    detail: str
    repaired: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was compared, and what did not agree."""

    references: int
    vectors: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """True if everything agrees now."""
        return all(finding.repaired for finding in self.findings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """What it takes to make vectors anew."""

    embedder: Embedder
    ffmpeg: FfmpegProgram


async def verify(
    writer: CatalogWriter,
    *,
    repair: Repair | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verdict:
    """Compare every row of the catalog with its vectors, reading all of them; with `repair`, mend what can be mended.

    Missing and damaged vectors are made anew from the reference's file, if it still has the same audio; vectors without
    a row and unfinished rows are deleted. `on_progress` is told references done and in all. Raises UnreachableError.
    """
    findings = await _unfinished(writer, repair)
    rows = await writer.references.rows(writer.catalog.name)
    seen = 0
    for done, row in enumerate(rows, 1):
        finding, count = await _compare(writer, row.reference)
        if finding is not None and row.reference.number not in await writer.references.ready(writer.catalog.name):
            finding = None  # removed or replaced while we looked
        if finding is not None and repair is not None:
            finding, count = await _mend(writer, row.reference, finding, count, repair)
        findings += [finding] if finding is not None else []
        seen += count
        on_progress(done, len(rows))
    total = await in_thread(_count, writer.index)
    if total != seen:
        orphans = await _orphans(writer, repair)
        findings += orphans
        if repair is not None and orphans:
            total = await in_thread(_count, writer.index)
    await writer.flush()
    return Verdict(references=len(rows), vectors=total, findings=tuple(findings))


async def survey(pool: AsyncConnectionPool[Any], catalog: CatalogRow, *, uri: str, token: str | None) -> list[Finding]:
    """What a look that is cheap enough for every start shows: references whose vectors are too few, too many, damaged.

    The numbers of all vectors are compared with what the rows say, and the lengths of a sample are looked at. Changes
    nothing; raises UnreachableError.
    """
    references = References(pool)
    index = await in_thread(open_index, uri, token, catalog)
    try:
        ready = await references.ready(catalog.name)
        counts: dict[int, int] | None = None
        if await in_thread(_count, index) != sum(reference.windows for reference in ready.values()):
            counts = await in_thread(index.numbers)
        findings = (
            []
            if counts is None
            else [
                _finding(reference, FindingKind.COUNT, f"{reference.windows} vectors expected, {found} found")
                for number, reference in ready.items()
                if (found := counts.get(number, 0)) != reference.windows
            ]
        )
        named = {finding.number for finding in findings}
        findings += await _sample(index, [found for number, found in ready.items() if number not in named])
        if findings:  # what was loaded, replaced or removed meanwhile is no finding
            still = await references.ready(catalog.name)
            findings = [finding for finding in findings if finding.number in still]
        return findings
    finally:
        await in_thread(index.close)


async def _sample(index: VectorIndex, references: Sequence[Reference]) -> list[Finding]:
    """References of which a vector of a sample is damaged."""
    if not references:
        return []
    chosen = random.sample(references, min(len(references), _SAMPLE))
    ids = [vector_id(found.number, random.randrange(max(found.windows, 1))) for found in chosen]  # noqa: S311
    found, vectors = await in_thread(index.vectors, np.array(ids, dtype=np.int64))
    broken = {int(key) >> WINDOW_BITS for key in found[damaged(vectors)]}
    return [
        _finding(reference, FindingKind.DAMAGED, "a vector is damaged")
        for reference in chosen
        if reference.number in broken
    ]


def _finding(reference: Reference, kind: FindingKind, detail: str) -> Finding:
    return Finding(
        kind=kind,
        reference_id=reference.reference_id,
        number=reference.number,
        detail=f"{reference.reference_id}: {detail}",
    )


async def _unfinished(writer: CatalogWriter, repair: Repair | None) -> list[Finding]:
    left = await writer.leftovers()
    if repair is not None:
        await writer.clear_leftovers()
    return [
        Finding(
            kind=FindingKind.UNFINISHED,
            reference_id=reference.reference_id,
            number=reference.number,
            detail=f"{reference.reference_id} was being {_DOING[reference.state]} and was not finished",
            repaired=repair is not None,
        )
        for reference in left
    ]


_DOING = {ReferenceState.LOADING: "loaded", ReferenceState.DELETING: "removed"}


async def _compare(writer: CatalogWriter, reference: Reference) -> tuple[Finding | None, int]:
    first = vector_id(reference.number, 0)
    ids = np.arange(first, first + writer.catalog.windows_in(reference.duration_s))
    found, vectors = await in_thread(writer.index.vectors, ids)
    broken = int(damaged(vectors).sum())
    kind, detail = None, ""
    if len(found) != reference.windows:
        kind, detail = FindingKind.COUNT, f"{reference.windows} vectors expected, {len(found)} found"
    elif broken:
        kind, detail = FindingKind.DAMAGED, f"{broken} of {len(found)} vectors are damaged"
    if kind is None:
        return None, len(found)
    return _finding(reference, kind, detail), len(found)


async def _mend(
    writer: CatalogWriter, reference: Reference, finding: Finding, count: int, repair: Repair
) -> tuple[Finding, int]:
    path = Path(reference.path)
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed") as executor:
            recording = await read_recording(path, embedder=repair.embedder, ffmpeg=repair.ffmpeg, executor=executor)
    except InputError as error:
        return replace(finding, detail=f"{finding.detail}; not repaired: {error}"), count
    if recording.audio_sha256 != reference.audio_sha256:
        advice = f"not repaired: {path} has other audio now; load it with monitor catalog add"
        return replace(finding, detail=f"{finding.detail}; {advice}"), count
    if count > reference.windows:
        await writer.delete_vectors(reference.number)
    await writer.rewrite(reference.number, recording)
    again, count = await _compare(writer, reference)
    return replace(finding, repaired=again is None), count


async def _orphans(writer: CatalogWriter, repair: Repair | None) -> list[Finding]:
    numbers = await in_thread(writer.index.numbers)
    # Rows are read after the vectors: a row is written before its first vector.
    rows = await writer.references.rows(writer.catalog.name, tuple(ReferenceState))
    findings = []
    for number in sorted(numbers.keys() - {row.reference.number for row in rows} - {CANARY_NUMBER}):
        count = await asyncio.to_thread(writer.index.count, number)
        if not count:
            continue  # removed while we looked
        if repair is not None:
            await writer.delete_vectors(number)
        findings.append(
            Finding(
                kind=FindingKind.ORPHANS,
                reference_id=None,
                number=number,
                detail=f"{count} vectors of number {number} belong to no reference",
                repaired=repair is not None,
            )
        )
    return findings


def _count(index: VectorIndex) -> int:
    return index.count_all() - canary.count_vectors(index)
