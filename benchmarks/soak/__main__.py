"""`python -m benchmarks.soak [--minutes 125] [--streams 60] [--seed N] [--json]`: exit 0 if it passed.

A third of the streams healthy, a third silent, a third flapping; the embedded servers are killed twice. The daemon
listens with `match.tempo_and_pitch: exact`, one reading of each window in place of nine, so that two cores bear sixty
streams beside other work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import processes, transmitter
from benchmarks.soak import account, line_up
from benchmarks.soak.account import Account, Span
from benchmarks.soak.line_up import LineUp
from benchmarks.transmitter import Mount
from monitor.audio.ffmpeg import find_ffmpeg
from monitor.demo import commands, report
from monitor.demo.commands import Daemon, Program
from monitor.demo.programme import Airing
from monitor.demo.report import Outcome, Report, Tolerances
from monitor.errors import MonitorError

CATALOG = "soak"
#: What the daemon alone may grow by, and how its descriptors may differ from the first to the last part.
MOST_MIB_PER_HOUR = 1.0
MOST_DESCRIPTORS = 5.0
#: Of the healthy stations' airings, how many must be found once and in place.
LEAST_FOUND = 0.95
#: The slope is that of the last hour and a half; of a shorter run that of its last three quarters.
_MEASURED_S = 90 * 60.0
_MEASURED_SHARE = 0.75
_SAMPLE_S = 10.0
_FAMILIES_EVERY = 6
_READY_S = 180.0
_SETTLE_S = 30.0
#: An airing is judged if its end could be found before the daemon was stopped.
_AFTERMATH_S = 30.0
#: Beside a gap, what a window more may miss.
_GAP_MARGIN_S = 3.0
_TOLERANCES = Tolerances(edge_s=3.0, position_s=0.5)
_BACKLOG = f"embeddings_{CATALOG}"
_SERIES = {
    "covered": "monitor_stream_covered_seconds_total",
    "audio": "monitor_stream_audio_seconds_total",
    "dropped": "monitor_windows_dropped_total",
    "windows": "monitor_windows_total",
    "up": "monitor_stream_up",
    "matches": "monitor_matches_total",
    "waiting": "monitor_queue_length",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What was seen at one instant."""

    time_s: float
    #: Of the daemon and of the processes that align for it.
    resident_mib: float
    descriptors: int
    ffmpegs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Families:
    """What the servers took at one instant."""

    time_s: float
    keeper_mib: float
    milvus_mib: float
    postgres_mib: float


