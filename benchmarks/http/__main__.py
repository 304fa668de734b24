"""`python -m benchmarks.http load | rows`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from benchmarks.http import load, rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.http", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    loading = commands.add_parser("load", help="requests beside monitored streams")
    loading.add_argument("--rate", type=float, default=200, metavar="N", help="requests a second (200)")
    loading.add_argument("--duration-s", type=float, default=60, metavar="S", help="seconds (60)")
    loading.add_argument("--streams", type=int, default=20, metavar="N", help="streams (20)")
    loading.add_argument(
        "--align-processes",
        type=int,
        metavar="N",
        help="processes that align, instead of the default; 0: the daemon's own",
    )
    loading.set_defaults(run=load.run)
    listing = commands.add_parser("rows", help="the first page of any filter over a long log")
    listing.add_argument("--rows", type=int, default=10_000_000, metavar="N", help="matches in the log (10 million)")
    listing.add_argument("--directory", metavar="DIR", help="where the log is made, and kept for another run")
    listing.set_defaults(run=rows.run)
    args = parser.parse_args()
    return int(asyncio.run(args.run(args)))


if __name__ == "__main__":
    sys.exit(main())
