"""What a command costs: wall time, and the CPU-seconds of every process that it left behind, servers included."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one or several commands."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that has ended, with all that it started."""

    status: int
    output: str
    said: str
    cost: Cost


class CommandFailedError(Exception):
    """A command ended with a status that it should not have."""


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    statuses: Sequence[int] = (0,),
) -> Ran:
    """Run it alone. `wall_s` ends with the command; `cpu_s` also holds what its servers used until they had ended.

    This process adopts the orphans of whatever it starts (prctl(2), PR_SET_CHILD_SUBREAPER), so that none escapes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environment or {})}, capture_output=True, check=False, text=True
    )
    wall_s = time.perf_counter() - began_s
    _reap()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in statuses:
        words = " ".join(map(str, command[:6]))
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise CommandFailedError(f"{words} ... ended with status {done.returncode}:\n{last}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(status=done.returncode, output=done.stdout, said=done.stderr, cost=Cost(wall_s=wall_s, cpu_s=cpu_s))


def _reap() -> None:
    """Wait for the orphans that we have inherited."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
