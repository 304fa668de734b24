"""The processes of a data directory, found by what the kernel says of them, and signals for them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

KEEPER = "monitor.servers.keeper"
POSTGRES = "postgres"
MILVUS = "milvus_lite.cmdline"


def of(data_dir: Path, program: str) -> list[int]:
    """The main processes of that program which run on the data directory."""
    found = []
    for pid in _all():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            named = any(program in word.decode(errors="replace") for word in words[:6])
            if named and any(word.startswith(str(data_dir).encode()) for word in words) and _is_program(words, program):
                found.append(pid)
    return found


def _is_program(words: list[bytes], program: str) -> bool:
    return program != POSTGRES or words[0].endswith(b"/postgres")


def with_children(pids: Iterable[int]) -> list[int]:
    """These and those that they have started; PostgreSQL's children are in groups of their own."""
    family = list(pids)
    parents = {pid: _parent(pid) for pid in _all()}
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid and child not in family]
    return family


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Those that are gone do not mind."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
