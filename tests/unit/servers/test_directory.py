from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import InUseError, StorageError
from monitor.servers import directory
from monitor.servers.directory import daemon_lock, default_data_dir, prepare, socket_dir

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HOLD = """
import sys, time
from pathlib import Path
from monitor.servers.directory import daemon_lock
with daemon_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_default_is_the_systems_for_root_and_the_users_own_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/monitor")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/ann/state")
    assert default_data_dir() == Path("/home/ann/state/monitor")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the XDG specification: to be ignored
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_data_dir() == Path("/home/ann/.local/state/monitor")


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_directory_is_closed_to_others(tmp_path: Path, *, exists: bool) -> None:
    target = tmp_path / "a" / "data"
    if exists:
        target.mkdir(parents=True, mode=0o755)
    assert prepare(target) == target
    expected = 0o711 if os.geteuid() == 0 else 0o700
    assert stat.S_IMODE(target.stat().st_mode) == expected
    assert list(target.iterdir()) == []


def test_a_directory_in_use_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "notes").touch()
    target.chmod(0o750)
    prepare(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o750


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="is not a directory") as caught:
            prepare(target)
        assert str(target) in str(caught.value)
        assert caught.value.exit_code == 73


def test_a_directory_shared_by_all_users_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StorageError, match="shared by all users"):
        prepare(tmp_path)


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(StorageError, match=r"/proc/monitor.*--data-dir"):
        prepare(Path("/proc/monitor"))


@as_root
def test_another_users_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / directory.KEEPER_LOCK).touch()
    os.chown(tmp_path / directory.KEEPER_LOCK, 65534, 65534)
    with pytest.raises(StorageError, match="belongs to user nobody"):
        prepare(tmp_path)


def test_a_full_disk_is_told_from_other_trouble(tmp_path: Path) -> None:
    full = directory.unwritable(tmp_path, OSError(28, "No space left on device", str(tmp_path / "x")))
    assert str(full) == f"The disk that holds {tmp_path} is full; make room there and start again."
    closed = directory.unwritable(tmp_path, PermissionError(13, "Permission denied", str(tmp_path / "x")))
    assert f"Permission denied ({tmp_path / 'x'})" in str(closed)


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_sockets_of_any_data_directory_have_short_plain_paths(parts: list[str]) -> None:
    data_dir = Path("/", *parts)
    found = socket_dir(data_dir)
    assert len(os.fsencode(found / "postgres/.s.PGSQL.5432")) <= 107
    assert not set(str(found)) & set(", %?&'\"\\\n;")
    assert socket_dir(data_dir) == found


def test_sockets_lie_in_the_data_directory_when_they_can() -> None:
    assert socket_dir(Path("/var/lib/monitor")) == Path("/var/lib/monitor/run")
    assert socket_dir(Path("/data/" + "a" * 90)) != socket_dir(Path("/data/" + "b" * 90))


def test_a_second_daemon_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == b"held\n"
            with pytest.raises(InUseError, match=rf"process {first.pid}\)") as caught, daemon_lock(tmp_path):
                pass
            assert caught.value.exit_code == 75
        finally:
            first.send_signal(signal.SIGKILL)
    # The kernel gave the lock back, although the file still names the dead process.
    with daemon_lock(tmp_path):
        assert (tmp_path / "daemon.lock").read_text() == f"{os.getpid()}\n"
    with daemon_lock(tmp_path):
        pass
