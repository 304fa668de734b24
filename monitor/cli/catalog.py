"""`monitor catalog`: load, remove, list and check the references that streams are compared with."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitor.catalog import canary
from monitor.catalog.item import shown
from monitor.catalog.references import CatalogRow, ReferenceRow, References
from monitor.catalog.verify import Repair, verify
from monitor.catalog.writer import CatalogWriter, in_thread, open_index
from monitor.cli import common_options, load_config
from monitor.cli.bar import Bar, clock
from monitor.cli.loading import add as add_references
from monitor.config import Config
from monitor.config.schema import EmbedderName
from monitor.deployment import Deployment, deploy
from monitor.errors import ConfigError, InputError
from monitor.types import ReferenceState


def add_parser(subparsers: Any) -> None:
    """Add the command with its actions."""
    parser = subparsers.add_parser("catalog", help="the references that streams are compared with")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    add = _action(actions, "add", add_references, "load recordings: files, directories, globs, playlists, manifests")
    add.add_argument("paths", nargs="*", metavar="PATH", help="file, directory, glob or playlist (m3u)")
    add.add_argument(
        "--manifest",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="CSV or JSON Lines: path, id, title, artist, isrc, owner, label, anything else",
    )
    add.add_argument("--embedder", choices=[name.value for name in EmbedderName], help="model of a new catalog")
    add.add_argument("--dry-run", action="store_true", help="decode and compare, change nothing")
    add.add_argument("--parallel", type=_positive, metavar="N", help="files that are decoded at once")

    remove = _action(actions, "remove", _remove, "remove references")
    remove.add_argument("ids", nargs="+", metavar="ID")

    _action(actions, "list", _list, "list the references")

    show = _action(actions, "show", _show, "show all that is known of a reference")
    show.add_argument("id", metavar="ID")

    verify = _action(actions, "verify", _verify, "compare the rows with the vectors")
    verify.add_argument("--repair", action="store_true", help="make what is missing anew, delete what belongs to none")

    _action(actions, "status", _status, "show the catalogs and their sizes")


def _action(actions: Any, name: str, command: Any, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=words, description=f"{words[0].upper()}{words[1:]}."
    )
    common_options(parser)
    parser.add_argument("--catalog", metavar="NAME", help="catalog; the configuration's first one if not given")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(command=command)
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


# -- remove, list, show, status ----------------------------------------------------------------------------------------


async def _remove(args: argparse.Namespace) -> int:
    async with _deployed(args) as (deployment, catalog):
        rows = await References(deployment.pool).rows(catalog.name)
        by_id = {row.reference.reference_id: row.reference for row in rows}
        wanted = list(dict.fromkeys(args.ids))
        found = [by_id[name] for name in wanted if name in by_id]
        if found:
            async with _writer(deployment, catalog) as writer:
                await writer.remove(found)
    unknown = [name for name in wanted if name not in by_id]
    if args.json:
        rows_told = [{"reference_id": name, "status": "removed" if name in by_id else "unknown"} for name in wanted]
        print(json.dumps({"references": rows_told}))
    for name in unknown:
        print(f"monitor: catalog {catalog.name} has no reference {name}", file=sys.stderr)
    if not args.json:
        print(f"{len(found)} removed")
    return InputError.exit_code if unknown else os.EX_OK


async def _list(args: argparse.Namespace) -> int:
    rows = await _rows(args)
    if args.json:
        print(json.dumps({"references": [_row_fields(row) for row in rows]}))
        return os.EX_OK
    for row in rows:
        reference = row.reference
        words = " - ".join(word for word in (reference.artist, reference.title) if word)
        named = f"{reference.reference_id}  ({words})" if words else reference.reference_id
        print(f"{clock(reference.duration_s):>8}  {shown(named)}")
    return os.EX_OK


async def _show(args: argparse.Namespace) -> int:
    row = next((row for row in await _rows(args) if row.reference.reference_id == args.id), None)
    if row is None:
        raise InputError(f"there is no reference {args.id}; `monitor catalog list` shows those that there are")
    fields = _row_fields(row)
    if args.json:
        print(json.dumps(fields))
        return os.EX_OK
    for name, value in {**fields.pop("attributes"), **fields}.items():
        print(f"{shown(name):18} {'-' if value is None else shown(value)}")
    return os.EX_OK


async def _rows(args: argparse.Namespace) -> list[ReferenceRow]:
    config = load_config(args)
    async with deploy(config, milvus=False) as deployment:
        references = References(deployment.pool)
        name = _name(args, config)
        if await references.catalog(name) is None:
            _check_configured(config, name)
        return await references.rows(name)


async def _status(args: argparse.Namespace) -> int:
    config = load_config(args)
    told = []
    async with deploy(config) as deployment:
        references = References(deployment.pool)
        for catalog in await references.catalogs():
            if args.catalog not in (None, catalog.name):
                continue
            rows = [row.reference for row in await references.rows(catalog.name, tuple(ReferenceState))]
            ready = [reference for reference in rows if reference.state is ReferenceState.READY]
            index = await in_thread(open_index, deployment.milvus_uri, deployment.milvus_token, catalog)
            try:
                vectors = await in_thread(index.count_all) - await in_thread(canary.count_vectors, index)
            finally:
                await in_thread(index.close)
            windows = sum(reference.windows for reference in ready)
            told.append(
                {
                    "catalog": catalog.name,
                    "embedder": catalog.embedder,
                    "model_id": catalog.model_id,
                    "window_s": catalog.window_s,
                    "hop_s": catalog.hop_s,
                    "dimension": catalog.dimension,
                    "collection": catalog.collection,
                    "version": catalog.version,
                    "references": len(ready),
                    "unfinished": len(rows) - len(ready),
                    "duration_s": round(sum(reference.duration_s for reference in ready), 3),
                    "windows": windows,
                    "vectors": vectors,
                    "search": index.fit_search_to_size(windows),
                }
            )
    if args.catalog is not None and not told:
        _check_configured(config, args.catalog)
    if args.json:
        print(json.dumps({"catalogs": told}))
        return os.EX_OK
    for fields in told:
        duration = clock(float(str(fields["duration_s"])))
        print(
            f"{fields['catalog']}: {fields['references']} references, {duration} of sound, {fields['windows']} windows,"
            f" {fields['vectors']} vectors; model {fields['model_id']}; search {fields['search']}"
        )
        if fields["unfinished"] or fields["windows"] != fields["vectors"]:
            print("  rows and vectors do not agree, or a loader is at work: see monitor catalog verify")
    if not told:
        print("no catalog has been loaded yet: monitor catalog add PATH")
    return os.EX_OK


def _row_fields(row: ReferenceRow) -> dict[str, Any]:
    reference = row.reference
    return {
        "reference_id": reference.reference_id,
        "title": reference.title,
        "artist": reference.artist,
        "isrc": reference.isrc,
        "owner": reference.owner,
        "label": reference.label,
        "attributes": dict(reference.attributes),
        "path": reference.path,
        "duration_s": reference.duration_s,
        "windows": reference.windows,
        "state": reference.state.value,
        "number": reference.number,
        "file_size_bytes": row.file.size_bytes,
        "file_sha256": reference.file_sha256,
        "audio_sha256": reference.audio_sha256,
        "added_at": _iso(row.added_s),
        "updated_at": _iso(row.updated_s),
    }


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")


# -- verify ------------------------------------------------------------------------------------------------------------


async def _verify(args: argparse.Namespace) -> int:
    bar = Bar(sys.stderr)
    async with _deployed(args) as (deployment, catalog):
        repair = None
        if args.repair:
            embedder = await asyncio.to_thread(deployment.load_embedder, catalog.embedder)
            catalog.check_model(embedder)
            repair = Repair(embedder=embedder, ffmpeg=deployment.ffmpeg)
        async with _writer(deployment, catalog, clear=False) as writer:
            verdict = await verify(
                writer,
                repair=repair,
                on_progress=lambda done, total: bar.draw(done / total, f"{done} of {total} references"),
            )
    bar.clear()
    if args.json:
        findings = [
            {
                "kind": finding.kind.value,
                "reference_id": finding.reference_id,
                "number": finding.number,
                "detail": finding.detail,
                "repaired": finding.repaired,
            }
            for finding in verdict.findings
        ]
        whole = {"catalog": catalog.name, "references": verdict.references, "vectors": verdict.vectors}
        print(json.dumps({**whole, "findings": findings, "sound": verdict.sound}))
    else:
        for finding in verdict.findings:
            print(f"{'repaired' if finding.repaired else finding.kind.value:10}  {finding.detail}")
        words = "rows and vectors agree" if verdict.sound else "rows and vectors do not agree"
        print(f"{verdict.references} references, {verdict.vectors} vectors: {words}")
        if not verdict.sound and not args.repair:
            print("mend it with monitor catalog verify --repair")
    return os.EX_OK if verdict.sound else InputError.exit_code


# -- common ------------------------------------------------------------------------------------------------------------


def _name(args: argparse.Namespace, config: Config) -> str:
    return args.catalog or config.catalogs[0].name


def _check_configured(config: Config, name: str) -> None:
    if all(catalog.name != name for catalog in config.catalogs):
        raise ConfigError(f"there is no catalog {name}; `monitor catalog add --catalog {name} PATH` makes one")


@asynccontextmanager
async def _deployed(args: argparse.Namespace) -> AsyncIterator[tuple[Deployment, CatalogRow]]:
    config = load_config(args)
    name = _name(args, config)
    async with deploy(config) as deployment:
        catalog = await References(deployment.pool).catalog(name)
        if catalog is None:
            raise ConfigError(f"there is no catalog {name}; `monitor catalog add --catalog {name} PATH` makes one")
        yield deployment, catalog


def _writer(
    deployment: Deployment, catalog: CatalogRow, *, clear: bool = True
) -> AbstractAsyncContextManager[CatalogWriter]:
    return CatalogWriter.open(
        pool=deployment.pool,
        milvus_uri=deployment.milvus_uri,
        milvus_token=deployment.milvus_token,
        catalog=catalog,
        clear=clear,
    )
