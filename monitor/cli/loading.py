"""`monitor catalog add`: files into a catalog, with a line for each as it is done."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from monitor.catalog.intake import LoadResult
from monitor.catalog.item import shown
from monitor.catalog.listing import listed
from monitor.catalog.loader import Loader, Progress
from monitor.catalog.references import References
from monitor.cli import load_config
from monitor.cli.bar import Bar, clock
from monitor.config import Config
from monitor.deployment import Deployment, deploy
from monitor.errors import InputError, UsageError
from monitor.types import LoadStatus

#: The model of a catalog that neither the configuration nor the database knows.
_DEFAULT_EMBEDDER = "fingerprint"


async def add(args: argparse.Namespace) -> int:
    """Run the command; its exit code is 65 if a file that should be in the catalog is not."""
    if not args.paths and not args.manifest:
        raise UsageError("nothing to load: name files or directories, or a manifest with --manifest FILE")
    config = load_config(args)
    name = args.catalog or config.catalogs[0].name
    items = await asyncio.to_thread(listed, args.paths, manifests=args.manifest)
    async with deploy(config) as deployment:
        embedder_name = args.embedder or await _embedder_name(config, deployment, name)
        embedder = await asyncio.to_thread(deployment.load_embedder, embedder_name)
        loader = Loader(
            pool=deployment.pool,
            milvus_uri=deployment.milvus_uri,
            milvus_token=deployment.milvus_token,
            catalog=name,
            embedder=embedder,
            ffmpeg=deployment.ffmpeg,
            parallel=args.parallel,
        )
        told = _Told(args)
        loading = asyncio.create_task(loader.add(items, dry_run=args.dry_run, on_progress=told.progress))
        with _interruptible(loading) as interruption:
            try:
                results = await loading
            except asyncio.CancelledError:
                if not interruption:
                    raise
                results = told.results
            finally:
                told.bar.clear()
    told.summary(results, catalog=name, model_id=embedder.model_id, files=len(items), interrupted=bool(interruption))
    if interruption:
        print("monitor: interrupted; run the same command again to go on", file=sys.stderr)
        return 128 + interruption[0]
    return InputError.exit_code if any(result.bad for result in results) else os.EX_OK


async def _embedder_name(config: Config, deployment: Deployment, name: str) -> str:
    for catalog in config.catalogs:
        if catalog.name == name:
            return catalog.embedder.value
    row = await References(deployment.pool).catalog(name)
    return _DEFAULT_EMBEDDER if row is None else row.embedder


class _Told:
    """What the user sees of a run of the loader."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._json, self._dry_run = args.json, args.dry_run
        self.bar = Bar(sys.stderr)
        self.results: list[LoadResult] = []
        self._audio_s = 0.0

    def progress(self, progress: Progress, result: LoadResult | None) -> None:
        self._audio_s = progress.audio_s
        if result is not None:
            self.results.append(result)
            self.bar.clear()
            if not self._json:
                print(_line(result), flush=True)
        speed = progress.audio_s / max(self.bar.elapsed_s, 0.001)
        share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 1.0
        files = f"{progress.files_done} of {progress.files_total} files"
        self.bar.draw(share, f"{files}, {clock(progress.audio_s)} of sound at {speed:.0f} times real time")

    def summary(self, results: list[LoadResult], *, catalog: str, model_id: str, files: int, interrupted: bool) -> None:
        counts = Counter(result.status for result in results)
        elapsed_s = self.bar.elapsed_s
        if self._json:
            summary = {
                "catalog": catalog,
                "model_id": model_id,
                "files": files,
                **{status.value: counts[status] for status in LoadStatus},
                "audio_s": round(self._audio_s, 3),
                "elapsed_s": round(elapsed_s, 3),
                "dry_run": self._dry_run,
                "interrupted": interrupted,
            }
            print(json.dumps({"references": [_result_fields(result) for result in results], "summary": summary}))
            return
        parts = [f"{counts[status]} {_WORDS[status]}" for status in LoadStatus if counts[status]]
        would = "nothing was changed (dry run): " if self._dry_run else ""
        print(f"{would}{', '.join(parts) or 'nothing to do'}; {clock(self._audio_s)} of sound in {clock(elapsed_s)}")


_WORDS = {status: status.value.replace("_", " ") for status in LoadStatus}


def _line(result: LoadResult) -> str:
    words = result.reason
    if words is None and result.duration_s is not None:
        words = f"{clock(result.duration_s)}, {result.windows} windows"
    name = shown(result.reference_id or result.path)
    return f"{_WORDS[result.status]:10}  {name}" + (f"  ({shown(words)})" if words else "")


def _result_fields(result: LoadResult) -> dict[str, Any]:
    return {
        "reference_id": result.reference_id,
        "path": result.path,
        "status": result.status.value,
        "reason": result.reason,
        "duplicate_of": result.duplicate_of,
        "duration_s": result.duration_s,
        "windows": result.windows,
        "listed_in": result.listed_in,
        "line": result.line,
    }


@contextmanager
def _interruptible(task: asyncio.Task[Any]) -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM cancels the task and stands in the list; the second ends the process at once."""
    received: list[int] = []
    loop = asyncio.get_running_loop()

    def interrupt(number: int) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield received
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
