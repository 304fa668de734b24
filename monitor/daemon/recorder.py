"""Everything that is to be written goes through the journal, in order, and from there to PostgreSQL by one task."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from monitor.daemon.heartbeat import Heartbeat
from monitor.errors import ServerReason, StaleEpochError, StorageError, UnreachableError
from monitor.metrics import Metrics
from monitor.record.journal import DeadLetters, Entry, Heard, Journal, Line, stream_of
from monitor.record.store import Store, Subscriber
from monitor.types import Gap, Match, MatchEvent, MatchState, StreamStatus

__all__ = ["Heard", "Recorder"]

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 256
_LONGEST_WAIT_S = 2.0
#: How often PostgreSQL is asked whether it is there while there is nothing to write.
_PROBE_S = 5.0
#: How long a power cut may reach back into what waits.
_SYNC_S = 1.0
_STAGE = "record"
_OPEN = frozenset({MatchState.PROVISIONAL, MatchState.CONFIRMED})

Written = TypeVar("Written")


class Recorder:
    """Writes what the streams and aligners say, each stream's in order; while PostgreSQL is away it waits on disk."""

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        dead_letters: DeadLetters,
        metrics: Metrics,
        subscribers: Callable[[], Iterable[Subscriber]],
        on_recorded: Callable[[list[MatchEvent]], None],
        on_stale: Callable[[str], None],
        now: Callable[[], float] = time.time,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._heartbeat = heartbeat or Heartbeat()
        self._store, self._journal, self._dead_letters = store, journal, dead_letters
        self._metrics, self._subscribers, self._now = metrics, subscribers, now
        self._on_recorded, self._on_stale = on_recorded, on_stale
        #: Under which epoch each stream's facts are written; what is said of a stream without one is dropped.
        self.epochs: dict[str, int] = {}
        #: What PostgreSQL said last, while it is away; why the journal takes nothing, while it does not.
        self.trouble: str | None = None
        self.no_room: str | None = None
        self._open: dict[str, dict[object, MatchState]] = {}
        self._most = _MOST_AT_ONCE
        self._arrived, self._closed = asyncio.Event(), asyncio.Event()
        #: How many entries have been written, and what is told whenever that rises.
        self._written, self._rose = 0, asyncio.Event()
        #: Of each stream, how many will have been written when the last that was put is.
        self._last: dict[str, int] = {}
        metrics.queue_capacity.labels("journal_bytes").set(journal.capacity_bytes)
        metrics.queue_length.labels("journal_bytes").set_function(lambda: float(journal.size_bytes))
        metrics.queue_length.labels("events").set_function(lambda: float(len(journal)))
        metrics.postgres_up.set(1)

    async def put(self, entry: Entry) -> None:
        """The entry will be written, also after any death of this process; waits while the disk has no room."""
        while (epoch := self.epochs.get(stream_of(entry))) is not None:
            try:
                self._journal.append(entry, epoch=epoch)
            except StorageError as error:
                if self.no_room is None:
                    log.critical("streams are held up: %s", error, extra={"action": "journal_full"})
                self.no_room = str(error)
                self._arrived.set()
                await asyncio.sleep(_SYNC_S)
            else:
                if self.no_room is not None:
                    log.warning("the journal takes events again", extra={"action": "journal_takes"})
                self.no_room = None
                self._last[stream_of(entry)] = self._written + len(self._journal)
                self._arrived.set()
                return

    def resume(self, stream: str, matches: Iterable[Match]) -> None:
        """These matches of a stream are open in the log: the gauges go on from them."""
        self._open[stream] = {match.match_id: match.state for match in matches if match.state in _OPEN}
        self._show_open(stream)

    def forget(self, stream: str) -> None:
        """Nothing more is written of the stream."""
        self.epochs.pop(stream, None)
        self._open.pop(stream, None)

    async def settle(self, timeout_s: float | None = 5.0, *, stream: str | None = None) -> bool:
        """Wait until all that was put before, of one stream or of all, is written, at most `timeout_s`; True if so."""
        enough = self._written + len(self._journal) if stream is None else self._last.get(stream, 0)
        try:
            async with asyncio.timeout(timeout_s):
                # Other streams go on saying things: to wait for an empty journal would be to wait for them.
                while self._written < enough and len(self._journal):
                    self._rose.clear()
                    self._arrived.set()
                    await self._rose.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Nothing more will be put: `run` returns when all is written, or when PostgreSQL takes no more of it now."""
        self._closed.set()
        self._arrived.set()

    async def run(self) -> None:
        """Write until closed. What is left then is written by the next start."""
        async with asyncio.TaskGroup() as tasks:
            syncing = tasks.create_task(self._sync(), name="sync the journal")
            await self._drain()
            syncing.cancel()
        self._heartbeat.end(_STAGE)
        if left := len(self._journal):
            log.warning(
                "%d events stay in %s: the next start writes them",
                *(left, self._journal.directory),
                extra={"action": "journal_left", "events": left},
            )

    async def _drain(self) -> None:
        wait_s = 0.25
        while True:
            self._heartbeat.turn(_STAGE)
            lines = self._journal.read(self._most)
            if not lines:
                if self._closed.is_set():
                    return
                await self._rest()
                continue
            try:
                events = await self._write(lines)
            except UnreachableError as error:
                self._wait_for_postgres(error)
                if error.reason is ServerReason.TIMEOUT:
                    self._most = max(self._most // 2, 1)
                if self._closed.is_set():
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            else:
                wait_s = 0.25
                self._most = min(self._most * 2, _MOST_AT_ONCE)
                self._postgres_is_back()
                waited = len(self._journal)
                self._journal.advance(lines)
                self._written += waited - len(self._journal)
                self._rose.set()
                self._count(events)

    async def _rest(self) -> None:
        """Until something arrives; asks meanwhile whether PostgreSQL is there."""
        self._arrived.clear()
        try:
            with self._heartbeat.resting(_STAGE):
                async with asyncio.timeout(_PROBE_S):
                    await self._arrived.wait()
        except TimeoutError:
            try:
                await self._store.ping()
            except UnreachableError as error:
                self._wait_for_postgres(error)
            else:
                self._postgres_is_back()

    async def _sync(self) -> None:
        """What waits longer than a moment is safe from a power cut too."""
        while True:
            await asyncio.sleep(_SYNC_S)
            if len(self._journal):
                with suppress(OSError):
                    await asyncio.to_thread(self._journal.sync)

    async def _write(self, lines: list[Line]) -> list[MatchEvent]:
        """All lines are in the log or among the dead letters; the events that are in the log. Raises UnreachableError.

        Gaps come before the matches that they lie in; each stream's matches are one transaction; how far a stream was
        heard comes last, since a restart goes on from there.
        """
        for line in lines:
            if line.entry is None:
                self._bury(line, ServerReason.CORRUPT, "the line is damaged")
        whole = [line for line in lines if line.entry is not None]
        for line in _latest_gaps(whole):
            await self._fact(line)
        events: list[MatchEvent] = []
        matches = [line for line in whole if isinstance(line.entry, MatchEvent)]
        for listener in dict.fromkeys((stream_of(line.entry), line.epoch) for line in matches if line.entry):
            events += await self._matches([line for line in matches if _listener(line) == listener])
        for line in whole:
            if isinstance(line.entry, StreamStatus):
                await self._fact(line)
        heard = {line.entry.stream: line for line in whole if isinstance(line.entry, Heard)}
        await self._heard(list(heard.values()))
        return events

    async def _matches(self, lines: list[Line]) -> list[MatchEvent]:
        """The events of one listener, in one transaction; one by one if one of them cannot be written at all."""
        events = [line.entry for line in lines if isinstance(line.entry, MatchEvent)]
        epochs = dict(map(_listener, lines))
        try:
            await self._timed(self._store.record_events(events, epochs=epochs, webhooks=self._subscribers()))
        except StaleEpochError as error:
            self._stale(lines, error)
            return []
        except _Unwritable as error:
            if len(lines) > 1:
                return [event for line in lines for event in await self._matches([line])]
            self._bury(lines[0], ServerReason.BAD_DATA, str(error))
            return []
        return events

    async def _heard(self, lines: list[Line]) -> None:
        """How far each stream was heard, in one transaction; one by one if one of them cannot be written at all."""
        until_s = {line.entry.stream: line.entry.until_s for line in lines if isinstance(line.entry, Heard)}
        if not until_s:
            return
        try:
            await self._timed(self._store.record_heard(until_s, epochs=dict(map(_listener, lines))))
        except (StaleEpochError, _Unwritable) as error:
            if len(lines) > 1:
                for line in lines:
                    await self._heard([line])
            elif isinstance(error, StaleEpochError):
                self._stale(lines, error)
            else:
                self._bury(lines[0], ServerReason.BAD_DATA, str(error))

    async def _fact(self, line: Line) -> None:
        entry, epoch = line.entry, line.epoch
        try:
            match entry:
                case StreamStatus():
                    await self._timed(self._store.record_status(entry, epoch=epoch))
                case Gap():
                    await self._timed(self._store.record_gap(entry, epoch=epoch))
        except StaleEpochError as error:
            self._stale([line], error)
        except _Unwritable as error:
            self._bury(line, ServerReason.BAD_DATA, str(error))

    async def _timed(self, write: Awaitable[Written]) -> Written:
        """The write's result; raises _Unwritable where trying again will never help."""
        self._heartbeat.turn(_STAGE)
        try:
            with self._metrics.store_duration.time():
                return await write
        except UnreachableError as error:
            if error.reason is ServerReason.BAD_DATA:
                raise _Unwritable(str(error)) from error
            raise
        except (ValueError, OverflowError) as error:  # a time that no calendar has, a number that JSON cannot say
            raise _Unwritable(f"{type(error).__name__}: {error}") from error

    def _bury(self, line: Line, reason: ServerReason, detail: str) -> None:
        self._metrics.store_failures.labels(reason).inc()
        self._metrics.dead_letters.inc()
        log.error(
            "one fact cannot be written and lies in %s: %s",
            *(self._dead_letters.path, detail),
            extra={"action": "dead_letter", "reason": reason},
        )
        self._dead_letters.write(line, reason=reason, detail=detail)

    def _stale(self, lines: list[Line], error: StaleEpochError) -> None:
        """Another listener has the stream: what this one heard of it is kept beside the log."""
        stream, epoch = _listener(lines[0])
        self._metrics.store_failures.labels(error.reason).inc()
        for line in lines:
            if isinstance(line.entry, MatchEvent):
                self._dead_letters.write(line, reason=error.reason, detail=str(error))
        if self.epochs.get(stream) == epoch:
            log.error("%s", error, extra={"action": "stream_taken_over", "stream": stream})
            self.forget(stream)
            self._on_stale(stream)

    def _wait_for_postgres(self, error: UnreachableError) -> None:
        self._metrics.store_failures.labels(error.reason).inc()
        self._metrics.postgres_up.set(0)
        if self.trouble is None:
            log.warning("events wait in the journal: %s", error, extra={"action": "events_wait"})
        self.trouble = str(error)

    def _postgres_is_back(self) -> None:
        self._metrics.postgres_up.set(1)
        if self.trouble is not None:
            left = len(self._journal)
            log.info("events are written again, %d wait", left, extra={"action": "events_written", "events": left})
        self.trouble = None

    def _count(self, events: list[MatchEvent]) -> None:
        """Once for each event that left the journal, whether its first or a later attempt has written it."""
        for event in events:
            stream, state = event.match.stream, event.match.state
            if stream not in self.epochs:
                continue
            self._metrics.hits.labels(stream).inc(len(event.hits))
            playing = self._open.setdefault(stream, {})
            if state in _OPEN:
                playing[event.match.match_id] = state
            else:
                playing.pop(event.match.match_id, None)
            if event.changed:
                self._metrics.matches.labels(stream, state).inc()
                if state is MatchState.CONFIRMED:
                    self._metrics.infringements.labels(stream).inc()
                if event.sequence == 0:
                    self._metrics.match_delay.observe(max(self._now() - event.match.start_s, 0.0))
        for stream in {event.match.stream for event in events}:
            self._show_open(stream)
        if events:
            self._on_recorded(events)

    def _show_open(self, stream: str) -> None:
        if stream in self.epochs:
            playing = self._open.get(stream, {})
            confirmed = sum(state is MatchState.CONFIRMED for state in playing.values())
            self._metrics.matches_open.labels(stream).set(len(playing))
            self._metrics.infringements_active.labels(stream).set(confirmed)


class _Unwritable(Exception):  # noqa: N818 - not a failure of the recorder
    """No row can hold this."""


def _listener(line: Line) -> tuple[str, int]:
    return ("" if line.entry is None else stream_of(line.entry)), line.epoch


def _latest_gaps(lines: list[Line]) -> list[Line]:
    """The lines with gaps, in order; of one that grew under the same reason only the longest."""
    kept: list[Line] = []
    for line in lines:
        if not isinstance(line.entry, Gap):
            continue
        same = [
            earlier
            for earlier in kept[-1:]
            if isinstance(earlier.entry, Gap)
            and _listener(earlier) == _listener(line)
            and (earlier.entry.start_s, earlier.entry.reason) == (line.entry.start_s, line.entry.reason)
        ]
        if same:
            kept.pop()
        kept.append(line)
    return kept
