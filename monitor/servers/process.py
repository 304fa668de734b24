"""A server in the foreground that ends with the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from monitor.errors import MonitorError, StorageError, UnreachableError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Whom a server runs as: numbers, which need no entry in the password file."""

    uid: int
    gid: int


class Server(Protocol):
    """What it takes to run one server."""

    #: Its name in messages.
    name: str
    #: Where its data lie.
    directory: Path
    #: Whom it runs as; None for the user that starts it.
    user: User | None
    #: Where clients reach it; the same at every start.
    address: str
    #: What makes it write everything out and end.
    stop_signal: signal.Signals
    #: What the kernel sends it when the thread that started it ends.
    death_signal: signal.Signals

    def prepare(self, inherited: Sequence[int] = ()) -> None:
        """Make what is missing of its files and remove what a dead predecessor left. Blocks.

        Nobody may be running this server. Programs that it runs keep the descriptors `inherited` open. Raises
        StorageError, ConfigError or UnreachableError.
        """

    def command(self) -> list[str]:
        """The program and its arguments."""

    def is_ready(self, pid: int) -> bool:
        """Whether the process `pid` accepts clients by now."""

    def explain(self, last_words: Sequence[str]) -> MonitorError:
        """The error that says why it ended, told from the last lines that it wrote."""


def environment() -> dict[str, str]:
    """What servers see of the environment: no proxies, no secrets, no settings of other programs; English messages."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C.UTF-8", "TZ": "UTC"} | kept


def end_with(parent: int, death_signal: signal.Signals) -> None:
    """This process gets the signal when the thread of `parent` that started it ends; it ends now if that is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        os._exit(1)


def start(server: Server, *, output: int | IO[bytes], inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a prepared server, which is not ready yet; it gets its death signal when the calling thread ends.

    To be called from the main thread: the kernel watches the thread, not the process. The file descriptors
    `inherited` stay open for as long as any process of the server lives.
    """
    user, parent, death_signal = server.user, os.getpid(), server.death_signal

    def follow_parent() -> None:
        # Runs after the change of user, which would clear the setting.
        end_with(parent, death_signal)
        # What a shell starts in the background ignores it, and so would the servers, which are stopped by it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    try:
        return subprocess.Popen(
            server.command(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=server.directory,
            env=environment(),
            pass_fds=tuple(inherited),
            start_new_session=True,  # Ctrl-C in a terminal is for the command, not for its servers
            umask=0o077,
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
            preexec_fn=follow_parent,  # noqa: PLW1509
        )
    except OSError as error:
        raise StorageError(f"{server.name} cannot be started: {error.strerror or error} ({error.filename}).") from error


def stop(server: Server, process: subprocess.Popen[bytes], *, timeout_s: float = 30) -> None:
    """End the server and wait for it; one that does not end within `timeout_s` is killed."""
    if process.poll() is None:
        process.send_signal(server.stop_signal)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def first_closed(path: Path, user: User) -> Path | None:
    """The first directory on the way to `path`, itself included, that `user` cannot enter; None if there is none.

    Asks the kernel as that user, since permission bits don't tell of access lists.
    """
    way = [*reversed(path.parents), path]
    child = os.fork()
    if child == 0:
        closed = 255
        try:
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
            closed = next((depth for depth, step in enumerate(way) if not os.access(step, os.X_OK)), 254)
        finally:
            os._exit(closed)
    closed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if closed == 255:
        raise StorageError(
            f"PostgreSQL does not run as root, and this root may not become the user with the number {user.uid}; "
            "run monitor as an ordinary user."
        )
    return way[closed] if closed < len(way) else None


@contextmanager
def running(server: Server, *, log: Path, timeout_s: float = 60) -> Iterator[str]:
    """Run one server without a keeper for as long as the block lasts; yields its address, ready for clients."""
    server.prepare()
    with log.open("ab") as output:
        process = start(server, output=output)
    try:
        deadline = time.monotonic() + timeout_s
        while not server.is_ready(process.pid):
            if process.poll() is not None:
                raise server.explain(log.read_text(errors="replace").splitlines()[-100:])
            if time.monotonic() > deadline:
                raise UnreachableError(f"{server.name} did not become ready within {timeout_s:g} s; see {log}.")
            time.sleep(0.02)
        yield server.address
    finally:
        stop(server, process)
