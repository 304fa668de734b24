"""PANNs on a live stream: `python -m benchmarks.panns_live [--seed N] [--minutes M] [--json]`.

Random weights in the published format, calibrated, catalogued and run by the real commands; one clean MP3 stream in
real time with airings of 30 s and more, between them uncatalogued pieces and silence. Exit 0 only if every airing was
found once, nothing else was found, and no window was dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import signal
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psycopg
import yaml
from prometheus_client.parser import text_string_to_metric_families

from monitor.audio.ffmpeg import find_ffmpeg
from monitor.demo import commands, library, report, station
from monitor.demo.commands import Daemon, Program
from monitor.demo.follower import Follower
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.demo.programme import Airing, Condition, Programme, Recording
from monitor.demo.report import Report, Tolerances
from monitor.demo.station import Station
from monitor.embed import panns
from monitor.embed.checkpoint import PANNS
from monitor.errors import MonitorError
from monitor.types import Samples
from tests.integration.embed.random_weights import save_random_checkpoint

CATALOG = "sounds"
STREAM = "radio"
CATALOGUED = 8
#: A window is 10 s long, and the nearest of the catalog may lie half a hop aside.
TOLERANCES = Tolerances(edge_s=panns.WINDOW_SAMPLES / panns.SAMPLE_RATE_HZ, position_s=2.56)
_FLOOR_DBFS = -45.0
_AIRING_S = (30.0, 36.0)
_BETWEEN_S = (14.0, 20.0)
_LEAD_S = 2.0
_SETTLE_S = 5.0
#: After the programme what waits is embedded; then the last match ends, once it is silent for long enough.
_BACKLOG_S = 120.0
_AFTERMATH_S = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """What the daemon's metrics say about the windows of the run."""

    cut: int
    dropped: int
    waiting: int


