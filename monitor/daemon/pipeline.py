"""The stages behind the sources: windows are embedded in micro-batches, searched at once, aligned, recorded.

Each stage is a named task of one group: a stage that dies ends the process. Each queue has a bound; see `queues`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from monitor.catalog.canary import CANARY_ID
from monitor.catalog.search import CatalogReader
from monitor.daemon.backlog import Backlog, Unheard, of_model
from monitor.daemon.courtesy import Courtesy
from monitor.daemon.desk import Brief, Ending
from monitor.daemon.desks import Desks, Follower, Seat
from monitor.daemon.heartbeat import Heartbeat
from monitor.daemon.queues import FairQueue
from monitor.daemon.recorder import Recorder
from monitor.embed import Embedder
from monitor.embed.spectrogram import Spectrograph
from monitor.errors import DropReason, UnreachableError
from monitor.match.options import Options
from monitor.match.score import PROVISIONAL_NATS, Calibration
from monitor.metrics import Metrics
from monitor.record.rows import RecordedMatch
from monitor.types import Embedded, Levels, MatchEvent, Neighbour, Reference, Samples, Vectors, Window

log = logging.getLogger(__name__)

#: Below this a window is silence: its embedding would be that of rounding noise.
SILENCE_DBFS = -70.0
_MOST_QUERIES = 256
#: Where so many windows wait, more go into one search: it costs little more.
_MUCH = 1024
_MOST_OF_MUCH = 1024
#: A window waits for who asks so long at most, less where `_MOST_QUERIES` wait, and not at all where `_MUCH` do.
_COURTESY_S, _HURRIED_COURTESY_S = 0.05, 0.01
_REFRESH_S = 2.0
#: So often, at most, the log is told that windows are lost.
_SAY_DROPPED_S = 60.0
_LONGEST_WAIT_S = 10.0
_CANARY_LENGTH_S = 2.0

Result = TypeVar("Result")


@dataclass(kw_only=True)
class Lane:
    """One catalog: what waits to be searched in it, and the streams watched against it."""

    name: str
    reader: CatalogReader
    embedder: Embedder
    calibration: Calibration
    queue: FairQueue[Embedded | Unheard] | Backlog
    followers: dict[str, Follower] = field(default_factory=dict)
    #: What Milvus said last, while it is away, to each that asked.
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """What its searches are called."""
        return f"search {self.name}"

    @property
    def trouble(self) -> str | None:
        """What Milvus said, while it is away."""
        return next(iter(self.troubles.values()), None)

    def due(self, stream: str, readings: int) -> list[int]:
        """Which of so many readings of the stream's next window are searched; the first, if it is watched no more."""
        follower = self.followers.get(stream)
        return [0] if follower is None else follower.turns.due(readings)


@dataclass(kw_only=True)
class Model:
    """One embedder, its thread, and the windows that wait for it."""

    stage: str
    embedder: Embedder
    queue: FairQueue[Window | Unheard]
    lanes: dict[str, Lane] = field(default_factory=dict)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "model"))
    spectrograph: Spectrograph = field(init=False)

    def __post_init__(self) -> None:
        self.spectrograph = Spectrograph.for_embedder(self.embedder)

    def read(self, windows: Samples, *, any_pitch: bool) -> list[tuple[Vectors, Levels]]:
        """Of each of the windows (B, n) its readings and the levels of its frames. Blocks."""
        readings = self.embedder.read(windows) if any_pitch else self.embedder.embed(windows)[:, np.newaxis]
        return list(zip(readings, map(self.spectrograph.of, windows), strict=True))


class Listener(Protocol):
    """Who hears what becomes of a stream that is no stream of the user's."""

    def heard(self, event: MatchEvent) -> None:
        """An event of the stream was decided; nobody else is told."""

    def lost(self, reason: DropReason) -> None:
        """A window of the stream was thrown away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of the queues and batches."""

    batch_windows: int
    windows_capacity: int
    backlog_s: float
    search_interval_s: float
    #: Processes that align beside the daemon's own, at most; none: it does so itself.
    align_processes: int = 0


