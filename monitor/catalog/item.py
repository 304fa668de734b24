"""One recording that the loader is asked for, before anything is known of its sound."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from monitor.types import LoadStatus

#: Columns of a manifest that are columns of the catalog too; all others are kept as attributes.
METADATA_COLUMNS = ("title", "artist", "isrc", "owner", "label")
#: Of ids that no file may have: they name references of the program's own.
RESERVED_PREFIX = "monitor:"
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What a manifest or playlist says about a recording. None and absent keys are unknown, not empty."""

    title: str | None = None
    artist: str | None = None
    isrc: str | None = None
    owner: str | None = None
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why an item cannot be loaded, known without opening its file."""

    status: LoadStatus
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadItem:
    """A file and the reference that it is to become."""

    reference_id: str
    #: Absolute.
    path: Path
    #: True when a manifest gives the id, False when it is derived from the path.
    id_given: bool = False
    #: None: nothing is said, so that loading again keeps what the catalog has.
    metadata: Metadata | None = None
    #: The manifest or playlist that names the file, and where in it.
    listed_in: Path | None = None
    line: int | None = None
    problem: Problem | None = None

    @property
    def place(self) -> str:
        """Where the item is named, as the beginning of a message; empty for files found in a directory."""
        return f"{self.listed_in}, line {self.line}: " if self.listed_in else ""


def absolute(path: str | Path) -> Path:
    """The path from the root without `.` and `..`, links kept: what the catalog stores."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100


def derived_id(path: PurePath, start: PurePath) -> str:
    """The id of a file that has none given: its path relative to `start`, without suffix, in Unicode's composed form.

    A file outside `start` gets its bare name.
    """
    relative = path.relative_to(start) if path.is_relative_to(start) and path != start else PurePath(path.name)
    stem = relative.with_suffix("") if _SUFFIX.fullmatch(relative.suffix) else relative
    return unicodedata.normalize("NFC", stem.as_posix())


def unstorable(text: str) -> bool:
    """True for text that PostgreSQL and JSON cannot hold: NUL, or bytes that are no UTF-8 (a file's name may be)."""
    return "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)


def shown(text: object) -> str:
    """The text in one line that no terminal mistakes for commands: controls and broken UTF-8 are written as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )
