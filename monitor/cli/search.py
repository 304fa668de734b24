"""`monitor search FILE`: the references that sound most like a clip, nearest first."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from monitor.cli import common_options
from monitor.cli.match import open_twin
from monitor.match.ranking import rank


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("search", help="the references most similar to a clip")
    common_options(parser)
    parser.add_argument("file", metavar="FILE", help="audio in any format that ffmpeg reads")
    parser.add_argument("--catalog", metavar="NAME", help="catalog to search; the first one if not given")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="how many references (10)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(command=_search)


async def _search(args: argparse.Namespace) -> int:
    async with open_twin(args) as twin:
        ranked = rank([near for _, near in await twin.windows(Path(args.file))])[: args.k]
        references = twin.references
    results = [
        {
            "reference_id": found.reference_id,
            "title": references[found.reference_id].title,
            "artist": references[found.reference_id].artist,
            "similarity": round(found.mean_similarity, 4),
            "best_similarity": round(found.best.similarity, 4),
            "reference_start_s": round(found.best.reference_start_s, 3),
        }
        for found in ranked
    ]
    if args.json:
        print(json.dumps({"query": args.file, "results": results}))
        return 0
    if not results:
        print("nothing is similar: the clip is silent, or the catalog is empty")
    for place, result in enumerate(results, start=1):
        name = result["title"] or result["reference_id"]
        print(f"{place:3}  {result['similarity']:.3f}  {name}  (best at {result['reference_start_s']:.1f} s)")
    return 0
