"""Files that come in requests: spooled to the data directory while they are read, and cut off where they are too large.

Nothing that a request says about itself is believed: neither its length, nor the names of its files.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import tempfile
import unicodedata
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from monitor.catalog.item import unstorable
from monitor.web.problem import ProblemError

#: What is left free on the disk for the log and the catalog.
_RESERVE_BYTES = 256 << 20
_MOST_FILES = 1000
_MOST_FIELDS = 64
_FIELD_BYTES = 64 << 10
_NAME_BYTES = 200
#: A client that says nothing for so long has gone.
_SILENCE_S = 60.0
#: Uploads that are received at the same time.
_AT_ONCE = 4
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNSAFE = frozenset('/\\:*?"<>|')


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadedFile:
    """A file of a request, as it lies in the spool."""

    #: The last part of the name that the client gave, in one line; what it says is not to be trusted.
    name: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What a multipart request held."""

    fields: dict[str, str]
    files: list[UploadedFile]


class Spool:
    """Receives uploads of `max_bytes` at most into `directory`, which holds nothing when nobody uploads."""

    def __init__(self, directory: Path, *, max_bytes: int) -> None:
        self._directory, self._max_bytes = directory, max_bytes
        self._receiving = 0

    def clear(self) -> None:
        """What an earlier process left is gone. Blocks."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(mode=0o700, parents=True)

    @asynccontextmanager
    async def received(self, request: Request, *, file_fields: Sequence[str]) -> AsyncIterator[Form]:
        """The request's fields and files; files that nobody has moved away are gone at the end.

        Raises ProblemError: 408, 413, 415, 422, 503 or 507, however far the request has been read by then.
        """
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise ProblemError(415, "send multipart/form-data with a boundary")
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._max_bytes:
            raise self._too_large()
        if self._receiving >= _AT_ONCE:
            raise ProblemError(503, "other uploads are being received; come back soon", headers={"Retry-After": "5"})
        self._receiving += 1
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        parts = _Parts(directory, file_fields)
        try:
            await self._read(request, _parser(options[b"boundary"], parts), parts)
            await asyncio.to_thread(parts.write)
            yield Form(fields=parts.fields, files=parts.files)
        finally:
            self._receiving -= 1
            parts.close()
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _read(self, request: Request, parser: MultipartParser, parts: _Parts) -> None:
        size_bytes = 0
        chunks = request.stream()
        while True:
            try:
                chunk = await asyncio.wait_for(anext(chunks), _SILENCE_S)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise ProblemError(408, f"nothing came for {_SILENCE_S:.0f} s; send it again") from None
            size_bytes += len(chunk)
            if size_bytes > self._max_bytes:
                raise self._too_large()
            try:
                parser.write(chunk)
            except FormParserError as error:
                raise ProblemError(422, f"this is not multipart/form-data: {error}") from error
            if parts.waiting_bytes >= 1 << 20:
                await self._write(parts)
        await self._write(parts)
        if not parts.ended:
            raise ProblemError(422, "the request ends within its form; send it whole")

    async def _write(self, parts: _Parts) -> None:
        try:
            if shutil.disk_usage(self._directory).free < _RESERVE_BYTES + parts.waiting_bytes:
                raise ProblemError(507, "the disk of the data directory is nearly full; make room there")
            await asyncio.to_thread(parts.write)
        except OSError as error:
            if error.errno in _FULL:
                raise ProblemError(507, "the disk of the data directory is full; make room there") from error
            raise

    def _too_large(self) -> ProblemError:
        said = f"more than the {self._max_bytes} bytes of http.max_upload_bytes; send fewer files at once"
        return ProblemError(413, said)


@dataclass
class _Parts:
    """The parts of a form as the parser meets them; bytes of files wait until `write`."""

    directory: Path
    file_fields: Sequence[str]
    fields: dict[str, str] = field(default_factory=dict)
    files: list[UploadedFile] = field(default_factory=list)
    waiting_bytes: int = 0
    ended: bool = False
    _waiting: list[tuple[BinaryIO, bytes]] = field(default_factory=list)
    _headers: dict[str, bytes] = field(default_factory=dict)
    _header: bytes = b""
    _value: bytes = b""
    _field: str = ""
    _text: bytes = b""
    _file: BinaryIO | None = None
    _open: list[BinaryIO] = field(default_factory=list)
    _file_name: str = ""
    _size_bytes: int = 0

    def begin(self) -> None:
        """A part begins."""
        self._headers, self._text = {}, b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._value += data[start:end]

    def header_end(self) -> None:
        """A header is whole."""
        self._headers[self._header.decode("latin-1").lower()] = self._value
        self._header = self._value = b""

    def headers_end(self) -> None:
        """What kind of part it is, is known."""
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if (name := options.get(b"filename")) is None:
            if len(self.fields) >= _MOST_FIELDS:
                raise ProblemError(422, f"more than {_MOST_FIELDS} fields")
            return
        if self._field not in self.file_fields:
            raise ProblemError(422, f"files belong into the field {self.file_fields[0]}, not {self._field[:40]!a}")
        if len(self.files) >= _MOST_FILES:
            raise ProblemError(422, f"more than {_MOST_FILES} files; send fewer at once")
        self._file_name, self._size_bytes = safe_name(name.decode("utf-8", "replace")), 0
        self._file = (self.directory / str(len(self.files))).open("xb")
        self._open.append(self._file)

    def data(self, data: bytes, start: int, end: int) -> None:
        """A piece of what the part holds."""
        if self._file is None:
            self._text += data[start:end]
            if len(self._text) > _FIELD_BYTES:
                raise ProblemError(422, f"the field {self._field[:40]!a} is longer than {_FIELD_BYTES} bytes")
            return
        self._waiting.append((self._file, data[start:end]))
        self._size_bytes += end - start
        self.waiting_bytes += end - start

    def part_end(self) -> None:
        """A part is whole."""
        if self._file is None:
            try:
                text = self._text.decode()
            except UnicodeDecodeError:
                raise ProblemError(422, f"the field {self._field[:40]!a} is not UTF-8") from None
            if unstorable(text) or unstorable(self._field):
                raise ProblemError(422, f"the field {self._field[:40]!a} holds a zero character")
            self.fields[self._field] = text
            return
        path = self.directory / str(len(self.files))
        self.files.append(UploadedFile(name=self._file_name, path=path, size_bytes=self._size_bytes))
        self._file = None

    def form_end(self) -> None:
        """All parts are whole."""
        self.ended = True

    def write(self) -> None:
        """What waits is in the files. Blocks."""
        waiting, self._waiting, self.waiting_bytes = self._waiting, [], 0
        for file, data in waiting:
            file.write(data)
        for file in self._open:
            if file is self._file:
                file.flush()
            else:
                file.close()
        self._open = [] if self._file is None else [self._file]

    def close(self) -> None:
        """No file is open."""
        self._waiting = []
        for file in self._open:
            file.close()


def safe_name(given: str) -> str:
    """The last part of a name from elsewhere, fit to name a file here and to be shown: never empty, never `..`."""
    name = unicodedata.normalize("NFC", given.replace("\\", "/").rpartition("/")[2])
    name = "".join(
        "_" if character in _UNSAFE or not character.isprintable() or unstorable(character) else character
        for character in name
    )
    stem, dot, suffix = name.strip(" .").rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    stem = stem.encode()[: _NAME_BYTES - 20].decode(errors="ignore").strip(" .")
    return f"{stem or 'unnamed'}{dot}{suffix.encode()[:16].decode(errors='ignore')}".rstrip(" .")


def _parser(boundary: bytes, parts: _Parts) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.header_field,
                "on_header_value": parts.header_value,
                "on_header_end": parts.header_end,
                "on_headers_finished": parts.headers_end,
                "on_part_data": parts.data,
                "on_part_end": parts.part_end,
                "on_end": parts.form_end,
            },
        )
    except FormParserError as error:
        raise ProblemError(422, f"this is not multipart/form-data: {error}") from error
