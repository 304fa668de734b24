"""The table of all that can happen to one stream, beside many others, in one daemon."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults import behaviours
from benchmarks.faults.deck import Deck
from benchmarks.faults.fault import Fault, Kind, Outcome
from benchmarks.faults.feeds import HLS_TYPE, Feed, Venue, playlist
from benchmarks.faults.mount import Trouble
from benchmarks.faults.rig import Account, Watch
from benchmarks.faults.signs import DOWN, Sign, backs_off, bears_it, falls, flaps, is_anchored_anew
from benchmarks.faults.sounds import BYTES_PER_S, PCM_BYTES_PER_S, Sounds
from benchmarks.faults.station import Behaviour, Request, content, dumb, greeting, redirect, status
from monitor.errors import StreamReason
from monitor.types import StreamState

R = StreamReason
#: Seconds heard and seconds told as missing are all that passed, but for so many that are under way.
_UNDER_WAY_S = 6.0
#: Seconds not heard of which some must have passed for the fault's own reason.
_MISSED_S = 4.0
#: So much of what is aired after a fault must have been recognised.
_AGAIN_S = 3.0

#: How long a flapping feed stays, and what it sends of the past, which ffmpeg wants before it gives any sound.
_FLAP_S = 4.0
_FLAP_BURST_S = 8.0
#: For what is known only by time.
_SOON = {"connect_timeout_s": 12}

Inject = Callable[[Feed], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class StreamFault(Fault):
    """A fault of one stream."""

    venue: Venue = Venue.MP3
    inject: Inject
    sign: Sign
    #: Further keys of the stream in the configuration.
    settings: Mapping[str, Any] = field(default_factory=dict)


async def suffer(fault: StreamFault, feed: Feed, watch: Watch) -> Outcome:
    """Inject the fault into a feed that is heard, wait for its sign, end it; what is aired afterwards must be found."""
    name, sign = fault.name, fault.sign
    await watch.until(lambda: watch.account(name).heard_s, fault.notice_s)
    await watch.looked_again()
    before = watch.account(name)
    injected_s = time.time()
    async with fault.inject(feed):
        noticed_s = await watch.until(lambda: sign.seen(watch, name, injected_s), fault.notice_s)
    healed_s = time.time()
    if noticed_s is None:
        told = [f"{one.state}: {one.reason}" for one in watch.states[name] if one.since_s >= injected_s]
        problem = f"{name}: never {sign.text}, but {told}"
        return Outcome(fault=fault, expected=sign.text, problems=(problem,))

    def well_since_s() -> float | None:
        now = watch.state(name)
        return now.since_s if now is not None and now.state is StreamState.RECEIVING else None

    well_s = await watch.until(well_since_s, fault.recover_s)
    feed.deck.air()
    aired_s = time.time()
    found = await watch.until(lambda: any(row.end_s > aired_s + _AGAIN_S for row in watch.found[name]), fault.recover_s)
    problems = _problems(fault, watch, injected_s, before)
    if well_s is None:
        problems.append(f"{name}: not well again within {fault.recover_s:.0f} s: {watch.state(name)}")
    return Outcome(
        fault=fault,
        expected=sign.text,
        noticed_s=noticed_s - injected_s,
        recovered_s=None if well_s is None else max(well_s - healed_s, 0.0),
        lost=0 if found else 1,
        problems=tuple(problems),
    )


def _problems(fault: StreamFault, watch: Watch, injected_s: float, before: Account) -> list[str]:
    name, reasons, after = fault.name, fault.sign.reasons, watch.account(fault.name)
    passed_s, heard_s = after.at_s - before.at_s, after.heard_s - before.heard_s
    missed_s = after.missed_s - before.missed_s
    problems = []
    if abs(passed_s - heard_s - missed_s) > _UNDER_WAY_S:
        problems.append(f"{name}: of {passed_s:.1f} s {heard_s:.1f} were heard, and {missed_s:.1f} are told as missing")
    if not reasons:
        fell = [status for status in watch.states[name] if status.state in DOWN and status.since_s >= injected_s]
        if fell:
            problems.append(f"{name}: went down, which it should have borne: {fell[0].reason}")
        return problems
    if not any(line.get("reason") in reasons for line in watch.said("stream_failed", stream=name)):
        problems.append(f"{name}: the log does not say {' or '.join(reasons)}")
    told = {gap.reason for gap in watch.gaps[name] if gap.end_s >= injected_s}
    if missed_s > _MISSED_S and not told & reasons:
        problems.append(f"{name}: {missed_s:.1f} s not heard, and the gaps say {sorted(told)}")
    return problems


def troubled(answer: Behaviour | None = None, line: Behaviour | None = None) -> Inject:
    """The feed's own path answers so, and goes on so."""
    return lambda feed: feed.suffering(Trouble(answer=answer, line=line))