@dataclass(kw_only=True)
class Course:
    """All that was seen during the run."""

    samples: list[Sample] = field(default_factory=list)
    families: list[Families] = field(default_factory=list)
    #: What was killed when, and how long the daemon was not ready after it.
    kills: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    """Parse, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=125.0)
    parser.add_argument("--streams", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, help="leave everything here; else temporary")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    try:
        return asyncio.run(_Soak(args).run())
    except MonitorError as error:
        print(f"benchmarks.soak: {error}", file=sys.stderr)
        return error.exit_code


class _Soak:
    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._port = commands.free_port()
        self._began_s = time.monotonic()
        self._course = Course()
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}", timeout=30, trust_env=False)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began_s:7.1f} s] {text}", file=sys.stderr, flush=True)

    async def run(self) -> int:
        acting = asyncio.current_task()
        if acting is not None:  # ended early, it takes everything that it started with it
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, acting.cancel)
        if self._args.data_dir is not None:
            self._args.data_dir.mkdir(parents=True, exist_ok=True)
            return await self._soak(self._args.data_dir)
        with tempfile.TemporaryDirectory(prefix="monitor-soak-") as place:
            os.chmod(place, 0o711)  # noqa: PTH101 - the servers' user must be able to pass
            return await self._soak(Path(place))

    async def _soak(self, place: Path) -> int:
        ffmpeg = await asyncio.to_thread(find_ffmpeg)
        self.say(f"composing and encoding for {self._args.streams} stations (seed {self._args.seed})")
        lines = await line_up.compose(place, streams=self._args.streams, seed=self._args.seed, ffmpeg=ffmpeg)
        program = Program(config=place / "monitor.yaml", data_dir=place / "data")
        _write_config(program.config, lines.mounts, port=self._port)
        await program.run(
            "catalog", "add", "--catalog", CATALOG, "--manifest", str(lines.recordings.manifest), "--json"
        )
        async with transmitter.on_air(lines.mounts), program.daemon(place / "daemon.log") as daemon, self._client:
            await self._until_ready(daemon)
            chance = random.Random(self._args.seed + 1)
            flapping = [
                asyncio.create_task(
                    mount.flap(random.Random(chance.random()), good_s=line_up.GOOD_S, away_s=line_up.AWAY_S),
                    name=f"flap {mount.name}",
                )
                for mount in lines.flapping
            ]
            try:
                return await self._listen(program, daemon, lines)
            finally:
                for task in flapping:
                    task.cancel()
                await asyncio.gather(*flapping, return_exceptions=True)

    async def _listen(self, program: Program, daemon: Daemon, lines: LineUp) -> int:
        await asyncio.sleep(_SETTLE_S)
        before, since_s = await self._read(), time.time()
        length_s = 60 * self._args.minutes
        self.say(
            f"{self._args.streams} streams for {self._args.minutes:g} minutes, with match.tempo_and_pitch: exact "
            "(one reading of each window)"
        )
        await asyncio.gather(
            self._sample(daemon, program.data_dir, until_s=since_s + length_s),
            self._kill_servers(program.data_dir, daemon, since_s=since_s, length_s=length_s),
        )
        async with (
            commands.servers(program.data_dir) as dsn,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
        ):
            after, until_s = await self._read(), time.time()
            status = await daemon.stop()
            self.say(f"the daemon ended with status {status} after {daemon.stopped_after_s} s")
            names = [mount.name for mount in lines.mounts]
            gaps = await account.read_gaps(connection, names, since_s=since_s, until_s=until_s)
            found = await report.read_found(connection, catalog=CATALOG, since_s=since_s)
        covered_s = {name: after["covered"].get(name, 0.0) - before["covered"].get(name, 0.0) for name in names}
        accounts = account.settle(gaps, covered_s, since_s=since_s, until_s=until_s)
        verdicts = {}
        for mount in (*lines.healthy, *lines.flapping):
            aired = lines.aired(mount, since_s=since_s, until_s=until_s - _AFTERMATH_S)
            whole = [airing for airing in aired if _heard(airing, gaps[mount.name], since_s=since_s)]
            rows = [row for row in found if row.stream == mount.name]
            verdicts[mount.name] = report.judge(whole, rows, on_air_s={mount.name: since_s}, tolerances=_TOLERANCES)
        silent = {mount.name for mount in lines.silent}
        figures = self._figures(lines, verdicts, accounts, after, lasted_s=until_s - since_s)
        figures["daemon"]["stopped_well"] = daemon.stopped_well
        figures["matches"]["on_silent_streams"] = sum(row.stream in silent for row in found)
        figures["passed"] = _passed(figures)
        self._show(figures, accounts, lines)
        return 0 if figures["passed"] else 1

    async def _until_ready(self, daemon: Daemon) -> None:
        give_up_s = time.monotonic() + _READY_S
        while not await self._is_ready():
            daemon.check()
            if time.monotonic() > give_up_s:
                raise MonitorError(f"the daemon is not ready within {_READY_S:.0f} s")
            await asyncio.sleep(0.5)

    async def _is_ready(self) -> bool:
        try:
            return (await self._client.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def _read(self) -> dict[str, dict[str, float]]:
        """By stream, what the daemon's metrics say."""
        answer = await self._client.get("/metrics")
        answer.raise_for_status()
        wanted = {series: name for name, series in _SERIES.items()}
        totals: dict[str, dict[str, float]] = {name: {} for name in _SERIES}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                if (name := wanted.get(sample.name)) is not None:
                    stream = sample.labels.get("stream") or sample.labels["queue"]
                    totals[name][stream] = totals[name].get(stream, 0.0) + sample.value
        return totals

    async def _sample(self, daemon: Daemon, data_dir: Path, *, until_s: float) -> None:
        pid, turn, cpu_s = daemon.pid, 0, 0.0
        while time.time() < until_s:
            daemon.check()
            children = await asyncio.to_thread(processes.children, pid)
            own = [pid, *await asyncio.to_thread(processes.aligning, pid)]
            self._course.samples.append(
                Sample(
                    time_s=time.time(),
                    resident_mib=sum(map(processes.resident_mib, own)),
                    descriptors=sum(map(processes.descriptors, own)),
                    ffmpegs=len(children) + 1 - len(own),
                )
            )
            if turn % _FAMILIES_EVERY == 0:
                await asyncio.to_thread(self._sample_families, data_dir)
                metrics = await self._read()
                before_s, cpu_s = cpu_s, sum(map(processes.processor_s, own))
                seen = self._course.samples[-1]
                self.say(
                    f"resident {seen.resident_mib:.1f} MiB, {seen.descriptors} descriptors, {seen.ffmpegs} ffmpegs, "
                    f"{sum(metrics['up'].values()):.0f} up, {sum(metrics['windows'].values()):.0f} windows, "
                    f"{sum(metrics['dropped'].values()):.0f} dropped, {metrics['waiting'][_BACKLOG]:.0f} wait, "
                    f"{sum(metrics['matches'].values()):.0f} match "
                    f"events, {(cpu_s - before_s) / (_SAMPLE_S * _FAMILIES_EVERY):.2f} cores without its ffmpegs"
                )
            turn += 1
            await asyncio.sleep(_SAMPLE_S)

    def _sample_families(self, data_dir: Path) -> None:
        keeper = processes.keeper_of(data_dir)
        if keeper is not None:
            self._course.families.append(
                Families(
                    time_s=time.time(),
                    keeper_mib=processes.resident_mib(keeper.pid),
                    milvus_mib=processes.family_mib(keeper.milvus),
                    postgres_mib=processes.family_mib(keeper.postgres),
                )
            )

    async def _kill_servers(self, data_dir: Path, daemon: Daemon, *, since_s: float, length_s: float) -> None:
        """After a third of the time the keeper, after two thirds PostgreSQL and Milvus themselves."""
        for share, what in ((1 / 3, ("keeper",)), (2 / 3, ("postgres", "milvus"))):
            await asyncio.sleep(max(since_s + share * length_s - time.time(), 0))
            keeper = await asyncio.to_thread(processes.keeper_of, data_dir)
            if keeper is None:
                raise MonitorError("the embedded servers are not there")
            pids = [{"keeper": keeper.pid, "postgres": keeper.postgres, "milvus": keeper.milvus}[name] for name in what]
            began_s = time.monotonic()
            for pid in pids:
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
            self.say(f"killed {' and '.join(what)}")
            await asyncio.sleep(1.0)
            await self._until_ready(daemon)
            away_s = time.monotonic() - began_s
            self._course.kills.append({"what": list(what), "after_s": time.time() - since_s, "ready_after_s": away_s})
            self.say(f"ready again after {away_s:.1f} s")

    def _figures(
        self,
        lines: LineUp,
        verdicts: Mapping[str, Report],
        accounts: Sequence[Account],
        after: Mapping[str, Mapping[str, float]],
        *,
        lasted_s: float,
    ) -> dict[str, Any]:
        measured_s = min(_MEASURED_S, _MEASURED_SHARE * lasted_s)
        last_s = self._course.samples[-1].time_s
        samples = [sample for sample in self._course.samples if sample.time_s >= last_s - measured_s]
        times_s = [sample.time_s for sample in samples]
        tenth = max(len(samples) // 10, 1)
        descriptors = [sample.descriptors for sample in samples]
        return {
            "minutes": lasted_s / 60,
            "streams": self._args.streams,
            "seed": self._args.seed,
            "daemon": {
                "measured_minutes": (times_s[-1] - times_s[0]) / 60,
                "resident_mib_per_hour": processes.slope_per_hour(times_s, [each.resident_mib for each in samples]),
                "resident_mib": [samples[0].resident_mib, samples[-1].resident_mib],
                "resident_mib_most": max(each.resident_mib for each in samples),
                "descriptors_first": statistics.mean(descriptors[:tenth]),
                "descriptors_last": statistics.mean(descriptors[-tenth:]),
                "descriptors_most": max(descriptors),
                "descriptors_per_hour": processes.slope_per_hour(times_s, descriptors),
                "windows": sum(after["windows"].values()),
                "windows_dropped": sum(after["dropped"].values()),
            },
            "servers": {
                name: [getattr(self._course.families[index], f"{name}_mib") for index in (0, -1)]
                for name in ("keeper", "milvus", "postgres")
            },
            "kills": self._course.kills,
            "accounts": {
                "worst_error_s": max((each.error_s for each in accounts), key=abs),
                "worst_error_share": max(abs(each.error_s) / each.wall_s for each in accounts),
                "claimed_twice_s": max(each.claimed_twice_s for each in accounts),
                "gap_rows": sum(each.gap_rows for each in accounts),
                "gaps_s": sum(each.gaps_s for each in accounts),
                "away_s": sum(span.end_s - span.start_s for mount in lines.flapping for span in mount.away),
                "unbalanced": [each.stream for each in accounts if not each.balanced],
            },
            "matches": {
                "healthy": _tally([verdicts[mount.name] for mount in lines.healthy]),
                "flapping": _tally([verdicts[mount.name] for mount in lines.flapping]),
            },
        }

    def _show(self, figures: dict[str, Any], accounts: Sequence[Account], lines: LineUp) -> None:
        if self._args.json:
            each = [asdict(one) | {"error_s": one.error_s} for one in accounts]
            course = [asdict(sample) for sample in self._course.samples]
            print(json.dumps({**figures, "streams_each": each, "samples": course}))
            return
        away_s = {mount.name: sum(span.end_s - span.start_s for span in mount.away) for mount in lines.mounts}
        print(f"{'stream':<14}{'wall s':>10}{'covered s':>11}{'gaps s':>10}{'rows':>6}{'error s':>9}{'away s':>9}")
        for one in accounts:
            print(
                f"{one.stream:<14}{one.wall_s:>10.1f}{one.covered_s:>11.1f}{one.gaps_s:>10.1f}{one.gap_rows:>6}"
                f"{one.error_s:>9.2f}{away_s[one.stream]:>9.1f}"
            )
        print(json.dumps(figures, indent=2))
        print("PASSED" if figures["passed"] else "FAILED")


def _heard(airing: Airing, gaps: Sequence[Span], *, since_s: float) -> bool:
    """Whether no gap touches the airing."""
    start_s, end_s = since_s + airing.start_s - _GAP_MARGIN_S, since_s + airing.end_s + _GAP_MARGIN_S
    return not any(gap_start_s < end_s and gap_end_s > start_s for gap_start_s, gap_end_s in gaps)


def _tally(verdicts: Sequence[Report]) -> dict[str, int]:
    outcomes = [line.outcome for verdict in verdicts for line in verdict.lines]
    return {
        "aired_whole": len(outcomes),
        "found_once": outcomes.count(Outcome.FOUND),
        "inexact": outcomes.count(Outcome.INEXACT),
        "twice": outcomes.count(Outcome.REPEATED),
        "missed": outcomes.count(Outcome.MISSED),
    }


def _passed(figures: Mapping[str, Any]) -> bool:
    daemon, accounts, matches = figures["daemon"], figures["accounts"], figures["matches"]
    healthy = matches["healthy"]
    return bool(
        daemon["stopped_well"]
        and daemon["resident_mib_per_hour"] <= MOST_MIB_PER_HOUR
        and daemon["descriptors_last"] - daemon["descriptors_first"] <= MOST_DESCRIPTORS
        and not accounts["unbalanced"]
        and healthy["found_once"] >= LEAST_FOUND * healthy["aired_whole"] > 0
        and matches["on_silent_streams"] == 0
    )


def _write_config(path: Path, mounts: Sequence[Mount], *, port: int) -> None:
    settings = {
        "http": {"host": "127.0.0.1", "port": port},
        "catalogs": [{"name": CATALOG}],
        "match": {"tempo_and_pitch": "exact"},
        "streams": [{"name": mount.name, "url": mount.url} for mount in mounts],
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
