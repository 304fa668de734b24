"""`python -m benchmarks.kills [--kills 100] [--stations 3] [--seed N] [--json]`: exit 0 if nothing was lost.

A broadcast goes round; its first round is heard undisturbed, then the daemon or its keeper is killed again and again
and started anew at once. Every airing of which at least 8 s were heard must have one row, with the reference and the
second of it that the undisturbed round had; what was not heard must be in gap rows; every webhook must have come.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.kills import broadcast, run
from benchmarks.kills.run import Outcome
from benchmarks.kills.supervisor import plan
from monitor.audio.ffmpeg import find_ffmpeg
from monitor.demo import library
from monitor.errors import MonitorError

_ROUND_S = 150.0


def main() -> int:
    """Parse, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stations", type=int, default=3)
    parser.add_argument("--round-s", type=float, default=_ROUND_S, help="length of one round of the programmes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, help="leave everything here; else temporary")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    try:
        outcome = asyncio.run(_run(args))
    except MonitorError as error:
        print(f"benchmarks.kills: {error}", file=sys.stderr)
        return error.exit_code
    in_pieces = outcome.figures["airings"]["missed in pieces"]
    passed = run.nothing_lost(outcome.figures) and not in_pieces and run.killed_enough(outcome.figures)
    _show(outcome, passed=passed, as_json=args.json)
    return 0 if passed else 1


async def _run(args: argparse.Namespace) -> Outcome:
    acting = asyncio.current_task()
    if acting is not None:  # ended early, it takes everything that it started with it
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, acting.cancel)
    if args.data_dir is not None:
        args.data_dir.mkdir(parents=True, exist_ok=True)
        return await _perform(args, args.data_dir)
    with tempfile.TemporaryDirectory(prefix="monitor-kills-") as place:
        os.chmod(place, 0o711)  # noqa: PTH101 - the servers' user must be able to pass
        return await _perform(args, Path(place))


async def _perform(args: argparse.Namespace, place: Path) -> Outcome:
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began_s:7.1f} s] {text}", file=sys.stderr, flush=True)

    ffmpeg = await asyncio.to_thread(find_ffmpeg)
    say(f"composing {args.stations} stations (seed {args.seed})")
    recordings = await library.composed(place, args.seed)
    on_air = await asyncio.to_thread(
        broadcast.write, recordings, stations=args.stations, round_s=args.round_s, seed=args.seed, ffmpeg=ffmpeg
    )
    moments = plan(args.kills, random.Random(args.seed))
    return await run.perform(place, on_air, moments, undisturbed_round=True, seed=args.seed, say=say)


def _show(outcome: Outcome, *, passed: bool, as_json: bool) -> None:
    figures = {**outcome.figures, "passed": passed}
    if as_json:
        print(json.dumps({**figures, "kills_each": [asdict(kill) for kill in outcome.kills]}))
        return
    for number, kill in enumerate(outcome.kills, 1):
        print(f"{number:4d}  {kill.moment:<34}{kill.open} open  outage {kill.outage_s:5.1f} s")
    for one in outcome.judged:
        if one.verdict != "found":
            at = "" if one.position_error_s is None else f", {one.position_error_s:+.2f} s off"
            airing, lasted_s = one.aired.airing, one.aired.end_s - one.aired.start_s
            print(
                f"{one.verdict}: {airing.station} {airing.reference_id} at {one.aired.start_s:.1f} for "
                f"{lasted_s:.1f} s, heard {one.heard_s:.1f} s ({one.longest_s:.1f} s in one piece), "
                f"{len(one.rows)} rows{at}"
            )
    for row in outcome.strays:
        print(f"never aired: {row.reference_id} on {row.stream} at {row.start_s:.1f} to {row.end_s:.1f} ({row.state})")
    print(json.dumps(figures, indent=2))
    print("PASSED" if passed else "FAILED")


if __name__ == "__main__":
    sys.exit(main())
