"""`python -m benchmarks.accuracy --toolkit DIR --audio DIR [--olaf FILE] [--audfprint FILE] ...`: who finds how much.

The toolkit is a clone of the Audio Fingerprinting Benchmark Toolkit (Pexeso); its generator needs an ffmpeg with
librubberband and the tap-plugins of LADSPA, its evaluator `pip install '.[benchmarks]'`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy import judging, material
from benchmarks.accuracy.judging import Verdict
from benchmarks.accuracy.material import DIFFICULTIES, Material
from benchmarks.accuracy.meter import CommandFailedError, Cost
from benchmarks.accuracy.systems import Audfprint, Monitor, Olaf, System, commit
from monitor.audio.ffmpeg import find_ffmpeg
from monitor.errors import MonitorError
from monitor.training.corpus import DEVELOPMENT


def main() -> int:
    """Parse, prepare, run each system, print."""
    args = _parser().parse_args()
    say(f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}")
    try:
        with tempfile.TemporaryDirectory(prefix="monitor-accuracy-") as temporary:
            work = args.work or Path(temporary)
            work.mkdir(parents=True, exist_ok=True)
            # The embedded servers' user must be able to pass.
            work.chmod(0o711)
            return _compare(args, work.absolute())
    except (MonitorError, CommandFailedError) as error:
        print(f"benchmarks.accuracy: {error}", file=sys.stderr)
        return 1


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"[{time.strftime('%H:%M:%S', time.gmtime())}] {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--toolkit", type=Path, required=True, metavar="DIR", help="the benchmark toolkit's clone")
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="music in folders, one per package")
    parser.add_argument(
        "--packages", nargs="+", default=DEVELOPMENT, metavar="NAME", help="folders that queries are cut from"
    )
    parser.add_argument("--queries", type=int, default=60, help="chunks per difficulty")
    parser.add_argument("--difficulties", nargs="+", choices=DIFFICULTIES, default=DIFFICULTIES)
    parser.add_argument("--distractors", type=int, metavar="N", help="so many pieces of other folders; else all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep material and answers here and use them again")
    parser.add_argument("--olaf", type=Path, metavar="FILE", help="Olaf's program")
    parser.add_argument("--audfprint", type=Path, metavar="FILE", help="audfprint.py")
    parser.add_argument(
        "--audfprint-python", type=Path, default=Path(sys.executable), metavar="FILE", help="its interpreter"
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="monitor's, where --catalog may be full of others' references"
    )
    parser.add_argument("--catalog", metavar="NAME", help="monitor's, as `benchmarks.false_alarms --padded` leaves one")
    parser.add_argument("--without-monitor", action="store_true", help="the peers alone")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _systems(args: argparse.Namespace, place: Path) -> list[System]:
    systems: list[System] = []
    if not args.without_monitor:
        systems.append(Monitor(place / "monitor", data_dir=args.data_dir, catalog=args.catalog))
    if args.olaf:
        systems.append(Olaf(place / "olaf", args.olaf.absolute()))
    if args.audfprint:
        for name, density in (("audfprint", None), ("audfprint-40", 40.0)):
            script, python = args.audfprint.absolute(), args.audfprint_python.absolute()
            systems.append(Audfprint(place / name, script, python=python, density=density))
    return systems


def _compare(args: argparse.Namespace, work: Path) -> int:
    say("references and queries")
    made = material.prepare(
        toolkit=args.toolkit,
        audio=args.audio.absolute(),
        work=work,
        packages=args.packages,
        queries=args.queries,
        difficulties=args.difficulties,
        seed=args.seed,
        ffmpeg=find_ffmpeg(),
        most_distractors=args.distractors,
    )
    say(
        f"{made.queried} pieces are queried, {made.distractors} others are in the catalog beside them:"
        f" {made.reference_s / 3600:.1f} h"
    )
    answers: dict[str, dict[str, Any]] = {}
    verdicts: dict[str, list[Verdict]] = {}
    place = work / f"systems-{os.getpid()}"
    for system in _systems(args, place):
        say(f"{system.name}: {system.version()}")
        stored = system.store(made.references)
        say(f"{system.name}: stored in {stored.wall_s:.0f} s, {stored.cpu_s:.0f} CPU-s")
        verdicts[system.name], figures = _ask(system, made, args.toolkit, work)
        answers[system.name] = {
            "version": system.version(),
            "commands": system.commands,
            "threads": system.threads,
            "store": _per_hour(stored, made.reference_s),
            "sets": figures,
        }
        shutil.rmtree(system.place)
    told = {
        "toolkit": commit(args.toolkit),
        "ffmpeg": _ffmpeg_version(),
        "processors": os.cpu_count(),
        "packages": list(args.packages),
        "seed": args.seed,
        "references": {"queried": made.queried, "distractors": made.distractors, "hours": made.reference_s / 3600},
        "systems": answers,
    }
    print(json.dumps(told) if args.json else _table(told, verdicts))
    return 0


def _ask(system: System, made: Material, toolkit: Path, work: Path) -> tuple[list[Verdict], dict[str, Any]]:
    verdicts, figures = [], {}
    for queries in made.sets:
        found, cost = system.query(queries.queries)
        name = f"{system.name.replace(' ', '')}-{queries.difficulty}"
        verdict = judging.judge(found, queries, toolkit=toolkit, folder=work, name=name)
        verdicts.append(verdict)
        total = verdict.total
        say(f"{system.name}, {queries.difficulty}: recall {total.recall:.2%}, precision {total.precision:.2%}")
        figures[queries.difficulty] = {
            "recall": total.recall,
            "precision": total.precision,
            "seconds": asdict(total),
            "airings": verdict.airings,
            "airings_lost": verdict.lost,
            "rows_of_pieces_not_played": verdict.strangers,
            "query_hours": queries.audio_s / 3600,
            "query": _per_hour(cost, queries.audio_s),
            "kinds": {
                family: {kind: asdict(seconds) for kind, seconds in kinds.items()}
                for family, kinds in verdict.kinds.items()
            },
        }
    return verdicts, figures


def _per_hour(cost: Cost, audio_s: float) -> dict[str, float]:
    hours = max(1e-9, audio_s / 3600)
    return {"wall_s_per_hour": cost.wall_s / hours, "cpu_s_per_hour": cost.cpu_s / hours}


def _ffmpeg_version() -> str:
    done = subprocess.run(["ffmpeg", "-version"], capture_output=True, check=False, text=True)
    return (done.stdout.splitlines() or ["none"])[0]


def _table(told: dict[str, Any], verdicts: dict[str, Sequence[Verdict]]) -> str:
    about = told["references"]
    tools = f"toolkit {told['toolkit']}; {told['ffmpeg'].split(' Copyright')[0]}"
    others = f"{about['distractors']} pieces of other packages beside them; {about['hours']:.1f} h in all"
    found = f"{'recall':>8s}{'precision':>11s}{'lost':>10s}{'strange':>9s}"
    costs = f"{'query wall':>12s}{'query CPU':>11s}{'store wall':>12s}{'store CPU':>11s}"
    lines = [
        f"{tools}; {told['processors']} processors; seed {told['seed']}",
        f"queries cut from {', '.join(told['packages'])}: {about['queried']} pieces; {others}",
        f"left out as near copies of others: {', '.join(sorted(material.NEAR_COPIES))}",
        "seconds as the toolkit's evaluator counts them; begins rounded down, ends up, as its annotations are",
        "",
        f"{'':16s}{'queries':8s}{found}{costs}",
        f"{'':43s}{'airings':>10s}{'rows':>9s}{'seconds per hour of audio':>46s}",
    ]
    for name, answer in told["systems"].items():
        for difficulty, row in answer["sets"].items():
            spent = (*row["query"].values(), *answer["store"].values())
            lines.append(
                f"{name:16s}{difficulty:8s}{row['recall']:8.2%}{row['precision']:11.2%}"
                f"{row['airings_lost']:6d}/{row['airings']:<3d}{row['rows_of_pieces_not_played']:9d}"
                + "".join(f"{cost:{width}.1f}" for cost, width in zip(spent, (12, 11, 12, 11), strict=True))
            )
    if "monitor" in verdicts:
        lines += ["", "what monitor missed, over all queries: missed seconds, their share of all missed, recall"]
        total = sum(verdict.total.missed for verdict in verdicts["monitor"])
        for family in ("change", "noise", "length", "merge"):
            lines.append(f"  by {family}")
            for kind, seconds in judging.missed_most(verdicts["monitor"], family):
                share = seconds.missed / max(1, total)
                lines.append(f"    {kind:28s}{seconds.missed:6d}{share:8.1%}{seconds.recall:9.2%}")
    for name, answer in told["systems"].items():
        lines += ["", f"{name}: {answer['version']}", f"  threads: {answer['threads']}"]
        lines += [f"  {command}" for command in answer["commands"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
