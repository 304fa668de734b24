"""One stream for ever: connect, listen, notice when it fails, back off, come back, and say all of it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from monitor.audio.resample import Decimator
from monitor.audio.window import Windower, level_dbfs
from monitor.daemon import states
from monitor.daemon.recorder import Heard, Recorder
from monitor.daemon.stability import Stability, Tolerance
from monitor.embed import Embedder
from monitor.errors import SourceError, StreamReason
from monitor.metrics import Metrics
from monitor.types import Chunk, Gap, StreamAlarm, StreamState, StreamStatus, Window

log = logging.getLogger(__name__)

_FIRST_BACK_OFF_S = 1.0
_LONGEST_BACK_OFF_S = 60.0
#: So much good audio and earlier failures are forgiven.
_FORGIVE_S = 60.0
#: Doublings after which the wait is the longest, whatever the first one.
_DOUBLINGS = 16
#: How often the log is told how far a stream was heard, or how long it has not been.
_HEARD_EVERY_S = 5.0
_GAP_EVERY_S = 10.0
#: Servers send past audio on connect: what lies no further back may yet be heard, and is no gap before that is known.
_BURST_S = 30.0
#: A jump of the stream's axis up to this is no gap: reconnects overlap or abut within it.
_ABUTS_S = 0.1
#: Audio that is connected comes sooner than this: at the end, what is missing was not heard.
_LATE_S = 5.0
#: The clock leapt if it and the machine's steady one disagree by more than this since the source was anchored.
_LEAP_S = 2.0


class Source(Protocol):
    """What can be listened to; see `monitor.audio.source`."""

    @property
    def last_words(self) -> tuple[str, ...]: ...  # noqa: D102

    def listen(self) -> AsyncGenerator[Chunk, None]:
        """Yield chunks until the source gives up with SourceError."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the configuration says of one stream."""

    name: str
    #: Masked addresses beside the way to open each.
    addresses: Sequence[str] = field(repr=False)
    catalogs: tuple[str, ...]
    paused: bool
    silence_after_s: float
    silence_dbfs: float
    tolerance: Tolerance = field(default_factory=Tolerance)


