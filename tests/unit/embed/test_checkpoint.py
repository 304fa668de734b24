"""Fetching weights from a real HTTP server that cuts, lies, and gives the wrong thing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.embed import checkpoint as checkpoints
from monitor.embed.checkpoint import PANNS, Checkpoint, Condition, fetch, install, verify
from monitor.errors import InputError, InUseError, StorageError, UnreachableError
from tests.integration.embed.weights_server import CONTENT, Reply, Server, checkpoint_of

NO_WAITS = (0.0, 0.0)


def cut_after(length: int) -> Callable[[Reply], None]:
    return lambda reply: reply.cut_after(length)


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as server:
        yield server


@pytest.fixture
def wanted(server: Server) -> Checkpoint:
    return checkpoint_of(CONTENT, server.url)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_file_is_fetched_checked_and_put_in_place(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    seen: list[tuple[int, int]] = []
    models_dir = tmp_path / "data" / "models"
    path = await fetch(wanted, models_dir=models_dir, progress=lambda done, total: seen.append((done, total)))
    assert path == models_dir / "small.pth"
    assert path.read_bytes() == CONTENT
    assert names(models_dir) == ["small.pth"]
    assert models_dir.stat().st_mode & 0o777 == 0o700
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert verify(wanted, models_dir=models_dir).condition is Condition.PUBLISHED


async def test_what_is_there_is_not_fetched_again(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    await fetch(wanted, models_dir=tmp_path)
    await fetch(wanted, models_dir=tmp_path)
    assert len(server.requests) == 1


async def test_a_cut_connection_is_continued_where_it_ended(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    server.script = [cut_after(100_000), cut_after(250_000)]
    path = await fetch(wanted, models_dir=tmp_path, waits_s=())
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=350000-"]
    assert [request.get("If-Range") for request in server.requests] == [None, '"one"', '"one"']
    assert names(tmp_path) == ["small.pth"]


async def test_a_later_run_continues_what_an_earlier_one_left(
    tmp_path: Path, server: Server, wanted: Checkpoint
) -> None:
    server.script = [cut_after(100_000), cut_after(0)]
    with pytest.raises(UnreachableError, match=r"what came so far is kept, run it again to go on"):
        await fetch(wanted, models_dir=tmp_path, waits_s=())
    assert (tmp_path / "small.pth.part").stat().st_size == 100_000
    path = await fetch(wanted, models_dir=tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=100000-"
    assert server.requests[-1]["If-Range"] == '"one"'


async def test_a_changed_file_is_fetched_from_the_start(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    server.content, server.etag = b"x" * len(CONTENT), '"old"'
    server.script = [cut_after(100_000), cut_after(0)]
    with pytest.raises(UnreachableError):
        await fetch(wanted, models_dir=tmp_path, waits_s=())
    server.content, server.etag = CONTENT, '"one"'
    path = await fetch(wanted, models_dir=tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
async def test_without_a_strong_validator_a_mixed_file_is_fetched_once_more(
    tmp_path: Path, server: Server, wanted: Checkpoint, etag: str | None
) -> None:
    server.content, server.etag = b"x" * len(CONTENT), etag
    server.script = [cut_after(100_000), cut_after(0)]
    with pytest.raises(UnreachableError):
        await fetch(wanted, models_dir=tmp_path, waits_s=())
    server.content = CONTENT
    server.requests.clear()
    path = await fetch(wanted, models_dir=tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=100000-", None]
    assert "If-Range" not in server.requests[0]


async def test_a_server_without_ranges_is_read_from_the_start(
    tmp_path: Path, server: Server, wanted: Checkpoint
) -> None:
    server.script = [cut_after(100_000), Reply.ignore_range]
    path = await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)
    assert path.read_bytes() == CONTENT


async def test_a_server_without_ranges_that_always_cuts_is_given_up(
    tmp_path: Path, server: Server, wanted: Checkpoint
) -> None:
    server.script = [lambda reply: reply.ignore_range(100_000)] * 10
    with pytest.raises(UnreachableError):
        await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("content_range", "start"),
    [
        ("bytes 0-700000/700001", 0),
        ("bytes 200000-700000/700001", 200_000),
        ("bytes 100000-700000/999999", 100_000),
        ("nonsense", 100_000),
    ],
)
async def test_a_server_that_lies_about_ranges_is_not_built_upon(
    tmp_path: Path, server: Server, wanted: Checkpoint, content_range: str, start: int
) -> None:
    server.script = [cut_after(100_000), lambda reply: reply.lie(content_range, start)]
    path = await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", None]


async def test_a_part_that_nobody_asked_for_is_refused(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    server.script = [lambda reply: reply.lie("bytes 5-700000/700001", 5)]
    with pytest.raises(UnreachableError, match="answers with a part that was not asked for"):
        await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)


async def test_a_wrong_file_is_refused_and_deleted(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    server.content = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(InputError) as refused:
        await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)
    assert str(refused.value) == (
        f"{server.url} gave another file than the published small.pth: its SHA-256 is {found}, that of the published "
        f"file is {wanted.sha256}; it was deleted"
    )
    assert refused.value.exit_code == 65
    assert names(tmp_path) == []


async def test_both_digests_must_agree(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    with pytest.raises(InputError, match="its MD5 is"):
        await fetch(replace(wanted, md5="0" * 32), models_dir=tmp_path, waits_s=NO_WAITS)


async def test_a_file_of_another_size_is_refused_before_it_is_read(
    tmp_path: Path, server: Server, wanted: Checkpoint
) -> None:
    server.content = CONTENT + b"more"
    with pytest.raises(InputError, match=r"700,005 bytes instead of 700,001; it was not kept"):
        await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)
    assert names(tmp_path) == []


async def test_the_digests_stay_those_of_the_publisher_on_a_mirror(
    tmp_path: Path, server: Server, wanted: Checkpoint
) -> None:
    published = replace(wanted, url="http://127.0.0.1:1/unreachable")
    assert (await fetch(published, models_dir=tmp_path / "a", url=server.url)).read_bytes() == CONTENT
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match="another file"):
        await fetch(published, models_dir=tmp_path / "b", url=server.url)


async def test_a_credential_in_the_address_is_not_shown(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    server.script = [lambda reply: reply.status(403)]
    url = server.url.replace("://", "://someone:hunter2@")
    with pytest.raises(UnreachableError, match="answers 403 Forbidden") as refused:
        await fetch(wanted, models_dir=tmp_path, url=url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("status", [401, 404, 410])
async def test_a_final_answer_is_not_asked_again(
    tmp_path: Path, server: Server, wanted: Checkpoint, status: int
) -> None:
    server.script = [lambda reply: reply.status(status)]
    with pytest.raises(UnreachableError, match=str(status)) as refused:
        await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)
    assert refused.value.exit_code == 69
    assert len(server.requests) == 1


async def test_a_busy_server_is_asked_again(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    server.script = [lambda reply: reply.status(503), lambda reply: reply.status(429, {"Retry-After": "0"})]
    assert (await fetch(wanted, models_dir=tmp_path, waits_s=NO_WAITS)).read_bytes() == CONTENT


async def test_redirects_are_followed_but_not_for_ever(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    server.script = [lambda reply: reply.status(302, {"Location": server.url})]
    assert (await fetch(wanted, models_dir=tmp_path / "a")).read_bytes() == CONTENT
    server.script = [lambda reply: reply.status(302, {"Location": server.url})] * 20
    with pytest.raises(UnreachableError, match="redirect"):
        await fetch(wanted, models_dir=tmp_path / "b", waits_s=NO_WAITS)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/small.pth", "small.pth"])
async def test_an_address_that_is_not_http_is_refused_at_once(tmp_path: Path, wanted: Checkpoint, url: str) -> None:
    with pytest.raises(UnreachableError, match="cannot be fetched"):
        await fetch(wanted, models_dir=tmp_path, url=url, waits_s=(60.0,))


async def test_nobody_listening_is_said(tmp_path: Path, free_port: int) -> None:
    unheard = checkpoint_of(CONTENT, f"http://127.0.0.1:{free_port}/small.pth")
    with pytest.raises(UnreachableError, match=r"copy the file here and use --from FILE"):
        await fetch(unheard, models_dir=tmp_path, waits_s=NO_WAITS)


async def test_other_weights_are_never_overwritten(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    (tmp_path / "small.pth").write_bytes(b"somebody's own")
    with pytest.raises(InputError, match="holds other weights than the published ones: move it away"):
        await fetch(wanted, models_dir=tmp_path)
    source = tmp_path / "copy"
    source.write_bytes(CONTENT)
    with pytest.raises(InputError, match="holds other weights"):
        install(wanted, models_dir=tmp_path, source=source)
    assert (tmp_path / "small.pth").read_bytes() == b"somebody's own"


async def test_two_processes_do_not_write_one_file(tmp_path: Path, server: Server, wanted: Checkpoint) -> None:
    with (tmp_path / "small.pth.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InUseError, match="being written by another process"):
            await fetch(wanted, models_dir=tmp_path)


def test_a_file_from_disk_is_copied_and_checked(tmp_path: Path) -> None:
    wanted = checkpoint_of(CONTENT)
    source = tmp_path / "stick" / "weights"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    models_dir = tmp_path / "models"
    path = install(wanted, models_dir=models_dir, source=source)
    assert path.read_bytes() == CONTENT
    assert source.read_bytes() == CONTENT
    assert names(models_dir) == ["small.pth"]
    assert install(wanted, models_dir=models_dir, source=path) == path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-1], r"it has 700,000 bytes, the published file has 700,001"),
        (CONTENT[::-1], "its SHA-256 is"),
        (b"", "it has 0 bytes"),
    ],
)
def test_a_wrong_file_from_disk_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    source = tmp_path / "weights"
    source.write_bytes(content)
    with pytest.raises(InputError, match=message):
        install(checkpoint_of(CONTENT), models_dir=tmp_path / "models", source=source)
    assert source.read_bytes() == content
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["missing", "directory"])
def test_a_source_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        install(checkpoint_of(CONTENT), models_dir=tmp_path / "models", source=tmp_path / name)


def test_verify_tells_missing_published_and_different(tmp_path: Path) -> None:
    wanted = checkpoint_of(CONTENT)
    assert verify(wanted, models_dir=tmp_path).condition is Condition.MISSING
    (tmp_path / "small.pth").write_bytes(CONTENT)
    assert verify(wanted, models_dir=tmp_path).condition is Condition.PUBLISHED
    (tmp_path / "small.pth").write_bytes(CONTENT[::-1])
    different = verify(wanted, models_dir=tmp_path)
    assert different.condition is Condition.DIFFERENT
    assert different.sha256 == hashlib.sha256(CONTENT[::-1]).hexdigest()


async def test_a_models_directory_that_cannot_be_made_is_named(tmp_path: Path, wanted: Checkpoint) -> None:
    (tmp_path / "file").write_text("not a directory")
    models_dir = tmp_path / "file" / "models"
    with pytest.raises(StorageError, match=re.escape(str(models_dir))) as refused:
        await fetch(wanted, models_dir=models_dir)
    assert refused.value.exit_code == 73


async def test_too_little_room_is_said_before_the_download(
    tmp_path: Path, server: Server, wanted: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"has 1,000 bytes free, small.pth needs 700,001"):
        await fetch(wanted, models_dir=tmp_path)


@pytest.fixture
def full_disk() -> Iterator[Path]:
    """A file system of 512 KiB, where this process may mount one."""
    import subprocess
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="monitor-full-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(directory)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        if not mounted:
            pytest.skip("mounting a small file system needs root")
        yield directory
    finally:
        if mounted:
            subprocess.run(["umount", str(directory)], check=True)
        directory.rmdir()


async def test_a_disk_that_fills_up_is_said_and_what_came_is_kept(
    full_disk: Path, server: Server, wanted: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    with pytest.raises(StorageError, match=r"no room left to write .*small\.pth\.part: make room") as refused:
        await fetch(wanted, models_dir=full_disk)
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.ENOSPC
    assert 0 < (full_disk / "small.pth.part").stat().st_size <= 512 * 1024


def test_a_full_disk_leaves_no_half_copy(full_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(CONTENT)
    with pytest.raises(StorageError, match="no room left"):
        install(checkpoint_of(CONTENT), models_dir=full_disk, source=source)
    assert names(full_disk) == []


def test_the_published_facts_are_well_formed() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", PANNS.md5)
    assert re.fullmatch(r"[0-9a-f]{64}", PANNS.sha256)
    assert PANNS.url.startswith("https://zenodo.org/records/3987831/")
