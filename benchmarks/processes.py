"""What the processes of a data directory take: memory and file descriptors, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.daemon.aligning import PROGRAM

_PROC = Path("/proc")
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeper:
    """The keeper of a data directory and its two servers."""

    pid: int
    postgres: int | None
    milvus: int | None


def keeper_of(data_dir: Path) -> Keeper | None:
    """The keeper of the data directory, if one runs."""
    place = str(data_dir.resolve()).encode()
    for pid in _pids():
        words = command_line(pid)
        if b"--lock" in words and place in words and any(b"monitor.servers.keeper" in word for word in words):
            servers = {_name(child): child for child in _children(pid)}
            postgres = servers.pop("postgres", None)
            return Keeper(pid=pid, postgres=postgres, milvus=next(iter(servers.values()), None))
    return None


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that have not been reaped."""
    return _children(pid)


def aligning(pid: int) -> list[int]:
    """The processes that align for the daemon `pid`."""
    return [each for each in _children(pid) if PROGRAM.encode() in command_line(each)]


def command_line(pid: int) -> list[bytes]:
    """The words of the process, none if it is gone."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def naming(words: Sequence[str]) -> list[int]:
    """The processes in whose command line one of the words stands."""
    wanted = [word.encode() for word in words]
    return [pid for pid in _pids() if any(word in command_line(pid) for word in wanted)]


def resident_mib(pid: int) -> float:
    """Resident memory of one process; 0 if it is gone."""
    return _field_mib(pid, "status", "VmRSS")


def family_mib(pid: int | None) -> float:
    """Memory of a process and its children, what they share counted once; 0 if it is gone."""
    if pid is None:
        return 0.0
    return sum(_field_mib(each, "smaps_rollup", "Pss") for each in (pid, *_children(pid)))


def descriptors(pid: int) -> int:
    """Open file descriptors; 0 if the process is gone."""
    try:
        return len(list((_PROC / str(pid) / "fd").iterdir()))
    except OSError:
        return 0


def processor_s(pid: int) -> float:
    """Processor time of the process itself so far; 0 if it is gone."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slope_per_hour(times_s: Iterable[float], values: Iterable[float]) -> float:
    """By least squares."""
    hours = np.array(list(times_s)) / 3600
    heights = np.array(list(values))
    spread = hours - hours.mean()
    return float((spread * (heights - heights.mean())).sum() / (spread**2).sum())


def _field_mib(pid: int, file: str, key: str) -> float:
    try:
        for line in (_PROC / str(pid) / file).read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024 / _MIB
    except OSError:
        pass
    return 0.0


def _children(pid: int) -> list[int]:
    return [each for each in _pids() if _parent(each) == pid]


def _parent(pid: int) -> int | None:
    try:
        # The name, in parentheses, may hold anything.
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
