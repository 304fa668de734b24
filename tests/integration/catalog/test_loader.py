from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.catalog import index, writer
from monitor.catalog.intake import LoadResult
from monitor.catalog.listing import listed
from monitor.catalog.loader import rescan
from monitor.catalog.recording import read_recording
from monitor.catalog.references import References
from monitor.embed.spectrogram import Spectrograph
from monitor.errors import ConfigError, MonitorError, UnreachableError
from monitor.servers.milvus import Milvus
from monitor.servers.process import running
from monitor.types import LoadStatus, Reference
from tests.integration.catalog.conftest import Library, drop
from tests.integration.catalog.sound import RATE_HZ, Bands, melody, write_melody, write_wav


def _statuses(results: list[LoadResult]) -> dict[str, str]:
    return {Path(result.path).name: result.status.value for result in results}


def _convert(ffmpeg: FfmpegProgram, source: Path, target: Path, *options: str) -> None:
    subprocess.run([ffmpeg.path, "-v", "error", "-i", source, *options, target], check=True)


async def _finds(library: Library, seed: int, *, duration_s: float = 6.0) -> set[str]:
    """The references that are nearest to the windows of that melody, as far as they are the same sound."""
    async with library.reader() as reader:
        found = await reader.search(Bands().embed_span(melody(seed, duration_s)), 1)
    return {near[0].reference_id for near in found if near and near[0].similarity > 0.99}


async def test_what_is_added_is_found_at_its_position(library: Library, tmp_path: Path) -> None:
    for seed in range(3):
        write_melody(tmp_path / f"in/{seed}.wav", seed)
    results = await library.add(tmp_path)
    assert [(result.reference_id, result.status) for result in results] == [
        (f"in/{seed}", LoadStatus.ADDED) for seed in range(3)
    ]
    assert all((result.duration_s, result.windows, result.reason) == (6.0, 11, None) for result in results)
    assert await library.state() == ({"in/0": 11, "in/1": 11, "in/2": 11}, 33)
    async with library.reader() as reader:
        queries = Bands().embed_span(melody(1, 6.0))
        nearest = [near[0] for near in await reader.search(queries, 5)]
        assert [near.reference_id for near in nearest] == ["in/1"] * 11
        assert [near.reference_start_s for near in nearest] == [0.5 * window for window in range(11)]
        assert min(near.similarity for near in nearest) > 0.999
        starts_s, vectors = await reader.stretch("in/1", 1.0, 3.0)
        assert starts_s.tolist() == [1.0, 1.5, 2.0, 2.5]
        np.testing.assert_allclose(vectors, queries[2:6], atol=1e-2)
        assert (await reader.stretch("in/1", 5.0, 99.0))[0].tolist() == [5.0]
        assert (await reader.stretch("in/1", 50.0, 99.0))[1].shape == (0, 32)
        assert (await reader.stretch("gone", 0.0, 9.0))[1].shape == (0, 32)
        picture = await reader.spectrogram("in/1", 0.0, 99.0)
        assert picture is not None and (picture.start_s, picture.step_s) == (0.0625, 0.0625)
        whole = Spectrograph.for_embedder(Bands()).of(melody(1, 6.0))
        assert np.abs(picture.levels.astype(int) - whole[: len(picture.levels)]).max() <= 4
        later = await reader.spectrogram("in/1", 1.0, 3.0)
        assert later is not None and later.start_s == 1.0625
        np.testing.assert_array_equal(later.levels[-8:], picture.levels[16 + len(later.levels) - 8 :][:8])
        assert await reader.spectrogram("in/1", 50.0, 99.0) is None
        assert await reader.spectrogram("gone", 0.0, 9.0) is None


async def test_a_stream_is_never_far_from_a_reference_s_window(library: Library, tmp_path: Path) -> None:
    fine = Bands(reference_hop_samples=2000)
    for seed in range(2):
        write_melody(tmp_path / f"{seed}.wav", seed)
    await library.loader(fine).add(listed([tmp_path]))
    assert await library.state() == ({"0": 21, "1": 21}, 42)
    async with library.reader(fine) as reader:
        queries = fine.embed_span(melody(1, 6.0)[2000:])
        found = await reader.search(queries, 5)
        assert [near[0].reference_start_s for near in found] == [0.25 + 0.5 * window for window in range(len(queries))]
        assert min(near[0].similarity for near in found) > 0.999
        # Of the windows within one hop only the nearest counts: the others would take the places of what is another.
        for near in found:
            seconds = {(each.reference_id, int(each.reference_start_s / fine.hop_s)) for each in near}
            assert len(seconds) == len(near) == 5
        assert (await reader.stretch("1", 1.0, 2.0))[0].tolist() == [1.0, 1.25, 1.5, 1.75]
    with pytest.raises(ConfigError, match=r"lie 0\.25 s apart, this version takes references every 0\.5 s"):
        await library.add(tmp_path)


