"""Live radio on loopback: endless MP3, AAC and Opus streams in real time, served as Icecast serves them."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.errors import MonitorError
from monitor.types import Samples

#: What a new listener is sent at once of the sound just past: Icecast's `burst-size`.
BURST_BYTES = 64 * 1024
_BLOCK_SAMPLES = SAMPLE_RATE_HZ // 20
#: A listener that is this many blocks behind is dropped, as Icecast drops it.
_LISTENER_BLOCKS = 512
_REQUEST_LIMIT_BYTES = 8192
_REQUEST_TIMEOUT_S = 10.0
#: ffmpeg's options for what a playout feeds it.
PCM_INPUT = (
    *("-hide_banner", "-loglevel", "error", "-fflags", "nobuffer", "-probesize", "32"),
    *("-f", "s16le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-i", "pipe:0"),
)
_OGG_PAGE_HEADER = struct.Struct("<4sBBqIIIB")


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A codec in its container, as ffmpeg makes it and HTTP names it."""

    suffix: str
    content_type: str
    bitrate_kbps: int
    options: tuple[str, ...]

    @property
    def encoding(self) -> tuple[str, ...]:
        """ffmpeg's output options."""
        return (*self.options, "-b:a", f"{self.bitrate_kbps}k", "-flush_packets", "1")


def mp3(bitrate_kbps: int) -> Format:
    """MPEG-1 layer III without any file header."""
    options = ("-c:a", "libmp3lame", "-ar", "44100", "-f", "mp3", "-write_xing", "0", "-id3v2_version", "0")
    return Format(suffix="mp3", content_type="audio/mpeg", bitrate_kbps=bitrate_kbps, options=options)


def aac(bitrate_kbps: int) -> Format:
    """AAC-LC in ADTS frames."""
    options = ("-c:a", "aac", "-ar", "44100", "-f", "adts")
    return Format(suffix="aac", content_type="audio/aac", bitrate_kbps=bitrate_kbps, options=options)


def opus(bitrate_kbps: int) -> Format:
    """Opus in Ogg, in pages of a fifth of a second."""
    options = ("-c:a", "libopus", "-ar", "48000", "-f", "ogg", "-page_duration", "200000")
    return Format(suffix="opus", content_type="application/ogg", bitrate_kbps=bitrate_kbps, options=options)


class OggPages:
    """Cuts an Ogg byte stream into whole pages, and keeps those that every listener needs first (RFC 3533, 7845)."""

    def __init__(self) -> None:
        self._buffer = b""
        self.headers = b""

    def push(self, data: bytes) -> bytes:
        """The whole audio pages so far; pages before the first audio, whose granule is 0, go to `headers`."""
        self._buffer += data
        audio = bytearray()
        for page, granule in iter(self._next, None):
            if granule == 0:
                self.headers += page
            else:
                audio += page
        return bytes(audio)

    def _next(self) -> tuple[bytes, int] | None:
        fixed = _OGG_PAGE_HEADER.size
        if len(self._buffer) < fixed:
            return None
        capture, _, _, granule, _, _, _, segments = _OGG_PAGE_HEADER.unpack_from(self._buffer)
        if capture != b"OggS":
            raise MonitorError("the demo's Opus encoder wrote something that is not an Ogg page; try another ffmpeg")
        if len(self._buffer) < fixed + segments:
            return None
        size = fixed + segments + sum(self._buffer[fixed : fixed + segments])
        if len(self._buffer) < size:
            return None
        page, self._buffer = self._buffer[:size], self._buffer[size:]
        return page, granule


class Playout:
    """What is scheduled, as PCM in real time; silence before and after it."""

    def __init__(self) -> None:
        self._programme: Samples = np.zeros(0, dtype=np.float32)
        self._on_air_s = float("inf")
        self._repeat = False

    def schedule(self, samples: Samples, *, on_air_s: float, repeat: bool = False) -> None:
        """The first of the samples goes into the encoder at that Unix time; with `repeat` again and again."""
        self._programme, self._on_air_s, self._repeat = samples, on_air_s, repeat

    async def feed(self, encoder: asyncio.StreamWriter) -> None:
        """Write 16-bit PCM at `SAMPLE_RATE_HZ` until cancelled, or until the encoder is gone."""
        # The wall clock is read once: from then on the sample count is the clock, as on a transmitter.
        started_s, started_monotonic_s = time.time(), time.monotonic()
        fed = 0
        try:
            while True:
                block = self._block(started_s + fed / SAMPLE_RATE_HZ)
                fed += _BLOCK_SAMPLES
                await asyncio.sleep(started_monotonic_s + fed / SAMPLE_RATE_HZ - time.monotonic())
                encoder.write((np.clip(block, -1, 1) * 32767).astype("<i2").tobytes())
                await encoder.drain()
        except ConnectionError:
            return  # whoever collects what it encodes tells why

    def _block(self, start_s: float) -> Samples:
        block = np.zeros(_BLOCK_SAMPLES, dtype=np.float32)
        if not len(self._programme) or self._on_air_s > start_s + 1:
            return block
        offset = round((start_s - self._on_air_s) * SAMPLE_RATE_HZ) + np.arange(_BLOCK_SAMPLES)
        if self._repeat:
            offset = np.where(offset >= 0, offset % len(self._programme), offset)
        within = (offset >= 0) & (offset < len(self._programme))
        block[within] = self._programme[offset[within]]
        return block


