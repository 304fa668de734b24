"""Bytes a little or very different from those that were given, by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence

_LARGEST_BYTES = 1 << 16
#: What parsers trip over, whatever they parse.
_TOKENS = (
    *(b"\0", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b" ", b"\t", b'"', b"'", b"=", b":", b",", b";", b"-", b"#"),
    *(
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc3",
        b"\x1b[2J",
        b"\xe2\x80\xa8",
    ),
    *(b"0", b"-1", b"1e400", b"NaN", b"Infinity", b"18446744073709551616", b"9" * 5000, b"0x10", b"1_0"),
    *(b"null", b"true", b"{}", b"[]", b"[" * 2000, b'{"a":' * 2000, b"&a [*a]", b"<<: *a", b"!!python/name:os.system"),
    *(
        b"~",
        b"~nobody-such/x",
        b"..",
        b"/",
        b"//",
        b"file://",
        b"http://[",
        b"https://a:99999/",
        b"%00",
        b"%",
        b"a" * 3000,
    ),
)


def mutated(seed: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One to a few changes, one after another."""
    data = bytearray(seed)
    for _ in range(min(int(chance.expovariate(0.4)) + 1, 12)):
        _change(data, seeds, chance)
    return bytes(data[:_LARGEST_BYTES])


def _change(data: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(at + int(chance.expovariate(0.1)) + 1, len(data))
    match chance.randrange(10):
        case 0 if data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        case 1 if data:
            data[at % len(data)] = chance.randrange(256)
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end] * chance.randrange(1, 20)
        case 4:
            data[at:at] = chance.choice(_TOKENS)
        case 5:
            data[at:end] = chance.choice(_TOKENS)
        case 6:
            other = chance.choice(seeds)
            begin = chance.randrange(len(other) + 1)
            data[at:end] = other[begin : begin + chance.randrange(1, 200)]
        case 7:
            del data[at:]
        case 8:
            _swap_lines(data, chance)
        case _:
            data[at:at] = chance.randbytes(chance.randrange(1, 16))


def _swap_lines(data: bytearray, chance: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    data[:] = b"\n".join(lines)