async def test_added_again_everything_is_unchanged(library: Library, tmp_path: Path) -> None:
    path = write_melody(tmp_path / "a.wav", 0)
    await library.add(tmp_path)
    version = await References(library.pool).version("test")
    assert _statuses(await library.add(tmp_path)) == {"a.wav": "unchanged"}
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert _statuses(await library.add(tmp_path)) == {"a.wav": "unchanged"}
    row = (await References(library.pool).rows("test"))[0]
    assert row.file.modified_us == 1_000_000_000_000_000
    assert row.reference.number == 1
    assert await References(library.pool).version("test") > version


async def test_changed_bytes_replace_the_reference_which_is_found_until_then(library: Library, tmp_path: Path) -> None:
    write_melody(tmp_path / "a.wav", 0)
    await library.add(tmp_path)
    write_melody(tmp_path / "a.wav", 1, 8.0)
    reached, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        reached.set()
        assert go_on.wait(30)

    task = asyncio.create_task(library.loader(Bands(before=pause)).add(listed([tmp_path])))
    assert await asyncio.to_thread(reached.wait, 30)
    assert (await _finds(library, 0), await _finds(library, 1)) == ({"a"}, set())
    go_on.set()
    assert _statuses(await task) == {"a.wav": "replaced"}
    assert (await _finds(library, 0), await _finds(library, 1)) == (set(), {"a"})
    assert await library.state() == ({"a": 15}, 15)


async def test_the_same_audio_is_loaded_once(library: Library, tmp_path: Path, ffmpeg: FfmpegProgram) -> None:
    path = write_melody(tmp_path / "a.wav", 0)
    await library.add(path)
    shutil.copy(path, tmp_path / "copy.wav")
    _convert(ffmpeg, path, tmp_path / "other.flac")
    _convert(ffmpeg, path, tmp_path / "tagged.wav", "-metadata", "title=Other")
    results = await library.add(tmp_path / "copy.wav", tmp_path / "other.flac", tmp_path / "tagged.wav")
    assert {(result.status, result.duplicate_of, result.reason) for result in results} == {
        (LoadStatus.DUPLICATE, "a", "the same audio as a")
    }
    assert not any(result.bad for result in results)
    assert await library.state() == ({"a": 11}, 11)


