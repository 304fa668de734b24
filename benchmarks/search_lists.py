"""`python -m benchmarks.search_lists --data-dir DIR [--catalog NAME] FILE...`: what fewer lists keep.

The windows of the files, at every pitch at which they are read, are searched with all lists of the index and with
fewer. Most windows of anything are like nothing in a catalog: what counts is from a similarity of 0.55 on, where
airings begin that are hardly heard.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from monitor import deployment as deployments
from monitor.audio.decode import decode_file
from monitor.catalog.index import LISTS, Ids, VectorIndex
from monitor.catalog.references import References
from monitor.catalog.writer import open_index
from monitor.cli import load_config
from monitor.embed import Embedder
from monitor.errors import InputError, MonitorError
from monitor.types import Vectors

_NEAREST = 10
_BOUNDS = (0.0, 0.55, 0.65, 0.75, 0.85, 1.01)


def main() -> int:
    """Embed, search, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_lists", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="sound as it is broadcast")
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="where the catalog lives")
    parser.add_argument("--catalog", default="default", metavar="NAME")
    parser.add_argument("--lists", nargs="+", type=int, default=[16, 32, 64, 128, 256, 512], metavar="N")
    parser.add_argument("--queries", type=int, default=1024, help="windows, drawn from all of the files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    args.config = None
    try:
        told = asyncio.run(_measure(args))
    except MonitorError as error:
        print(f"benchmarks.search_lists: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(told) if args.json else _table(told))
    return 0


async def _measure(args: argparse.Namespace) -> dict[str, Any]:
    async with deployments.deploy(load_config(args)) as deployment:
        row = await References(deployment.pool).catalog(args.catalog)
        if row is None:
            raise InputError(f"{args.data_dir} has no catalog {args.catalog}; `monitor catalog add` makes one")
        embedder = deployment.load_embedder(row.embedder)
        heard = np.concatenate([await _readings(path, deployment, embedder) for path in args.files])
        if not len(heard):
            raise InputError(f"the files hold no whole window of {embedder.window_s:.3f} s; give longer ones")
        drawn = np.random.default_rng(args.seed).permutation(len(heard))[: args.queries]
        index = await asyncio.to_thread(open_index, deployment.milvus_uri, deployment.milvus_token, row)
        try:
            return await asyncio.to_thread(_compare, index, heard[drawn], args.lists)
        finally:
            index.close()


async def _readings(path: Path, deployment: deployments.Deployment, embedder: Embedder) -> Vectors:
    decoding = decode_file(path, sample_rate_hz=embedder.sample_rate_hz, ffmpeg=deployment.ffmpeg)
    async with aclosing(decoding) as blocks:  # type: ignore[type-var]
        found = [embedder.read_span(block).reshape(-1, embedder.dimension) async for block in blocks]
    return np.concatenate(found)


def _compare(index: VectorIndex, queries: Vectors, lists: list[int]) -> dict[str, Any]:
    _timed(index, queries[:64], LISTS)
    whole_s, ids, similarities = _timed(index, queries, LISTS)
    rows = []
    for count in lists:
        part_s, found, _ = _timed(index, queries, count)
        kept = found[:, 0] == ids[:, 0]
        shared = np.array([len(set(one) & set(other)) / _NEAREST for one, other in zip(ids, found, strict=True)])
        each = [
            {
                "from": low,
                "queries": int(near.sum()),
                "nearest_kept": _mean(kept[near]),
                "ten_kept": _mean(shared[near]),
            }
            for low, high in pairwise(_BOUNDS)
            for near in [(similarities[:, 0] >= low) & (similarities[:, 0] < high)]
        ]
        rows.append({"lists": count, "ms_per_query": 1000 * part_s / len(queries), "by_similarity": each})
    return {
        "vectors": index.count_all(),
        "queries": len(queries),
        "all_lists_ms_per_query": 1000 * whole_s / len(queries),
        "lists": rows,
    }


def _timed(index: VectorIndex, queries: Vectors, lists: int) -> tuple[float, Ids, Vectors]:
    index.lists_read = lists
    began = time.perf_counter()
    ids, similarities = index.search(queries, _NEAREST)
    return time.perf_counter() - began, ids, similarities


def _mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _table(told: dict[str, Any]) -> str:
    whole = f"all {LISTS} lists: {told['all_lists_ms_per_query']:.2f} ms a query"
    lines = [
        f"{told['vectors']} vectors, {told['queries']} queries; {whole}",
        "nearest kept, and share kept of the ten nearest, by how near the nearest is:",
        "",
        f"{'lists':>6s}{'ms':>7s}" + "".join(f"{f'from {low:.2f}':>17s}" for low in _BOUNDS[:-1]),
    ]
    for row in told["lists"]:
        cells = "".join(
            f"{each['nearest_kept']:>10.1%}{each['ten_kept']:>7.1%}" if each["queries"] else f"{'-':>17s}"
            for each in row["by_similarity"]
        )
        lines.append(f"{row['lists']:6d}{row['ms_per_query']:7.2f}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
