"""The demo from curtain to curtain: recordings, catalog, stations, the daemon as its own process, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.demo import commands, library, report, station
from monitor.demo.commands import Daemon, Program
from monitor.demo.follower import Follower
from monitor.demo.library import Library
from monitor.demo.programme import Programme, demo_programmes
from monitor.demo.report import Report
from monitor.demo.station import Station
from monitor.errors import MonitorError

#: From the stations' scheduling to their first sound.
_LEAD_S = 2.0
#: Listeners are connected so long before the programme begins that every burst is silence.
_SETTLE_S = 3.0
#: How long after the programme the last match may take to end.
_AFTERMATH_S = 20.0
_POLL_S = 0.5
#: Speech over the first or last seconds of an airing can drown them: then nobody could place its edge any better.
_TOLERANCES = report.Tolerances(edge_s=3.0)
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
            async with commands.servers(place.data_dir) as dsn:
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
        # A data directory that is used again holds the catalogs of other seeds too: each has its own name.
        catalog = f"demo-{hashlib.sha256(await asyncio.to_thread(recordings.manifest.read_bytes)).hexdigest()[:8]}"
        port = commands.free_port()
        page = f"http://127.0.0.1:{port}/"
        program = Program(config=place.files / "monitor.yaml", data_dir=place.data_dir)
        async with station.on_air(stations) as address:
            urls = {one.name: address + one.path for one in stations}
            commands.write_config(program.config, catalog=catalog, urls=urls, port=port)
            await self._load(program, recordings, catalog)
            since_s = time.time()
            async with (
                await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
                program.daemon(place.files / "daemon.log") as daemon,
            ):
                self.say(f"the daemon runs as process {daemon.pid}; page {page} metrics {page}metrics")
                for name, url in urls.items():
                    self.say(f"{name}: {url}")
                await daemon.until_hearing(connection, urls, since_s=since_s)
                await asyncio.sleep(_SETTLE_S)
                on_air_s = time.time() + _LEAD_S
                titles = {str(one.reference_id): one.title for one in recordings.catalogued}
                follower = Follower(connection, catalog=catalog, titles=titles, since_s=on_air_s, say=self.say)
                await self._play(stations, programmes, on_air_s, follower, daemon)
                if not self._options.keep:
                    await self._end(daemon)
                airings = [airing for programme in programmes for airing in programme.airings]
                verdict = report.judge(
                    airings,
                    await follower.rows(),
                    on_air_s=dict.fromkeys(urls, on_air_s),
                    tolerances=_TOLERANCES,
                )
                passed = verdict.passed and (self._options.keep or daemon.stopped_well)
                self._show(verdict, passed=passed, page=page, urls=urls)
                if self._options.keep:
                    for one, programme in zip(stations, programmes, strict=True):
                        one.schedule(programme.samples, on_air_s=time.time() + _LEAD_S, repeat=True)
                    self.say(f"the programmes repeat: {page} and {page}metrics; Ctrl-C ends the demo")
                    self.keeping = True
                    await self._stop.wait()
                    await self._end(daemon)
                    passed = passed and daemon.stopped_well
        return 0 if passed else 1

    async def _load(self, program: Program, recordings: Library, catalog: str) -> None:
        self.say(f"monitor catalog add: {len(recordings.catalogued)} references")
        await program.run("catalog", "add", "--catalog", catalog, "--manifest", str(recordings.manifest), "--json")
        if self._options.empty_catalog:
            identifiers = [str(recording.reference_id) for recording in recordings.catalogued]
            self.say("monitor catalog remove: every one of them")
            await program.run("catalog", "remove", "--catalog", catalog, *identifiers, "--json")

    async def _play(
        self,
        stations: Sequence[Station],
        programmes: Sequence[Programme],
        on_air_s: float,
        follower: Follower,
        daemon: Daemon,
    ) -> None:
        """The whole broadcast, until its last match has ended."""
        longest_s = max(programme.duration_s for programme in programmes)
        self.say(f"on the air: {len(stations)} stations for {longest_s:.0f} s")
        async with asyncio.TaskGroup() as tasks:
            for one, programme in zip(stations, programmes, strict=True):
                one.schedule(programme.samples, on_air_s=on_air_s)
                tasks.create_task(self._drop(one, programme, on_air_s), name=f"outage of {one.name}")
            while time.time() < on_air_s + longest_s:
                daemon.check()
                await follower.look()
                await asyncio.sleep(_POLL_S)
        await follower.settle(_AFTERMATH_S)

    async def _drop(self, one: Station, programme: Programme, on_air_s: float) -> None:
        if programme.outage is None:
            return
        await asyncio.sleep(on_air_s + programme.outage.start_s - time.time())
        self.say(f"{one.name} drops its listeners for {programme.outage.duration_s:.1f} s; its broadcast goes on")
        one.drop_listeners(programme.outage.duration_s)

    async def _end(self, daemon: Daemon) -> None:
        status = await daemon.stop()
        if daemon.stopped_after_s is None:
            self.say(f"the daemon did not stop within {commands.STOP_S:.0f} s of SIGTERM")
        else:
            self.say(f"the daemon stopped {daemon.stopped_after_s:.1f} s after SIGTERM with status {status}")

    def _show(self, verdict: Report, *, passed: bool, page: str, urls: dict[str, str]) -> None:
        if self._options.as_json:
            answer = {
                **report.as_json(verdict),
                "passed": passed,
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