def signalled(number: signal.Signals) -> Inject:
    """ffmpeg gets the signal."""
    return lambda feed: feed.signalled(number)


def _presenting(which: str) -> Inject:
    return lambda feed: feed.presenting(getattr(feed.certificates, which))


async def _reset(request: Request) -> None:
    """The connection is reset, and not ended."""
    request.writer.transport.abort()


async def _silence(request: Request) -> None:
    await request.silence()


async def _plain(request: Request) -> None:
    """Ends at once, whatever was asked."""


def _html(text: str) -> Behaviour:
    return content(f"<html><body>{text}</body></html>".encode(), "text/html")


def _trickling(audio: bytes) -> Behaviour:
    async def behave(request: Request) -> None:
        for position in range(len(audio)):
            request.writer.write(audio[position : position + 1])
            await request.writer.drain()
            await asyncio.sleep(1.0)

    return behave


async def _noise(request: Request) -> None:
    """All bytes, by chance, as fast as the audio was."""
    await behaviours.noise(request, seed=1)


async def _endless_head(request: Request) -> None:
    request.writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await request.writer.drain()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _flapping(feed: Feed) -> Any:
    """Its listeners are sent a burst, and are dropped soon after, again and again."""
    assert isinstance(feed.deck, Deck)
    line = feed.deck.line(burst_s=_FLAP_BURST_S)

    async def brief(request: Request) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLAP_S):
                await line(request)

    async with feed.suffering(Trouble(answer=greeting("audio/mpeg", brief))):
        yield


@contextlib.asynccontextmanager
async def _lossy(feed: Feed) -> Any:
    """Something is aired through a network that loses a tenth of all packets."""
    async with feed.wire.losing(10):
        feed.deck.air()
        yield


@contextlib.asynccontextmanager
async def _closed(feed: Feed) -> Any:
    """Nobody listens on its port."""
    async with feed.station.closed():
        feed.mount.hang_up()
        yield


def _row(kind: Kind, name: str, what: str, inject: Inject, sign: Sign, **others: Any) -> StreamFault:
    return StreamFault(name=name, kind=kind, what=what, inject=inject, sign=sign, **others)


