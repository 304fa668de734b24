"""`monitor search FILE`: the references that sound most like a clip, nearest first."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from monitor.cli import common_options
from monitor.cli.match import open_twin
from monitor.types import Neighbour


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
        neighbours = await twin.neighbours(Path(args.file))
        ranked = rank(neighbours)[: args.k]
        references = twin.references
    results = [
        {
            "reference_id": reference_id,
            "title": references[reference_id].title,
            "artist": references[reference_id].artist,
            "similarity": round(mean, 4),
            "best_similarity": round(best.similarity, 4),
            "reference_start_s": round(best.reference_start_s, 3),
        }
        for reference_id, mean, best in ranked
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


def rank(neighbours: list[list[Neighbour]]) -> list[tuple[str, float, Neighbour]]:
    """References by their mean best inner product over the clip's windows, each with its single best neighbour.

    A window whose top k does not hold the reference counts as 0.
    """
    total: dict[str, float] = defaultdict(float)
    best: dict[str, Neighbour] = {}
    for near in neighbours:
        nearest: dict[str, float] = {}
        for neighbour in near:
            nearest[neighbour.reference_id] = max(nearest.get(neighbour.reference_id, 0.0), neighbour.similarity)
            known = best.get(neighbour.reference_id)
            if known is None or neighbour.similarity > known.similarity:
                best[neighbour.reference_id] = neighbour
        for reference_id, similarity in nearest.items():
            total[reference_id] += similarity
    means = {reference_id: value / len(neighbours) for reference_id, value in total.items()}
    return [(name, mean, best[name]) for name, mean in sorted(means.items(), key=lambda item: -item[1])]
