"""The data directory: where it is, what may be one, where its sockets lie, and which daemon holds it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from monitor.errors import InUseError, StorageError

#: Held by the keeper; its owner is whose directory this is.
KEEPER_LOCK = "keeper.lock"
_DAEMON_LOCK = "daemon.lock"
_ELSEWHERE = "name another directory with --data-dir"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PROBE_BYTES = 65536
_LONGEST_SOCKET = "postgres/.s.PGSQL.5432"
_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path without its final zero
#: Characters that mean themselves in a connection string, in a gRPC address and in PostgreSQL's list of directories.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+=@-]+")


def default_data_dir() -> Path:
    """Where state lies when nobody says: `/var/lib/monitor` for root, else the user's own state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/monitor")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "monitor"


def prepare(data_dir: Path) -> Path:
    """Make the data directory where it is missing and return its absolute path; it can be written and is ours.

    A directory that was not there or was empty can be entered by its owner alone; root's can be entered, not read, by
    the unprivileged user that PostgreSQL runs as. No other permission is changed, here or elsewhere. Raises
    StorageError with what is in the way.
    """
    try:
        directory = data_dir.expanduser().resolve()
        directory.mkdir(parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_mode & stat.S_ISVTX and found.st_mode & stat.S_IWOTH:
            raise StorageError(f"The directory {directory} is shared by all users; {_ELSEWHERE}, such as one below it.")
        _check_owner(directory)
        if not any(directory.iterdir()):
            directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"The data directory {data_dir} is not a directory ({error.filename}).") from error
    except OSError as error:
        raise unwritable(data_dir, error) from error
    return directory


def full_disk(directory: Path) -> StorageError:
    """The error that names the place where no room is left."""
    return StorageError(f"The disk that holds {directory} is full; make room there and start again.")


def unwritable(directory: Path, error: OSError) -> StorageError:
    """The error that says why nothing can be written in `directory`."""
    if error.errno in _FULL or says_full([str(error)]):
        return full_disk(directory)
    where = "" if error.filename in (None, str(directory)) else f" ({error.filename})"
    return StorageError(f"The directory {directory} cannot be written: {error.strerror or error}{where}; {_ELSEWHERE}.")


def says_full(lines: Sequence[str]) -> bool:
    """Whether a program's messages tell of a full disk."""
    signs = (*map(os.strerror, _FULL), "Check free disk space")  # PostgreSQL's hint where a write was short
    return any(sign in line for line in lines for sign in signs)


def socket_dir(data_dir: Path) -> Path:
    """Where the sockets of a data directory lie: within it, or in a short private directory if its path is unfit.

    A Unix socket's path has at most 107 bytes. The place depends on the path and the user alone, so that every client
    finds it and it is the same after a restart.
    """
    within = data_dir / "run"
    fits = len(os.fsencode(within / _LONGEST_SOCKET)) <= _SOCKET_PATH_BYTES
    if fits and _PLAIN_PATH.fullmatch(str(within)):
        return within
    name = f"monitor-{os.geteuid()}-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"
    shared = Path("/run")
    return (shared if os.geteuid() == 0 and os.access(shared, os.W_OK) else Path("/tmp")) / name  # noqa: S108


def make_socket_dir(data_dir: Path) -> Path:
    """Make `socket_dir(data_dir)`; afterwards it is a real directory that belongs to us and that only we can write."""
    directory = socket_dir(data_dir)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StorageError(f"{directory}, where sockets belong, was made by another user; remove it.")
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise StorageError(f"The directory {directory} for sockets cannot be made: {error.strerror}.") from error
    return directory


@contextmanager
def daemon_lock(data_dir: Path) -> Iterator[None]:
    """Be the one daemon of a prepared data directory for as long as the block lasts.

    The kernel gives the lock back at any death. Raises InUseError with the process id of the daemon that holds it.
    """
    path = data_dir / _DAEMON_LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"The lock {path} cannot be opened: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            raise InUseError(
                f"The data directory {data_dir} is in use by another daemon (process {holder}); "
                f"stop that one, or {_ELSEWHERE}."
            ) from None
        try:
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise full_disk(data_dir) from error
        yield
    finally:
        os.close(lock)


def _check_owner(directory: Path) -> None:
    """A directory used by one user is not used by another, root included: neither could run what the other wrote."""
    try:
        owner = (directory / KEEPER_LOCK).stat().st_uid
    except (FileNotFoundError, PermissionError):
        return  # a directory that cannot be entered is named by what comes next
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"number {owner}"
        raise StorageError(f"The data directory {directory} belongs to user {name}; run as that user, or {_ELSEWHERE}.")
