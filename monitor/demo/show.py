"""The demo from curtain to curtain: recordings, catalog, stations, the daemon as its own process, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.demo import library, report, station
from monitor.demo.library import Library
from monitor.demo.programme import Programme, demo_programmes
from monitor.demo.report import Found, Report
from monitor.demo.station import Station
from monitor.errors import MonitorError
from monitor.servers.client import embedded
from monitor.servers.directory import KEEPER_LOCK

#: From the stations' scheduling to their first sound.
_LEAD_S = 2.0
#: Listeners are connected so long before the programme begins that every burst is silence.
_SETTLE_S = 3.0
_LISTENING_TIMEOUT_S = 60.0
#: How long after the programme the last match may take to end.
_AFTERMATH_S = 20.0
_DAEMON_STOP_S = 25.0
_SERVERS_STOP_S = 30.0
_POLL_S = 0.5
_LISTENING = ("receiving", "silent")
_OPEN = ("provisional", "confirmed")
_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What `monitor demo` was asked for."""

    seed: int
    #: A folder with the user's recordings; None composes some.
    audio: Path | None
    #: Where state lies; None takes a temporary directory that is gone afterwards.
    data_dir: Path | None
    as_json: bool
    keep: bool
    #: Take every reference out of the catalog again before the broadcast: the verdict must then be bad.
    empty_catalog: bool


class InterruptedDemoError(MonitorError):
    """Somebody ended the demo before its verdict."""

    exit_code = _INTERRUPTED


async def show(options: Options) -> int:
    """Run the demo and return its exit code: 0 only if every airing was found once and nothing else was.

    The last thing on standard output is the table, or with `as_json` one JSON object. Afterwards no process is left,
    and no file unless a data directory was named.
    """
    stop = asyncio.Event()
    stage = _Stage(options, stop)
    acting = asyncio.create_task(stage.run(), name="demo")
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if not stage.keeping:
            acting.cancel()
        stop.set()

    for request in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(request, interrupt)
    try:
        return await acting
    except BaseExceptionGroup as group:
        # Whatever ended the broadcast, one sentence of it is enough.
        raise _first_of(group) from None
    except asyncio.CancelledError:
        if stop.is_set():
            raise InterruptedDemoError("the demo was interrupted; nothing of it is left running") from None
        raise
    finally:
        for request in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(request)


def _first_of(error: BaseException) -> BaseException:
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


