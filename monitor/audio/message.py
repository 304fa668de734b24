"""Heads and bodies of HTTP messages as stations send them: with `ICY 200 OK`, odd headers and bare line feeds."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import cached_property

from monitor.errors import SourceError, StreamReason

_HEAD_BYTES = 1 << 16
_END = re.compile(rb"\r?\n\r?\n")
_BLANK_LINE_BYTES = 4
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")


@dataclass(frozen=True)
class Head:
    """First line and fields, in their order; text is Latin-1, so that any byte comes out as it went in."""

    first: str
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        """The first field of this name (in lower case)."""
        return next((value for key, value in self.fields if key.lower() == name), None)

    @cached_property
    def status(self) -> int:
        """The status of an answer; 0 if its first line has none."""
        found = re.match(r"\S+ +(\d{3})\b", self.first)
        return int(found[1]) if found else 0

    @property
    def bytes(self) -> bytes:
        """As it goes over the wire, with the blank line."""
        lines = [self.first, *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")


async def read_head(reader: asyncio.StreamReader) -> tuple[Head | None, bytes]:
    """A message's head, and the bytes of its body that came with it.

    None and all bytes so far where there is none: no blank line within 64 KiB, or before the end, or no first line of
    HTTP or Shoutcast.
    """
    data = b""
    while (end := _END.search(data)) is None:
        more = await reader.read(1 << 14)
        data += more
        if not more or len(data) > _HEAD_BYTES or (len(data) >= _BLANK_LINE_BYTES and not _speaks_http(data)):
            return None, data
    if not _speaks_http(data):
        return None, data
    first, *lines = re.split(r"\r?\n", data[: end.start()].decode("latin-1"))
    fields = [(name.strip(), value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon]
    return Head(first=first, fields=fields), data[end.end() :]


def _speaks_http(data: bytes) -> bool:
    return data[:4] in {b"HTTP", b"ICY ", b"GET ", b"HEAD", b"POST"} or data[:4].startswith(b"ICY")


async def whole_body(head: Head, begun: bytes, reader: asyncio.StreamReader, *, most: int) -> bytes:
    """The body that `begun` begins: by length, in chunks, or to the end. SourceError if it is over `most` bytes."""
    if (head.get("transfer-encoding") or "").lower() == "chunked":
        return await _chunks(begun, reader, most)
    length = head.get("content-length") or ""
    wanted = int(length) if re.fullmatch(r"\d{1,12}", length) else None
    body = bytearray(begun)
    while (wanted is None or len(body) < wanted) and (more := await reader.read(1 << 16)):
        body += more
        _bound(len(body), most)
    return bytes(body[:wanted])


async def _chunks(begun: bytes, reader: asyncio.StreamReader, most: int) -> bytes:
    waiting, body = bytearray(begun), bytearray()
    while True:
        while b"\n" not in waiting:
            if not (more := await reader.read(1 << 16)):
                return bytes(body)
            waiting += more
            _bound(len(waiting), most)
        line, _, rest = bytes(waiting).partition(b"\n")
        said = line.partition(b";")[0].strip() or b"0"
        if not _CHUNK_SIZE.fullmatch(said):
            raise SourceError(StreamReason.UNDECODABLE, "the playlist's chunks are not as HTTP wants them")
        size = int(said, 16)
        _bound(len(body) + size, most)
        waiting = bytearray(rest)
        while len(waiting) < size + 2 and (more := await reader.read(1 << 16)):
            waiting += more
        body += waiting[:size]
        if size == 0 or len(waiting) < size:
            return bytes(body)
        # A chunk ends with a line break, which some write as a bare line feed.
        after = bytes(waiting[size : size + 2])
        waiting = waiting[size + (2 if after == b"\r\n" else 1) :]


def _bound(size: int, most: int) -> None:
    if size > most:
        raise SourceError(StreamReason.UNDECODABLE, f"its playlist is over {most >> 20} MiB")
