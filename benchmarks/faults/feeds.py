"""The feeds that fail: each a stream of the daemon with a path, a port, a certificate or a network of its own."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import certificates, network
from benchmarks.faults.certificates import Certificate, Certificates
from benchmarks.faults.deck import Deck
from benchmarks.faults.mount import Mount, Trouble
from benchmarks.faults.network import Wire
from benchmarks.faults.rig import SECRET
from benchmarks.faults.sounds import BYTES_PER_S, PCM_BYTES_PER_S, SEGMENT_S, Sounds, wav_head
from benchmarks.faults.station import Request, Station, content, greeting, on_air

HLS_TYPE = "application/vnd.apple.mpegurl"
_WINDOW_SEGMENTS = 4
#: What a listener is sent of the past.
_BURST_S = 0.5


class Venue(enum.StrEnum):
    """How a feed comes."""

    MP3 = "MP3 over HTTP"
    PCM = "PCM over HTTP"
    HLS = "HLS"
    TLS = "MP3 over HTTPS"
    PORT = "MP3 from a port of its own"
    WIRE = "MP3 through a network of its own"


@dataclass(kw_only=True)
class Feed:
    """One stream, and the handles by which it is made to fail."""

    name: str
    urls: list[str]
    mount: Mount
    deck: Deck | Playlist
    station: Station
    settings: dict[str, Any] = field(default_factory=dict)
    _tls: ssl.SSLContext | None = None
    certificates: Certificates | None = None
    _wire: Wire | None = None

    @property
    def wire(self) -> Wire:
        """Its network."""
        assert self._wire is not None
        return self._wire

    @contextlib.asynccontextmanager
    async def suffering(self, trouble: Trouble) -> AsyncIterator[None]:
        """As `Mount.suffering`."""
        async with self.mount.suffering(trouble):
            yield

    @contextlib.asynccontextmanager
    async def presenting(self, wrong: Certificate) -> AsyncIterator[None]:
        """New listeners are shown the wrong certificate."""
        assert self._tls is not None and self.certificates is not None
        wrong.present(self._tls)
        self.mount.hang_up()
        try:
            yield
        finally:
            self.certificates.good.present(self._tls)

    def decoders(self) -> list[int]:
        """Process ids of the ffmpegs that listen to it."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
                if b"ffmpeg" in words and f"/{self.name}/".encode() in words:
                    found.append(int(entry.name))
        return found

    @contextlib.asynccontextmanager
    async def signalled(self, number: signal.Signals) -> AsyncIterator[None]:
        """Its ffmpeg gets the signal, once."""
        for pid in self.decoders():
            os.kill(pid, number)
        yield

    @property
    def definition(self) -> dict[str, Any]:
        """Its entry in the configuration."""
        patience = {"connect_timeout_s": 25, "stall_timeout_s": 8, "silence_after_s": 3, "silence_dbfs": -90}
        return {"name": self.name, "urls": self.urls, **patience, **self.settings}


@contextlib.asynccontextmanager
async def opened(
    venue: Venue, name: str, *, station: Station, sounds: Sounds, identities: Certificates
) -> AsyncIterator[Feed]:
    """The feed plays. `station` serves all those that need no server of their own."""
    async with contextlib.AsyncExitStack() as stack:
        tls = wire = None
        if venue is Venue.TLS:
            tls = certificates.context(identities.good)
            station = await stack.enter_async_context(on_air(tls=tls))
        elif venue is Venue.WIRE:
            wire = stack.enter_context(network.wire())
            station = await stack.enter_async_context(on_air(host=wire.address, listener=wire.listener()))
        elif venue is Venue.PORT:
            station = await stack.enter_async_context(on_air())
        deck = _deck(venue, sounds, station, name)
        mount = _mount(venue, deck)
        path = f"/{name}/{'live.m3u8' if venue is Venue.HLS else 'live'}"
        station.add(path, mount)
        yield Feed(
            name=name,
            urls=[station.url(path, credentials=f"listener:{SECRET}@")],
            mount=mount,
            deck=deck,
            station=station,
            settings={"ca_file": str(identities.authorities)} if tls else {},
            _tls=tls,
            certificates=identities if tls else None,
            _wire=wire,
        )


def _deck(venue: Venue, sounds: Sounds, station: Station, name: str) -> Deck | Playlist:
    if venue is Venue.HLS:
        return Playlist(sounds, station, name)
    if venue is Venue.PCM:
        return Deck(sounds.bed.pcm, bytes_per_s=PCM_BYTES_PER_S, airing=sounds.airing.pcm)
    return Deck(sounds.bed.mp3, bytes_per_s=BYTES_PER_S, airing=sounds.airing.mp3)


def _mount(venue: Venue, deck: Deck | Playlist) -> Mount:
    if isinstance(deck, Playlist):
        return Mount(deck.answer, deck.answer)
    kind, head = ("audio/wav", wav_head()) if venue is Venue.PCM else ("audio/mpeg", b"")
    return Mount(greeting(kind, deck.line(burst_s=_BURST_S), head=head), deck.line())


class Playlist:
    """A live playlist by the clock, and what `Deck` is for a stream of bytes."""

    def __init__(self, sounds: Sounds, station: Station, name: str) -> None:
        self._bed_segments, self._aired_segments = len(sounds.bed.segments), len(sounds.airing.segments)
        for kind, sound in (("bed", sounds.bed), ("airing", sounds.airing)):
            for number, segment in enumerate(sound.segments):
                station.add(f"/{name}/{kind}-{number}.ts", content(segment, "video/mp2t"))
        self._began_s = time.monotonic()
        self._aired_from: int | None = None

    def air(self) -> None:
        """The airing begins with the next segment."""
        self._aired_from = self._newest() + 1

    async def answer(self, request: Request) -> None:
        """The newest segments."""
        newest = self._newest()
        numbers = range(newest - _WINDOW_SEGMENTS + 1, newest + 1)
        body = playlist(numbers[0], [self._name(number) for number in numbers])
        await content(body, HLS_TYPE)(request)

    def _newest(self) -> int:
        return _WINDOW_SEGMENTS + int((time.monotonic() - self._began_s) / SEGMENT_S)

    def _name(self, number: int) -> str:
        aired = -1 if self._aired_from is None else number - self._aired_from
        if 0 <= aired < self._aired_segments:
            return f"airing-{aired}.ts"
        return f"bed-{number % self._bed_segments}.ts"


def playlist(first: int, names: Sequence[str]) -> bytes:
    """A live playlist whose first segment has that number. Each segment has a clock of its own."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{SEGMENT_S + 1:.0f}"]
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
    for name in names:
        lines += ["#EXT-X-DISCONTINUITY", f"#EXTINF:{SEGMENT_S:.1f},", name]
    return ("\n".join(lines) + "\n").encode()
