"""`monitor demo`: live stations, the real daemon, and what was aired against what was found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from monitor import cli
from monitor.demo.show import Options, show
from monitor.errors import UsageError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """`monitor demo [--audio DIR] [--seed N] [--json] [--keep]`."""
    parser = subparsers.add_parser(
        "demo",
        help="broadcast, monitor and judge: the whole job in three minutes",
        description=(
            "Composes music (or takes yours), loads a catalog, broadcasts live MP3, AAC and Opus on loopback, monitors"
            " it with the daemon, and ends with what was aired against what was found. Exit code 0: every airing was"
            " found once and nothing else was."
        ),
    )
    cli.common_options(parser)
    parser.add_argument(
        "--audio", type=Path, metavar="DIR", help="broadcast recordings of this folder, not composed ones"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="changes pieces, order, times and degradations"
    )
    parser.add_argument("--json", action="store_true", help="answer one JSON object on standard output")
    parser.add_argument("--keep", action="store_true", help="stay up after the table, until Ctrl-C")
    parser.add_argument("--empty-catalog", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(command=demo)


async def demo(args: argparse.Namespace) -> int:
    """Run it."""
    if args.config is not None:
        raise UsageError("monitor demo writes its own configuration; leave --config out")
    return await show(
        Options(
            seed=args.seed,
            audio=args.audio,
            data_dir=args.data_dir,
            as_json=args.json,
            keep=args.keep,
            empty_catalog=args.empty_catalog,
        )
    )
