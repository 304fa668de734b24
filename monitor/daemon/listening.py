"""Which streams are listened to: each a task of its own, taken up where the log says that it was left."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from monitor.audio.source import mask_url
from monitor.daemon.pipeline import Pipeline
from monitor.daemon.recorder import Recorder
from monitor.daemon.stream import Settings, Source, Stream
from monitor.errors import UnreachableError
from monitor.metrics import Metrics
from monitor.record.store import Store, Subscriber
from monitor.types import Match, MatchEvent, MatchState, StreamState

log = logging.getLogger(__name__)

_RETRY_S = 2.0
#: Servers send past audio on connect: a match was last heard so much longer ago than the stream's newest sound.
_BURST_S = 30.0
#: At least so long an open match was not heard when it counts as abandoned.
_ABANDONED_S = 600.0
_OPEN = frozenset({MatchState.PROVISIONAL, MatchState.CONFIRMED})


class Listening:
    """The streams of one daemon. What the log says of a stream is written under the epoch that `add` takes."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        pipeline: Pipeline,
        metrics: Metrics,
        webhooks: Callable[[], Iterable[Subscriber]],
        stopping: asyncio.Event,
        on_ended: Callable[[asyncio.Task[None]], None],
        now: Callable[[], float],
    ) -> None:
        self._store, self._recorder, self._pipeline, self._metrics = store, recorder, pipeline, metrics
        self._webhooks, self._stopping, self._on_ended, self._now = webhooks, stopping, on_ended, now
        self._streams: dict[str, Stream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._playing: dict[str, dict[str, MatchEvent]] = {}
        #: Streams that another daemon has begun to listen to.
        self._taken: set[str] = set()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """One task for each stream that is listened to."""
        return list(self._tasks.values())

    @property
    def heard(self) -> list[str]:
        """The streams from which sound comes now."""
        return [name for name, stream in self._streams.items() if stream.status.state is StreamState.RECEIVING]

    @property
    def taken(self) -> set[str]:
        """The streams that another daemon has begun to listen to."""
        return set(self._taken)

    async def add(self, settings: Settings, open_source: Callable[[str, int], Source]) -> None:
        """The stream is listened to, and goes on with the matches that were open. Raises UnreachableError."""
        name, catalogs = settings.name, settings.catalogs
        # What was heard of it before is written under the epoch before.
        if not await self._recorder.settle(stream=name):
            raise UnreachableError(
                f"what waits to be recorded comes first: {self._recorder.trouble or 'it takes time'}"
            )
        self._metrics.add_stream(name)
        self._recorder.epochs[name] = epoch = await self._store.begin_listening(name)
        await self._store.close_matches(
            name, epoch=epoch, decided_s=self._now(), webhooks=self._webhooks(), except_catalogs=catalogs
        )
        since_s = self._now() - self._pipeline.options.max_gap_s - _BURST_S
        matches = await self._store.open_matches(name, interrupted_since_s=since_s)
        heard_until_s = await self._store.heard_until(name)
        self._recorder.resume(name, matches)
        self._playing[name] = {
            str(match.match_id): MatchEvent(sequence=match.sequence, match=match, decided_s=match.decided_s)
            for match in matches
            if match.state in _OPEN
        }
        self._pipeline.attach(name, catalogs, matches)
        self._streams[name] = Stream(
            settings=settings,
            open_source=open_source,
            models=self._pipeline.models_of(catalogs),
            submit=self._pipeline.submit,
            unheard=partial(self._pipeline.unheard, name),
            recorder=self._recorder,
            metrics=self._metrics,
            heard_until_s=heard_until_s,
            now=self._now,
        )
        task = asyncio.create_task(self._streams[name].run(), name=f"stream {name}")
        task.add_done_callback(self._on_ended)
        self._tasks[name] = task

    async def add_patiently(self, settings: Settings, open_source: Callable[[str, int], Source]) -> None:
        """The stream is listened to, however long PostgreSQL is away, unless the daemon stops meanwhile."""
        while not self._stopping.is_set():
            try:
                await self.add(settings, open_source)
            except UnreachableError as error:
                log.warning("%s waits: %s", settings.name, error, extra={"action": "stream_waits"})
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _RETRY_S)
            else:
                return

    async def remove(self, name: str, *, goes_on: bool = False) -> None:
        """The stream is listened to no more; its matches are over.

        If it `goes_on` they wait for the next `add`, and until then the stream is shown as it stopped.
        """
        task = self._tasks.pop(name)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for event in await self._pipeline.detach(name, self._now(), goes_on=goes_on):
            await self._recorder.put(event)
        while goes_on and not await self._recorder.settle(stream=name):
            if self._stopping.is_set():
                return
        self._recorder.forget(name)
        self._taken.discard(name)
        self._metrics.remove_stream(name)
        if goes_on:
            return
        del self._streams[name]
        self._playing.pop(name, None)
        log.info("%s is not listened to any more", name, extra={"action": "stream_removed", "stream": name})

    async def end(self) -> None:
        """No stream is listened to, and all that the streams had to say is said."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def taken_over(self, name: str) -> None:
        """Another daemon listens to the stream now, and goes on with its matches: this one stops."""
        if name in self._tasks:
            self._tasks[name].cancel()
        self._taken.add(name)
        self._pipeline.forget(name)
        self._playing.pop(name, None)
        self._metrics.matches_open.labels(name).set(0)
        self._metrics.infringements_active.labels(name).set(0)

    def recorded(self, events: list[MatchEvent]) -> None:
        """These events are in the log now: what plays follows them."""
        for event in events:
            match = event.match
            playing = self._playing.get(match.stream, {})  # of a stream that is not listened to any more, nothing
            if match.state in _OPEN:
                playing[str(match.match_id)] = event
            else:
                playing.pop(str(match.match_id), None)
            if event.changed:
                log.info(
                    "%s: %s %s from second %.1f",
                    match.stream,
                    match.reference_id,
                    match.state,
                    match.reference_start_s,
                    extra={"action": f"match_{match.state}", "stream": match.stream, "match_id": str(match.match_id)},
                )

    async def end_abandoned(self) -> None:
        """Matches are over that nobody has gone on with for long: of streams that the configuration lost meanwhile."""
        now_s = self._now()
        ended = await self._store.end_abandoned(
            listened=list(self._streams),
            before_s=now_s - max(2 * self._pipeline.options.max_gap_s, _ABANDONED_S),
            decided_s=now_s,
            webhooks=self._webhooks(),
        )
        if ended:
            log.info(
                "%d matches ended that nobody went on with",
                len(ended),
                extra={"action": "abandoned", "ended": len(ended)},
            )

    def described(self) -> list[dict[str, Any]]:
        """Each stream as it is now, for the faces."""
        return [self._described(name, stream) for name, stream in self._streams.items()]

    def _described(self, name: str, stream: Stream) -> dict[str, Any]:
        up = stream.status.state in {StreamState.RECEIVING, StreamState.SILENT}
        recognised_until_s = self._pipeline.recognised_until_s(name)
        return {
            "name": name,
            "state": stream.status.state.value,
            "reason": stream.status.reason,
            "detail": stream.status.detail,
            "since_s": stream.status.since_s,
            "up": up,
            "level_dbfs": stream.level_dbfs if up and math.isfinite(stream.level_dbfs) else None,
            "addresses": [mask_url(address) for address in stream.settings.addresses],
            "catalogs": list(stream.settings.catalogs),
            "paused": stream.settings.paused,
            "delay_s": max(self._now() - stream.heard_until_s, 0.0) if up and stream.heard_until_s else None,
            "behind_s": max(self._now() - recognised_until_s, 0.0) if up and recognised_until_s is not None else None,
            "last_words": list(stream.last_words),
            "alarm": stream.alarm,
            "alarm_since_s": stream.alarm_since_s,
            "playing": [self._played(event.match) for event in self._playing.get(name, {}).values()],
        }

    def _played(self, match: Match) -> dict[str, Any]:
        reference = self._pipeline.reference(match.catalog, match.reference_id)
        return {
            "match_id": str(match.match_id),
            "catalog": match.catalog,
            "reference_id": match.reference_id,
            "title": reference.title if reference else None,
            "artist": reference.artist if reference else None,
            "state": match.state.value,
            "start_s": match.start_s,
            "reference_start_s": match.reference_start_s,
            "reference_duration_s": reference.duration_s if reference else None,
            "tempo_ratio": match.tempo_ratio,
        }