class _Stage:
    def __init__(self, options: Options, stop: asyncio.Event) -> None:
        self._options = options
        self._stop = stop
        self._began_s = time.monotonic()
        #: True once the verdict has been shown and only somebody's wish ends the demo.
        self.keeping = False

    def say(self, text: str) -> None:
        """Progress, with the seconds since the beginning; on standard error where standard output is for a program."""
        print(
            f"[{time.monotonic() - self._began_s:5.1f} s] {text}",
            file=sys.stderr if self._options.as_json else sys.stdout,
            flush=True,
        )

    async def run(self) -> int:
        options = self._options
        ffmpeg = await asyncio.to_thread(find_ffmpeg)
        with _workplace(options.data_dir) as place:
            async with _servers(place.data_dir) as dsn:
                place.files.mkdir(exist_ok=True)
                if options.audio is None:
                    self.say(f"composing a dozen pieces and some strangers (seed {options.seed})")
                    recordings = await library.composed(place.files, options.seed)
                else:
                    self.say(f"choosing recordings from {options.audio} (seed {options.seed})")
                    recordings = await library.own(
                        place.files, options.audio, options.seed, ffmpeg=ffmpeg, say=self.say
                    )
                return await self._broadcast(place, dsn, recordings, ffmpeg)

    async def _broadcast(self, place: _Workplace, dsn: str, recordings: Library, ffmpeg: FfmpegProgram) -> int:
        stations = [
            Station(name="radio-one", audio=station.mp3(128), ffmpeg=ffmpeg),
            Station(name="radio-two", audio=station.aac(64), ffmpeg=ffmpeg),
            Station(name="radio-three", audio=station.opus(48), ffmpeg=ffmpeg),
        ]
        programmes = await asyncio.to_thread(
            demo_programmes,
            [one.name for one in stations],
            catalogued=recordings.catalogued,
            uncatalogued=recordings.uncatalogued,
            ffmpeg=ffmpeg,
            seed=self._options.seed,
        )
        catalog = f"demo-{hashlib.sha256(await asyncio.to_thread(recordings.manifest.read_bytes)).hexdigest()[:8]}"
        async with station.on_air(stations) as address:
            port = _free_port()
            page = f"http://127.0.0.1:{port}/"
            config, log = place.files / "monitor.yaml", place.files / "daemon.log"
            urls = {one.name: address + one.path for one in stations}
            _write_config(config, catalog=catalog, urls=urls, port=port)
            command = _Command(config=config, data_dir=place.data_dir)
            await self._load(command, recordings, catalog)
            since_s = time.time()
            async with (
                await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
                _daemon(command, log) as daemon,
            ):
                self.say(f"the daemon runs as process {daemon.pid}; page {page} metrics {page}metrics")
                for name, url in urls.items():
                    self.say(f"{name}: {url}")
                await _until_listening(connection, stations, daemon, log, since_s)
                on_air_s = time.time() + _LEAD_S
                for one, programme in zip(stations, programmes, strict=True):
                    one.schedule(programme.samples, on_air_s=on_air_s, repeat=self._options.keep)
                follower = _Follower(connection, catalog, recordings, on_air_s, self.say)
                async with asyncio.TaskGroup() as tasks:
                    for one, programme in zip(stations, programmes, strict=True):
                        tasks.create_task(self._drop(one, programme, on_air_s), name=f"outage of {one.name}")
                    longest_s = max(programme.duration_s for programme in programmes)
                    self.say(f"on the air: {len(stations)} stations for {longest_s:.0f} s")
                    await follower.follow(until_s=on_air_s + longest_s, daemon=daemon, log=log)
                await follower.settle(until_s=time.time() + _AFTERMATH_S)
                until_s = on_air_s + longest_s
                stopped = True
                if not self._options.keep:
                    stopped = await self._end(daemon)
                verdict = _judge(programmes, await follower.rows(until_s), on_air_s)
                self._show(verdict, page=page, urls=urls, stopped=stopped)
                if self._options.keep:
                    self.say(f"staying up: {page} and {page}metrics; Ctrl-C ends the demo")
                    self.keeping = True
                    await self._stop.wait()
                    stopped = await self._end(daemon)
        return 0 if verdict.passed and stopped else 1

    async def _load(self, command: _Command, recordings: Library, catalog: str) -> None:
        self.say(f"monitor catalog add: {len(recordings.catalogued)} references")
        await command.run("catalog", "add", "--catalog", catalog, "--manifest", str(recordings.manifest), "--json")
        if self._options.empty_catalog:
            identifiers = [str(recording.reference_id) for recording in recordings.catalogued]
            self.say("monitor catalog remove: every one of them")
            await command.run("catalog", "remove", "--catalog", catalog, *identifiers, "--json")

    async def _drop(self, one: Station, programme: Programme, on_air_s: float) -> None:
        if programme.outage is None:
            return
        await asyncio.sleep(on_air_s + programme.outage.start_s - time.time())
        self.say(f"{one.name} drops its listeners for {programme.outage.duration_s:.1f} s; its broadcast goes on")
        one.drop_listeners(programme.outage.duration_s)

    async def _end(self, daemon: asyncio.subprocess.Process) -> bool:
        """Ask the daemon to stop; True if it did so in time and with status 0."""
        began_s = time.monotonic()
        if daemon.returncode is None:
            daemon.terminate()
        try:
            async with asyncio.timeout(_DAEMON_STOP_S):
                status = await daemon.wait()
        except TimeoutError:
            self.say(f"the daemon did not stop within {_DAEMON_STOP_S:.0f} s of SIGTERM")
            return False
        self.say(f"the daemon stopped {time.monotonic() - began_s:.1f} s after SIGTERM with status {status}")
        return status == 0

    def _show(self, verdict: Report, *, page: str, urls: dict[str, str], stopped: bool) -> None:
        if self._options.as_json:
            answer = {
                **report.as_json(verdict),
                "passed": verdict.passed and stopped,
                "seed": self._options.seed,
                "elapsed_s": round(time.monotonic() - self._began_s, 1),
                "streams": urls,
                "page": page,
                "metrics": f"{page}metrics",
            }
            print(json.dumps(answer), flush=True)
        else:
            print(f"\n{report.table(verdict)}\n\n{report.summary(verdict)}", flush=True)
            self.say(f"page {page} metrics {page}metrics")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Command:
    """The program `monitor` as anybody would start it: with a configuration and a data directory."""

    config: Path
    data_dir: Path

    async def start(self, *words: str, output: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "monitor", *words, "-c", str(self.config), "--data-dir", str(self.data_dir)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")},
            # Ctrl-C is the demo's to hear; it then ends its children in order.
            start_new_session=True,
        )

    async def run(self, *words: str) -> dict[str, Any]:
        """Its JSON answer. Raises MonitorError with its last words if it fails."""
        process = await self.start(*words, output=asyncio.subprocess.PIPE)
        try:
            answer, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().splitlines()[-3:]
            raise MonitorError(
                f"monitor {words[0]} {words[1]} ended with status {process.returncode}: {' '.join(last)}"
            )
        decoded: dict[str, Any] = json.loads(answer)
        return decoded


