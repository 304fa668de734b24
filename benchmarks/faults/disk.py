"""The fourth scene: the disk that holds the data directory is full, and then it is not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.control import Programme
from benchmarks.faults.fault import Control, Fault, Kind, Outcome
from benchmarks.faults.rig import Rig
from monitor.demo import commands
from monitor.demo import station as radio
from monitor.errors import MissingPartError, MonitorError

SCENE = "disk"
_CONTROL = "control-disk"
_SOUND_S = 180.0
_ROOM_BYTES = 96 << 20
#: Of the full disk, before anybody makes room.
_FULL_S = 15.0


@dataclass(frozen=True, kw_only=True)
class DiskFault(Fault):
    """A disk without room."""


def disk_faults() -> tuple[DiskFault, ...]:
    """There is one."""
    what = "the disk of the data directory is full for a while, on a small tmpfs"
    return (DiskFault(name="disk-full", kind=Kind.DISK, what=what),)


async def play(rig: Rig, faults: Sequence[DiskFault]) -> tuple[list[Outcome], Control]:
    """On a copy of the data directory that lies on a disk of its own."""
    (fault,) = faults
    control = Programme(rig, _CONTROL)
    async with _small_disk(rig) as small, radio.on_air([control.station]) as address:
        small.configure(streams=[{"name": _CONTROL, "url": address + control.station.path}])
        async with small.running() as watch:
            control.begin()
            if await watch.until(lambda: watch.found[_CONTROL], _SOUND_S) is None:
                raise MonitorError(f"before any fault nothing is recognised: {watch.state(_CONTROL)}")
            ballast = small.program.data_dir / "ballast"
            await asyncio.to_thread(_fill, ballast)
            full_s = time.time()
            noticed = await watch.until(lambda: bool(watch.unready), fault.notice_s)
            noticed_s, why = time.time(), watch.unready
            await asyncio.sleep(_FULL_S)
            ballast.unlink()
            room_s = time.time()
            recovered = await watch.until(lambda: watch.ready, fault.recover_s)
            recovered_s = time.time()
            again = await watch.until(
                lambda: any(row.end_s > recovered_s + 1 for row in watch.found[_CONTROL]), fault.recover_s
            )
            problems = [] if recovered else [f"{fault.name}: not well again: {watch.unready}"]
            if not noticed:
                problems.append(f"{fault.name}: never noticed")
            outcome = Outcome(
                fault=fault,
                expected="not ready, and says so",
                noticed_s=noticed_s - full_s if noticed else None,
                recovered_s=recovered_s - room_s if recovered else None,
                lost=0 if again else 1,
                problems=tuple(problems),
            )
            rig.say(f"{outcome.described} ({why})")
            verdict = await control.judge(watch, SCENE)
            return [outcome], verdict.with_problems(await watch.end())


@contextlib.asynccontextmanager
async def _small_disk(rig: Rig) -> AsyncIterator[Rig]:
    place = rig.place / "small"
    place.mkdir(exist_ok=True)
    data_dir = rig.program.data_dir
    await asyncio.to_thread(_mount, place, data_dir)
    try:
        await asyncio.to_thread(_copy, data_dir, place / "data")
        program = dataclasses.replace(rig.program, data_dir=place / "data")
        async with commands.servers(program.data_dir) as dsn:
            yield dataclasses.replace(rig, program=program, dsn=dsn)
    finally:
        await commands.until_servers_ended(place / "data")
        await asyncio.to_thread(subprocess.run, ["umount", "--lazy", str(place)], check=True)


def _mount(place: Path, data_dir: Path) -> None:
    used = subprocess.run(["du", "-sb", str(data_dir)], check=True, capture_output=True, text=True).stdout
    size = int(used.split()[0]) + _ROOM_BYTES
    options = f"size={size},mode=0711"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=False, capture_output=True
    )
    if done.returncode:
        raise MissingPartError(f"a disk may not be mounted: {done.stderr.decode().strip()}")


def _copy(source: Path, target: Path) -> None:
    # With their owners, PostgreSQL's for one; sockets are made anew.
    target.mkdir(mode=0o711)
    entries = [str(path) for path in source.iterdir() if path.name != "run"]
    subprocess.run(["cp", "-a", *entries, str(target)], check=True)


def _fill(path: Path) -> None:
    """Until not a byte more goes."""
    block = bytes(1 << 20)
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(block if shutil.disk_usage(path.parent).free > len(block) else block[:4096]):
            pass
    os.sync()