def main() -> int:
    """Parse, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panns_live", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the weights, the pieces and the programme")
    parser.add_argument("--minutes", type=float, default=4.0, help="length of the programme")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    try:
        return asyncio.run(_Benchmark(args.seed, args.minutes, as_json=args.json).run())
    except* MonitorError as problems:
        print(f"benchmarks.panns_live: {_first_of(problems)}", file=sys.stderr)
    except* asyncio.CancelledError:
        print("benchmarks.panns_live: ended before its verdict; nothing of it is left running", file=sys.stderr)
    return 1


def _first_of(error: BaseException) -> BaseException:
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


class _Benchmark:
    def __init__(self, seed: int, minutes: float, *, as_json: bool) -> None:
        self._seed, self._minutes, self._as_json = seed, minutes, as_json
        self._port = commands.free_port()
        self._began_s = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began_s:6.1f} s] {text}", file=sys.stderr, flush=True)

    async def run(self) -> int:
        # Ended early, it takes everything that it started with it.
        acting = asyncio.current_task()
        if acting is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, acting.cancel)
        with tempfile.TemporaryDirectory(prefix="monitor-panns-") as name:
            # PostgreSQL's user, which root's servers run as, must be able to pass.
            os.chmod(name, 0o711)  # noqa: PTH101
            return await self._run(Path(name))

    async def _run(self, place: Path) -> int:
        ffmpeg = await asyncio.to_thread(find_ffmpeg)
        radio = Station(name=STREAM, audio=station.mp3(128), ffmpeg=ffmpeg)
        program = Program(config=place / "monitor.yaml", data_dir=place / "data")
        async with commands.servers(program.data_dir) as dsn:
            self.say(f"composing (seed {self._seed})")
            recordings = await library.composed(place, self._seed)
            rng = np.random.default_rng([self._seed, 7])
            catalogued = [_recorded(one, rng) for one in recordings.catalogued[:CATALOGUED]]
            strangers = [
                dataclasses.replace(_recorded(one, rng), reference_id=None)
                for one in (*recordings.catalogued[CATALOGUED:], *recordings.uncatalogued)
            ]
            files = [place / f"{one.reference_id}.wav" for one in catalogued]
            for path, one in zip(files, catalogued, strict=True):
                _write_wav(path, one.samples)
            self.say("random weights in the published format")
            await asyncio.to_thread(_save_weights, program.data_dir / "models", strangers, self._seed)
            async with station.on_air([radio]) as address:
                _write_config(program.config, url=address + radio.path, port=self._port)
                model_id = await self._load(program, files)
                programme = await asyncio.to_thread(
                    _write_programme, catalogued, strangers, minutes=self._minutes, seed=self._seed
                )
                verdict, windows = await self._listen(program, dsn, radio, programme)
        passed = verdict.passed and windows.cut > 0 and windows.dropped == windows.waiting == 0
        self._show(verdict, windows, model_id=model_id, passed=passed)
        return 0 if passed else 1

    async def _load(self, program: Program, paths: Sequence[Path]) -> str:
        files = [str(path) for path in paths]
        self.say(f"monitor model calibrate panns: {len(files)} recordings")
        calibrated = await program.run("model", "calibrate", "panns", "--audio", *files, "--json")
        self.say(f"monitor catalog add: {len(files)} recordings as {calibrated['model_id']}")
        await program.run("catalog", "add", "--catalog", CATALOG, "--embedder", "panns", *files, "--json")
        return str(calibrated["model_id"])

    async def _listen(self, program: Program, dsn: str, radio: Station, programme: Programme) -> tuple[Report, Windows]:
        since_s = time.time()
        async with (
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
            program.daemon(program.config.with_name("daemon.log")) as daemon,
        ):
            await daemon.until_hearing(connection, [STREAM], since_s=since_s)
            await asyncio.sleep(_SETTLE_S)
            on_air_s = time.time() + _LEAD_S
            radio.schedule(programme.samples, on_air_s=on_air_s)
            titles = {one.reference_id: one.title for one in programme.airings if one.reference_id is not None}
            follower = Follower(connection, catalog=CATALOG, titles=titles, since_s=on_air_s, say=self.say)
            self.say(f"on the air for {programme.duration_s / 60:.1f} minutes: {len(titles)} airings")
            while time.time() < on_air_s + programme.duration_s + _SETTLE_S:
                daemon.check()
                await follower.look()
                await asyncio.sleep(1.0)
            windows = await self._until_embedded()
            await asyncio.sleep(_SETTLE_S)
            await follower.settle(_AFTERMATH_S)
            await self._end(daemon)
            verdict = report.judge(
                programme.airings, await follower.rows(), on_air_s={STREAM: on_air_s}, tolerances=TOLERANCES
            )
        return verdict, windows

    async def _until_embedded(self) -> Windows:
        """What became of all windows; a machine that is too slow is given some time to go through what waits."""
        give_up_s = time.monotonic() + _BACKLOG_S
        while (windows := await _read_windows(self._port)).waiting and time.monotonic() < give_up_s:
            self.say(f"{windows.waiting} windows wait")
            await asyncio.sleep(_SETTLE_S)
        return windows

    async def _end(self, daemon: Daemon) -> None:
        status = await daemon.stop()
        if not daemon.stopped_well:
            raise MonitorError(f"the daemon ended badly: status {status}")
        self.say(f"the daemon ended with status {status} after {daemon.stopped_after_s:.1f} s")

    def _show(self, verdict: Report, windows: Windows, *, model_id: str, passed: bool) -> None:
        if self._as_json:
            figures = {"windows": windows.cut, "windows_dropped": windows.dropped, "model_id": model_id}
            print(json.dumps({**report.as_json(verdict), **figures, "seed": self._seed, "passed": passed}))
            return
        print(f"{report.table(verdict)}\n\n{report.summary(verdict)}")
        print(f"windows: {windows.cut}, dropped: {windows.dropped}, model: {model_id}")
        print("PASSED" if passed else "FAILED")


def _recorded(recording: Recording, rng: Generator) -> Recording:
    """The recording with the noise floor that every microphone has.

    Log-mel bands without any sound, which only synthetic music has, are changed beyond recognition by the faintest
    noise, that of MP3 included: training teaches a network to pass over them, these weights are not trained.
    """
    noise = rng.standard_normal(len(recording.samples), dtype=np.float32) * np.float32(10 ** (_FLOOR_DBFS / 20))
    return dataclasses.replace(recording, samples=np.clip(recording.samples + noise, -1, 1))


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def _save_weights(models_dir: Path, recordings: Sequence[Recording], seed: int) -> None:
    """Weights whose normalisation has heard a window of each recording, none of them of the catalog."""
    models_dir.mkdir(exist_ok=True)
    sounds = [one.samples[-panns.WINDOW_SAMPLES * 3 :][: panns.WINDOW_SAMPLES] for one in recordings]
    save_random_checkpoint(models_dir / PANNS.file_name, seed=seed, sounds=sounds)


def _write_config(path: Path, *, url: str, port: int) -> None:
    settings = {
        "http": {"host": "127.0.0.1", "port": port},
        "catalogs": [{"name": CATALOG, "embedder": "panns"}],
        "streams": [{"name": STREAM, "url": url}],
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def _write_programme(
    catalogued: Sequence[Recording], strangers: Sequence[Recording], *, minutes: float, seed: int
) -> Programme:
    """Airings from random middles until the minutes are full; after each in turn an uncatalogued piece or silence.

    Everything keeps its recording's own level: untrained weights hear another level as another sound.
    """
    rng = np.random.default_rng([seed, 6])
    silence = Recording(
        reference_id=None, title="", samples=np.zeros(round(_BETWEEN_S[1] * SAMPLE_RATE_HZ) + 1, dtype=np.float32)
    )
    pieces = itertools.cycle(rng.permutation(len(catalogued)))
    others = itertools.cycle(
        itertools.chain.from_iterable((strangers[index], silence) for index in rng.permutation(len(strangers)))
    )
    sounds: list[Samples] = []
    airings: list[Airing] = []
    length = 0
    while length < 60 * minutes * SAMPLE_RATE_HZ:
        for recording, lengths_s in ((catalogued[next(pieces)], _AIRING_S), (next(others), _BETWEEN_S)):
            size = round(rng.uniform(*lengths_s) * SAMPLE_RATE_HZ)
            start = int(rng.integers(len(recording.samples) - size))
            sounds.append(recording.samples[start : start + size])
            airings.append(
                Airing(
                    station=STREAM,
                    condition=_condition(recording),
                    reference_id=recording.reference_id,
                    title=recording.title,
                    start_s=length / SAMPLE_RATE_HZ,
                    end_s=(length + size) / SAMPLE_RATE_HZ,
                    reference_start_s=start / SAMPLE_RATE_HZ,
                    tempo_ratio=1.0,
                )
            )
            length += size
    return Programme(station=STREAM, samples=np.concatenate(sounds), airings=tuple(airings))


def _condition(recording: Recording) -> Condition:
    if recording.reference_id is not None:
        return Condition.PLAIN
    return Condition.UNCATALOGUED if recording.title else Condition.SILENCE


async def _read_windows(port: int) -> Windows:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    answer.raise_for_status()
    totals = dict.fromkeys(("monitor_windows_total", "monitor_windows_dropped_total", "monitor_queue_length"), 0)
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name in totals:
                totals[sample.name] += int(sample.value)
    cut, dropped, waiting = totals.values()
    return Windows(cut=cut, dropped=dropped, waiting=waiting)


if __name__ == "__main__":
    sys.exit(main())