def stream_faults(sounds: Sounds) -> tuple[StreamFault, ...]:
    """All of them."""

    def line(audio: bytes) -> Behaviour:
        return Deck(audio, bytes_per_s=BYTES_PER_S).line()

    def pcm(audio: bytes, pace: float = 1.0) -> Inject:
        return troubled(None, Deck(audio, bytes_per_s=PCM_BYTES_PER_S).line(pace=pace))

    silence, constant = bytes(PCM_BYTES_PER_S), b"\0\x40" * (PCM_BYTES_PER_S // 2)

    ended, stalled = backs_off(R.ENDED), falls(StreamState.STALLED, R.STALLED)
    return (
        _row(Kind.STREAM, "mute", "accepts, and says nothing", troubled(dumb), backs_off(R.TIMEOUT), settings=_SOON),
        _row(Kind.STREAM, "stall", "no more bytes, the connection stays open", troubled(dumb, _silence), stalled),
        _row(
            Kind.STREAM,
            "trickle",
            "a byte a second from the start",
            troubled(behaviours.trickle(sounds.airing.mp3)),
            backs_off(R.TIMEOUT),
            settings=_SOON,
        ),
        _row(
            Kind.STREAM,
            "trickle-later",
            "a byte a second, after good audio",
            troubled(dumb, _trickling(sounds.airing.mp3)),
            stalled,
        ),
        _row(Kind.STREAM, "cut", "cut within a frame, then away", troubled(status("404 Not Found")), ended),
        _row(Kind.STREAM, "reset", "the connection is reset", troubled(_reset, _reset), backs_off(R.ENDED)),
        _row(Kind.STREAM, "drop", "ends, and is there again at once", troubled(None, None), ended),
        _row(
            Kind.STREAM,
            "flapping",
            "dropped 4 s after each connection",
            _flapping,
            flaps(),
            settings={"flapping_failures": 3},
        ),
        _row(
            Kind.STREAM,
            "garbage",
            "noise in place of audio",
            troubled(behaviours.garbage()),
            backs_off(R.UNDECODABLE, R.NO_AUDIO, R.TIMEOUT),
            settings=_SOON,
        ),
        _row(
            Kind.STREAM,
            "garbage-later",
            "noise after good audio",
            troubled(dumb, _noise),
            falls(StreamState.BACKING_OFF, R.STALLED, R.ENDED),
        ),
        _row(Kind.STREAM, "401", "Unauthorized", troubled(status("401 Unauthorized")), backs_off(R.AUTH)),
        _row(Kind.STREAM, "403", "Forbidden", troubled(status("403 Forbidden")), backs_off(R.AUTH)),
        _row(Kind.STREAM, "404", "Not Found", troubled(status("404 Not Found")), backs_off(R.NOT_FOUND)),
        _row(
            Kind.STREAM, "429", "Too Many Requests", troubled(status("429 Too Many Requests")), backs_off(R.HTTP_ERROR)
        ),
        _row(
            Kind.STREAM,
            "500",
            "Internal Server Error",
            troubled(status("500 Internal Server Error")),
            backs_off(R.HTTP_ERROR),
        ),
        _row(
            Kind.STREAM,
            "redirects",
            "redirects to itself",
            troubled(redirect("/redirects/live")),
            backs_off(R.REDIRECT_LOOP),
        ),
        _row(
            Kind.STREAM,
            "to-a-file",
            "redirects to a file of this machine",
            troubled(redirect("file:///etc/passwd")),
            backs_off(R.PROTOCOL_DENIED, R.ADDRESS_DENIED),
        ),
        _row(
            Kind.STREAM,
            "empty",
            "200, and no byte",
            troubled(content(b"", "audio/mpeg")),
            backs_off(R.NO_AUDIO, R.UNDECODABLE),
        ),
        _row(
            Kind.STREAM,
            "captive",
            "200, and a page of HTML",
            troubled(_html("Sign in to the guests' network")),
            backs_off(R.NO_AUDIO, R.UNDECODABLE),
        ),
        _row(
            Kind.STREAM,
            "no-http",
            "hangs up without an answer",
            troubled(_plain),
            backs_off(R.NO_AUDIO, R.UNDECODABLE, R.UNREACHABLE, R.HTTP_ERROR),
        ),
        _row(
            Kind.STREAM,
            "endless-head",
            "HTTP headers without end",
            troubled(_endless_head),
            backs_off(R.NO_AUDIO, R.UNDECODABLE, R.TIMEOUT, R.HTTP_ERROR),
            settings=_SOON,
        ),
        _row(Kind.STREAM, "refused", "nobody on the port", _closed, backs_off(R.REFUSED), venue=Venue.PORT),
        _row(
            Kind.STREAM,
            "codec",
            "AAC after MP3 on one line",
            troubled(dumb, line(sounds.aac)),
            falls(StreamState.BACKING_OFF, R.STALLED, R.ENDED),
        ),
        _row(Kind.STREAM, "rate", "another sample rate on one line", troubled(None, line(sounds.low_mp3)), bears_it()),
        _row(
            Kind.STREAM,
            "channels",
            "another number of channels on one line",
            troubled(None, line(sounds.stereo_mp3)),
            bears_it(),
        ),
        _row(
            Kind.TLS,
            "unknown-authority",
            "a certificate that nobody vouches for",
            _presenting("unknown"),
            backs_off(R.TLS),
            venue=Venue.TLS,
        ),
        _row(
            Kind.TLS,
            "expired-certificate",
            "a certificate of last month",
            _presenting("expired"),
            backs_off(R.TLS),
            venue=Venue.TLS,
        ),
        _row(
            Kind.TLS,
            "other-host",
            "a certificate of another host",
            _presenting("elsewhere"),
            backs_off(R.TLS),
            venue=Venue.TLS,
        ),
        _row(
            Kind.HLS,
            "expired-segments",
            "segments that are gone",
            _gone,
            falls(StreamState.BACKING_OFF, R.NOT_FOUND, R.STALLED, R.TIMEOUT, R.ENDED),
            venue=Venue.HLS,
        ),
        _row(
            Kind.HLS,
            "stale-playlist",
            "a playlist that does not grow",
            _stale,
            falls(StreamState.STALLED, R.STALLED),
            venue=Venue.HLS,
        ),
        _row(
            Kind.HLS,
            "lost-playlist",
            "the playlist is not found",
            troubled(status("404 Not Found")),
            falls(StreamState.BACKING_OFF, R.NOT_FOUND, R.STALLED, R.ENDED),
            venue=Venue.HLS,
        ),
        _row(
            Kind.SOUND,
            "silence",
            "digital silence",
            pcm(silence),
            falls(StreamState.SILENT),
            venue=Venue.PCM,
        ),
        _row(
            Kind.SOUND,
            "offset",
            "a constant in place of sound",
            pcm(constant),
            falls(StreamState.SILENT),
            venue=Venue.PCM,
        ),
        _row(
            Kind.SOUND,
            "clipping",
            "22 dB too loud, clipped",
            pcm(sounds.loud_pcm),
            bears_it(),
            venue=Venue.PCM,
        ),
        _row(
            Kind.SOUND,
            "slow-clock",
            "a source whose clock is slow by an eighth",
            pcm(sounds.bed.pcm, 0.875),
            is_anchored_anew(),
            venue=Venue.PCM,
        ),
        _row(
            Kind.SOUND,
            "fast-clock",
            "a source whose clock is fast by a fourth",
            pcm(sounds.bed.pcm, 1.25),
            is_anchored_anew(),
            venue=Venue.PCM,
        ),
        _row(
            Kind.NETWORK,
            "loss",
            "a tenth of all packets lost",
            _lossy,
            bears_it(),
            venue=Venue.WIRE,
        ),
        _row(
            Kind.NETWORK,
            "black-hole",
            "every packet lost",
            lambda feed: feed.wire.losing(100),
            stalled,
            venue=Venue.WIRE,
        ),
        _row(
            Kind.NETWORK, "unplugged", "the link is down", lambda feed: feed.wire.unplugged(), stalled, venue=Venue.WIRE
        ),
        _row(
            Kind.NETWORK,
            "firewall",
            "every connection is reset on the way",
            lambda feed: feed.wire.resetting(),
            backs_off(R.REFUSED),
            venue=Venue.WIRE,
        ),
        _row(Kind.FFMPEG, "ffmpeg-SIGKILL", "its ffmpeg killed", signalled(signal.SIGKILL), ended),
        _row(Kind.FFMPEG, "ffmpeg-SIGTERM", "its ffmpeg told to end", signalled(signal.SIGTERM), ended),
        _row(Kind.FFMPEG, "ffmpeg-SIGSTOP", "its ffmpeg stopped for ever", signalled(signal.SIGSTOP), stalled),
    )


@contextlib.asynccontextmanager
async def _gone(feed: Feed) -> Any:
    """The playlist goes on, and names what is not there any more."""
    number = 1_000_000

    async def behave(request: Request) -> None:
        nonlocal number
        number += 1
        names = [f"gone-{each}.ts" for each in range(number, number + 3)]
        await content(playlist(number, names), HLS_TYPE)(request)

    async with feed.suffering(Trouble(answer=behave)):
        yield


@contextlib.asynccontextmanager
async def _stale(feed: Feed) -> Any:
    """The playlist names the same segments for ever."""
    body = playlist(0, ["bed-0.ts", "bed-1.ts", "bed-2.ts"])
    async with feed.suffering(Trouble(answer=content(body, HLS_TYPE))):
        yield
