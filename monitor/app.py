"""The composition root: a configuration becomes servers, then a daemon; start, changes, stop.

Only here, in `reload`, `upkeep`, `deployment` and `cli` is `Config` read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from psycopg_pool import AsyncConnectionPool

import monitor
from monitor import config as configuration
from monitor import log
from monitor.alert.attempt import Endpoint
from monitor.alert.delivery import Deliverer
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.audio.source import SourceOptions, open_source
from monitor.catalog.canary import Canaries
from monitor.catalog.register import Register
from monitor.catalog.search import CatalogReader
from monitor.config import Config, Diff
from monitor.config.schema import EmbedderName
from monitor.daemon import memory
from monitor.daemon.canary import SelfTest
from monitor.daemon.clock import StreamClock
from monitor.daemon.courtesy import Courtesy
from monitor.daemon.desks import processes_by_cores
from monitor.daemon.heartbeat import Heartbeat
from monitor.daemon.listening import Listening
from monitor.daemon.notify import ServiceManager
from monitor.daemon.pipeline import Limits, Pipeline
from monitor.daemon.recorder import Recorder
from monitor.daemon.schedule import Schedule
from monitor.daemon.stability import Tolerance
from monitor.daemon.stream import Settings, Source
from monitor.deployment import Deployment, alignment_options, deploy
from monitor.embed import Embedder
from monitor.errors import MonitorError, UnreachableError
from monitor.faces import Faces
from monitor.lineup import Lineup
from monitor.metrics import Metrics
from monitor.record.journal import DeadLetters, Journal
from monitor.record.roster import Roster
from monitor.record.store import Store
from monitor.reload import Reload, described
from monitor.servers.directory import daemon_lock, default_data_dir, prepare
from monitor.serving import asking_pool, parts
from monitor.types import MatchEvent
from monitor.upkeep import Upkeep
from monitor.web.api import Parts, create_app
from monitor.web.jobs import Jobs
from monitor.web.server import WebServer

logger = logging.getLogger(__name__)

#: From SIGTERM to the end of the process.
_STOP_S = 25.0
#: At most; threads begin when they are needed.
_THREADS = 64


class Daemon:
    """`monitor run`: everything that lives as long as the process."""

    def __init__(
        self, deployment: Deployment, *, config_path: Path | None, manager: ServiceManager | None = None
    ) -> None:
        config = deployment.config
        self._deployment = deployment
        self._manager = manager or ServiceManager()
        self._heartbeat, self._courtesy = Heartbeat(), Courtesy()
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._metrics = Metrics(self._registry)
        self._store = Store(deployment.pool)
        self._deliverer = Deliverer(pool=deployment.pool, endpoints=_endpoints(config), metrics=self._metrics)
        self._recorder = Recorder(
            store=self._store,
            journal=Journal(deployment.data_dir / "journal"),
            dead_letters=DeadLetters(deployment.data_dir),
            metrics=self._metrics,
            subscribers=lambda: self._deliverer.endpoints,
            on_recorded=self._recorded,
            on_stale=self._taken_over,
            heartbeat=self._heartbeat,
        )
        limits = config.pipeline
        self._pipeline = Pipeline(
            recorder=self._recorder,
            metrics=self._metrics,
            limits=Limits(
                batch_windows=limits.batch_windows,
                windows_capacity=limits.windows_capacity,
                backlog_s=limits.backlog_s,
                search_interval_s=limits.search_interval_s,
                align_processes=processes_by_cores() if limits.align_processes is None else limits.align_processes,
            ),
            options=alignment_options(config),
            top_k=config.match.top_k,
            heartbeat=self._heartbeat,
            courtesy=self._courtesy,
            backlog_dir=deployment.data_dir / "backlog",
            lookback_dir=deployment.lookback_dir,
        )
        self._self_test = SelfTest(
            pipeline=self._pipeline,
            canaries=Canaries(
                pool=deployment.pool, milvus_uri=deployment.milvus_uri, milvus_token=deployment.milvus_token
            ),
            metrics=self._metrics,
            interval_s=config.canary.interval_s,
            alarm_after=config.canary.alarm_after,
        )
        self._schedule = Schedule(on_bug=self._bug)
        self._embedders: dict[str, Embedder] = {}
        self._stopping = asyncio.Event()
        self._started = asyncio.Event()
        self._crash: BaseException | None = None
        #: Told when matches were written.
        self._told: Callable[[], None] = lambda: None
        self._clock = StreamClock()
        self._metrics.clock_ahead.set_function(self._clock.ahead_s)
        self._metrics.clock_steps.set_function(lambda: self._clock.steps_total)
        self._listening = Listening(
            store=self._store,
            recorder=self._recorder,
            pipeline=self._pipeline,
            metrics=self._metrics,
            webhooks=lambda: self._deliverer.endpoints,
            stopping=self._stopping,
            on_ended=self._ended,
            now=self._clock,
        )
        self._reload = Reload(
            config,
            path=config_path,
            data_dir=deployment.data_dir,
            metrics=self._metrics,
            check=self._may_reload,
            prove=self._prove,
            take_over=self._take_over,
        )
        self._lineup = Lineup(
            roster=Roster(deployment.pool),
            config=lambda: self._config,
            listening=self._listening,
            listen=self._listen,
            lock=self._reload.lock,
            check=self._may_reload,
        )
        self._upkeep = Upkeep(
            deployment,
            schedule=self._schedule,
            store=self._store,
            listening=self._listening,
            embedders=self._embedders,
            metrics=self._metrics,
        )

    # -- the life of the process -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Build, listen until `stop`, end within 25 s. Raises what made it impossible to go on."""
        async with asking_pool(self._deployment.postgres_dsn) as pool:
            faces = self._parts(pool)
            self._told = faces.written
            await asyncio.to_thread(faces.spool.clear)
            web = WebServer(create_app(faces), host=self._config.http.host, port=self._config.http.port)
            serving = self._own(web.run(), "web")
            telling = self._own(faces.events.run(), "events")
            loading = self._own(self._load(faces.jobs), "jobs")
            try:
                await self._begin(web)
                await self._stopping.wait()
                loading.cancel()
                await self._drain()
            finally:
                for task in (loading, telling, *self._listening.tasks, *self._stages()):
                    task.cancel()
                faces.events.close()
                await web.stop(serving)
                await asyncio.wait([loading, telling])
        if self._crash is not None:
            raise self._crash

    async def _load(self, jobs: Jobs) -> None:
        """Do the jobs of the faces, once started."""
        await self._started.wait()
        await jobs.clear_leftovers()
        await jobs.run()

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
        await self._recorder.settle(None)  # what an earlier life could not write, under its own epochs
        for stream in await self._lineup.load(stopping=self._stopping):
            await self._listen(stream)
        self._pipeline.resume()
        log.configure(self._config.log.level, self._config.log.format, secrets=self._lineup.secrets(self._config))
        self._testing = self._own(self._self_test.run(), "self-test")
        self._upkeep.plan()
        self._schedule.start()
        self._reload.loaded()
        self._started.set()
        host, port = web.address
        logger.info(
            "listening to %d streams; http://%s:%d/",
            len(self._listening),
            host,
            port,
            extra={"action": "started", "pid": os.getpid()},
        )
        self._manager.ready(self._status())
        self._watching = self._own(
            self._manager.watch(stuck=self._heartbeat.stuck, status=self._status), "service manager"
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
            # How well PANNs hears a degraded song was never measured: a test that cries wolf is worth nothing.
            if catalog.embedder is EmbedderName.FINGERPRINT:
                self._self_test.add_catalog(reader=reader, model=name, embedder=self._embedders[name])

    async def _drain(self) -> None:
        """Streams, then what waits in the stages, then the log, then what deliveries fit: 25 s in all."""
        logger.info("stopping", extra={"action": "stopping"})
        self._manager.stopping()
        began = time.monotonic()
        self._schedule.stop()
        if self._crash is not None or not self._stages():
            return
        try:
            async with asyncio.timeout(_STOP_S - 8), self._reload.lock:
                if (testing := getattr(self, "_testing", None)) is not None:
                    testing.cancel()
                await self._listening.end()
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
        names = ("_recording", "_piping", "_delivering", "_watching", "_testing")
        return [task for name in names if (task := getattr(self, name, None)) is not None]

    def stop(self) -> None:
        """`run` ends in good order; told twice, the process ends at once."""
        if self._stopping.is_set():
            logger.error("second signal: ending at once", extra={"action": "killed"})
            os._exit(1)
        self._stopping.set()

    # -- streams -----------------------------------------------------------------------------------------------------

    async def _listen(self, stream: configuration.Stream) -> None:
        await self._listening.add_patiently(*self._listen_to(stream))

    def _listen_to(self, stream: configuration.Stream) -> tuple[Settings, Callable[[str, int], Source]]:
        """What `Listening` is told of a configured stream."""
        settings = Settings(
            name=stream.name,
            addresses=stream.addresses,
            catalogs=tuple(catalog.name for catalog in self._config.catalogs_of(stream)),
            paused=stream.paused,
            silence_after_s=stream.silence_after_s,
            silence_dbfs=stream.silence_dbfs,
            tolerance=Tolerance(
                blip_s=stream.blip_s, failures=stream.flapping_failures, window_s=stream.flapping_window_s
            ),
        )
        options = SourceOptions(
            headers=stream.request_headers,
            user_agent=stream.user_agent,
            stall_timeout_s=stream.stall_timeout_s,
            connect_timeout_s=stream.connect_timeout_s,
            tls_verify=stream.tls_verify,
            ca_file=None if stream.ca_file is None else str(stream.ca_file),
            protocols=stream.protocols,
            realtime=True,
            egress=self._lineup.egress(stream.name),
        )
        return settings, partial(_open, self._deployment.ffmpeg, options, self._clock)

    def _taken_over(self, name: str) -> None:
        self._listening.taken_over(name)

    def _recorded(self, events: list[MatchEvent]) -> None:
        if any(event.changed for event in events):
            self._deliverer.wake()
        self._listening.recorded(events)
        self._told()

    # -- reload ------------------------------------------------------------------------------------------------------

    async def reload(self) -> dict[str, list[str]]:
        """Take over the configuration file, once started."""
        await self._started.wait()
        self._manager.reloading()
        try:
            return await self._reload()
        finally:
            if not self._stopping.is_set():
                self._manager.ready(self._status())

    @property
    def _config(self) -> Config:
        return self._reload.config

    def _may_reload(self) -> None:
        if not self._started.is_set():
            raise UnreachableError("the daemon is starting: come back soon")
        if self._stopping.is_set():
            raise UnreachableError("the daemon is stopping: start it again with the new configuration")
        if self._recorder.trouble is not None:
            raise UnreachableError(f"the configuration stays as it was: {self._recorder.trouble}")

    def _prove(self, new: Config) -> None:
        self._lineup.refuse_clashes(new)
        Deliverer(pool=self._deployment.pool, endpoints=_endpoints(new), metrics=self._metrics)

    async def _take_over(self, old: Config, new: Config, changes: Diff) -> None:
        log.configure(new.log.level, new.log.format, secrets=self._lineup.secrets(new))
        self._pipeline.set_options(alignment_options(new), top_k=new.match.top_k)
        before, after = ({webhook.name for webhook in config.webhooks} for config in (old, new))
        for name in after - before:
            self._metrics.add_endpoint(name)
        self._deliverer.replace(_endpoints(new))
        for name in before - after:
            self._metrics.remove_endpoint(name)
        for name in changes.streams_removed:
            await self._listening.remove(name)
        for name in changes.streams_changed:
            await self._listening.remove(name, goes_on=True)
        by_name = {stream.name: stream for stream in new.streams}
        for name in (*changes.streams_changed, *changes.streams_added):
            await self._listen(self._lineup.now(by_name[name]))
        logger.info("configuration taken over", extra={"action": "reloaded", **described(changes)})

    def reload_on_signal(self) -> None:
        """Reload; the log alone is told why not."""

        async def reload() -> None:
            try:
                await self.reload()
            except MonitorError as error:
                logger.error("%s", error, extra={"action": "reload_refused"})

        self._own(reload(), "reload")

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
        reasons |= {f"self-test {name}": trouble for name, trouble in self._self_test.trouble.items()}
        if self._recorder.trouble is not None:
            reasons["postgres"] = self._recorder.trouble
        if self._recorder.no_room is not None:
            reasons["journal"] = self._recorder.no_room
        return reasons | {f"stream {name}": "another daemon listens to it" for name in sorted(self._listening.taken)}

    def streams(self) -> list[dict[str, Any]]:
        """Each stream as it is now."""
        return self._listening.described()

    def _status(self) -> str:
        """The daemon in a line, for the service manager."""
        streams = self.streams()
        heard = f"{sum(stream['up'] for stream in streams)} of {len(streams)} streams are heard"
        return "; ".join([heard, *(f"{part}: {reason}" for part, reason in self.unready().items())])

    def _parts(self, pool: AsyncConnectionPool[Any]) -> Parts:
        """What the faces stand on."""
        faces = Faces(
            self._deployment,
            config=lambda: self._config,
            listening=self._listening,
            pipeline=self._pipeline,
            metrics=self._metrics,
            embedders=self._embedders,
            unready=self.unready,
            reload=self.reload,
            wake_deliveries=self._deliverer.wake,
            lineup=self._lineup,
            register=Register(pool),
        )
        return parts(
            faces,
            deployment=self._deployment,
            pool=pool,
            registry=self._registry,
            courtesy=self._courtesy,
            token=self._token,
        )


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
    memory.keep_together()
    # A name that does not resolve holds a thread for long: searches and other webhooks do not wait for it.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "monitor"))
    data_dir = prepare(config.data_dir or default_data_dir())
    life = asyncio.current_task()
    daemon: Daemon | None = None
    told_to_stop = told_to_reload = False
    manager = ServiceManager.from_environment(os.environ)

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
            manager.status("starting")
            async with deploy(config) as deployment:
                daemon = Daemon(deployment, config_path=config_path, manager=manager)
                if told_to_reload:
                    daemon.reload_on_signal()
                await daemon.run()
        except asyncio.CancelledError:
            if not told_to_stop:
                raise
            logger.info("stopped before it had started", extra={"action": "stopped"})


def _open(
    ffmpeg: FfmpegProgram, options: SourceOptions, now: Callable[[], float], address: str, sample_rate_hz: int
) -> Source:
    return open_source(address, sample_rate_hz=sample_rate_hz, ffmpeg=ffmpeg, options=options, now=now)


def _endpoints(config: Config) -> list[Endpoint]:
    return [
        Endpoint(
            name=webhook.name,
            url=webhook.url.get_secret_value(),
            secrets=webhook.secrets,
            states=frozenset(webhook.states),
            timeout_s=webhook.timeout_s,
            rate_per_s=webhook.rate_per_s,
            headers=webhook.request_headers,
        )
        for webhook in config.webhooks
    ]