async def test_two_copies_in_one_run_give_one_reference(library: Library, tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        write_melody(tmp_path / name, 0)
    results = await library.add(tmp_path)
    assert sorted(result.status for result in results) == ["added", "duplicate", "duplicate"]
    (added,) = [result.reference_id for result in results if result.status is LoadStatus.ADDED]
    assert {result.duplicate_of for result in results} == {None, added}
    assert await library.state() == ({added: 11}, 11)


async def test_new_tags_around_the_same_audio_keep_the_vectors(
    library: Library, tmp_path: Path, ffmpeg: FfmpegProgram
) -> None:
    path = write_melody(tmp_path / "a.wav", 0)
    await library.add(path)
    tagged = tmp_path / "tagged.wav"
    _convert(ffmpeg, path, tagged, "-metadata", "title=New")
    tagged.rename(path)
    (result,) = await library.add(path)
    assert (result.status, result.reason) == (
        LoadStatus.REPLACED,
        "other bytes, the same audio: its vectors were kept",
    )
    assert _statuses(await library.add(path)) == {"a.wav": "unchanged"}
    assert (await References(library.pool).rows("test"))[0].reference.number == 1


async def test_a_moved_file_keeps_its_reference(library: Library, tmp_path: Path) -> None:
    write_melody(tmp_path / "old/a.wav", 0)
    await library.add(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    (result,) = await library.add(tmp_path / "new")
    assert (result.status, result.reason) == (LoadStatus.UNCHANGED, f"moved from {tmp_path}/old/a.wav")
    assert (await References(library.pool).rows("test"))[0].reference.path == f"{tmp_path}/new/a.wav"


async def test_another_file_cannot_take_over_an_id_that_nobody_gave_it(library: Library, tmp_path: Path) -> None:
    write_melody(tmp_path / "one/a.wav", 0)
    write_melody(tmp_path / "two/a.wav", 1)
    await library.add(tmp_path / "one")
    (result,) = await library.add(tmp_path / "two")
    assert result.status is LoadStatus.FAILED
    assert result.reason == (
        f"the id 'a' would stand for both {tmp_path}/two/a.wav and {tmp_path}/one/a.wav, which the catalog has;"
        " rename one, or give ids in a manifest"
    )
    assert await _finds(library, 0) == {"a"}
    (tmp_path / "list.csv").write_text("id,path\na,two/a.wav\n")
    (result,) = await library.add(manifests=[tmp_path / "list.csv"])
    assert result.status is LoadStatus.REPLACED
    assert await _finds(library, 1) == {"a"}


async def test_a_broken_file_never_stops_the_others(library: Library, tmp_path: Path) -> None:
    write_melody(tmp_path / "good.wav", 0)
    write_melody(tmp_path / "short.wav", 1, 0.9)
    write_wav(tmp_path / "silent.wav", np.zeros(5 * RATE_HZ, dtype=np.float32))
    (tmp_path / "zero.mp3").touch()
    (tmp_path / "text.mp3").write_text("This is no music.\n" * 100)
    whole = write_melody(tmp_path / "cut.wav", 2).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pipe.wav").parent.joinpath("directory.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    results = await library.add(tmp_path, tmp_path / "missing.ogg")
    assert _statuses(results) == {
        "cut.wav": "unreadable",
        "good.wav": "added",
        "missing.ogg": "unreadable",
        "pipe.wav": "unreadable",
        "short.wav": "too_short",
        "silent.wav": "silent",
        "text.mp3": "unreadable",
        "zero.mp3": "unreadable",
    }
    reasons = {Path(result.path).name: result.reason or "" for result in results}
    assert reasons["zero.mp3"] == f"{tmp_path}/zero.mp3 is empty (0 bytes); copy it again"
    assert reasons["missing.ogg"] == f"{tmp_path}/missing.ogg does not exist; correct the path"
    assert reasons["pipe.wav"] == f"{tmp_path}/pipe.wav is not a regular file; name an audio file"
    assert "0.90 s, less than one window of the model (1.00 s)" in reasons["short.wav"]
    assert reasons["silent.wav"] == f"{tmp_path}/silent.wav is silent: nothing in it is louder than -70 dBFS"
    assert "cut off" in reasons["cut.wav"]
    assert [result.bad for result in results].count(True) == 7
    assert await library.state() == ({"good": 11}, 11)


async def test_a_broken_new_version_leaves_the_old_one(library: Library, tmp_path: Path) -> None:
    path = write_melody(tmp_path / "a.wav", 0)
    await library.add(path)
    path.write_bytes(b"")
    assert _statuses(await library.add(path)) == {"a.wav": "unreadable"}
    assert await _finds(library, 0) == {"a"}


async def test_silent_windows_have_no_vector(library: Library, tmp_path: Path) -> None:
    quiet = np.zeros(4 * RATE_HZ, dtype=np.float32)
    write_wav(tmp_path / "a.wav", np.concatenate([melody(0, 3.0), quiet, melody(1, 3.0)]))
    (result,) = await library.add(tmp_path)
    assert (result.duration_s, result.windows) == (10.0, 12)
    async with library.reader() as reader:
        starts_s, vectors = await reader.stretch("a", 0.0, 10.0)
    assert starts_s.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 6.5, 7.0, 7.5, 8.0, 8.5, 9.0]
    assert len(vectors) == 12


async def test_a_manifest_s_columns_are_kept_and_updated(library: Library, tmp_path: Path) -> None:
    write_melody(tmp_path / "a.wav", 0)
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "id,path,title,artist,isrc,owner,label,mood\nS1,a.wav,T,A,GBAYE0601498,O,L,calm\nS2,no.wav,,,,,,\n"
    )
    results = await library.add(manifests=[manifest])
    assert [result.status for result in results] == [LoadStatus.ADDED, LoadStatus.UNREADABLE]
    assert results[1].line == 3
    assert results[1].reason == f"{manifest}, line 3: {tmp_path}/no.wav does not exist; correct the path"
    reference = (await References(library.pool).rows("test"))[0].reference
    assert (reference.title, reference.artist, reference.isrc) == ("T", "A", "GBAYE0601498")
    assert (reference.owner, reference.label, reference.attributes) == ("O", "L", {"mood": "calm"})
    manifest.write_text("id,path,title,owner,year\nS1,a.wav,New,,1999\n")
    (result,) = await library.add(manifests=[manifest])
    assert (result.status, result.reason) == (LoadStatus.UNCHANGED, "title, attributes updated")
    reference = (await References(library.pool).rows("test"))[0].reference
    assert (reference.title, reference.owner) == ("New", "O")
    assert reference.attributes == {"mood": "calm", "year": "1999"}