class Pipeline:
    """Owns the stages; streams push windows in, events leave through the recorder."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        metrics: Metrics,
        limits: Limits,
        options: Options,
        top_k: int,
        heartbeat: Heartbeat | None = None,
        courtesy: Courtesy | None = None,
        backlog_dir: Path | None = None,
        lookback_dir: Path | None = None,
    ) -> None:
        """Without `backlog_dir` what waits to be searched waits in memory alone; without `lookback_dir` an airing that
        was suspected when the process died is suspected anew.
        """
        self._recorder, self._metrics, self._limits = recorder, metrics, limits
        self._backlog_dir, self._lookback_dir = backlog_dir, lookback_dir
        self._heartbeat = heartbeat or Heartbeat()
        self._courtesy = courtesy or Courtesy()
        self._options, self._top_k = options, top_k
        self._models: dict[str, Model] = {}
        self._lanes: dict[str, Lane] = {}
        self._desks = Desks(processes=limits.align_processes, on_lost=metrics.aligning_lost.inc)
        self._listeners: dict[str, Listener] = {}
        self._closing = False
        self._said_dropped_s = -math.inf
        #: Set when the streams are attached of which an earlier process left something to be searched.
        self._resumed = asyncio.Event()
        metrics.milvus_up.set(1)

    # -- building ----------------------------------------------------------------------------------------------------

    def add_catalog(
        self, *, name: str, model: str, embedder: Embedder, reader: CatalogReader, calibration: Calibration
    ) -> None:
        """Streams may be watched against this catalog. All catalogs are added before `run`."""
        if model not in self._models:
            windows: FairQueue[Window | Unheard] = FairQueue(
                capacity=self._limits.windows_capacity, on_drop=partial(self._dropped, DropReason.OVERLOAD)
            )
            self._models[model] = Model(stage=f"embed {model}", embedder=embedder, queue=windows)
            self._watch_queue(f"windows_{model}", windows)
        # Room for the backlog of a hundred streams; the vectors are small, audio never waits here.
        capacity = max(int(self._limits.backlog_s / embedder.hop_s) * 100, 1000)
        lose = partial(self._dropped, DropReason.BACKLOG_FULL)
        embeddings: FairQueue[Embedded | Unheard] | Backlog
        if self._backlog_dir is None:
            embeddings = FairQueue(capacity=capacity, on_drop=lose)
        else:
            directory = of_model(self._backlog_dir, catalog=name, model_id=embedder.model_id)
            embeddings = Backlog(directory, capacity=capacity, on_drop=lose)
        lane = Lane(name=name, reader=reader, embedder=embedder, calibration=calibration, queue=embeddings)
        self._lanes[name] = self._models[model].lanes[name] = lane
        self._desks.catalogs[name] = reader
        self._watch_queue(f"embeddings_{name}", embeddings)
        self._count_catalogs()

    def attach(self, stream: str, catalogs: Sequence[str], open_matches: Iterable[RecordedMatch]) -> None:
        """The stream's windows are searched in these catalogs; its open matches go on."""
        rows = list(open_matches)
        for name in catalogs:
            self._follow(stream, name, rows, self._options)

    def _follow(self, stream: str, catalog: str, rows: Sequence[RecordedMatch], options: Options) -> None:
        lane = self._lanes[catalog]
        embedder, hop_s = lane.embedder, lane.embedder.hop_s
        # Of what is no stream of the user's nothing is kept.
        kept_in: Path | None = None
        if self._lookback_dir is not None and stream not in self._listeners:
            kept_in = of_model(self._lookback_dir, catalog=catalog, model_id=embedder.model_id)
        lane.followers[stream] = self._desks.follow(
            Brief(
                stream=stream,
                catalog=catalog,
                model_id=embedder.model_id,
                window_s=embedder.window_s,
                hop_s=hop_s,
                dimension=embedder.dimension,
                pitch_ratios=embedder.pitch_ratios,
                reference_hop_s=lane.reader.catalog.hop_s,
                calibration=lane.calibration,
                options=options,
                matches=tuple(
                    (row, row.sequence + 1)
                    for row in rows
                    if row.catalog == catalog and row.model_id == embedder.model_id
                ),
                kept_in=kept_in,
                most_kept=math.ceil(options.look_back_s / hop_s),
                now_s=time.time(),
            )
        )

    def attach_canary(self, stream: str, catalog: str, listener: Listener) -> None:
        """The stream's windows take the way of all others, and find the catalog's canary alone."""
        self._listeners[stream] = listener
        # It plays for seconds, and says whether the stages work, not whether the user's thresholds are wise.
        options = self._options
        options = replace(
            options,
            min_length_s=min(options.min_length_s, _CANARY_LENGTH_S),
            provisional_nats=min(options.provisional_nats, PROVISIONAL_NATS),
        )
        self._follow(stream, catalog, [], options)

    def detach_canary(self, stream: str) -> None:
        """Nothing of the stream is followed any more."""
        self.forget(stream)
        self._listeners.pop(stream, None)

    def resume(self) -> None:
        """All streams are attached: what an earlier process left is searched now, before what is heard."""
        self._resumed.set()

    def models_of(self, catalogs: Iterable[str]) -> dict[str, Embedder]:
        """The embedders, by name, that these catalogs need."""
        wanted = set(catalogs)
        return {name: model.embedder for name, model in self._models.items() if wanted & model.lanes.keys()}

    def set_options(self, options: Options, *, top_k: int) -> None:
        """New thresholds hold from the next window on."""
        self._options, self._top_k = options, top_k
        for lane in self._lanes.values():
            for follower in lane.followers.values():
                follower.set_options(options)

    @property
    def options(self) -> Options:
        """The thresholds in force."""
        return self._options

    # -- feeding -----------------------------------------------------------------------------------------------------

    def submit(self, model: str, window: Window) -> None:
        """The window will be embedded and searched, unless overload drops it."""
        self._models[model].queue.put(window.stream, window)

    def unheard(self, stream: str, until_s: float, *, through: asyncio.Semaphore | None = None) -> None:
        """The stream is not heard: matches that wait too long end."""
        for model in self._models.values():
            if any(stream in lane.followers for lane in model.lanes.values()):
                model.queue.put(stream, Unheard(stream=stream, until_s=until_s, through=through))

    async def detach(
        self, stream: str, until_s: float, *, goes_on: bool = False, timeout_s: float = 5.0
    ) -> list[MatchEvent]:
        """Nobody listens to the stream any more: what it has submitted is through, unless Milvus is away for longer.

        Returns what becomes of its matches: they are over, or `goes_on`: brought up to date, for the next `attach`.
        """
        lanes = [lane for lane in self._lanes.values() if stream in lane.followers]
        through = asyncio.Semaphore(0)
        self.unheard(stream, until_s, through=through)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for _ in lanes:
                    await through.acquire()
        # Another daemon may have taken it over meanwhile.
        followers = [lane.followers.pop(stream, None) for lane in lanes]
        ending = Ending.HANDED_ON if goes_on else Ending.REMOVED
        return [event for follower in followers if follower is not None for event in await follower.end(ending)]

    def forget(self, stream: str) -> None:
        """Another daemon has the stream and its open matches: nothing of it is followed here."""
        for lane in self._lanes.values():
            if (follower := lane.followers.pop(stream, None)) is not None:
                follower.forget()

    def reference(self, catalog: str, reference_id: str) -> Reference | None:
        """The reference as this catalog was seen last; None if it is not there."""
        lane = self._lanes.get(catalog)
        return None if lane is None else lane.reader.references.get(reference_id)

    def recognised_until_s(self, stream: str) -> float | None:
        """Up to where the stream was looked for in all of its catalogs; None before its first window was."""
        reached_s = [lane.followers[stream].heard_until_s for lane in self._lanes.values() if stream in lane.followers]
        return min(reached_s) if reached_s and math.isfinite(min(reached_s)) else None

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The catalogs by name."""
        return self._lanes

    @property
    def trouble(self) -> dict[str, str]:
        """Catalogs that cannot be searched now, and why."""
        return {name: lane.trouble for name, lane in self._lanes.items() if lane.trouble is not None}

    def close(self) -> None:
        """No stream submits any more: `run` returns when what waits is through."""
        self._closing = True
        self._resumed.set()
        for model in self._models.values():
            model.queue.close()

    # -- the stages --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the stages until closed and drained."""
        try:
            async with asyncio.TaskGroup() as stages:
                refreshing = [
                    stages.create_task(self._refresh(lane), name=f"refresh {name}")
                    for name, lane in self._lanes.items()
                ]
                searching = [stages.create_task(self._search(lane), name=lane.stage) for lane in self._lanes.values()]
                for model in self._models.values():
                    stages.create_task(self._embed(model), name=model.stage)
                await asyncio.gather(*searching)
                for task in refreshing:
                    task.cancel()
        finally:
            for model in self._models.values():
                model.thread.shutdown(wait=False, cancel_futures=True)
            await self._desks.close()

    async def _embed(self, model: Model) -> None:
        loop = asyncio.get_running_loop()
        while await self._next(model.stage, model.queue):
            items = model.queue.take(self._limits.batch_windows)
            loud = [item for item in items if isinstance(item, Window) and item.level_dbfs > SILENCE_DBFS]
            made: Iterator[tuple[Vectors, Levels]] = iter(())
            if loud:
                batch = np.stack([window.samples for window in loud])
                self._metrics.embed_batch_windows.observe(len(batch))
                with self._metrics.embed_duration.time():
                    read = partial(model.read, batch, any_pitch=self._options.any_pitch)
                    made = iter(await loop.run_in_executor(model.thread, read))
            for item in items:
                result: Embedded | Unheard
                if isinstance(item, Window):
                    readings, levels = next(made) if item.level_dbfs > SILENCE_DBFS else (None, None)
                    result = Embedded(
                        stream=item.stream,
                        start_s=item.start_s,
                        window_s=model.embedder.window_s,
                        readings=readings,
                        levels=levels,
                    )
                else:
                    result = item
                for lane in model.lanes.values():
                    if item.stream in lane.followers:
                        lane.queue.put(item.stream, result)
        for lane in model.lanes.values():
            lane.queue.close()
        self._heartbeat.end(model.stage)

    async def _search(self, lane: Lane) -> None:
        if len(lane.queue):
            with self._heartbeat.resting(lane.stage):
                await self._resumed.wait()
        while await self._next(lane.stage, lane.queue):
            if self._closing and isinstance(lane.queue, Backlog) and lane.queue.on_disk:
                self._leave(lane, lane.queue)
                break
            if not self._closing and len(lane.queue) < _MOST_QUERIES:
                # Windows of all streams gather, since a search costs the same for one query as for many.
                await asyncio.sleep(self._limits.search_interval_s)
            items = lane.queue.take(_MOST_QUERIES if len(lane.queue) < _MUCH else _MOST_OF_MUCH)
            queries = [
                (item.readings, lane.due(item.stream, len(item.readings)))
                for item in items
                if isinstance(item, Embedded) and item.readings is not None
            ]
            neighbours: list[list[Neighbour]] | None = []
            if queries:
                with self._metrics.search_duration.time():
                    search = partial(lane.reader.search_readings, queries, self._top_k)
                    neighbours = await self._patiently(lane, lane.stage, search)
            if neighbours is None:
                if isinstance(lane.queue, Backlog):
                    self._leave(lane, lane.queue)
                    break
                for item in items:
                    if isinstance(item, Embedded):
                        self._dropped(DropReason.SHUTDOWN, item.stream)
                continue
            found = iter(neighbours)
            shares: dict[Seat | None, list[tuple[Embedded | Unheard, list[Neighbour]]]] = {}
            for item in items:
                near = next(found) if isinstance(item, Embedded) and item.readings is not None else []
                follower = lane.followers.get(item.stream)
                shares.setdefault(None if follower is None else follower.seat, []).append((item, near))
            with self._heartbeat.resting(lane.stage):
                async with asyncio.TaskGroup() as desks:
                    for number, share in enumerate(shares.values()):
                        stage = f"align {lane.name} {number}"
                        desks.create_task(self._align_all(lane, stage, share), name=stage)
        followers = list(lane.followers.values())
        lane.followers.clear()
        for events in await asyncio.gather(*(follower.end(Ending.INTERRUPTED) for follower in followers)):
            for event in events:
                await self._put(lane.stage, event)
        self._heartbeat.end(lane.stage)

    async def _align_all(
        self, lane: Lane, stage: str, share: Sequence[tuple[Embedded | Unheard, list[Neighbour]]]
    ) -> None:
        """What one desk is told, in order."""
        self._heartbeat.turn(stage)
        for item, near in share:
            # By now it may be another that follows the stream.
            follower = lane.followers.get(item.stream)
            if follower is not None:
                for event in await self._align(lane, stage, follower, item, near):
                    await self._put(stage, event)
            if follower is None or follower.seat.here:
                await self._courtesy.give_way(_patience_s(len(lane.queue)))
        self._heartbeat.end(stage)

    @staticmethod
    def _leave(lane: Lane, queue: Backlog) -> None:
        queue.hold()
        log.warning(
            "%d windows wait for Milvus on disk: the next start searches them",
            len(queue),
            extra={"action": "backlog_left", "stage": lane.stage, "windows": len(queue)},
        )

    async def _next(
        self, stage: str, queue: FairQueue[Window | Unheard] | FairQueue[Embedded | Unheard] | Backlog
    ) -> bool:
        """Whether there is work, for which a stage waits at rest; False when the queue is closed and empty."""
        with self._heartbeat.resting(stage):
            return await queue.wait()

    async def _put(self, stage: str, event: MatchEvent) -> None:
        """The event will be written; while PostgreSQL is away the recorder is at work, and not the search."""
        if (listener := self._listeners.get(event.match.stream)) is not None:
            listener.heard(event)
            return
        with self._heartbeat.resting(stage):
            await self._recorder.put(event)

    async def _align(
        self, lane: Lane, stage: str, follower: Follower, item: Embedded | Unheard, near: list[Neighbour]
    ) -> list[MatchEvent]:
        if isinstance(item, Embedded):
            # A user's stream never plays the canary, whatever it sounds like.
            near = [found for found in near if (found.reference_id == CANARY_ID) == (item.stream in self._listeners)]
            step = partial(follower.step, item, near)
            return await self._patiently(lane, stage, step) or []
        events = await follower.unheard(item.until_s)
        if item.through is not None:
            item.through.release()
        return events

    async def _patiently(self, lane: Lane, stage: str, call: Callable[[], Awaitable[Result]]) -> Result | None:
        """The call's result, however long Milvus is away; None if the daemon stops meanwhile."""
        wait_s = 0.25
        # A stopping daemon does not ask again what takes long to fail.
        while not (self._closing and lane.trouble is not None):
            self._heartbeat.turn(stage)
            try:
                result = await call()
            except UnreachableError as error:
                self._metrics.search_failures.labels(error.reason).inc()
                if lane.trouble is None:
                    log.warning("searches wait: %s", error, extra={"action": "searches_wait"})
                    self._metrics.milvus_up.set(0)
                    if isinstance(lane.queue, Backlog):
                        lane.queue.hold()
                lane.troubles[stage] = str(error)
                if not self._closing:
                    await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            else:
                if lane.troubles.pop(stage, None) is not None and lane.trouble is None:
                    waiting = len(lane.queue)
                    words = {"action": "searches_answered", "windows": waiting}
                    log.info("searches are answered again, %d windows wait", waiting, extra=words)
                    self._metrics.milvus_up.set(0 if self.trouble else 1)
                    if isinstance(lane.queue, Backlog):
                        lane.queue.release()
                return result
        return None

    async def _refresh(self, lane: Lane) -> None:
        """References added or removed by a loader are seen within seconds."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                changed = await lane.reader.refresh()
            except UnreachableError as error:
                self._metrics.store_failures.labels(error.reason).inc()
                continue
            if changed:
                self._desks.changed(lane.name)
                self._count_catalogs()

    # -- counting ----------------------------------------------------------------------------------------------------

    def _count_catalogs(self) -> None:
        references = [reference for lane in self._lanes.values() for reference in lane.reader.references.values()]
        self._metrics.catalog_references.set(len(references))
        self._metrics.catalog_windows.set(sum(reference.windows for reference in references))

    def _dropped(self, reason: DropReason, stream: str) -> None:
        if (listener := self._listeners.get(stream)) is not None:
            listener.lost(reason)
            return
        self._metrics.windows_dropped.labels(stream, reason).inc()
        now_s = time.monotonic()
        if reason is not DropReason.SHUTDOWN and now_s - self._said_dropped_s >= _SAY_DROPPED_S:
            self._said_dropped_s = now_s
            words = {"action": "windows_dropped", "reason": reason, "stream": stream}
            log.error("windows are dropped (%s): this machine cannot keep up, or Milvus", reason, extra=words)

    def _watch_queue(
        self, name: str, queue: FairQueue[Window | Unheard] | FairQueue[Embedded | Unheard] | Backlog
    ) -> None:
        self._metrics.queue_capacity.labels(name).set(queue.capacity)
        self._metrics.queue_length.labels(name).set_function(lambda: float(len(queue)))


def _patience_s(waiting: int) -> float:
    if waiting >= _MUCH:
        return 0.0
    return _COURTESY_S if waiting < _MOST_QUERIES else _HURRIED_COURTESY_S
