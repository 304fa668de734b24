"""What a station's faults make of a stream: the state and reason that it reaches, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from benchmarks.faults import behaviours
from benchmarks.faults.station import Request, Station, dumb, icecast, on_air
from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.audio.source import SourceOptions, open_source
from monitor.daemon.stream import Settings, Stream
from monitor.errors import StreamReason
from monitor.metrics import Metrics
from monitor.types import Gap, StreamState, StreamStatus
from tests.unit.daemon.test_pipeline import Model

OPTIONS = SourceOptions(connect_timeout_s=5.0, stall_timeout_s=1.5)
Status = tuple[StreamState, StreamReason | None]
BACKING_OFF, RECEIVING, SILENT = StreamState.BACKING_OFF, StreamState.RECEIVING, StreamState.SILENT


@pytest.fixture(scope="session")
def ffmpeg() -> FfmpegProgram:
    return find_ffmpeg()


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    async with on_air() as station:
        yield station


@pytest.fixture(scope="session")
def mp3(make, music) -> bytes:
    return make("live.mp3", "-i", str(music), "-c:a", "libmp3lame", "-b:a", "48k", "-ac", "1").read_bytes()


class Life:
    """A stream that is listened to; all that it has said."""

    def __init__(self, urls: Sequence[str], ffmpeg: FfmpegProgram, options: SourceOptions = OPTIONS) -> None:
        self.said: list[StreamStatus | Gap] = []
        self.covered: list[tuple[float, float]] = []
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.add_stream("radio")
        self.stream = Stream(
            settings=Settings(
                name="radio", addresses=urls, catalogs=("d",), paused=False, silence_after_s=1, silence_dbfs=-50
            ),
            open_source=lambda url, rate: open_source(url, sample_rate_hz=rate, ffmpeg=ffmpeg, options=options),
            models={"m": Model()},
            submit=lambda _, window: self.covered.append((window.start_s, window.start_s + Model.window_s)),
            unheard=lambda _: None,
            recorder=self,
            metrics=self.metrics,
            heard_until_s=None,
        )

    async def put(self, entry: StreamStatus | Gap) -> None:
        self.said.append(entry)

    @property
    def statuses(self) -> list[Status]:
        return [(entry.state, entry.reason) for entry in self.said if isinstance(entry, StreamStatus)]

    async def until(self, happened: Callable[[], bool], *, limit_s: float = 180.0) -> None:
        """Listens until it has happened, then stops."""
        task = asyncio.create_task(self.stream.run())
        try:
            async with asyncio.timeout(limit_s):
                while not happened() and not task.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never happened; it said {self.statuses}") from None
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def check(life: Life, state: StreamState, reasons: set[str | None], no_child_left) -> None:
    def reached() -> bool:
        return any(each is state and reason in reasons for each, reason in life.statuses)

    with no_child_left():
        await life.until(reached)
    assert (StreamState.BACKING_OFF, StreamReason.BUG) not in life.statuses


@pytest.mark.parametrize("answer", behaviours.ANSWERS)
async def test_what_servers_say_instead(station, ffmpeg, no_child_left, answer):
    behaviour, reason = behaviours.ANSWERS[answer]
    url = station.add(f"/{answer}", behaviour)
    await check(Life([url], ffmpeg), BACKING_OFF, {reason}, no_child_left)


def sound(make, name: str, *, of: str = "sine=440:d=20", options: tuple[str, ...] = ()) -> bytes:
    return make(name, "-f", "lavfi", "-i", of, *options).read_bytes()


def table(mp3: bytes, make) -> dict[str, tuple[behaviours.Behaviour, StreamState, set[str | None]]]:
    """Fault, the state that it must lead to, and the reasons that are right for it."""
    half = mp3[: 8 * behaviours.BYTES_PER_S]
    low = sound(make, "low.mp3", options=("-ar", "22050", "-ac", "1", "-b:a", "48k"))
    wide = sound(make, "wide.mp3", options=("-ar", "44100", "-ac", "2", "-b:a", "64k"))
    other = sound(make, "other.aac", options=("-ar", "48000", "-c:a", "aac"))
    still = sound(make, "still.mp3", of="anullsrc=d=20", options=("-b:a", "48k"))
    offset = sound(make, "offset.wav", of="aevalsrc=0.5:d=20:s=8000")
    clipped = sound(make, "clipped.mp3", of="aevalsrc=clip(9*sin(880*t)\\,-1\\,1):d=20", options=("-b:a", "48k"))
    return {
        "says nothing": (dumb, BACKING_OFF, {"timeout"}),
        "trickles from the start": (behaviours.trickle(mp3), BACKING_OFF, {"timeout"}),
        "trickles after audio": (behaviours.trickle(mp3, after_bytes=len(half)), StreamState.STALLED, {"stalled"}),
        "stalls": (icecast(mp3, bytes_per_s=6000, live_bytes=6000, then_stall=True), StreamState.STALLED, {"stalled"}),
        "cut within a frame": (behaviours.cut(mp3, len(half) + 77), BACKING_OFF, {"ended"}),
        "garbage": (behaviours.garbage(), BACKING_OFF, {"undecodable", "no_audio", "timeout"}),
        "garbage after audio": (behaviours.garbage(half), BACKING_OFF, {"stalled", "ended"}),
        "another rate": (behaviours.change(half, low), RECEIVING, {None}),
        "other channels": (behaviours.change(half, wide), RECEIVING, {None}),
        "another codec": (behaviours.change(half, other), BACKING_OFF, {"stalled", "ended"}),
        "expired segments": (behaviours.playlist("gone1.aac", "gone2.aac"), BACKING_OFF, {"not_found", "timeout"}),
        "silence": (behaviours.change(still), SILENT, {None}),
        "an offset": (behaviours.change(offset, kind="audio/wav"), SILENT, {None}),
        "clipping": (behaviours.change(clipped), RECEIVING, {None}),
    }


FAULTS = [
    "says nothing", "trickles from the start", "trickles after audio", "stalls", "cut within a frame", "garbage",
    "garbage after audio", "another rate", "other channels", "another codec", "expired segments", "silence",
    "an offset", "clipping",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_faults(station, ffmpeg, mp3, make, no_child_left, fault):
    rows = table(mp3, make)
    assert set(rows) == set(FAULTS)
    behaviour, state, reasons = rows[fault]
    path = "/x.m3u8" if fault == "expired segments" else "/x"
    await check(Life([station.add(path, behaviour)], ffmpeg), state, reasons, no_child_left)


async def test_bad_tls(identity, ffmpeg, mp3, no_child_left):
    async with on_air(tls=identity.context) as station:
        url = station.add("/x", icecast(mp3, bytes_per_s=6000))
        await check(Life([url], ffmpeg), BACKING_OFF, {"tls"}, no_child_left)
        trusted = SourceOptions(connect_timeout_s=5.0, ca_file=str(identity.certificate))
        await check(Life([url], ffmpeg, trusted), RECEIVING, {None}, no_child_left)


async def test_the_second_address_is_tried_when_the_first_fails(station, ffmpeg, mp3, no_child_left):
    urls = [station.url("/nothing"), station.add("/x", icecast(mp3, bytes_per_s=6000))]
    life = Life(urls, ffmpeg)
    await check(life, RECEIVING, {None}, no_child_left)
    assert life.statuses[:2] == [(StreamState.CONNECTING, None), (BACKING_OFF, StreamReason.NOT_FOUND)]


async def test_seconds_heard_and_not_heard_are_all_there_were(station, ffmpeg, mp3, no_child_left):
    """A station that drops again and again, without a burst that would make up for it."""
    live = icecast(mp3, bytes_per_s=6000, burst_bytes=6000, live_bytes=42000)

    async def drops(request: Request) -> None:
        if len(station.requests) > 1:
            await asyncio.sleep(4)  # longer than the burst, however soon the client comes again
        await live(request)

    life = Life([station.add("/x", drops)], ffmpeg, SourceOptions(connect_timeout_s=20.0, stall_timeout_s=10.0))
    with no_child_left():
        await life.until(lambda: life.statuses.count((BACKING_OFF, StreamReason.ENDED)) >= 2, limit_s=240)
    gaps = {entry.start_s: entry.end_s for entry in life.said if isinstance(entry, Gap)}
    spans = sorted([*life.covered, *gaps.items()])
    end_s, holes_s, overlap_s = spans[0][0], 0.0, 0.0
    for start_s, until_s in spans:
        holes_s += max(start_s - end_s, 0.0)
        end_s = max(end_s, until_s)
    for start_s, until_s in gaps.items():
        overlap_s += sum(max(min(until_s, b) - max(start_s, a), 0.0) for a, b in life.covered)
    assert gaps
    # The last samples of a connection fill no window.
    assert holes_s <= 0.6 * (len(gaps) + 1)
    assert overlap_s <= 0.2 * len(gaps)
    assert np.isclose(
        sum(until_s - start_s for start_s, until_s in gaps.items()),
        life.metrics.registry.get_sample_value(
            "monitor_stream_gap_seconds_total", {"stream": "radio", "reason": "ended"}
        ),
    )
