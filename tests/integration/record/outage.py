"""A PostgreSQL of its own that a test may stop, continue, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monitor.servers.postgres import Postgres, unprivileged_user, wheel_programs
from monitor.servers.process import start, stop
from tests.integration.servers.processes import living


class Outage:
    """The server of one directory; `dsn` is where it is whenever it runs."""

    def __init__(self, directory: Path) -> None:
        files = directory / "files"
        self._directory = directory
        self._server = Postgres(
            directory=files,
            socket_dir=directory / "socket",
            programs=wheel_programs(),
            user=unprivileged_user(files),
            settings={"fsync": "off", "restart_after_crash": "off"},
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.dsn = self._server.address

    def begin(self) -> None:
        """It runs, ready for clients."""
        self._server.prepare()
        self._process = start(self._server, output=subprocess.DEVNULL)
        while not self._server.is_ready(self._process.pid):
            assert self._process.poll() is None
            time.sleep(0.02)

    def kill(self) -> None:
        """It is gone at once."""
        assert self._process is not None
        self._send(signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """It keeps its connections and says nothing, nor to new ones."""
        stopped: set[int] = set()
        # It may have made a process for a new connection while its processes were being told.
        while told := self._send(signal.SIGSTOP, but=stopped):
            stopped |= told

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def recover(self) -> None:
        """It runs, whatever was done to it."""
        if self._process is not None and self._process.poll() is None:
            self.go_on()
        else:
            self.begin()

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._send(signal.SIGCONT)
            stop(self._server, self._process)

    def _send(self, number: signal.Signals, but: Collection[int] = ()) -> set[int]:
        told = living(self._directory).difference(but)
        for pid in told:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return told


@contextmanager
def outage(directory: Path) -> Iterator[Outage]:
    """A running server; nothing of it is left at the end."""
    server = Outage(directory)
    try:
        server.begin()
        yield server
    finally:
        server.end()
