"""Records one after the other in a file that a killed process may have left in the middle of one."""

from __future__ import annotations

import struct
import zlib

_HEAD = struct.Struct("<II")  # bytes of the body, its CRC-32


def framed(body: bytes) -> bytes:
    """The record of the body, by which `body_at` tells it from one that was cut off."""
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def body_at(text: bytes, at: int) -> tuple[bytes, int] | None:
    """The body of the record that begins at `at`, and where the next begins; None where there is no whole one."""
    if at + _HEAD.size > len(text):
        return None
    size, checksum = _HEAD.unpack_from(text, at)
    at += _HEAD.size
    body = text[at : at + size]
    if len(body) < size or zlib.crc32(body) != checksum:
        return None
    return body, at + size
