"""Manifests: the files of a catalog with what is known of them, a row each, as CSV or as JSON Lines.

Columns: path (relative to the manifest's directory), id, title, artist, isrc, owner, label. All others are kept.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monitor.catalog.item import METADATA_COLUMNS, LoadItem, Metadata, Problem, absolute, derived_id, unstorable
from monitor.errors import InputError
from monitor.types import LoadStatus

_DELIMITERS = ",;\t"


class _RowError(Exception):
    """What is wrong with one row."""


def read_manifest(path: Path) -> list[LoadItem]:
    """An item for each row; a row that is wrong gives an item with a problem. The suffix says whether CSV or JSONL.

    Raises InputError when the manifest as a whole cannot be used: missing, of another kind, without a path column.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    if (read := readers.get(path.suffix.lower())) is None:
        raise InputError(f"{path} is no manifest: its name must end in .csv or .jsonl")
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return [_item(path, line, row) for line, row in read(path, file)]
    except OSError as error:
        raise InputError(f"the manifest {path} cannot be read: {error.strerror}") from error


def _csv_rows(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, str] | _RowError]]:
    header = file.readline()
    delimiter = max(_DELIMITERS, key=header.count)
    columns = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if "path" not in columns:
        raise InputError(f"the manifest {path} has no column 'path' in its first line; name its columns there")
    if len(set(columns)) != len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise InputError(f"the manifest {path} has the column {twice!r} twice; remove one")
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    line = 1
    while True:
        first, values = line + 1, None
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, _RowError(f"is not valid CSV: {error}")
        finally:
            line = 1 + reader.line_num
        if values is None or not any(value.strip() for value in values):
            continue
        if len(values) != len(columns):
            yield first, _RowError(f"has {len(values)} values for {len(columns)} columns")
        else:
            yield first, dict(zip(columns, values, strict=True))


def _json_rows(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, str] | _RowError]]:  # noqa: ARG001
    for line, content in enumerate(file, 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            said = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
            if isinstance(error, json.JSONDecodeError):
                said = error.msg
            yield line, _RowError(f"is not valid JSON: {said}")
            continue
        if not isinstance(row, dict):
            yield line, _RowError("is not a JSON object")
            continue
        yield line, {name: _text(value) for name, value in row.items() if value is not None}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _item(manifest: Path, line: int, row: Mapping[str, str] | _RowError) -> LoadItem:
    directory = manifest.parent
    if isinstance(row, _RowError):
        return _bad(manifest, line, str(row))
    filled = {name.strip(): value.strip() for name, value in row.items() if value.strip()}
    given, file_path = filled.pop("id", None), filled.pop("path", None)
    if file_path is None:
        return _bad(manifest, line, "has no path", reference_id=given or "")
    path = absolute(directory / file_path)
    reference_id = given or derived_id(path, directory)
    for name, value in {"id": reference_id, "path": file_path, **filled}.items():
        if unstorable(name) or unstorable(value):
            return _bad(manifest, line, f"is not UTF-8 text in column {name!a}; save the manifest as UTF-8")
    return LoadItem(
        reference_id=reference_id,
        path=path,
        id_given=given is not None,
        metadata=Metadata(
            **{name: filled.get(name) for name in METADATA_COLUMNS},
            attributes={name: value for name, value in filled.items() if name not in METADATA_COLUMNS},
        ),
        listed_in=manifest,
        line=line,
    )


def _bad(manifest: Path, line: int, reason: str, *, reference_id: str = "") -> LoadItem:
    return LoadItem(
        reference_id=reference_id,
        path=manifest,
        listed_in=manifest,
        line=line,
        problem=Problem(status=LoadStatus.FAILED, reason=f"the row {reason}"),
    )
