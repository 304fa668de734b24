"""`python -m benchmarks.fuzz [--minutes 10] [--seed N] [--target NAME] [--keep DIR] [--json]`: exit 0 if nothing broke.

Whatever the product reads that others wrote (manifests, playlists, configuration, journal and backlog on disk, what
stations answer: ICY, HLS, M3U, PLS, XSPF, DASH), mutated by chance. Only a MonitorError in a clear sentence may come of
it; anything else is printed once per kind, and what caused it is kept.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from benchmarks.fuzz import station, targets
from benchmarks.fuzz.mutation import mutated
from benchmarks.fuzz.targets import Target

#: A case that takes longer is a defect too.
SLOW_S = 60.0
#: ffmpeg takes seconds where all others take milliseconds: it gets so much of the time.
_STREAM_SHARE = 0.3
_BATCH_S = 0.5


def main() -> int:
    """Parse, fuzz, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--target", action="append", help="only this one; may be given again")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where to lay what broke something")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what is said of each damaged file is not the matter here
    seed = int.from_bytes(os.urandom(4)) if args.seed is None else args.seed
    chosen = {target.name: target for target in (*targets.plain_targets(), station.relay_target())}
    chosen["stream"] = station.stream_target()
    if unknown := set(args.target or ()) - set(chosen):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(chosen)}")
    chosen = {name: target for name, target in chosen.items() if not args.target or name in args.target}
    hunt = _Hunt(random.Random(seed), keep=args.keep)
    for target in chosen.values():
        for data in target.seeds:
            hunt.case(target, data)
    gc.freeze()  # so that looking for what nobody holds any more is cheap
    until_s = time.monotonic() + 60 * args.minutes
    shares = {name: _STREAM_SHARE if name == "stream" else 1 / len(chosen) for name in chosen}
    while time.monotonic() < until_s:
        for name, target in chosen.items():
            hunt.go(target, for_s=_BATCH_S * shares[name] * len(chosen))
        if sys.stderr.isatty():
            print(f"\r{sum(hunt.cases.values())} cases, {len(hunt.broken)} broken", end="", file=sys.stderr)
    figures = {
        "seed": seed,
        "minutes": args.minutes,
        "cases": dict(hunt.cases),
        "refused": dict(hunt.refused),
        "slowest_s": {name: round(slowest_s, 2) for name, slowest_s in hunt.slowest_s.items()},
        "broken": hunt.broken,
    }
    if args.json:
        print(json.dumps(figures))
    else:
        for name, count in hunt.cases.items():
            print(f"{name:<16}{count:>9} cases {hunt.refused[name]:>9} refused, slowest {hunt.slowest_s[name]:.2f} s")
        print("\n".join(f"BROKEN {kind}: {path}" for kind, path in hunt.broken.items()) or "nothing broke")
    return 1 if hunt.broken else 0


class _Hunt:
    def __init__(self, chance: random.Random, *, keep: Path) -> None:
        self._chance, self._keep = chance, keep
        self.cases: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.slowest_s: dict[str, float] = {}
        #: Each kind of failure, and a file that causes it.
        self.broken: dict[str, str] = {}

    def go(self, target: Target, *, for_s: float) -> None:
        """Cases of one target for a while, at least one."""
        until_s = time.monotonic() + for_s
        while True:
            self.case(target, mutated(self._chance.choice(target.seeds), target.seeds, self._chance))
            if time.monotonic() >= until_s:
                return

    def case(self, target: Target, data: bytes) -> None:
        """What becomes of these bytes."""
        place = Path(tempfile.mkdtemp(prefix="fuzz-"))
        began_s = time.monotonic()
        try:
            self.refused[target.name] += targets.outcome(target, data, place) is not None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self._broke(target, data, f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {error}")
        finally:
            shutil.rmtree(place, ignore_errors=True)
        lasted_s = time.monotonic() - began_s
        self.cases[target.name] += 1
        self.slowest_s[target.name] = max(self.slowest_s.get(target.name, 0.0), lasted_s)
        if lasted_s > SLOW_S:
            self._broke(target, data, "slow")

    def _broke(self, target: Target, data: bytes, what: str) -> None:
        kind = f"{target.name}: {what.partition(': ')[0]}"
        if kind in self.broken:
            return
        self._keep.mkdir(parents=True, exist_ok=True)
        path = self._keep / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        self.broken[kind] = str(path)
        print(f"{target.name}: {what[:300]} ({path})", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
