"""`python -m benchmarks.faults [--only NAME ...] [--repeat N] [--json]`: exit 0 if every fault was survived.

Needs root for network namespaces and a small disk, and Debian's `iproute2`, `nftables`, `faketime` and `openssl`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.faults import table
from benchmarks.faults.fault import Control, Outcome
from benchmarks.faults.rig import rigged
from benchmarks.faults.table import SCENES
from monitor.errors import MonitorError, UsageError


def main() -> int:
    """Parse, inject, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="these faults or scenes, with * and ?")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="the whole table so many times")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="keep catalog and logs here; else temporary")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    why = ""
    try:
        outcomes, controls = asyncio.run(_run(args.only, args.repeat, args.data_dir))
    except* MonitorError as errors:
        why = str(_first_of(errors))
    except* asyncio.CancelledError:
        why = "ended before its verdict; nothing of it is left running"
    if why:
        print(f"benchmarks.faults: {why}", file=sys.stderr)
        return 1
    print(json.dumps(table.as_json(outcomes, controls)) if args.json else table.text(outcomes, controls))
    return 1 if table.problems(outcomes, controls) else 0


async def _run(only: Collection[str], repeat: int, folder: Path | None) -> tuple[list[Outcome], list[Control]]:
    acting, began_s = asyncio.current_task(), time.monotonic()
    assert acting is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, acting.cancel)

    def say(words: str) -> None:
        print(f"[{time.monotonic() - began_s:6.1f} s] {words}", file=sys.stderr, flush=True)

    outcomes: list[Outcome] = []
    controls: list[Control] = []
    for _ in range(repeat):
        async with rigged(say, folder=folder) as rig:
            for scene in SCENES:
                faults = [
                    fault
                    for fault in scene.faults(rig.sounds)
                    if any(fnmatch(name, wanted) for name in (fault.name, scene.name) for wanted in only)
                ]
                if faults:
                    say(f"{scene.name}: {len(faults)} faults")
                    try:
                        played, control = await scene.play(rig, faults)
                    except MonitorError as error:  # the others go on
                        played, control = [], Control(scene=scene.name, airings=0, lost=0, problems=(str(error),))
                    outcomes += played
                    controls.append(control)
    if not controls:
        scenes = ", ".join(repr(scene.name) for scene in SCENES)
        raise UsageError(f"there is no fault {' '.join(only)}; name a fault of benchmarks/faults, or a scene: {scenes}")
    return outcomes, controls


def _first_of(error: BaseException) -> BaseException:
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
