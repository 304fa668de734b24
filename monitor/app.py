"""The composition root: a configuration becomes servers, then a daemon; reload and stop.

Only here, in `deployment` and in `cli` is `Config` read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

import monitor
from monitor import config as configuration
from monitor import log
from monitor.alert.attempt import Endpoint
from monitor.alert.delivery import Deliverer
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.audio.source import SourceOptions, mask_url, open_source
from monitor.catalog.loader import rescan
from monitor.catalog.search import CatalogReader
from monitor.config import Config, Diff
from monitor.daemon.pipeline import Limits, Pipeline
from monitor.daemon.recorder import Recorder
from monitor.daemon.schedule import Schedule
from monitor.daemon.stream import Settings, Source, Stream
from monitor.deployment import Deployment, alignment_options, deploy
from monitor.embed import Embedder
from monitor.errors import ConfigError, MonitorError, UnreachableError
from monitor.metrics import Metrics
from monitor.record.listings import Listings
from monitor.record.store import Store
from monitor.servers.directory import daemon_lock, default_data_dir, prepare
from monitor.types import MatchEvent, MatchState, StreamState
from monitor.web.api import create_app
from monitor.web.server import WebServer

logger = logging.getLogger(__name__)

#: From SIGTERM to the end of the process.
_STOP_S = 25.0
_RETRY_S = 2.0
_SUMMARY_EVERY_S = 300.0
_UPKEEP_HOUR = 3


class Daemon:
    """`monitor run`: everything that lives as long as the process."""

    def __init__(self, deployment: Deployment, *, config_path: Path | None) -> None:
        self._deployment, self._config, self._config_path = deployment, deployment.config, config_path
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._metrics = Metrics(self._registry)
        self._store = Store(deployment.pool)
        self._deliverer = Deliverer(pool=deployment.pool, endpoints=_endpoints(self._config), metrics=self._metrics)
        self._recorder = Recorder(
            store=self._store,
            metrics=self._metrics,
            subscribers=lambda: self._deliverer.endpoints,
            on_recorded=self._recorded,
            on_stale=self._taken_over,
        )
        limits = self._config.pipeline
        self._pipeline = Pipeline(
            recorder=self._recorder,
            metrics=self._metrics,
            limits=Limits(
                batch_windows=limits.batch_windows,
                windows_capacity=limits.windows_capacity,
                backlog_s=limits.backlog_s,
                search_interval_s=limits.search_interval_s,
            ),
            options=alignment_options(self._config),
            top_k=self._config.match.top_k,
        )
        self._schedule = Schedule(on_bug=self._bug)
        self._streams: dict[str, Stream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._embedders: dict[str, Embedder] = {}
        self._playing: dict[str, dict[str, MatchEvent]] = {}
        #: Streams that another daemon has begun to listen to.
        self._taken: set[str] = set()
        self._stopping = asyncio.Event()
        self._started = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._crash: BaseException | None = None

    # -- the life of the process -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Build, listen until `stop`, end within 25 s. Raises what made it impossible to go on."""
        web = WebServer(
            create_app(
                daemon=self,
                registry=self._registry,
                listings=Listings(self._deployment.pool),
                token=self._token,
            ),
            host=self._config.http.host,
            port=self._config.http.port,
        )
        serving = self._own(web.run(), "web")
        try:
            await self._begin(web)
            await self._stopping.wait()
            await self._drain()
        finally:
            for task in (*self._tasks.values(), *self._stages()):
                task.cancel()
            await web.stop(serving)
        if self._crash is not None:
            raise self._crash

    async def _begin(self, web: WebServer) -> None:
        """Start, unless told to stop before that is done."""
        starting = asyncio.create_task(self._start(web), name="start")
        told = asyncio.create_task(self._stopping.wait(), name="told to stop")
        try:
            await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            starting.cancel()
            told.cancel()
        with suppress(asyncio.CancelledError):
            await starting

    async def _start(self, web: WebServer) -> None:
        await self._open_catalogs()
        self._metrics.build.info(
            {
                "version": monitor.__version__,
                "model_id": ",".join(sorted(embedder.model_id for embedder in self._embedders.values())),
            }
        )
        for endpoint in self._deliverer.endpoints:
            self._metrics.add_endpoint(endpoint.name)
        self._recording = self._own(self._recorder.run(), "record")
        self._piping = self._own(self._pipeline.run(), "pipeline")
        self._delivering = self._own(self._deliverer.run(), "deliver")
        for stream in self._config.streams:
            await self._add_stream(stream)
        self._plan()
        self._schedule.start()
        self._loaded(time.time())
        self._started.set()
        host, port = web.address
        logger.info(
            "listening to %d streams; http://%s:%d/",
            len(self._streams),
            host,
            port,
            extra={"action": "started", "pid": os.getpid()},
        )

    async def _open_catalogs(self) -> None:
        for catalog in self._config.catalogs:
            name = str(catalog.embedder)
            if name not in self._embedders:
                self._embedders[name] = await asyncio.to_thread(self._deployment.load_embedder, name)
            reader = await CatalogReader.open(
                name=catalog.name,
                pool=self._deployment.pool,
                milvus_uri=self._deployment.milvus_uri,
                milvus_token=self._deployment.milvus_token,
                embedder=self._embedders[name],
            )
            self._pipeline.add_catalog(
                name=catalog.name,
                model=name,
                embedder=self._embedders[name],
                reader=reader,
                calibration=self._deployment.load_calibration(name, self._embedders[name]),
            )

    async def _drain(self) -> None:
        """Streams, then what waits in the stages, then the log, then what deliveries fit: 25 s in all."""
        logger.info("stopping", extra={"action": "stopping"})
        began = time.monotonic()
        self._schedule.stop()
        if self._crash is not None or not self._stages():
            return
        try:
            async with asyncio.timeout(_STOP_S - 8), self._reloading:
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)
                self._pipeline.close()
                await asyncio.wait([self._piping])
                await self._recorder.close()
                await asyncio.wait([self._recording])
        except TimeoutError:
            logger.error("not all was written in time", extra={"action": "stop_incomplete"})
        await self._deliverer.drain(max(min(5.0, _STOP_S - 4 - (time.monotonic() - began)), 0.1))
        self._delivering.cancel()
        with suppress(asyncio.CancelledError):
            await self._delivering
        logger.info("stopped after %.1f s", time.monotonic() - began, extra={"action": "stopped"})

    def _own(self, work: Any, name: str) -> asyncio.Task[None]:
        """A shared stage: if it fails, the process ends with that failure."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._bug(error)

    def _bug(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):  # a group of tasks failed: its first failure has the exit code
            error = error.exceptions[0]
        logger.critical("a stage failed: %s", error, exc_info=error, extra={"action": "crash"})
        self._crash = self._crash or error
        self._stopping.set()

    def _stages(self) -> list[asyncio.Task[None]]:
        names = ("_recording", "_piping", "_delivering")
        return [task for name in names if (task := getattr(self, name, None)) is not None]

    def stop(self) -> None:
        """`run` ends in good order; told twice, the process ends at once."""
        if self._stopping.is_set():
            logger.error("second signal: ending at once", extra={"action": "killed"})
            os._exit(1)
        self._stopping.set()

    # -- streams -----------------------------------------------------------------------------------------------------

    async def _add_stream(self, stream: configuration.Stream) -> None:
        name, catalogs = stream.name, tuple(catalog.name for catalog in self._config.catalogs_of(stream))
        self._metrics.add_stream(name)
        self._recorder.epochs[name] = epoch = await self._store.begin_listening(name)
        await self._store.close_matches(
            name, epoch=epoch, decided_s=time.time(), webhooks=self._deliverer.endpoints, except_catalogs=catalogs
        )
        open_matches = await self._store.open_matches(name)
        confirmed = [match for match in open_matches if match.state is MatchState.CONFIRMED]
        self._metrics.matches_open.labels(name).set(len(open_matches))
        self._metrics.infringements_active.labels(name).set(len(confirmed))
        self._pipeline.attach(name, catalogs, open_matches)
        options = SourceOptions(
            headers=stream.request_headers,
            user_agent=stream.user_agent,
            stall_timeout_s=stream.stall_timeout_s,
            connect_timeout_s=stream.connect_timeout_s,
            tls_verify=stream.tls_verify,
            protocols=stream.protocols,
            realtime=True,
        )
        self._streams[name] = Stream(
            settings=Settings(
                name=name,
                addresses=stream.addresses,
                catalogs=catalogs,
                paused=stream.paused,
                silence_after_s=stream.silence_after_s,
                silence_dbfs=stream.silence_dbfs,
            ),
            open_source=partial(_open, self._deployment.ffmpeg, options),
            models=self._pipeline.models_of(catalogs),
            submit=self._pipeline.submit,
            unheard=partial(self._pipeline.unheard, name),
            recorder=self._recorder,
            metrics=self._metrics,
            heard_until_s=await self._store.heard_until(name),
        )
        task = asyncio.create_task(self._streams[name].run(), name=f"stream {name}")
        task.add_done_callback(self._ended)
        self._tasks[name] = task

    async def _add_patiently(self, stream: configuration.Stream) -> None:
        """The stream is listened to, however long PostgreSQL is away, unless the daemon stops meanwhile."""
        while not self._stopping.is_set():
            try:
                await self._add_stream(stream)
            except UnreachableError as error:
                logger.warning("%s waits: %s", stream.name, error, extra={"action": "stream_waits"})
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _RETRY_S)
            else:
                return

    async def _remove_stream(self, name: str, *, goes_on: bool = False) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for event in await self._pipeline.detach(name, time.time(), goes_on=goes_on):
            await self._recorder.put(event)
        # Without its epoch what waits could not be written any more.
        while not await self._recorder.settle():
            if self._stopping.is_set():
                return
        del self._streams[name]
        self._recorder.epochs.pop(name, None)
        self._taken.discard(name)
        self._playing.pop(name, None)
        self._metrics.remove_stream(name)
        logger.info("%s is not listened to any more", name, extra={"action": "stream_removed", "stream": name})

    def _taken_over(self, name: str) -> None:
        """Another daemon listens to the stream now, and goes on with its matches: this one stops."""
        if name in self._tasks:
            self._tasks[name].cancel()
        self._taken.add(name)
        self._pipeline.forget(name)
        self._playing.pop(name, None)
        self._metrics.matches_open.labels(name).set(0)
        self._metrics.infringements_active.labels(name).set(0)

    def _recorded(self, events: list[MatchEvent]) -> None:
        if any(event.changed for event in events):
            self._deliverer.wake()
        for event in events:
            match = event.match
            playing = self._playing.setdefault(match.stream, {})
            if match.state in {MatchState.PROVISIONAL, MatchState.CONFIRMED}:
                playing[str(match.match_id)] = event
            else:
                playing.pop(str(match.match_id), None)
            if event.changed:
                logger.info(
                    "%s: %s %s from second %.1f",
                    match.stream,
                    match.reference_id,
                    match.state,
                    match.reference_start_s,
                    extra={"action": f"match_{match.state}", "stream": match.stream, "match_id": str(match.match_id)},
                )

    # -- reload ------------------------------------------------------------------------------------------------------

    async def reload(self) -> dict[str, list[str]]:
        """Take over the configuration file, once started: all that can fail is done before anything changes."""
        await self._started.wait()
        async with self._reloading:
            try:
                if self._stopping.is_set():
                    raise UnreachableError("the daemon is stopping: start it again with the new configuration")
                if self._recorder.trouble is not None:
                    raise UnreachableError(f"the configuration stays as it was: {self._recorder.trouble}")
                new = configuration.load(self._config_path, environ=os.environ, data_dir=self._deployment.data_dir)
                changes = configuration.diff(self._config, new)
                if changes.refused:
                    raise ConfigError(
                        f"these keys cannot change while the daemon runs, restart it: {', '.join(changes.refused)}"
                    )
                Deliverer(pool=self._deployment.pool, endpoints=_endpoints(new), metrics=self._metrics)
            except MonitorError:
                self._metrics.reload_successful.set(0)
                raise
            await self._take_over(new, changes)
            self._loaded(time.time())
            return _described(changes)

    async def _take_over(self, new: Config, changes: Diff) -> None:
        old = self._config
        self._config = new
        log.configure(new.log.level, new.log.format, secrets=new.secrets)
        self._pipeline.set_options(alignment_options(new), top_k=new.match.top_k)
        before, after = ({webhook.name for webhook in config.webhooks} for config in (old, new))
        for name in after - before:
            self._metrics.add_endpoint(name)
        self._deliverer.replace(_endpoints(new))
        for name in before - after:
            self._metrics.remove_endpoint(name)
        for name in changes.streams_removed:
            await self._remove_stream(name)
        for name in changes.streams_changed:
            await self._remove_stream(name, goes_on=True)
        by_name = {stream.name: stream for stream in new.streams}
        for name in (*changes.streams_changed, *changes.streams_added):
            await self._add_patiently(by_name[name])
        logger.info("configuration taken over", extra={"action": "reloaded", **_described(changes)})

    def reload_on_signal(self) -> None:
        """Reload; the log alone is told why not."""

        async def reload() -> None:
            try:
                await self.reload()
            except MonitorError as error:
                logger.error("%s", error, extra={"action": "reload_refused"})

        self._own(reload(), "reload")

    def _loaded(self, now_s: float) -> None:
        self._metrics.reload_successful.set(1)
        self._metrics.reload_timestamp.set(now_s)

    def _token(self) -> str | None:
        token = self._config.http.token
        return token.get_secret_value() if token else None

    # -- what the faces ask ------------------------------------------------------------------------------------------

    def unready(self) -> dict[str, str]:
        """Why the daemon is not doing its whole job, by part."""
        if self._stopping.is_set():
            return {"daemon": "stopping"}
        if not self._started.is_set():
            return {"daemon": "starting"}
        reasons = {f"catalog {name}": trouble for name, trouble in self._pipeline.trouble.items()}
        if self._recorder.trouble is not None:
            reasons["postgres"] = self._recorder.trouble
        return reasons | {f"stream {name}": "another daemon listens to it" for name in sorted(self._taken)}

    def streams(self) -> list[dict[str, Any]]:
        """Each stream as it is now."""
        return [
            {
                "name": name,
                "state": stream.status.state.value,
                "reason": stream.status.reason,
                "detail": stream.status.detail,
                "since_s": stream.status.since_s,
                "up": stream.status.state in {StreamState.RECEIVING, StreamState.SILENT},
                "level_dbfs": stream.level_dbfs if math.isfinite(stream.level_dbfs) else None,
                "addresses": [mask_url(address) for address in stream.settings.addresses],
                "playing": [
                    {
                        "match_id": match_id,
                        "reference_id": event.match.reference_id,
                        "state": event.match.state.value,
                        "start_s": event.match.start_s,
                        "reference_start_s": event.match.reference_start_s,
                    }
                    for match_id, event in self._playing.get(name, {}).items()
                ],
            }
            for name, stream in self._streams.items()
        ]

    # -- what is periodic --------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        self._schedule.every(_SUMMARY_EVERY_S, "summary", self._summarise)
        self._schedule.daily(_UPKEEP_HOUR, "retention", self._retain)
        for catalog in self._config.catalogs:
            if catalog.folders:
                self._schedule.every(
                    catalog.rescan_interval_s, f"rescan {catalog.name}", partial(self._rescan, catalog)
                )

    async def _summarise(self) -> None:
        heard = [name for name, stream in self._streams.items() if stream.status.state is StreamState.RECEIVING]
        logger.info(
            "%d of %d streams are heard", len(heard), len(self._streams), extra={"action": "alive", "heard": len(heard)}
        )

    async def _retain(self) -> None:
        days = self._config.retention
        gone = await self._store.retain(
            hits_days=days.hits_days,
            history_days=days.history_days,
            deliveries_days=days.deliveries_days,
            now_s=time.time(),
        )
        logger.info("what was older is gone", extra={"action": "retention", **gone})

    async def _rescan(self, catalog: configuration.Catalog) -> None:
        results = await rescan(
            catalog.folders,
            pool=self._deployment.pool,
            milvus_uri=self._deployment.milvus_uri,
            milvus_token=self._deployment.milvus_token,
            catalog=catalog.name,
            embedder=self._embedders[str(catalog.embedder)],
            ffmpeg=self._deployment.ffmpeg,
        )
        logger.info("%d files scanned", len(results), extra={"action": "rescanned", "catalog": catalog.name})


@contextmanager
def _signals(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT stop, SIGHUP reloads, for as long as the block lasts."""
    loop = asyncio.get_running_loop()
    actions = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in actions:
            loop.remove_signal_handler(number)


