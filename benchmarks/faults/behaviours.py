"""Ways in which a station fails, each a behaviour of `station`: add one under a path and listen to it."""

from __future__ import annotations

import asyncio
import random
import urllib.request
from hashlib import md5

from benchmarks.faults.station import Behaviour, Request, content, icecast, redirect, status

#: Of the audio that stations of the table send.
BYTES_PER_S = 6000


def trickle(audio: bytes, *, after_bytes: int = 0, every_s: float = 1.0) -> Behaviour:
    """Good audio at once, then one byte at a time: the connection lives, and no audio comes."""

    async def behave(request: Request) -> None:
        await request.answer("200 OK", {"Content-Type": "audio/mpeg", "Connection": "close"}, audio[:after_bytes])
        for position in range(after_bytes, len(audio)):
            request.writer.write(audio[position : position + 1])
            await request.writer.drain()
            await asyncio.sleep(every_s)

    return behave


def cut(audio: bytes, at_bytes: int) -> Behaviour:
    """The connection ends within a frame."""
    return icecast(audio, bytes_per_s=BYTES_PER_S, burst_bytes=at_bytes, live_bytes=1)


def garbage(audio: bytes = b"", *, seed: int = 1) -> Behaviour:
    """Good audio, if any, then noise of all bytes in real time for ever."""

    async def behave(request: Request) -> None:
        await request.answer("200 OK", {"Content-Type": "audio/mpeg", "Connection": "close"}, audio)
        await noise(request, seed=seed)

    return behave


async def noise(request: Request, *, seed: int = 1) -> None:
    """All bytes by chance, in real time for ever, on a line that is open."""
    chance = random.Random(seed)
    while True:
        request.writer.write(chance.randbytes(BYTES_PER_S // 10))
        await request.writer.drain()
        await asyncio.sleep(0.1)


def change(*parts: bytes, kind: str = "audio/mpeg", pause_s: float = 0.5) -> Behaviour:
    """One part after the other on one connection, which stays open: another codec, rate or number of channels."""

    async def behave(request: Request) -> None:
        await request.answer("200 OK", {"Content-Type": kind, "Connection": "close"})
        for part in parts:
            request.writer.write(part)
            await request.writer.drain()
            await asyncio.sleep(pause_s)
        await request.silence()

    return behave


def playlist(*segments: str, target_s: int = 4, key: str = "") -> Behaviour:
    """A live HLS playlist that always names the same segments."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{target_s}", "#EXT-X-MEDIA-SEQUENCE:7"]
    if key:
        lines.append(f'#EXT-X-KEY:METHOD=AES-128,URI="{key}"')
    for segment in segments:
        lines += [f"#EXTINF:{target_s:.1f},", segment]
    return content(("\n".join(lines) + "\n").encode(), "application/vnd.apple.mpegurl")


def digest(behaviour: Behaviour, *, user: str, password: str, realm: str = "studio") -> Behaviour:
    """`behaviour` for those who answer a digest challenge (RFC 7616, MD5) rightly."""
    nonce = "8f3c" * 8

    def right(request: Request) -> bool:
        scheme, _, fields = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "digest":
            return False
        given = urllib.request.parse_keqv_list(urllib.request.parse_http_list(fields))

        def hashed(text: str) -> str:
            return md5(text.encode(), usedforsecurity=False).hexdigest()

        parts = [hashed(f"{user}:{realm}:{password}"), given["nonce"], given["nc"], given["cnonce"], given["qop"]]
        parts.append(hashed(f"{request.method}:{given['uri']}"))
        return given["uri"] == request.path and given["nonce"] == nonce and given["response"] == hashed(":".join(parts))

    challenge = status(
        "401 Unauthorized", headers={"WWW-Authenticate": f'Digest realm="{realm}", nonce="{nonce}", qop="auth"'}
    )

    async def behave(request: Request) -> None:
        await (behaviour if right(request) else challenge)(request)

    return behave


#: What servers say instead of sending audio, with the reason that must be given for it.
ANSWERS: dict[str, tuple[Behaviour, str]] = {
    "401": (status("401 Unauthorized"), "auth"),
    "403": (status("403 Forbidden"), "auth"),
    "404": (status("404 Not Found"), "not_found"),
    "429": (status("429 Too Many Requests"), "http_error"),
    "500": (status("500 Internal Server Error"), "http_error"),
    "redirect-loop": (redirect("/redirect-loop"), "redirect_loop"),
}
