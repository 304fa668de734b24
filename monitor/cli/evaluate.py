"""`monitor evaluate`: what the running configuration finds of broadcasts whose truth is known."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.audio.ffmpeg import find_ffmpeg
from monitor.cli import common_options, load_config
from monitor.cli.match import open_twin
from monitor.errors import UsageError
from monitor.evaluate import evaluation, report, truth
from monitor.evaluate.broadcast import LENGTHS_S, Plan
from monitor.evaluate.degrade import degradations
from monitor.evaluate.page import page

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """`monitor evaluate [--queries CSV] [--airings N] [--seed N] [--json] [--html FILE]`."""
    families = tuple(dict.fromkeys(degradation.family for degradation in degradations()))
    parser = subparsers.add_parser(
        "evaluate",
        help="what this configuration finds, of broadcasts made from the catalog",
        description=(
            "Makes broadcasts of the catalog's own recordings, with everything that broadcasting does to them and with"
            " much that no catalog holds, listens to them with the running configuration, and prints what was found."
            " The same catalog, configuration and seed give the same answer."
        ),
    )
    common_options(parser)
    parser.add_argument("--catalog", metavar="NAME", help="catalog to evaluate; the first one if not given")
    parser.add_argument(
        "--queries", type=Path, metavar="CSV", help=f"your own broadcasts and their truth: {', '.join(truth.COLUMNS)}"
    )
    parser.add_argument(
        "--airings", type=int, default=2, metavar="N", help="airings of each degradation at each length (2)"
    )
    parser.add_argument("--only", nargs="+", choices=families, metavar="FAMILY", help=f"of {', '.join(families)}")
    parser.add_argument(
        "--lengths", nargs="+", type=float, default=LENGTHS_S, metavar="S", help="seconds that airings last"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="changes airings, order and degradations")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the broadcasts and their truth here")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(command=evaluate)


async def evaluate(args: argparse.Namespace) -> int:
    """Run it: exit code 0 once it is measured, whatever was found."""
    if args.airings < 1:
        raise UsageError("--airings must be 1 or more")
    if min(args.lengths) < 1:
        raise UsageError("--lengths are seconds, 1 or more")
    config = load_config(args)
    name = args.catalog or config.catalogs[0].name
    plan = Plan(
        seed=args.seed,
        airings=args.airings,
        degradations=tuple(each for each in degradations() if args.only is None or each.family in args.only),
        lengths_s=tuple(args.lengths),
    )
    own = None if args.queries is None else await asyncio.to_thread(truth.read, args.queries)
    with tempfile.TemporaryDirectory(prefix="monitor-evaluate-") as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        async with open_twin(args) as twin:
            if own is not None:
                made = await evaluation.of_queries(twin, own, catalog=name, say=_say)
            else:
                ffmpeg = find_ffmpeg(str(config.ffmpeg.path) if config.ffmpeg.path else None)
                made = await evaluation.of_catalog(twin, plan, catalog=name, folder=folder, ffmpeg=ffmpeg, say=_say)
    if args.html is not None:
        await asyncio.to_thread(args.html.write_text, page(made), encoding="utf-8")
    print(json.dumps(report.figures(made)) if args.json else report.table(made))
    return os.EX_OK


def _say(text: str) -> None:
    print(f"monitor: {text}", file=sys.stderr, flush=True)
