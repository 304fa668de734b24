"""One Milvus Lite server in a process of its own."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from monitor.errors import MonitorError, ServerReason, UnreachableError
from monitor.servers.directory import full_disk, says_full, unwritable
from monitor.servers.process import User

_PORT = 19530  # only a part of the socket's name


class Milvus:
    """A Milvus Lite that listens on a Unix socket only, in a directory that nobody else can enter.

    It has no authentication of its own: on a TCP port any local user could read and change the catalog.
    """

    name = "Milvus Lite"
    user: User | None = None
    stop_signal = signal.SIGINT  # closes its files; SIGTERM would leave that to the next start
    death_signal = signal.SIGKILL  # its write-ahead log covers a kill

    def __init__(self, *, directory: Path, socket_dir: Path) -> None:
        self.directory = directory
        self._host = f"unix:{socket_dir / 'milvus'}"
        self._socket = socket_dir / f"milvus:{_PORT}"
        self.address = f"unix:{self._socket}"

    def prepare(self, inherited: Sequence[int] = ()) -> None:  # noqa: ARG002
        """Make the directories where they are missing. See `process.Server`."""
        try:
            for directory in (self.directory, self._socket.parent):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._socket.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def command(self) -> list[str]:
        """The server in the foreground, run by this Python."""
        server = [sys.executable, "-P", "-u", "-m", "milvus_lite.cmdline", "server"]
        return [*server, "--data-dir", str(self.directory), "--host", self._host, "--port", str(_PORT)]

    def is_ready(self, pid: int) -> bool:  # noqa: ARG002
        """Whether something listens on the socket, which only this server can make."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
            return attempt.connect_ex(str(self._socket)) == 0

    def explain(self, last_words: Sequence[str]) -> MonitorError:
        """A full disk by name; else the server's own last complaint."""
        if says_full(last_words):
            return full_disk(self.directory)
        said = ([line for line in last_words if line.strip()] or ["nothing"])[-1].strip()
        return UnreachableError(
            f"Milvus Lite does not start on {self.directory}; it says: {said}", reason=ServerReason.CORRUPT
        )
