"""Stations that cost nothing to serve: MP3 and AAC encoded once, sent frame by frame on time by one asyncio task."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo.station import PCM_INPUT, Format
from monitor.errors import MonitorError
from monitor.types import Samples

#: What a new listener is sent at once of the sound just past: Icecast's `burst-size`.
BURST_BYTES = 64 * 1024
_TICK_S = 0.2
_SAMPLE_RATE_HZ = 44100
_MP3_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
#: A listener that leaves so much unread is dropped.
_UNREAD_BYTES = 1 << 20
_REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tape:
    """A programme in its encoded frames, played again and again."""

    content_type: str
    data: bytes
    #: Where each frame begins, and the end of the last.
    offsets: NDArray[np.int64]
    frame_s: float

    @property
    def frames(self) -> int:
        """How many frames one round has."""
        return len(self.offsets) - 1

    @property
    def duration_s(self) -> float:
        """Length of one round."""
        return self.frames * self.frame_s

    def between(self, first: int, last: int) -> bytes:
        """The frames `first` up to `last`, counted over all rounds."""
        parts = []
        while first < last:
            within = first % self.frames
            count = min(last - first, self.frames - within)
            parts.append(self.data[self.offsets[within] : self.offsets[within + count]])
            first += count
        return b"".join(parts)


def encode(samples: Samples, audio: Format, ffmpeg: FfmpegProgram) -> Tape:
    """The samples as MP3 or AAC. Raises MonitorError if the encoder writes something else."""
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    command = [ffmpeg.path, *PCM_INPUT, *audio.encoding, "pipe:1"]
    data = subprocess.run(command, input=pcm, capture_output=True, check=True).stdout
    measure, samples_per_frame = (_adts_bytes, 1024) if audio.suffix == "aac" else (_mp3_bytes, 1152)
    offsets = [0]
    while offsets[-1] < len(data):
        size = measure(data[offsets[-1] : offsets[-1] + 7])
        if size <= 0 or offsets[-1] + size > len(data):
            raise MonitorError(f"the {audio.suffix} encoder wrote something that is not a frame; try another ffmpeg")
        offsets.append(offsets[-1] + size)
    return Tape(
        content_type=audio.content_type,
        data=data,
        offsets=np.array(offsets, dtype=np.int64),
        frame_s=samples_per_frame / _SAMPLE_RATE_HZ,
    )


def _adts_bytes(head: bytes) -> int:
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def _mp3_bytes(head: bytes) -> int:
    """Of an MPEG-1 layer III frame at 44.1 kHz."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xFE != 0xFA or head[2] >> 4 == 15 or head[2] & 0x0C:
        return 0
    return 144_000 * _MP3_KBPS[head[2] >> 4] // _SAMPLE_RATE_HZ + (head[2] >> 1 & 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Away:
    """A span (Unix seconds) in which a mount sent nothing, and how."""

    kind: str
    start_s: float
    end_s: float


@dataclass(kw_only=True)
class Mount:
    """One station: its tape turns by the clock, whether anybody hears it or not. Owns its port."""

    name: str
    tape: Tape
    #: Unix time at which the tape's first sample is sent.
    began_s: float
    away: list[Away] = field(default_factory=list)
    #: What was sent to each listener that has gone, on the station's own clock (Unix seconds).
    sent: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._listeners: set[asyncio.StreamWriter] = set()
        self._sent_frames = 0
        self._mute = False

    @property
    def url(self) -> str:
        """Where to listen."""
        suffix = "aac" if self.tape.content_type == "audio/aac" else "mp3"
        return f"http://127.0.0.1:{self.port}/{self.name}.{suffix}"

    async def open(self) -> None:
        """Take listeners."""
        self._server = await asyncio.start_server(self._answer, sock=self._socket)

    def close(self) -> None:
        """Every connection ends at once, and new ones are refused; the port stays ours."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = _bound(self.port)
        for writer in self._listeners:
            writer.transport.abort()

    def release(self) -> None:
        """Closed for good."""
        self.close()
        self._socket.close()

    def play(self, tape: Tape, now_s: float) -> None:
        """A tape of the same format begins; who listens hears it go on there."""
        self.tape, self.began_s, self._sent_frames = tape, now_s, 0

    def send(self, now_s: float) -> None:
        """What is due by now goes to everybody who listens."""
        due = self._frame(now_s)
        if not self._mute and self._listeners:
            data = self.tape.between(self._sent_frames, due)
            for writer in self._listeners:
                if writer.transport.get_write_buffer_size() > _UNREAD_BYTES:
                    writer.transport.abort()
                else:
                    writer.write(data)
        self._sent_frames = due

    async def flap(self, chance: random.Random, *, good_s: tuple[float, float], away_s: tuple[float, float]) -> None:
        """Cut and refused, or open and mute, again and again at random, until cancelled."""
        while True:
            await asyncio.sleep(chance.uniform(*good_s))
            lasts_s, kind, start_s = chance.uniform(*away_s), chance.choice(("refused", "refused", "mute")), time.time()
            if kind == "refused":
                self.close()
            self._mute = kind == "mute"
            try:
                await asyncio.sleep(lasts_s)
            finally:
                self._mute = False
                self.away.append(Away(kind=kind, start_s=start_s, end_s=time.time()))
            if kind == "refused":
                await self.open()

    def _frame(self, now_s: float) -> int:
        return max(math.floor((now_s - self.began_s) / self.tape.frame_s), 0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first_s = 0.0
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                await reader.readuntil(b"\r\n\r\n")
            head = ("HTTP/1.0 200 OK", f"Content-Type: {self.tape.content_type}", f"icy-name: {self.name}")
            writer.write("\r\n".join((*head, "Cache-Control: no-cache", "", "")).encode())
            first = self._sent_frames
            if not self._mute:
                first = max(first - round(BURST_BYTES / (self.tape.offsets[-1] / self.tape.frames)), 0)
                writer.write(self.tape.between(first, self._sent_frames))
            self._listeners.add(writer)
            first_s = self.began_s + first * self.tape.frame_s
            while await reader.read(1024):
                pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the listener went away, or never asked for anything
        finally:
            if writer in self._listeners:
                self._listeners.discard(writer)
                self.sent.append((first_s, self.began_s + self._sent_frames * self.tape.frame_s))
            writer.close()


@contextlib.asynccontextmanager
async def on_air(mounts: Sequence[Mount]) -> AsyncIterator[None]:
    """All mounts take listeners and send in real time."""
    pacing = asyncio.create_task(_pace(mounts), name="pace")
    try:
        for mount in mounts:
            await mount.open()
        yield
    finally:
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)
        for mount in mounts:
            mount.release()


async def _pace(mounts: Sequence[Mount]) -> None:
    began_s = time.monotonic()
    for tick in itertools.count(1):
        await asyncio.sleep(max(began_s + tick * _TICK_S - time.monotonic(), 0))
        now_s = time.time()
        for mount in mounts:
            mount.send(now_s)


def _bound(port: int) -> socket.socket:
    """A socket that refuses connections until it listens."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made
