"""What one process leaves half done, and what a server loses or spoils, is found and mended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.catalog.index import vector_id
from monitor.catalog.recording import Recording
from monitor.catalog.references import FileState, Guard, References
from monitor.catalog.verify import FindingKind, Repair, Verdict, survey, verify
from monitor.catalog.writer import CatalogWriter
from monitor.types import Reference, ReferenceState
from tests.integration.catalog.conftest import Library, plain_client, unit_vectors
from tests.integration.catalog.sound import Bands, melody, write_melody


async def _verified(library: Library, *, repair: bool = False) -> Verdict:
    async with library.writer() as writer:
        return await verify(writer, repair=Repair(embedder=Bands(), ffmpeg=library.ffmpeg) if repair else None)


async def _delete(library: Library, number: int, windows: int) -> None:
    async with library.writer() as writer:
        await asyncio.to_thread(writer.index.delete_reference, number, windows)


@pytest.fixture
async def loaded(library: Library, tmp_path: Path) -> Library:
    """Three references, numbered 1 to 3 in some order."""
    for seed in range(3):
        write_melody(tmp_path / f"{seed}.wav", seed)
    await library.add(tmp_path)
    return library


async def _numbers(library: Library) -> dict[str, int]:
    rows = await References(library.pool).rows("test")
    return {row.reference.reference_id: row.reference.number for row in rows}


async def test_a_sound_catalog_has_no_findings(loaded: Library) -> None:
    verdict = await _verified(loaded)
    assert (verdict.references, verdict.vectors, verdict.findings, verdict.sound) == (3, 33, (), True)


async def test_a_survey_names_what_is_lost_or_spoilt_and_nothing_else(loaded: Library) -> None:
    async with loaded.writer() as writer:
        catalog = writer.catalog

    async def found() -> list[tuple[FindingKind, str | None]]:
        findings = await survey(loaded.pool, catalog, uri=loaded.milvus_uri, token=None)
        return [(finding.kind, finding.reference_id) for finding in findings]

    assert await found() == []
    numbers = await _numbers(loaded)
    ids = [vector_id(numbers["2"], window) for window in range(11)]
    spoilt = [{"id": key, "vector": [3.0, *[0.0] * (catalog.dimension - 1)], "levels": ""} for key in ids]
    with plain_client(loaded.milvus_uri) as client:
        client.upsert(catalog.collection, spoilt)
    assert await found() == [(FindingKind.DAMAGED, "2")]
    await _delete(loaded, numbers["1"], 4)
    assert sorted(await found()) == [(FindingKind.COUNT, "1"), (FindingKind.DAMAGED, "2")]
    assert (await _verified(loaded, repair=True)).sound
    assert await found() == []


@pytest.mark.parametrize("lost", [4, 11])
async def test_lost_vectors_are_found_and_made_anew(loaded: Library, lost: int) -> None:
    number = (await _numbers(loaded))["1"]
    await _delete(loaded, number, lost)
    verdict = await _verified(loaded)
    (finding,) = verdict.findings
    assert (finding.kind, finding.reference_id, finding.repaired) == (FindingKind.COUNT, "1", False)
    assert finding.detail == f"1: 11 vectors expected, {11 - lost} found"
    assert not verdict.sound
    verdict = await _verified(loaded, repair=True)
    assert verdict.findings[0].repaired
    assert (verdict.sound, verdict.vectors) == (True, 33)
    assert (await _verified(loaded)).findings == ()
    async with loaded.reader() as reader:
        _, vectors = await reader.stretch("1", 0.0, 9.0)
        np.testing.assert_allclose(vectors, Bands().embed_span(melody(1, 6.0)), atol=1e-2)


async def test_damaged_vectors_are_found_and_made_anew(loaded: Library) -> None:
    number, row = (await _numbers(loaded))["2"], await loaded.row()
    with plain_client(loaded.milvus_uri) as client:
        spoilt = unit_vectors(2, dimension=32) * 37.8
        client.upsert(
            row.collection, [{"id": vector_id(number, n), "vector": spoilt[n], "levels": ""} for n in range(2)]
        )
    (finding,) = (await _verified(loaded)).findings
    assert (finding.kind, finding.detail) == (FindingKind.DAMAGED, "2: 2 of 11 vectors are damaged")
    assert (await _verified(loaded, repair=True)).sound
    assert (await _verified(loaded)).findings == ()


async def test_vectors_that_belong_to_no_row_are_found_and_deleted(loaded: Library) -> None:
    async with loaded.writer() as writer:
        ids = np.array([vector_id(99, window) for window in range(5)])
        await asyncio.to_thread(writer.index.insert, ids, unit_vectors(5, dimension=32), [""] * 5)
    (finding,) = (await _verified(loaded)).findings
    assert (finding.kind, finding.reference_id) == (FindingKind.ORPHANS, None)
    assert finding.detail == "5 vectors of number 99 belong to no reference"
    verdict = await _verified(loaded, repair=True)
    assert (verdict.sound, verdict.vectors) == (True, 33)
    assert await loaded.state() == ({"0": 11, "1": 11, "2": 11}, 33)


async def test_what_cannot_be_made_anew_is_said_with_the_reason(loaded: Library, tmp_path: Path) -> None:
    numbers = await _numbers(loaded)
    for name in ("0", "1"):
        await _delete(loaded, numbers[name], 11)
    (tmp_path / "0.wav").unlink()
    write_melody(tmp_path / "1.wav", 9)
    verdict = await _verified(loaded, repair=True)
    assert not verdict.sound
    reasons = [
        f"{tmp_path}/0.wav does not exist; correct the path",
        f"{tmp_path}/1.wav has other audio now; load it with monitor catalog add",
    ]
    assert [finding.detail for finding in verdict.findings] == [
        f"{name}: 11 vectors expected, 0 found; not repaired: {reason}" for name, reason in enumerate(reasons)
    ]


def _half(name: str) -> tuple[Reference, Recording]:
    reference = Reference(
        catalog="test",
        reference_id=name,
        number=0,
        state=ReferenceState.LOADING,
        path=f"/{name}.wav",
        duration_s=6.0,
        windows=11,
        file_sha256=name,
        audio_sha256=name,
    )
    kept = np.arange(11)
    vectors = unit_vectors(11, dimension=32, seed=5)
    return reference, Recording(
        duration_s=6.0, windows=11, kept=kept, vectors=vectors, levels=[""] * 11, audio_sha256=name
    )


async def _begin(writer: CatalogWriter, guard: Guard, name: str) -> int:
    """As far as a loader comes that dies with half of the vectors written."""
    reference, recording = _half(name)
    file = FileState(size_bytes=1, modified_us=1)
    number = await writer.references.begin_loading(reference, file, guard=guard)
    assert isinstance(number, int)
    ids = vector_id(number, 0) + recording.kept[:5]
    await asyncio.to_thread(writer.index.insert, ids, recording.vectors[:5], recording.levels[:5])
    return number


async def test_a_dead_loader_s_leftovers_are_cleared_by_the_next(loaded: Library, tmp_path: Path) -> None:
    async with loaded.writer() as writer:
        async with Guard.open(loaded.pool) as guard:
            await _begin(writer, guard, "half")
        rows = await References(loaded.pool).rows("test")
        await writer.references.condemn([rows[0].reference.number])
        async with loaded.reader() as reader:
            assert set(reader.references) == {"1", "2"}
            near = await reader.search(_half("half")[1].vectors, 5)
            assert {neighbour.reference_id for row in near for neighbour in row} == {"1", "2"}
            assert {len(row) for row in near} == {5}
        verdict = await _verified(loaded)
        assert {(finding.kind, finding.detail) for finding in verdict.findings} == {
            (FindingKind.UNFINISHED, "half was being loaded and was not finished"),
            (FindingKind.UNFINISHED, "0 was being removed and was not finished"),
        }
    await loaded.add(tmp_path / "1.wav")
    assert await loaded.state() == ({"1": 11, "2": 11}, 22)


async def test_verify_with_repair_clears_leftovers_too(loaded: Library) -> None:
    async with loaded.writer() as writer, Guard.open(loaded.pool) as guard:
        await _begin(writer, guard, "half")
    assert (await _verified(loaded, repair=True)).sound
    assert await loaded.state() == ({"0": 11, "1": 11, "2": 11}, 33)


async def test_what_a_living_loader_is_at_is_left_to_it(loaded: Library) -> None:
    async with loaded.writer() as writer, Guard.open(loaded.pool) as guard:
        number = await _begin(writer, guard, "half")
        assert await writer.clear_leftovers() == 0
        assert (await _verified(loaded, repair=True)).findings == ()
        assert await asyncio.to_thread(writer.index.count, number) == 5
        again = replace(_half("half")[0], audio_sha256="other")
        file = FileState(size_bytes=1, modified_us=1)
        assert await writer.references.begin_loading(again, file, guard=guard) is None
        await guard.release(number)
        assert await writer.clear_leftovers() == 1


async def test_removed_references_are_gone_with_their_vectors(loaded: Library) -> None:
    rows = await References(loaded.pool).rows("test")
    async with loaded.reader() as reader:
        async with loaded.writer() as writer:
            await writer.remove([row.reference for row in rows[:2]])
        assert set(reader.references) == {"0", "1", "2"}
        assert await reader.refresh()
        assert set(reader.references) == {"2"}
        assert not await reader.refresh()
    assert await loaded.state() == ({"2": 11}, 11)