async def test_a_dry_run_says_what_would_be_and_changes_nothing(library: Library, tmp_path: Path) -> None:
    write_melody(tmp_path / "a.wav", 0)
    write_melody(tmp_path / "b.wav", 1)
    before = await library.add(tmp_path, dry_run=True)
    assert _statuses(before) == {"a.wav": "added", "b.wav": "added"}
    assert await References(library.pool).catalogs() == []
    await library.add(tmp_path)
    version = await References(library.pool).version("test")
    write_melody(tmp_path / "a.wav", 2)
    write_melody(tmp_path / "c.wav", 1)
    write_melody(tmp_path / "d.wav", 3)
    write_melody(tmp_path / "e.wav", 3, 6.0)
    (tmp_path / "f.wav").write_bytes(b"")
    statuses = _statuses(await library.add(tmp_path, dry_run=True))
    assert sorted([statuses.pop("d.wav"), statuses.pop("e.wav")]) == ["added", "duplicate"]
    assert statuses == {"a.wav": "replaced", "b.wav": "unchanged", "c.wav": "duplicate", "f.wav": "unreadable"}
    assert await References(library.pool).version("test") == version
    assert await _finds(library, 0) == {"a"}


async def test_progress_ends_at_all_files_and_all_sound(library: Library, tmp_path: Path) -> None:
    for seed in range(4):
        write_melody(tmp_path / f"{seed}.wav", seed)
    seen = []
    await library.add(tmp_path, on_progress=lambda progress, result: seen.append((progress.files_done, result)))
    assert [done for done, result in seen if result is not None] == [1, 2, 3, 4]
    assert {result.reference_id for _, result in seen if result is not None} == {"0", "1", "2", "3"}


@pytest.mark.parametrize("lost_reads", [1, 9])
async def test_vectors_that_are_not_given_back_at_once_are_asked_for_again(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost_reads: int
) -> None:
    write_melody(tmp_path / "a.wav", 0)
    whole, reads = index.VectorIndex.vectors, itertools.count()
    monkeypatch.setattr(writer, "_READ_AGAIN_AFTER_S", (0.0, 0.01))

    def short(self: index.VectorIndex, ids: Any) -> Any:
        found, vectors = whole(self, ids)
        return (found[:-3], vectors[:-3]) if next(reads) < lost_reads else (found, vectors)

    monkeypatch.setattr(index.VectorIndex, "vectors", short)
    if lost_reads == 1:
        assert _statuses(await library.add(tmp_path)) == {"a.wav": "added"}
        assert await _finds(library, 0) == {"a"}
    else:
        with pytest.raises(UnreachableError, match="took 11 vectors and gives 8 back"):
            await library.add(tmp_path)
        assert await library.state() == ({}, 0)


async def test_another_model_s_catalog_is_refused_with_both_ids(library: Library, tmp_path: Path) -> None:
    write_melody(tmp_path / "a.wav", 0)
    await library.add(tmp_path)
    other = Bands(model_id="bands-ffffffffffff")
    for dry_run in (False, True):
        with pytest.raises(ConfigError, match=r"made by model bands-0123456789ab.*in use is bands-ffffffffffff"):
            await library.loader(other).add(listed([tmp_path]), dry_run=dry_run)


async def _cancelled_after(count: int, library: Library, folder: Path) -> set[str]:
    """Which references were told to be added before the run was cancelled."""
    told: set[str] = set()

    def tell(_progress: object, result: LoadResult | None) -> None:
        if result is not None and result.status is LoadStatus.ADDED:
            told.add(result.reference_id)
            if len(told) == count:
                task.cancel()

    task = asyncio.create_task(library.add(folder, on_progress=tell))
    with pytest.raises(asyncio.CancelledError):
        await task
    return told


