"""Everything that is to be written, in order, by one task: events block their producer rather than be lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from monitor.daemon.heartbeat import Heartbeat
from monitor.errors import StaleEpochError, UnreachableError
from monitor.metrics import Metrics
from monitor.record.store import Store, Subscriber
from monitor.types import Gap, MatchEvent, MatchState, StreamStatus

log = logging.getLogger(__name__)

_STAGE = "record"
_CAPACITY = 4096
_MOST_AT_ONCE = 256
_LONGEST_WAIT_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """A stream has been heard until then."""

    stream: str
    until_s: float


Entry = MatchEvent | StreamStatus | Gap | Heard


class Recorder:
    """Writes what the streams and aligners say, each stream's in order, and waits while PostgreSQL is away."""

    def __init__(
        self,
        *,
        store: Store,
        metrics: Metrics,
        subscribers: Callable[[], Iterable[Subscriber]],
        on_recorded: Callable[[list[MatchEvent]], None],
        on_stale: Callable[[str], None],
        now: Callable[[], float] = time.time,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._store, self._metrics, self._subscribers = store, metrics, subscribers
        self._heartbeat = heartbeat or Heartbeat()
        self._on_recorded, self._on_stale, self._now = on_recorded, on_stale, now
        self._queue: asyncio.Queue[Entry | None] = asyncio.Queue(_CAPACITY)
        #: Under which epoch each stream's facts are written.
        self.epochs: dict[str, int] = {}
        #: What PostgreSQL said last, while it is away.
        self.trouble: str | None = None
        metrics.queue_capacity.labels("events").set(_CAPACITY)
        metrics.queue_length.labels("events").set_function(self._queue.qsize)

    async def put(self, entry: Entry) -> None:
        """The entry will be written; waits while the queue is full."""
        await self._queue.put(entry)

    async def settle(self, timeout_s: float = 5.0) -> bool:
        """Wait until all that was put is written, at most `timeout_s`; True if so."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._queue.join()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Nothing more will be put: `run` returns when all is written."""
        await self._queue.put(None)

    async def run(self) -> None:
        """Write until closed."""
        closed = False
        while not closed:
            with self._heartbeat.resting(_STAGE):
                entries = [await self._queue.get()]
            while len(entries) < _MOST_AT_ONCE and not self._queue.empty():
                entries.append(self._queue.get_nowait())
            closed = None in entries
            await self._write([entry for entry in entries if entry is not None])
            for _ in entries:
                self._queue.task_done()
        self._heartbeat.end(_STAGE)

    async def _write(self, entries: list[Entry]) -> None:
        """Each stream's matches in one transaction, then the rest: the order within each kind is kept."""
        events = [entry for entry in entries if isinstance(entry, MatchEvent)]
        for stream in dict.fromkeys(event.match.stream for event in events):
            await self._patiently(stream, self._matches([event for event in events if event.match.stream == stream]))
        for entry in entries:
            if not isinstance(entry, MatchEvent):
                await self._patiently(entry.stream, self._fact(entry))

    def _matches(self, events: list[MatchEvent]) -> Callable[[int], Awaitable[None]]:
        async def write(epoch: int) -> None:
            epochs = {event.match.stream: epoch for event in events}
            fresh = await self._store.record_events(events, epochs=epochs, webhooks=self._subscribers())
            for event in fresh:
                self._count(event)
            if fresh:
                self._on_recorded(fresh)

        return write

    def _fact(self, entry: StreamStatus | Gap | Heard) -> Callable[[int], Awaitable[None]]:
        async def write(epoch: int) -> None:
            match entry:
                case StreamStatus():
                    await self._store.record_status(entry, epoch=epoch)
                case Gap():
                    await self._store.record_gap(entry, epoch=epoch)
                case Heard():
                    await self._store.record_heard(entry.stream, entry.until_s, epoch=epoch)

        return write

    async def _patiently(self, stream: str, write: Callable[[int], Awaitable[None]]) -> None:
        """Write until it is written; a write that another listener's epoch refuses is dropped with its stream."""
        wait_s = 0.25
        while (epoch := self.epochs.get(stream)) is not None:
            self._heartbeat.turn(_STAGE)
            try:
                with self._metrics.store_duration.time():
                    await write(epoch)
            except StaleEpochError as error:
                self._metrics.store_failures.labels(error.reason).inc()
                log.error("%s", error, extra={"action": "stream_taken_over", "stream": stream})
                del self.epochs[stream]
                self._on_stale(stream)
            except UnreachableError as error:
                self._metrics.store_failures.labels(error.reason).inc()
                if self.trouble is None:
                    log.warning("events wait: %s", error, extra={"action": "events_wait"})
                self.trouble = str(error)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            else:
                if self.trouble is not None:
                    log.info("events are written again", extra={"action": "events_written"})
                self.trouble = None
                return

    def _count(self, event: MatchEvent) -> None:
        stream, state = event.match.stream, event.match.state
        self._metrics.hits.labels(stream).inc(len(event.hits))
        if not event.changed:
            return
        self._metrics.matches.labels(stream, state).inc()
        if state is MatchState.PROVISIONAL:
            self._metrics.matches_open.labels(stream).inc()
            self._metrics.match_delay.observe(max(self._now() - event.match.start_s, 0.0))
        elif state is MatchState.CONFIRMED:
            self._metrics.infringements.labels(stream).inc()
            self._metrics.infringements_active.labels(stream).inc()
        else:
            self._metrics.matches_open.labels(stream).dec()
            if state is MatchState.ENDED:
                self._metrics.infringements_active.labels(stream).dec()
