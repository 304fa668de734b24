"""`python -m benchmarks.broadcast --audio DIR [--minutes 15] [--seed N] [--quick] [--json]`: exit 0 if it passed."""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks.broadcast import corpus, icecast, scoring, script
from benchmarks.broadcast.corpus import Corpus
from benchmarks.broadcast.icecast import Mount
from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.demo import commands, report, station
from monitor.demo.commands import Program
from monitor.demo.follower import Follower
from monitor.demo.programme import Programme
from monitor.demo.report import Report
from monitor.errors import MonitorError

LEAST_REFERENCES = 150
QUICK_REFERENCES = 30
QUICK_MINUTES = 1.25
_SETTLE_S = 15.0
_AFTERMATH_S = 25.0


def main() -> int:
    """Parse, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.broadcast", description=__doc__)
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="music in folders, voices beside it")
    parser.add_argument("--minutes", type=float, default=15.0, help="length of each mount's programme")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a minute and a quarter, and thirty references")
    parser.add_argument("--data-dir", type=Path, help="keep the catalog here and use it again; else temporary")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    try:
        return asyncio.run(_Benchmark(args).run())
    except BaseExceptionGroup as group:
        problems = group.subgroup(MonitorError)
        if problems is None:
            raise
        print(f"benchmarks.broadcast: {_first_of(problems)}", file=sys.stderr)
        return 1
    except MonitorError as error:
        print(f"benchmarks.broadcast: {error}", file=sys.stderr)
        return error.exit_code


def _first_of(error: BaseException) -> BaseException:
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


class _Benchmark:
    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._minutes = QUICK_MINUTES if args.quick else args.minutes
        self._catalog = f"broadcast-{args.seed}{'-quick' if args.quick else ''}"
        self._began_s = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began_s:6.1f} s] {text}", file=sys.stderr, flush=True)

    async def run(self) -> int:
        args = self._args
        icecast.program()
        ffmpeg = find_ffmpeg()
        largest = QUICK_REFERENCES if args.quick else None
        found = await asyncio.to_thread(corpus.survey, args.audio, ffmpeg=ffmpeg, seed=args.seed, largest=largest)
        packages = sorted({piece.package for piece in found.held_out})
        held_out = f"{len(found.held_out)} held out (all of {', '.join(packages)})"
        self.say(f"{len(found.catalogued)} pieces to catalogue, {held_out}, {len(found.voices)} voices")
        if args.data_dir is not None:
            args.data_dir.mkdir(parents=True, exist_ok=True)
            return await self._broadcast(args.data_dir, found, ffmpeg)
        with tempfile.TemporaryDirectory(prefix="monitor-broadcast-") as place:
            os.chmod(place, 0o711)  # noqa: PTH101 - the servers' user must be able to pass
            return await self._broadcast(Path(place), found, ffmpeg)

    async def _broadcast(self, place: Path, found: Corpus, ffmpeg: FfmpegProgram) -> int:
        mounts = [
            Mount(name="mp3-128", audio=station.mp3(128), ffmpeg=ffmpeg),
            Mount(name="mp3-48", audio=station.mp3(48), ffmpeg=ffmpeg),
            Mount(name="aac-64", audio=station.aac(64), ffmpeg=ffmpeg),
            Mount(name="opus-48", audio=station.opus(48), ffmpeg=ffmpeg),
        ]
        program = Program(config=place / "monitor.yaml", data_dir=place / "data")
        port = commands.free_port()
        urls = {mount.name: f"http://127.0.0.1:{port}{mount.path}" for mount in mounts}
        commands.write_config(program.config, catalog=self._catalog, urls=urls, port=commands.free_port())
        async with commands.servers(program.data_dir) as dsn:
            began_s = time.monotonic()
            catalogued = await corpus.catalogue(found, program=program, catalog=self._catalog, folder=place)
            hours = sum(piece.duration_s for piece in catalogued) / 3600
            self.say(f"loaded {hours:.1f} h of audio in {time.monotonic() - began_s:.0f} s")
            if len(catalogued) < LEAST_REFERENCES and not self._args.quick:
                raise MonitorError(
                    f"the folder gives {len(catalogued)} references; the benchmark wants {LEAST_REFERENCES}"
                )
            self.say(f"{len(catalogued)} references; writing {len(mounts)} programmes of {self._minutes:g} minutes")
            programmes = await asyncio.gather(
                *(
                    asyncio.to_thread(
                        script.write,
                        mount.name,
                        minutes=self._minutes,
                        catalogued=catalogued,
                        held_out=found.held_out,
                        talk=corpus.talker(
                            found.voices, ffmpeg=ffmpeg, rng=np.random.default_rng([self._args.seed, 4])
                        ),
                        ffmpeg=ffmpeg,
                        rng=np.random.default_rng([self._args.seed, 5, number]),
                    )
                    for number, mount in enumerate(mounts)
                )
            )
            async with icecast.on_air(mounts, port=port):
                verdict = await self._listen(program, place / "daemon.log", dsn, mounts, programmes)
        recordings = functools.lru_cache(maxsize=8)(
            lambda name: corpus.decode(self._args.audio / name, ffmpeg, longest_s=3600)
        )
        excused = await asyncio.to_thread(scoring.excuse, verdict, recordings)
        packages = {piece.reference_id: piece.package for piece in (*found.catalogued, *found.held_out)}
        figures = scoring.score(verdict, excused, packages)
        self._show(verdict, excused, figures)
        return 0 if figures["passed"] else 1

    async def _listen(
        self, program: Program, log: Path, dsn: str, mounts: list[Mount], programmes: list[Programme]
    ) -> Report:
        since_s = time.time()
        async with (
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
            program.daemon(log) as daemon,
        ):
            names = [mount.name for mount in mounts]
            await daemon.until_hearing(connection, names, since_s=since_s)
            # The burst of the slowest mount holds 11 s of what was before the programme: silence.
            await asyncio.sleep(_SETTLE_S)
            on_air_s = time.time() + 2.0
            for mount, programme in zip(mounts, programmes, strict=True):
                mount.schedule(programme.samples, on_air_s=on_air_s)
            follower = Follower(connection, catalog=self._catalog, titles={}, since_s=on_air_s, say=self.say)
            longest_s = max(programme.duration_s for programme in programmes)
            self.say(f"on the air for {longest_s / 60:.1f} minutes")
            while time.time() < on_air_s + longest_s:
                daemon.check()
                await follower.look()
                await asyncio.sleep(1.0)
            await follower.settle(_AFTERMATH_S)
            status = await daemon.stop()
            self.say(f"the daemon ended with status {status} after {daemon.stopped_after_s} s")
            if not daemon.stopped_well:
                raise MonitorError(f"the daemon ended badly: status {status}")
            airings = [airing for programme in programmes for airing in programme.airings]
            return report.judge(
                airings, await follower.rows(), on_air_s=dict.fromkeys(names, on_air_s), tolerances=scoring.TOLERANCES
            )

    def _show(self, verdict: Report, excused: scoring.Excused, figures: dict[str, Any]) -> None:
        if self._args.json:
            lines = report.as_json(verdict)
            excused_json = {
                "rows": [str(row.match_id) for row in excused.strays],
                "airings": [line.airing.title for line in excused.lines],
            }
            whole = {**lines, "passed": figures["passed"], "figures": figures, "excused": excused_json}
            print(json.dumps({**whole, "seed": self._args.seed}))
            return
        print(report.table(verdict))
        for row in excused.strays:
            print(f"excused, the same audio by waveform: {row.reference_id} on {row.stream}")
        for line in excused.lines:
            print(f"excused, the same audio by waveform: {line.airing.title} on {line.airing.station} ({line.outcome})")
        print(json.dumps(figures, indent=2))
        print("PASSED" if figures["passed"] else "FAILED")


if __name__ == "__main__":
    sys.exit(main())