class _Follower:
    """Reads the match log while it grows, and says what is new in it."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        catalog: str,
        recordings: Library,
        since_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._titles = {recording.reference_id: recording.title for recording in recordings.catalogued}
        self._since_s = since_s
        self._say = say
        self._said: set[tuple[str, str]] = set()

    async def follow(self, *, until_s: float, daemon: asyncio.subprocess.Process, log: Path) -> None:
        """Until that Unix time; raises MonitorError if the daemon ends meanwhile."""
        while time.time() < until_s:
            _check_alive(daemon, log)
            await self._look()
            await asyncio.sleep(_POLL_S)

    async def settle(self, *, until_s: float) -> None:
        """Until every match has ended or been retracted, at the latest until that Unix time."""
        while any(row.state in _OPEN for row in await self._look()):
            if time.time() > until_s:
                return
            await asyncio.sleep(_POLL_S)

    async def rows(self, until_s: float) -> list[Found]:
        """The rows of the broadcast: those that began before that Unix time or soon after."""
        latest_s = until_s + report.LATENCY_LIMITS_S[1]
        return [row for row in await self._look() if row.start_s < latest_s]

    async def _look(self) -> list[Found]:
        rows = await report.read_found(self._connection, catalog=self._catalog, since_s=self._since_s - 10)
        for row in rows:
            if (str(row.match_id), row.state) not in self._said and row.state != "provisional":
                self._said.add((str(row.match_id), row.state))
                self._say(self._line(row))
        return rows

    def _line(self, row: Found) -> str:
        title = self._titles.get(row.reference_id, row.reference_id)
        span = f"{row.start_s - self._since_s:.1f} s"
        if row.state == "confirmed":
            where = f"from {row.reference_start_s:.1f} s of it, since {span}"
        else:
            where = f"{span} to {row.end_s - self._since_s:.1f} s"
        return f"{row.stream} {row.state}: {title}, {where} (score {row.score:.2f})"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Workplace:
    #: The demo's own files: recordings, configuration, the daemon's log.
    files: Path
    data_dir: Path


@contextlib.contextmanager
def _workplace(data_dir: Path | None) -> Iterator[_Workplace]:
    if data_dir is not None:
        yield _Workplace(files=data_dir / "demo", data_dir=data_dir)
        return
    place = Path(tempfile.mkdtemp(prefix="monitor-demo-"))
    try:
        # PostgreSQL's user, which root's servers run as, must be able to pass, and to read nothing.
        place.chmod(0o711)
        yield _Workplace(files=place, data_dir=place / "data")
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.asynccontextmanager
async def _servers(data_dir: Path) -> AsyncIterator[str]:
    """The embedded servers; afterwards, if nobody else uses them, they have ended."""
    try:
        async with embedded(data_dir, linger_s=0) as addresses:
            yield addresses.postgres_dsn
    finally:
        with contextlib.suppress(TimeoutError, FileNotFoundError):
            async with asyncio.timeout(_SERVERS_STOP_S):
                await _until_unlocked(data_dir / KEEPER_LOCK)


async def _until_unlocked(path: Path) -> None:
    with path.open() as lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _daemon(command: _Command, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await command.start("run", output=output.fileno())
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_DAEMON_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _until_listening(
    connection: psycopg.AsyncConnection[Any],
    stations: Sequence[Station],
    daemon: asyncio.subprocess.Process,
    log: Path,
    since_s: float,
) -> None:
    """Every station has a listener and every stream's row says that it is being heard."""
    give_up_s = time.monotonic() + _LISTENING_TIMEOUT_S
    while time.monotonic() < give_up_s:
        _check_alive(daemon, log)
        cursor = await connection.execute(
            "SELECT name FROM streams WHERE state = ANY(%s) AND since >= to_timestamp(%s)", (list(_LISTENING), since_s)
        )
        heard = {name for (name,) in await cursor.fetchall()}
        if all(one.listeners and one.name in heard for one in stations):
            await asyncio.sleep(_SETTLE_S)
            return
        await asyncio.sleep(_POLL_S)
    raise MonitorError(f"the daemon did not hear every station within {_LISTENING_TIMEOUT_S:.0f} s: {_last_words(log)}")


def _check_alive(daemon: asyncio.subprocess.Process, log: Path) -> None:
    if daemon.returncode is not None:
        raise MonitorError(f"the daemon ended with status {daemon.returncode}: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-5:]) or "it said nothing"


def _judge(programmes: Sequence[Programme], found: Sequence[Found], on_air_s: float) -> Report:
    airings = [airing for programme in programmes for airing in programme.airings]
    return report.judge(airings, found, on_air_s={programme.station: on_air_s for programme in programmes})


def _write_config(path: Path, *, catalog: str, urls: dict[str, str], port: int) -> None:
    lines = ["http:", "  host: 127.0.0.1", f"  port: {port}", "catalogs:", f"  - name: {catalog}", "streams:"]
    for name, url in urls.items():
        lines += [f"  - name: {name}", f"    url: {url}"]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
