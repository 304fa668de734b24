"""What the arguments of the loader name: files, directories, globs, playlists and manifests, as one list of items."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from monitor.catalog import playlist
from monitor.catalog.item import RESERVED_PREFIX, LoadItem, Problem, absolute, derived_id, unstorable
from monitor.catalog.manifest import read_manifest
from monitor.errors import InputError
from monitor.types import LoadStatus

#: PostgreSQL's indexes hold no longer keys than about twice this.
_MAX_ID_BYTES = 1000
# fmt: off
#: What a directory is searched for. A file that is named itself may have any suffix.
AUDIO_SUFFIXES = frozenset(
    [".3gp", ".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".alac", ".amr", ".ape", ".au", ".avi", ".caf",
     ".dff", ".dsf", ".dts", ".eac3", ".flac", ".flv", ".m2a", ".m4a", ".m4b", ".m4p", ".mka", ".mkv", ".mov",
     ".mp1", ".mp2", ".mp3", ".mp4", ".mpc", ".mpeg", ".mpg", ".mpga", ".mts", ".mxf", ".oga", ".ogg", ".ogv",
     ".opus", ".ra", ".rm", ".shn", ".snd", ".spx", ".tak", ".ts", ".tta", ".vob", ".w64", ".wav", ".wave",
     ".webm", ".wma", ".wmv", ".wv"]
)
# fmt: on


def listed(arguments: Sequence[str | Path], *, manifests: Sequence[Path] = ()) -> list[LoadItem]:
    """An item for each file, in the order of the arguments and by name within a directory, each file once.

    Ids that two files claim are refused: both files when the ids are derived from their paths, the later one when a
    manifest gives them. What cannot be used at all is an item with a problem, so that the rest goes on. Blocks.

    Raises InputError for a manifest that cannot be read as a whole.
    """
    items: list[LoadItem] = []
    for manifest in manifests:
        items += read_manifest(absolute(manifest))
    for argument in arguments:
        items += _argument(str(argument))
    return _refuse_clashes(_each_file_once(map(_refuse_unstorable, items)))


def _argument(argument: str) -> Iterator[LoadItem]:
    path = absolute(argument)
    if path.is_dir():
        yield from _directory(path, start=path)
    elif path.suffix.lower() in playlist.SUFFIXES and path.is_file():
        try:
            yield from playlist.read_playlist(path)
        except InputError as error:
            yield _failed(path, str(error))
    elif path.exists() or not glob.has_magic(argument):
        yield LoadItem(reference_id=derived_id(path, path.parent), path=path)
    else:
        yield from _glob(path)


def _directory(directory: Path, *, start: Path) -> Iterator[LoadItem]:
    found = False
    problems: list[LoadItem] = []

    def unreadable(error: OSError) -> None:
        path = Path(error.filename)
        problem = Problem(status=LoadStatus.UNREADABLE, reason=f"{path} cannot be read: {error.strerror}")
        problems.append(LoadItem(reference_id=derived_id(path, start), path=path, problem=problem))

    seen: set[tuple[int, int]] = set()
    for root, directories, names in os.walk(directory, onerror=unreadable, followlinks=True):
        state = Path(root).stat()
        if (state.st_dev, state.st_ino) in seen:  # a link that leads back up
            directories.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        # Hidden: what systems leave behind, such as the resource forks "._title.mp3".
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                found = True
                yield LoadItem(reference_id=derived_id(path, start), path=path)
    yield from problems
    if not found and not problems:
        yield _failed(directory, f"{directory} has no audio files in it")


def _glob(pattern: Path) -> Iterator[LoadItem]:
    fixed = [part for part in pattern.parents if not glob.has_magic(str(part))]
    start, wanted = fixed[0], AUDIO_SUFFIXES | {pattern.suffix.lower()}
    matches = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))  # noqa: PTH207
    files = [path for path in matches if path.is_file() and path.suffix.lower() in wanted]
    yield from (LoadItem(reference_id=derived_id(path, start), path=path) for path in files)
    if not files:
        yield _failed(pattern, f"no audio file matches {pattern}")


def _failed(path: Path, reason: str) -> LoadItem:
    return LoadItem(reference_id="", path=path, problem=Problem(status=LoadStatus.FAILED, reason=reason))


def _refuse_unstorable(item: LoadItem) -> LoadItem:
    if item.problem:
        return item
    if unstorable(str(item.path) + item.reference_id):
        reason = f"the name {str(item.path)!a} is not UTF-8; rename the file"
        item = replace(item, reference_id=ascii(item.reference_id))
    elif item.reference_id.startswith(RESERVED_PREFIX):
        reason = f"the id {item.reference_id[:40]!r} begins with {RESERVED_PREFIX}, which is reserved; give another one"
    elif len(item.reference_id.encode()) > _MAX_ID_BYTES:
        reason = f"the id {item.reference_id[:40]!r}... is longer than {_MAX_ID_BYTES} bytes; give a shorter one"
    else:
        return item
    return replace(item, problem=Problem(status=LoadStatus.FAILED, reason=reason))


def _each_file_once(items: Iterable[LoadItem]) -> list[LoadItem]:
    kept: list[LoadItem] = []
    paths: set[Path] = set()
    for item in items:
        if item.problem is None:
            if item.path in paths and not item.id_given:
                continue
            paths.add(item.path)
        kept.append(item)
    return kept


def _refuse_clashes(items: list[LoadItem]) -> list[LoadItem]:
    claims: dict[str, list[int]] = {}
    for position, item in enumerate(items):
        if item.problem is None:
            claims.setdefault(item.reference_id, []).append(position)
    for reference_id, positions in claims.items():
        if len(positions) < 2:
            continue
        given = [position for position in positions if items[position].id_given]
        winner = given[0] if given else None
        for position in positions:
            if position == winner:
                continue
            other = items[winner if winner is not None else next(p for p in positions if p != position)]
            if items[position].id_given:
                reason = f"the id {reference_id!r} is given twice, first in line {other.line}; ids must be unique"
            else:
                reason = (
                    f"the id {reference_id!r} would stand for both {items[position].path} and {other.path};"
                    " rename one, or give ids in a manifest"
                )
            items[position] = replace(items[position], problem=Problem(status=LoadStatus.FAILED, reason=reason))
    return items