class Station(Playout):
    """One mount: what is scheduled goes through an encoder in real time, silence before and after it."""

    def __init__(self, *, name: str, audio: Format, ffmpeg: FfmpegProgram) -> None:
        super().__init__()
        self.name = name
        self.format = audio
        self.path = f"/{name}.{audio.suffix}"
        self._ffmpeg = ffmpeg
        self._pages = OggPages() if audio.suffix == "opus" else None
        self._burst: deque[bytes] = deque()
        self._burst_bytes = 0
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._off_until_s = 0.0
        #: Set once there is sound to send, and with it the headers that every listener needs first.
        self.has_begun = asyncio.Event()

    @property
    def listeners(self) -> int:
        """How many clients are connected."""
        return len(self._listeners)

    @property
    def needs_headers(self) -> bool:
        """Whether a listener can decode nothing before it has the stream's headers."""
        return self._pages is not None

    @property
    def is_reachable(self) -> bool:
        """False while the mount is away after `drop_listeners`."""
        return time.monotonic() >= self._off_until_s

    def drop_listeners(self, away_s: float) -> None:
        """Every listener's connection ends and new ones are refused for so long; the broadcast goes on meanwhile."""
        self._off_until_s = time.monotonic() + away_s
        for queue in self._listeners:
            _close(queue)

    async def broadcast(self) -> None:
        """Feed the encoder in real time and pass on what it makes, until cancelled; the encoder is then gone."""
        process = await asyncio.create_subprocess_exec(
            self._ffmpeg.path,
            *PCM_INPUT,
            *self.format.encoding,
            "pipe:1",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin and process.stdout and process.stderr  # noqa: S101
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.feed(process.stdin), name=f"feed-{self.name}")
                tasks.create_task(self._collect(process.stdout, process.stderr), name=f"collect-{self.name}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            for queue in self._listeners:
                _close(queue)

    async def _collect(self, encoded: asyncio.StreamReader, errors: asyncio.StreamReader) -> None:
        while data := await encoded.read(4096):
            self._send(self._pages.push(data) if self._pages else data)
        last_words = (await errors.read()).decode(errors="replace").strip().splitlines()
        raise MonitorError(
            f"the encoder of {self.path} ended: {last_words[-1] if last_words else 'ffmpeg gives no reason'}"
        )

    def _send(self, data: bytes) -> None:
        if not data:
            return
        self.has_begun.set()
        self._burst.append(data)
        self._burst_bytes += len(data)
        while self._burst_bytes > BURST_BYTES:
            self._burst_bytes -= len(self._burst.popleft())
        for queue in self._listeners:
            if queue.qsize() >= _LISTENER_BLOCKS:
                _close(queue)
            else:
                queue.put_nowait(data)

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Queue[bytes | None]]:
        """A queue that gets the headers, the burst, then the live stream; None when the listener is dropped."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        queue.put_nowait((self._pages.headers if self._pages else b"") + b"".join(self._burst))
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)


def _close(queue: asyncio.Queue[bytes | None]) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


@contextlib.asynccontextmanager
async def on_air(stations: Sequence[Station]) -> AsyncIterator[str]:
    """The stations broadcast; yields the address of their server on loopback, such as http://127.0.0.1:43117."""
    by_path = {station.path: station for station in stations}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(by_path, reader, writer)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the listener went away, or never asked for anything
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=_REQUEST_LIMIT_BYTES)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.TaskGroup() as tasks:
            broadcasts = [tasks.create_task(station.broadcast(), name=station.name) for station in stations]
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                for broadcast in broadcasts:
                    broadcast.cancel()
    finally:
        server.close()
        for station in stations:
            station.drop_listeners(0)
        await server.wait_closed()


async def _answer(stations: dict[str, Station], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(_REQUEST_TIMEOUT_S):
        request = await reader.readuntil(b"\r\n\r\n")
    method, target = [*request.split(b"\r\n", 1)[0].decode("latin-1").split(" "), ""][:2]
    station = stations.get(target.partition("?")[0])
    if method != "GET" or station is None or not station.is_reachable:
        # While its source is away Icecast knows no such mount.
        writer.write(b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return
    head = (
        "HTTP/1.0 200 OK",
        f"Content-Type: {station.format.content_type}",
        f"icy-name: {station.name}",
        f"icy-br: {station.format.bitrate_kbps}",
        "icy-genre: demonstration",
        "icy-pub: 0",
        "Cache-Control: no-cache, no-store",
    )
    writer.write("\r\n".join((*head, "", "")).encode("latin-1"))
    if station.needs_headers:
        await station.has_begun.wait()
    with station.listening() as queue:
        while (data := await queue.get()) is not None:
            writer.write(data)
            await writer.drain()