async def test_cancelled_it_leaves_nothing_half_and_goes_on_when_run_again(library: Library, tmp_path: Path) -> None:
    for seed in range(12):
        write_melody(tmp_path / f"{seed:02}.wav", seed)
    for stop_after in (1, 3, 6):
        before = set((await library.state())[0]) if stop_after > 1 else set()
        told = await _cancelled_after(stop_after, library, tmp_path)
        windows, vectors = await library.state()
        assert before | told <= set(windows)
        assert vectors == sum(windows.values())
    results = await library.add(tmp_path)
    assert {result.status for result in results} == {LoadStatus.ADDED, LoadStatus.UNCHANGED}
    assert await library.state() == ({f"{seed:02}": 11 for seed in range(12)}, 132)


async def test_cancelled_as_the_last_commit_arrives_a_reference_is_whole(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = References.finish_loading

    async def cancelled(self: References, number: int) -> list[Reference]:
        replaced = await finish(self, number)
        adding.cancel()
        await asyncio.sleep(0)
        return replaced

    for seed in (0, 1):
        write_melody(tmp_path / "a.wav", seed)
        with monkeypatch.context() as patch:
            patch.setattr(References, "finish_loading", cancelled)
            adding = asyncio.create_task(library.add(tmp_path))
            with pytest.raises(asyncio.CancelledError):
                await adding
        # The next writer clears what was replaced.
        async with library.writer(clear=True):
            pass
        assert await library.state() == ({"a": 11}, 11)
        assert await _finds(library, seed) == {"a"}
    assert _statuses(await library.add(tmp_path)) == {"a.wav": "unchanged"}


async def test_removed_while_it_loads_a_reference_leaves_no_vectors(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_melody(tmp_path / "a.wav", 0)
    finish = References.finish_loading

    async def too_late(self: References, number: int) -> list[Reference]:
        await self.condemn([number])
        await self.forget(number)
        return await finish(self, number)

    monkeypatch.setattr(References, "finish_loading", too_late)
    with pytest.raises(MonitorError, match="was removed while it was loading; run the command again"):
        await library.add(tmp_path)
    assert await library.state() == ({}, 0)


async def test_two_loaders_at_once_store_each_file_once(library: Library, tmp_path: Path) -> None:
    for seed in range(8):
        write_melody(tmp_path / f"{seed}.wav", seed)
    both = await asyncio.gather(library.add(tmp_path), library.add(tmp_path))
    for one, two in zip(*both, strict=True):
        assert LoadStatus.ADDED in (one.status, two.status), (one, two)
    assert await library.state() == ({str(seed): 11 for seed in range(8)}, 88)


async def test_a_model_that_gives_nan_fails_that_file(library: Library, tmp_path: Path) -> None:
    class Broken(Bands):
        def embed_reference(self, samples: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return super().embed_reference(samples) * (np.nan if len(samples) < 5 * RATE_HZ else 1.0)

    write_melody(tmp_path / "bad.wav", 0, 3.0)
    write_melody(tmp_path / "good.wav", 1)
    results = await library.loader(Broken()).add(listed([tmp_path]))
    assert _statuses(results) == {"bad.wav": "unreadable", "good.wav": "added"}


async def test_milvus_away_in_the_middle_stops_the_run_which_goes_on_later(
    library: Library, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        write_melody(tmp_path / f"{seed}.wav", seed)
    server = Milvus(directory=data_dir / "files", socket_dir=data_dir / "socket")
    with running(server, log=data_dir / "log") as uri:
        own = Library(pool=library.pool, milvus_uri=uri, ffmpeg=library.ffmpeg, name="own")
        stopped = asyncio.Event()
        told = []

        def tell(_progress: object, result: LoadResult | None) -> None:
            if result is not None:
                told.append(result)
                stopped.set()

        reached, go_on = threading.Event(), threading.Event()

        def pause() -> None:
            if told:
                reached.set()
                assert go_on.wait(30)

        task = asyncio.create_task(
            own.loader(Bands(before=pause), parallel=1).add(listed([tmp_path]), on_progress=tell)
        )
        await stopped.wait()
        assert await asyncio.to_thread(reached.wait, 30)
    with monkeypatch.context() as impatient:
        impatient.setattr(index, "_WRITE_TIMEOUT_S", 3.0)
        go_on.set()
        with pytest.raises(UnreachableError, match="Milvus"):
            await task
    with running(server, log=data_dir / "log"):
        results = await own.add(tmp_path)
        assert [result.status for result in results].count(LoadStatus.UNCHANGED) == len(told)
        assert await own.state() == ({str(seed): 11 for seed in range(6)}, 66)
        await drop(own)


async def test_postgres_away_is_unreachable(milvus_lite: str, ffmpeg: FfmpegProgram, tmp_path: Path) -> None:
    write_melody(tmp_path / "a.wav", 0)
    pool = AsyncConnectionPool("postgresql://nobody@/x?host=/nowhere", min_size=1, open=False, timeout=0.5)
    await pool.open()
    try:
        with pytest.raises(UnreachableError, match="PostgreSQL"):
            await Library(pool=pool, milvus_uri=milvus_lite, ffmpeg=ffmpeg).add(tmp_path)
    finally:
        await pool.close()


async def test_a_folder_is_scanned_again_for_new_files_that_have_settled(library: Library, tmp_path: Path) -> None:
    scan: dict[str, Any] = {
        "pool": library.pool,
        "milvus_uri": library.milvus_uri,
        "milvus_token": None,
        "catalog": "test",
        "embedder": Bands(),
        "ffmpeg": library.ffmpeg,
    }
    first = write_melody(tmp_path / "a.wav", 0)
    changed_s = first.stat().st_mtime
    assert await rescan([tmp_path], now=lambda: changed_s + 5, **scan) == []
    (result,) = await rescan([tmp_path], now=lambda: changed_s + 11, **scan)
    assert result.status is LoadStatus.ADDED
    first.unlink()
    write_melody(tmp_path / "b.wav", 1)
    results = await rescan([tmp_path], now=lambda: changed_s + 3600, **scan)
    assert _statuses(results) == {"b.wav": "added"}
    assert set((await library.state())[0]) == {"a", "b"}


async def test_a_broken_file_of_a_folder_is_read_again_only_once_it_changed(library: Library, tmp_path: Path) -> None:
    broken, refused = tmp_path / "broken.wav", {}
    broken.write_text("no sound at all")
    scan: dict[str, Any] = {
        "pool": library.pool,
        "milvus_uri": library.milvus_uri,
        "milvus_token": None,
        "catalog": "test",
        "embedder": Bands(),
        "ffmpeg": library.ffmpeg,
        "now": lambda: broken.stat().st_mtime + 3600,
        "refused": refused,
    }
    assert _statuses(await rescan([tmp_path], **scan)) == {"broken.wav": "unreadable"}
    assert await rescan([tmp_path], **scan) == []
    write_melody(broken, 0)
    assert _statuses(await rescan([tmp_path], **scan)) == {"broken.wav": "added"}
    assert refused == {}


async def test_a_whole_run_on_a_full_server(
    pool: AsyncConnectionPool[Any], full_milvus: str, ffmpeg: FfmpegProgram, tmp_path: Path
) -> None:
    library = Library(pool=pool, milvus_uri=full_milvus, ffmpeg=ffmpeg)
    for seed in range(3):
        write_melody(tmp_path / f"{seed}.wav", seed)
    assert _statuses(await library.add(tmp_path)) == {"0.wav": "added", "1.wav": "added", "2.wav": "added"}
    write_melody(tmp_path / "1.wav", 9)
    assert _statuses(await library.add(tmp_path)) == {"0.wav": "unchanged", "1.wav": "replaced", "2.wav": "unchanged"}
    assert (await _finds(library, 1), await _finds(library, 9)) == (set(), {"1"})
    assert await library.state() == ({"0": 11, "1": 11, "2": 11}, 33)
    await drop(library)


async def test_memory_does_not_grow_with_the_length_of_a_file(ffmpeg: FfmpegProgram, tmp_path: Path) -> None:
    minutes = 20
    path = write_wav(tmp_path / "long.wav", np.tile(melody(0, 60.0), minutes))
    tracemalloc.start()
    try:
        with ThreadPoolExecutor(max_workers=1) as executor:
            recording = await read_recording(path, embedder=Bands(), ffmpeg=ffmpeg, executor=executor)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert recording.duration_s == 60.0 * minutes
    assert recording.windows == len(recording.kept) == len(recording.vectors) == 120 * minutes - 1
    samples_bytes = 4 * RATE_HZ * 60 * minutes
    assert peak_bytes < samples_bytes / 2
