"""Ids that sort by the time they stand for: UUID version 7 (RFC 9562, section 5.7)."""

from __future__ import annotations

import secrets
from uuid import UUID


def uuid7(time_s: float, random_bits: int | None = None) -> UUID:
    """A version 7 UUID of `time_s` (Unix seconds) and 74 random bits."""
    milliseconds = int(time_s * 1000) & ((1 << 48) - 1)
    noise = secrets.randbits(74) if random_bits is None else random_bits & ((1 << 74) - 1)
    value = milliseconds << 80 | 0x7 << 76 | (noise >> 62) << 64 | 0b10 << 62 | (noise & ((1 << 62) - 1))
    return UUID(int=value)
