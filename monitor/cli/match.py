"""`monitor match FILE…`: which references the files play, by the daemon's own pipeline."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monitor import deployment as deployments
from monitor.catalog.search import CatalogReader
from monitor.cli import common_options, load_config
from monitor.daemon.offline import Twin
from monitor.errors import InputError
from monitor.types import Match

COLUMNS = (
    "query",
    "reference_id",
    "start_s",
    "end_s",
    "reference_start_s",
    "reference_end_s",
    "tempo_ratio",
    "score",
)


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("match", help="find the references that recordings play")
    common_options(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio in any format that ffmpeg reads")
    parser.add_argument("--catalog", metavar="NAME", help="catalog to search; the first one if not given")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object, with where the time went")
    form.add_argument("--csv", action="store_true", help=f"rows of {','.join(COLUMNS)}")
    parser.set_defaults(command=_match)


@asynccontextmanager
async def open_twin(args: argparse.Namespace) -> AsyncIterator[Twin]:
    """The offline twin for the catalog that the arguments name."""
    config = load_config(args)
    by_name = {catalog.name: catalog for catalog in config.catalogs}
    name = args.catalog or config.catalogs[0].name
    async with deployments.deploy(config) as deployment:
        model = str(by_name[name].embedder) if name in by_name else await deployments.embedder_of(deployment, name)
        embedder = deployment.load_embedder(model)
        reader = await CatalogReader.open(
            name=name,
            pool=deployment.pool,
            milvus_uri=deployment.milvus_uri,
            milvus_token=deployment.milvus_token,
            embedder=embedder,
        )
        yield Twin(
            reader=reader,
            embedder=embedder,
            calibration=deployment.load_calibration(model, embedder),
            options=deployments.alignment_options(config),
            ffmpeg=deployment.ffmpeg,
            top_k=config.match.top_k,
        )


async def _match(args: argparse.Namespace) -> int:
    found: list[tuple[str, list[Match], str | None]] = []
    async with open_twin(args) as twin:
        rows = csv.writer(sys.stdout, lineterminator="\n")
        if args.csv:
            rows.writerow(COLUMNS)
        for file in args.files:
            try:
                matches, error = await twin.match(Path(file)), None
            except InputError as problem:
                matches, error = [], str(problem)
                print(f"monitor: {problem}", file=sys.stderr)
            found.append((file, matches, error))
            if args.csv:
                rows.writerows(_row(file, match) for match in matches)
                sys.stdout.flush()
            elif not args.json and error is None:
                _print(file, matches)
        timing = {name: round(value, 3) for name, value in asdict(twin.timing).items()}
    if args.json:
        queries = [
            {"query": file, "matches": [_fields(match) for match in matches], "error": error}
            for file, matches, error in found
        ]
        print(json.dumps({"queries": queries, "timing": timing}))
    elif timing["wall_s"] and not args.csv:
        speed = timing["audio_s"] / timing["wall_s"]
        print(f"{timing['audio_s']:.0f} s of audio at {speed:.0f} times real time", file=sys.stderr)
    return InputError.exit_code if any(error for _, _, error in found) else os.EX_OK


def _fields(match: Match) -> dict[str, Any]:
    return {name: getattr(match, name) for name in COLUMNS[1:]}


def _row(query: str, match: Match) -> list[Any]:
    return [query, *(round(value, 3) if isinstance(value, float) else value for value in _fields(match).values())]


def _print(query: str, matches: list[Match]) -> None:
    print(f"{query}: {len(matches) or 'no'} match{'' if len(matches) == 1 else 'es'}")
    for match in matches:
        print(
            f"  {match.start_s:8.1f} to {match.end_s:8.1f} s  {match.reference_id} from {match.reference_start_s:.1f} s"
            f"  tempo {match.tempo_ratio:.3f}  score {match.score:.2f}"
        )