async def run(config: Config, *, config_path: Path | None) -> None:
    """`monitor run`: the daemon of the configuration, until it is told to stop, be it while its servers start."""
    data_dir = prepare(config.data_dir or default_data_dir())
    life = asyncio.current_task()
    daemon: Daemon | None = None
    told_to_stop = told_to_reload = False

    def stop() -> None:
        nonlocal told_to_stop
        if daemon is not None:
            daemon.stop()
        elif life is not None and not told_to_stop:
            told_to_stop = True
            life.cancel()

    def reload() -> None:
        nonlocal told_to_reload
        told_to_reload = True
        if daemon is not None:
            daemon.reload_on_signal()

    with daemon_lock(data_dir), _signals(stop, reload):
        try:
            async with deploy(config) as deployment:
                daemon = Daemon(deployment, config_path=config_path)
                if told_to_reload:
                    daemon.reload_on_signal()
                await daemon.run()
        except asyncio.CancelledError:
            if not told_to_stop:
                raise
            logger.info("stopped before it had started", extra={"action": "stopped"})


def _open(ffmpeg: FfmpegProgram, options: SourceOptions, address: str, sample_rate_hz: int) -> Source:
    return open_source(address, sample_rate_hz=sample_rate_hz, ffmpeg=ffmpeg, options=options)


def _endpoints(config: Config) -> list[Endpoint]:
    return [
        Endpoint(
            name=webhook.name,
            url=webhook.url.get_secret_value(),
            secrets=webhook.secrets,
            states=frozenset(webhook.states),
            timeout_s=webhook.timeout_s,
            headers=webhook.request_headers,
        )
        for webhook in config.webhooks
    ]


def _described(changes: Diff) -> dict[str, list[str]]:
    return {
        "added": list(changes.streams_added),
        "removed": list(changes.streams_removed),
        "changed": list(changes.streams_changed),
    }
