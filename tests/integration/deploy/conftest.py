"""The daemon as a service: its command, its configuration and the socket of its service manager."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def until(condition: Callable[[], Any], what: str, *, timeout_s: float = 300.0, also: Callable[[], str] = str) -> Any:
    """What the condition returns once it is true; fails with what `also` says otherwise."""
    end = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not within {timeout_s:g} s: {what}\n{also()}")
        time.sleep(0.1)
    return result


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory that the embedded servers can use, also as root."""
    directory = Path(tempfile.mkdtemp(prefix="monitor-test-"))
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def end_keeper(data_dir: Path) -> None:
    """The embedded servers of a directory that nobody uses any more have ended, without the wait for another user."""
    lock = data_dir / "keeper.lock"
    if not lock.exists():
        return
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
            if b"--linger-s" in words and str(data_dir).encode() in words:
                os.kill(int(entry.name), signal.SIGTERM)
    with lock.open() as file:

        def is_free() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        until(is_free, f"the servers of {data_dir} have ended")


@dataclass
class Service:
    """`monitor run` as a service manager runs it."""

    directory: Path
    port: int
    watchdog_s: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    #: All that the service manager was told.
    told: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = f"@monitor-test-{os.getpid()}-{self.port}"
        self._listening.bind("\0" + self._address[1:])
        self._listening.setblocking(False)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    def write(self, **sections: Any) -> None:
        self.config |= sections
        text = yaml.safe_dump({"http": {"port": self.port}} | self.config)
        (self.directory / "monitor.yaml").write_text(text)

    def words(self, *words: str) -> list[str]:
        options = ["-c", str(self.directory / "monitor.yaml"), "--data-dir", str(self.directory / "data")]
        return [sys.executable, "-m", "monitor", *words, *options]

    def command(self, *words: str) -> None:
        done = subprocess.run(self.words(*words), capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        environ = os.environ | {"NOTIFY_SOCKET": self._address}
        if self.watchdog_s is not None:
            environ["WATCHDOG_USEC"] = str(int(self.watchdog_s * 1e6))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.words("run"), stdin=subprocess.DEVNULL, stderr=log, env=environ)

    def next_told(self, **lines: str) -> dict[str, str]:
        """The next message that has these lines; the ones before it are in `told`."""

        def received() -> dict[str, str] | None:
            assert self.process is not None
            try:
                text = self._listening.recv(4096).decode()
            except BlockingIOError:
                assert self.process.poll() is None, self.log.read_text()
                return None
            self.told.append(dict(line.split("=", 1) for line in text.split("\n")))
            return self.told[-1] if lines.items() <= self.told[-1].items() else None

        message: dict[str, str] = until(received, f"told {lines}", also=self.log.read_text)
        return message

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._listening.close()
        end_keeper(self.directory / "data")