class Stream:
    """The life of one stream, as one task. Owns its back-off, its windows, its gaps and its state."""

    def __init__(
        self,
        *,
        settings: Settings,
        open_source: Callable[[str, int], Source],
        models: Mapping[str, Embedder],
        submit: Callable[[str, Window], None],
        unheard: Callable[[float], None],
        recorder: Recorder,
        metrics: Metrics,
        heard_until_s: float | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._open_source, self._submit, self._unheard = open_source, submit, unheard
        self._recorder, self._metrics, self._now = recorder, metrics, now
        self._sample_rate_hz = max(embedder.sample_rate_hz for embedder in models.values())
        self._cutters = {
            name: _Cutter(settings.name, embedder, self._sample_rate_hz) for name, embedder in models.items()
        }
        self._heard_until_s = heard_until_s
        self._began_s = now()
        self._told_heard_s = self._told_gap_s = -float("inf")
        #: Why the stream is not heard: since when (Unix seconds) for which reason, since it was heard last.
        self._reasons: list[tuple[float, StreamReason]] = []
        if heard_until_s is not None:
            self._reasons.append((-math.inf, StreamReason.SHUTDOWN))
        self._attempt_s = self._began_s
        self._gap_counted_until_s: float | None = None
        #: Failures since the last minute of good audio, and seconds of audio since the last failure.
        self._failures = 0
        self._good_s = 0.0
        #: By how much the clock was ahead of the steady one when the source was anchored to it; None before its sound.
        self._anchored_s: float | None = None
        self._quiet_since_s: float | None = None
        self.status = StreamStatus(
            stream=settings.name,
            state=StreamState.PAUSED if settings.paused else StreamState.CONNECTING,
            reason=None,
            detail="",
            since_s=now(),
        )
        self._said = False
        self._stability = Stability(settings.tolerance, began_s=time.monotonic())
        self._alarm_due: asyncio.TimerHandle | None = None
        #: What somebody should know, and since when (Unix seconds).
        self.alarm: StreamAlarm | None = None
        self.alarm_since_s: float | None = None
        #: ffmpeg's last words of the latest failure.
        self.last_words: tuple[str, ...] = ()
        self.level_dbfs = -float("inf")

    @property
    def heard_until_s(self) -> float | None:
        """Stream time up to which the stream was heard; None if it never was."""
        return self._heard_until_s

    async def run(self) -> None:
        """Listen for ever; ends only by being cancelled, with everything said and no ffmpeg left."""
        try:
            if self.settings.paused:
                await self._turn(StreamState.PAUSED)
                while True:  # what a crash left open ends all the same
                    self._unheard(self._now())
                    await asyncio.sleep(_GAP_EVERY_S)
            for address in itertools.cycle(self.settings.addresses):
                error = await self._listen(address)
                await self._fail(error)
        except asyncio.CancelledError:
            if self.status.state in {StreamState.RECEIVING, StreamState.SILENT}:
                if self._heard_until_s is not None and self._now() - self._heard_until_s > _LATE_S:
                    # A stall that nobody had time to notice.
                    self._reasons = [(-math.inf, StreamReason.STALLED)]
                    await self._close_gap(self._now())
            elif self.status.state is not StreamState.PAUSED:
                await self._close_gap(self._now())
            await self._turn(StreamState.STOPPED, reason=StreamReason.SHUTDOWN)
            await self._say_heard()
            raise
        finally:
            if self._alarm_due is not None:
                self._alarm_due.cancel()

    async def _listen(self, address: str) -> SourceError:
        """Listen at one address until it fails; the failure. The one broad `except` of the daemon stands here."""
        self._attempt_s = self._now()
        await self._turn(StreamState.CONNECTING, detail=self.status.detail, reason=self.status.reason)
        try:
            source = self._open_source(address, self._sample_rate_hz)
            async with aclosing(source.listen()) as chunks:
                async for chunk in chunks:
                    await self._hear(chunk)
            return SourceError(StreamReason.ENDED, f"{self.settings.name}: the source ended")
        except SourceError as error:
            return error
        except Exception as error:
            log.exception("stream %s failed", self.settings.name, extra={"action": "stream_bug", **self._who()})
            return SourceError(StreamReason.BUG, f"{type(error).__name__}: {error}; please report this with the log")

    async def _hear(self, chunk: Chunk) -> None:
        name, length_s = self.settings.name, len(chunk.samples) / chunk.sample_rate_hz
        end_s = chunk.start_s + length_s
        if chunk.discontinuity:
            clock_s = self._now() - time.monotonic()
            if self._anchored_s is not None:  # anew while connected: audio was late or lost, or the clock leapt
                leapt = abs(clock_s - self._anchored_s) > _LEAP_S
                self._metrics.stream_reanchored.labels(name).inc()
                self._reasons = [(-math.inf, StreamReason.CLOCK if leapt else StreamReason.STALLED)]
            self._anchored_s = clock_s
            await self._close_gap(chunk.start_s)
        self._good_s += length_s
        if self._good_s >= _FORGIVE_S:
            self._failures = 0
        self._stability.heard(time.monotonic())
        self._metrics.stream_blips.labels(name).inc(self._stability.take_blips())
        self._judge_alarm()
        self._metrics.stream_audio_seconds.labels(name).inc(length_s)
        self.level_dbfs = level_dbfs(chunk.samples - chunk.samples.mean())  # an offset is not sound
        await self._judge_level(chunk.start_s, end_s)
        for model, cutter in self._cutters.items():
            windows = cutter.push(chunk)
            self._metrics.windows.labels(name).inc(len(windows))
            for window in windows:
                self._submit(model, window)
        heard_until_s = chunk.start_s if self._heard_until_s is None else self._heard_until_s
        self._metrics.stream_covered_seconds.labels(name).inc(max(end_s - max(chunk.start_s, heard_until_s), 0.0))
        self._heard_until_s = max(heard_until_s, end_s)
        if end_s - self._told_heard_s >= _HEARD_EVERY_S:
            await self._say_heard()

    async def _judge_level(self, start_s: float, end_s: float) -> None:
        if self.level_dbfs >= self.settings.silence_dbfs:
            self._quiet_since_s = None
            if self.status.state is not StreamState.RECEIVING:
                self.last_words = ()
                await self._turn(StreamState.RECEIVING)
            return
        if self._quiet_since_s is None:
            self._quiet_since_s = start_s
        if end_s - self._quiet_since_s >= self.settings.silence_after_s:
            await self._turn(StreamState.SILENT)
        elif self.status.state not in {StreamState.RECEIVING, StreamState.SILENT}:
            await self._turn(StreamState.RECEIVING)

    async def _fail(self, error: SourceError) -> None:
        """Say why the stream is not heard, and wait: full jitter, from 1 s doubling to 60 s with each round."""
        name = self.settings.name
        self.last_words = error.last_words
        if self._anchored_s is not None:
            self._reasons.clear()
        if not self._reasons or self._reasons[-1][1] != error.reason:
            self._reasons.append((self._attempt_s if self._reasons else -math.inf, error.reason))
        self._good_s, self._quiet_since_s, self._anchored_s = 0.0, None, None
        self._metrics.stream_restarts.labels(name, error.reason).inc()
        for cutter in self._cutters.values():
            cutter.reset()
        await self._say_heard()
        if self.status.state in {StreamState.RECEIVING, StreamState.SILENT} and error.reason is StreamReason.STALLED:
            await self._turn(StreamState.STALLED, reason=error.reason, detail=str(error))
        log.info("%s: %s", name, error, extra={"action": "stream_failed", "reason": error.reason, **self._who()})
        if self._failures == 0:
            for line in error.last_words:
                log.info("%s: ffmpeg: %s", name, line, extra={"action": "ffmpeg_words", **self._who()})
        rounds = min(self._failures // len(self.settings.addresses), _DOUBLINGS)
        most_s = min(_FIRST_BACK_OFF_S * 2**rounds, _LONGEST_BACK_OFF_S)
        self._failures += 1
        await self._turn(StreamState.BACKING_OFF, reason=error.reason, detail=str(error))
        self._stability.failed(time.monotonic())
        self._judge_alarm()
        # Full jitter (Brooker, "Exponential Backoff and Jitter", 2015), but never a busy loop.
        await self._wait(max(random.uniform(0, most_s), 0.2))  # noqa: S311

    def _judge_alarm(self) -> None:
        """Say what alarm holds now, once per change, and look again when it may change by itself."""
        now_s, name = time.monotonic(), self.settings.name
        alarm, before = self._stability.alarm(now_s), self.alarm
        if alarm is not before:
            self.alarm, self.alarm_since_s = alarm, None if alarm is None else self._now()
            for each in StreamAlarm:
                self._metrics.stream_alarm.labels(name, each).set(each is alarm)
            if alarm is None:
                log.info("%s is well again", name, extra={"action": "stream_alarm_over", **self._who()})
            else:
                words = {"action": "stream_alarm", "alarm": alarm, "reason": self.status.reason, **self._who()}
                log.warning("%s is %s: %s", name, alarm, self.status.detail, extra=words)
        if alarm is before and self._alarm_due is not None and not self._alarm_due.cancelled():
            return
        if self._alarm_due is not None:
            self._alarm_due.cancel()
            self._alarm_due = None
        if (due_s := self._stability.due_s(now_s)) is not None:
            self._alarm_due = asyncio.get_running_loop().call_later(max(due_s - now_s, 0) + 0.01, self._look_again)

    def _look_again(self) -> None:
        self._alarm_due = None
        self._judge_alarm()

    async def _wait(self, wait_s: float) -> None:
        """Wait, and keep the log told of the growing gap."""
        until_s = asyncio.get_running_loop().time() + wait_s
        while (left_s := until_s - asyncio.get_running_loop().time()) > 0:
            await self._grow_gap(self._now())
            await asyncio.sleep(min(left_s, _GAP_EVERY_S))

    async def _grow_gap(self, until_s: float) -> None:
        """The gap goes on until `until_s`."""
        start_s = self._unheard_since_s()
        if start_s is None or until_s <= start_s + _ABUTS_S:
            return
        self._unheard(until_s)
        if until_s - _BURST_S > start_s and until_s - self._told_gap_s >= _GAP_EVERY_S:
            self._told_gap_s = until_s
            await self._record_gap(start_s, until_s - _BURST_S)

    async def _close_gap(self, start_s: float) -> None:
        """Audio begins at `start_s`: what lies between it and the last audio was not heard."""
        since_s = self._unheard_since_s()
        if since_s is not None and start_s - since_s > _ABUTS_S:
            await self._record_gap(since_s, start_s)
        self._gap_counted_until_s = None
        self._told_gap_s = -float("inf")

    def _unheard_since_s(self) -> float | None:
        """End of the last audio; of a stream that never was heard, when listening began, once that has failed."""
        if self._heard_until_s is None and self._failures:
            return self._began_s
        return self._heard_until_s

    async def _record_gap(self, start_s: float, end_s: float) -> None:
        """Not heard: a span for each reason, which holds from the attempt that failed for it until the next."""
        ends_s = [since_s for since_s, _ in self._reasons[1:]] + [math.inf]
        for (since_s, reason), until_s in zip(tuple(self._reasons), ends_s, strict=True):
            await self._record_span(max(start_s, since_s), min(end_s, until_s), reason)
        while len(self._reasons) > 1 and self._reasons[1][0] <= end_s:  # told, and what comes is later
            del self._reasons[0]

    async def _record_span(self, start_s: float, end_s: float, reason: StreamReason) -> None:
        if end_s <= start_s:
            return
        counted_s = max(self._gap_counted_until_s or start_s, start_s)
        self._metrics.stream_gap_seconds.labels(self.settings.name, reason).inc(max(end_s - counted_s, 0.0))
        self._gap_counted_until_s = max(end_s, counted_s)
        await self._recorder.put(Gap(stream=self.settings.name, start_s=start_s, end_s=end_s, reason=reason))

    async def _say_heard(self) -> None:
        if self._heard_until_s is not None and self._heard_until_s > self._told_heard_s:
            self._told_heard_s = self._heard_until_s
            await self._recorder.put(Heard(stream=self.settings.name, until_s=self._heard_until_s))

    async def _turn(self, state: StreamState, *, reason: StreamReason | str | None = None, detail: str = "") -> None:
        """The stream is in `state` now; said once per change."""
        before = self.status
        if self._said and before.state is state and before.reason == reason:
            return
        first, self._said = not self._said, True
        if first or state is not before.state:
            states.check(None if first else before.state, state)
            self._metrics.stream_state_changes.labels(self.settings.name, state).inc()
        self.status = StreamStatus(
            stream=self.settings.name, state=state, reason=reason, detail=detail, since_s=self._now()
        )
        self._metrics.set_stream_state(self.settings.name, state)
        if first or state is not before.state:
            words = {"action": "stream_state", "state": state, **self._who()}
            log.info("%s is %s", self.settings.name, state, extra=words)
        await self._recorder.put(self.status)

    def _who(self) -> dict[str, str]:
        return {"stream": self.settings.name}


class _Cutter:
    """Chunks at the stream's rate become windows of one embedder."""

    def __init__(self, stream: str, embedder: Embedder, sample_rate_hz: int) -> None:
        self._factor = sample_rate_hz // embedder.sample_rate_hz
        self._stream, self._embedder = stream, embedder
        self.reset()

    def reset(self) -> None:
        """Forget half windows: what follows does not continue them."""
        self._decimator = Decimator(self._factor) if self._factor > 1 else None
        self._windower = Windower(
            stream=self._stream,
            sample_rate_hz=self._embedder.sample_rate_hz,
            window_samples=self._embedder.window_samples,
            hop_samples=self._embedder.hop_samples,
        )

    def push(self, chunk: Chunk) -> list[Window]:
        """The windows that this chunk completes."""
        if chunk.discontinuity:
            self.reset()
        if self._decimator is None:
            return self._windower.push(chunk)
        return self._windower.push(
            Chunk(
                start_s=chunk.start_s,
                samples=self._decimator.push(chunk.samples),
                sample_rate_hz=self._embedder.sample_rate_hz,
                discontinuity=chunk.discontinuity,
            )
        )
