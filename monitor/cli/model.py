"""`monitor model list | fetch | verify | calibrate`: the weights on this machine, and what they are worth here."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monitor import cli
from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.cli.bar import Bar
from monitor.config import Config
from monitor.embed import calibration, checkpoint, fingerprint, panns
from monitor.embed.checkpoint import PANNS, Condition
from monitor.errors import ConfigError, InputError, MissingPartError, UsageError
from monitor.servers.directory import default_data_dir, prepare
from monitor.types import Samples

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_MODELS = ("fingerprint", "panns")
_SHIPPED = "shipped"
_BAD_INPUT = 65
#: An introduction is rarely what a recording sounds like: where there is more, it is left out.
_SKIPPED_S = 15.0


def add_parser(subparsers: Subparsers) -> None:
    """`monitor model` understands its actions."""
    parser = subparsers.add_parser("model", help="list, fetch, verify and calibrate the embedders' weights")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="the models, and whether their weights are here")
    listing.set_defaults(command=_list)

    fetch = actions.add_parser("fetch", help="download published weights, continuing where an earlier try ended")
    fetch.add_argument("name", choices=[PANNS.name], metavar="NAME", help=PANNS.name)
    origin = fetch.add_mutually_exclusive_group()
    origin.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="copy this file instead of downloading"
    )
    origin.add_argument("--url", help="download from a mirror; the file must still be the published one")
    fetch.set_defaults(command=_fetch)

    verify = actions.add_parser("verify", help="check weights against the digests of the published files")
    verify.add_argument("name", nargs="?", choices=_MODELS, metavar="NAME", help=" or ".join(_MODELS))
    verify.set_defaults(command=_verify)

    calibrate = actions.add_parser(
        "calibrate",
        help="measure on your own recordings what they have in common and what similarities are worth",
    )
    calibrate.add_argument("name", choices=[PANNS.name], metavar="NAME", help=PANNS.name)
    calibrate.add_argument(
        "--audio", nargs="+", type=Path, required=True, metavar="PATH", help="recordings, or directories of them"
    )
    calibrate.add_argument("--seconds", type=float, default=40.0, help="how much of each recording (default 40)")
    calibrate.add_argument(
        "--keep-common", action="store_true", help="keep the present common part, so that catalogs stay valid"
    )
    calibrate.set_defaults(command=_calibrate)

    for action in (listing, fetch, verify, calibrate):
        cli.common_options(action)
        action.add_argument("--json", action="store_true", help="one JSON object on standard output")


async def _list(args: argparse.Namespace) -> int:
    _, data_dir = _place(args)
    models = [await asyncio.to_thread(_describe, name, data_dir / "models") for name in _MODELS]
    _answer(args, {"models": models}, (_line(model) for model in models))
    return 0


async def _verify(args: argparse.Namespace) -> int:
    _, data_dir = _place(args)
    names = _MODELS if args.name is None else (args.name,)
    models = [await asyncio.to_thread(_describe, name, data_dir / "models") for name in names]
    if args.name == PANNS.name and models[0]["condition"] == Condition.MISSING:
        raise MissingPartError(f"there are no PANNs weights at {models[0]['path']}: run `monitor model fetch panns`")
    _answer(args, {"models": models}, (_line(model) for model in models))
    return _BAD_INPUT if any(model["condition"] == Condition.DIFFERENT for model in models) else 0


async def _fetch(args: argparse.Namespace) -> int:
    _, data_dir = _place(args)
    models_dir = prepare(data_dir) / "models"
    if args.source is not None:
        path = await asyncio.to_thread(checkpoint.install, PANNS, models_dir=models_dir, source=args.source)
    else:
        with _Progress(PANNS.file_name) as progress:
            path = await checkpoint.fetch(PANNS, models_dir=models_dir, url=args.url, progress=progress)
    answer = {"name": PANNS.name, "path": str(path), "size_bytes": PANNS.size_bytes, "sha256": PANNS.sha256}
    _answer(args, answer, [f"{path} is there: {PANNS.size_bytes:,} bytes, digests as published, {PANNS.licence}"])
    return 0


async def _calibrate(args: argparse.Namespace) -> int:
    if args.seconds < 16:
        raise UsageError("--seconds must be 16 or more: a window, and room to misplace it")
    settings, data_dir = _place(args)
    models_dir = prepare(data_dir) / "models"
    ffmpeg = find_ffmpeg(None if settings.ffmpeg.path is None else str(settings.ffmpeg.path))
    threads = len(os.sched_getaffinity(0))
    embedder = await asyncio.to_thread(panns.load, models_dir, threads=threads)
    excerpts, unusable = [], []
    paths = _recordings(args.audio)
    for number, path in enumerate(paths):
        print(f"{number + 1}/{len(paths)} {path}", file=sys.stderr)
        try:
            samples = await _middle(path, seconds=args.seconds, ffmpeg=ffmpeg)
            excerpt = await asyncio.to_thread(calibration.excerpt, embedder, samples, seed=number)
            if excerpt is None:
                raise InputError(f"{path} is silent or shorter than 16 s: not used")
            excerpts.append(excerpt)
        except InputError as error:
            print(f"monitor: {error}", file=sys.stderr)
            unusable.append(str(path))
    common = embedder.common if args.keep_common else await asyncio.to_thread(calibration.common_part, excerpts)
    model_id, written = calibration.write(embedder, excerpts, models_dir=models_dir, common=common)
    answer = {"model_id": model_id, "calibration": str(written), "recordings": len(excerpts), "unusable": unusable}
    lines = [f"{written} is measured on {len(excerpts)} recordings for {model_id}"]
    if model_id != embedder.model_id:
        lines.append(f"catalogs that were built as {embedder.model_id} must be built again")
    _answer(args, answer, lines)
    return _BAD_INPUT if unusable else 0


def _place(args: argparse.Namespace) -> tuple[Config, Path]:
    settings = cli.load_config(args)
    return settings, settings.data_dir or default_data_dir()


def _describe(name: str, models_dir: Path) -> dict[str, str | int | None]:
    if name == "fingerprint":
        path = fingerprint.MODELS / "fingerprint.onnx"
        try:
            model_id: str | None = fingerprint.load().model_id
            condition = _SHIPPED
        except MissingPartError:
            model_id, condition = None, Condition.MISSING
        except ConfigError:
            model_id, condition = None, Condition.DIFFERENT
        size_bytes = path.stat().st_size if path.is_file() else 0
        return _row(name, model_id=model_id, condition=condition, path=path, size_bytes=size_bytes, licence=None)
    found = checkpoint.verify(PANNS, models_dir=models_dir)
    model_id = None
    if found.sha256 is not None:
        weights_id = panns.weights_id(found.sha256)
        model_id = panns.model_id(weights_id, panns.read_common(models_dir, weights_id))
    return _row(
        name,
        model_id=model_id,
        condition=found.condition,
        path=found.path,
        size_bytes=found.size_bytes,
        licence=PANNS.licence if found.condition is Condition.PUBLISHED else None,
    )


def _row(
    name: str, *, model_id: str | None, condition: str, path: Path, size_bytes: int, licence: str | None
) -> dict[str, str | int | None]:
    return {
        "name": name,
        "condition": str(condition),
        "model_id": model_id,
        "path": str(path),
        "size_bytes": size_bytes,
        "licence": licence,
    }


def _line(model: dict[str, str | int | None]) -> str:
    match model["condition"]:
        case Condition.MISSING if model["name"] == PANNS.name:
            said = f"not here: run `monitor model fetch {PANNS.name}` ({PANNS.size_bytes:,} bytes, {PANNS.licence})"
        case Condition.MISSING:
            said = "missing: the installation is incomplete, install monitor again"
        case Condition.DIFFERENT if model["model_id"]:
            said = f"other weights than the published ones, {model['model_id']}, {model['path']}"
        case Condition.DIFFERENT:
            said = f"damaged: {model['path']} is not the file that its description names, install monitor again"
        case condition:
            said = f"{condition}, {model['model_id']}, {model['path']}"
    return f"{model['name']:<12} {said}"


def _recordings(paths: list[Path]) -> list[Path]:
    """The files named, and those below the directories named, in order of name; hidden files are left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for file in path.rglob("[!.]*") if file.is_file())
        else:
            found.append(path)
    return found


async def _middle(path: Path, *, seconds: float, ffmpeg: FfmpegProgram) -> Samples:
    """Up to `seconds` of the recording, from after its introduction where it is long enough."""
    rate_hz = panns.SAMPLE_RATE_HZ
    decoded = decode_file(path, sample_rate_hz=rate_hz, ffmpeg=ffmpeg, max_duration_s=_SKIPPED_S + seconds)
    async with contextlib.aclosing(decoded) as blocks:  # type: ignore[type-var]
        samples = np.concatenate([block async for block in blocks])
    return samples[-round(seconds * rate_hz) :]


def _answer(args: argparse.Namespace, answer: dict[str, object], lines: Iterable[str]) -> None:
    if args.json:
        print(json.dumps(answer))
    else:
        print(*lines, sep="\n")


class _Progress:
    """Progress on standard error: a bar on a terminal, else a line per tenth."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar = Bar(sys.stderr)
        self._tenth = 0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.clear()

    def __call__(self, done: int, total: int) -> None:
        self._bar.draw(done / total, f"{self._name} {done / 1e6:.0f} of {total / 1e6:.0f} MB")
        if not sys.stderr.isatty() and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            print(f"{self._name} {done / total:4.0%} of {total:,} bytes", file=sys.stderr)
