"""What the kernel says about processes of a data directory; no process id written in a file is trusted."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def command_line(pid: int) -> list[str]:
    try:
        return [part.decode(errors="replace") for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return []


def living(data_dir: Path, word: str = "") -> set[int]:
    """Processes that have the data directory in their command line or work in it, and `word` in their command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        line = command_line(int(entry.name))
        works_in = ""
        with suppress(OSError):
            works_in = str((entry / "cwd").readlink())
        of_directory = any(str(data_dir) in part for part in line) or Path(works_in).is_relative_to(data_dir)
        if line and of_directory and any(word in part for part in line):
            found.add(int(entry.name))
    return found


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def readable_by_others(data_dir: Path) -> list[Path]:
    """What in the data directory anyone but its owner can read, list or enter, but for the way to sockets and files."""
    entries = [*data_dir.iterdir(), *(data_dir / "run").iterdir()]
    return [entry for entry in entries if entry.stat().st_mode & 0o077 and entry != data_dir / "run"]


async def until(condition: Callable[[], object], *, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


async def nobody_left(data_dir: Path, *, timeout_s: float = 120) -> bool:
    try:
        await until(lambda: not living(data_dir), timeout_s=timeout_s)
    except AssertionError:
        return False
    return True


def end_all(data_dir: Path) -> None:
    for pid in living(data_dir):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def listening_tcp_sockets(pids: set[int]) -> set[str]:
    """Inodes of TCP sockets on which one of the processes listens."""
    listening = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == "0A":
                    listening.add(fields[9])
    held = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                held.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return listening & held
