"""What is to be recorded waits here on disk: an append-only file that no death of the process takes along.

Every fact goes through it. While PostgreSQL answers, it is empty again within milliseconds; while it is away, the file
grows up to its bound. A fact is safe from a killed process from `append` on, since it is then with the kernel, and from
a power cut from the next `sync` on. Facts that are read again after a crash may be in the log already: recording them
is idempotent, so each counts once.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from monitor.errors import StorageError
from monitor.types import Gap, MatchEvent, StreamStatus

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 18
#: An empty journal's file is cut to nothing once it has grown to this.
_CUT_BYTES = 1 << 20
_DEAD_BYTES = 64 << 20
_POSITION_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """A stream has been heard until then."""

    stream: str
    until_s: float


Entry = MatchEvent | StreamStatus | Gap | Heard

_KINDS: Mapping[str, type[Entry]] = {"event": MatchEvent, "status": StreamStatus, "gap": Gap, "heard": Heard}
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {kind: TypeAdapter(entry) for kind, entry in _KINDS.items()}
_NAMES = {entry: kind for kind, entry in _KINDS.items()}


def stream_of(entry: Entry) -> str:
    """The stream that the entry is about."""
    return entry.match.stream if isinstance(entry, MatchEvent) else entry.stream


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """An entry of the journal, with the epoch under which its stream was heard; None for a line that is damaged."""

    entry: Entry | None
    epoch: int
    #: As it lies in the file.
    text: bytes


class Journal:
    """One file in a directory, written and read by one process. Holds at most `capacity_bytes`."""

    def __init__(self, directory: Path, *, capacity_bytes: int = 1 << 30) -> None:
        """Take up the file that an earlier process left. Raises StorageError."""
        self.capacity_bytes = capacity_bytes
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(directory / "events.log", flags, 0o600)
            self._place = os.open(directory / "events.position", flags, 0o600)
        except OSError as error:
            raise StorageError(f"The journal in {directory} cannot be opened: {error.strerror}.") from error
        self._size = os.fstat(self._file).st_size
        self._position = int.from_bytes(os.pread(self._place, _POSITION_BYTES, 0), "little")
        if self._position > self._size:  # ended between the two writes of `_cut`
            self._position = 0 if self._size == 0 else self._size
        self._unsynced = False
        self._length = self._count()

    def __len__(self) -> int:
        """How many entries wait."""
        return self._length

    @property
    def size_bytes(self) -> int:
        """How much room the entries that wait take."""
        return self._size - self._position

    def append(self, entry: Entry, *, epoch: int) -> None:
        """The entry is the last that waits. Raises StorageError, having changed nothing, when there is no room."""
        kind = _NAMES[type(entry)]
        said = b'{"kind":"%s","epoch":%d,"entry":%s}' % (kind.encode(), epoch, _ADAPTERS[kind].dump_json(entry))
        line = b"%08x %s\n" % (zlib.crc32(said), said)
        if self.size_bytes + len(line) > self.capacity_bytes:
            raise StorageError(f"The journal in {self.directory} is full; see why PostgreSQL takes nothing from it.")
        try:
            written = os.pwrite(self._file, line, self._size)
            if written < len(line):
                os.ftruncate(self._file, self._size)
                raise StorageError(f"The disk that holds {self.directory} is full; make room there.")
        except OSError as error:
            raise StorageError(f"The journal in {self.directory} cannot be written: {error.strerror}.") from error
        self._size += len(line)
        self._length += 1
        self._unsynced = True

    def read(self, most: int) -> list[Line]:
        """Up to `most` of the oldest entries; they stay until `advance`."""
        lines: list[bytes] = []
        at, rest = self._position, b""
        while len(lines) < most and at < self._size:
            piece = os.pread(self._file, min(_PIECE_BYTES, self._size - at), at)
            if not piece:
                break
            at += len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            lines += whole
        if at >= self._size and rest:  # the last line of a process that lost its power
            lines.append(rest)
        return [_parsed(text) for text in lines[:most]]

    def advance(self, lines: list[Line]) -> None:
        """These entries, which `read` gave, wait no longer."""
        self._position = min(self._position + sum(len(line.text) + 1 for line in lines), self._size)
        self._length = max(self._length - len(lines), 0)
        if self._position >= self._size:
            self._length = 0
            if self._size >= _CUT_BYTES:
                os.ftruncate(self._file, 0)
                self._size = self._position = 0
        os.pwrite(self._place, self._position.to_bytes(_POSITION_BYTES, "little"), 0)

    def sync(self) -> None:
        """What waits is safe from a power cut. Blocks."""
        if self._unsynced:
            self._unsynced = False
            os.fdatasync(self._file)

    def close(self) -> None:
        """The files are closed; what waits in them stays."""
        os.close(self._file)
        os.close(self._place)

    def _count(self) -> int:
        count, at = 0, self._position
        while piece := os.pread(self._file, _PIECE_BYTES, at):
            at += len(piece)
            count += piece.count(b"\n")
            whole = piece.endswith(b"\n")
        if at > self._position and not whole:
            # A power cut tore the last line: it must not swallow the next one.
            os.pwrite(self._file, b"\n", self._size)
            self._size += 1
            count += 1
        return count


class DeadLetters:
    """What PostgreSQL refuses for good: one JSON object a line in `dead-letters.jsonl`, at most two files of 64 MiB."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "dead-letters.jsonl"

    def write(self, line: Line, *, reason: str, detail: str) -> None:
        """The line is in the file, with why; where that fails too, in the program's log."""
        _, _, text = line.text.partition(b" ")
        said = {"at_s": time.time(), "reason": reason, "detail": detail, "fact": text.decode(errors="replace")}
        try:
            if self.path.exists() and self.path.stat().st_size > _DEAD_BYTES:
                self.path.replace(self.path.with_suffix(".jsonl.1"))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(json.dumps(said) + "\n")
        except OSError as error:
            log.critical("%s cannot be written (%s): %s", self.path, error, said, extra={"action": "dead_letter_lost"})


def _parsed(text: bytes) -> Line:
    checksum, _, said = text.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(said):
            return Line(entry=None, epoch=0, text=text)
        value = from_json(said)
        return Line(entry=_ADAPTERS[value["kind"]].validate_python(value["entry"]), epoch=value["epoch"], text=text)
    except (ValueError, KeyError, TypeError, ValidationError):
        return Line(entry=None, epoch=0, text=text)
