"""The fifth scene: the machine's clock is set back and forward under the daemon, which keeps time all the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.control import Programme
from benchmarks.faults.fault import Control, Fault, Kind, Outcome
from benchmarks.faults.rig import Rig, Watch
from monitor.demo import commands
from monitor.demo import station as radio
from monitor.errors import MissingPartError, MonitorError, StreamReason

SCENE = "clock"
_CONTROL = "control-clock"
_SOUND_S = 180.0
_LIBRARY = "libfaketimeMT.so.1"
_HOUR_S = 3600
_CLOSE_S = 60.0
#: faketime fails a sleep until an instant that has just passed, which is no fault of a clock: such a sleep is over.
_SLEEP = """
import time

_slept = time.sleep


def _sleep(seconds):
    try:
        _slept(seconds)
    except OSError:
        pass


time.sleep = _sleep
"""


@dataclass(frozen=True, kw_only=True)
class ClockFault(Fault):
    """The clock is set, and set right again."""

    #: Seconds by which it is wrong.
    by_s: int
    expected: str
    seen: Callable[[Watch], bool]
    #: What holds when it is right again.
    well: Callable[[Watch], bool]


def clock_faults() -> tuple[ClockFault, ...]:
    """In this order: stream time that has leapt forward stays ahead when the clock is right again."""
    return (
        ClockFault(
            name="clock-back", kind=Kind.CLOCK, what="set back by an hour", by_s=-_HOUR_S,
            expected="stream time goes on, and is said to be ahead",
            seen=lambda watch: bool(watch.said("clock_behind")) and _ahead(watch, _HOUR_S),
            well=lambda watch: _ahead(watch, 0),
        ),
        ClockFault(
            name="clock-forward", kind=Kind.CLOCK, what="set forward by an hour", by_s=_HOUR_S,
            expected="stream time follows, with a gap: clock",
            seen=lambda watch: bool(watch.said("clock_step")) and _leapt(watch),
            well=lambda watch: _ahead(watch, _HOUR_S),
        ),
    )  # fmt: skip


def _ahead(watch: Watch, by_s: float) -> bool:
    return abs(watch.metric("monitor_clock_ahead_seconds") - by_s) < _CLOSE_S


def _leapt(watch: Watch) -> bool:
    """The hour is a gap, and what is aired after it is recognised there."""
    hours = [
        gap
        for gap in watch.gaps[_CONTROL]
        if gap.reason == StreamReason.CLOCK and abs(gap.end_s - gap.start_s - _HOUR_S) < _CLOSE_S
    ]
    return any(row.start_s >= hours[0].end_s - 1 for row in watch.found[_CONTROL]) if hours else False


async def play(rig: Rig, faults: Sequence[ClockFault]) -> tuple[list[Outcome], Control]:
    """The monotonic clock is left alone, as it is where somebody sets a machine's clock."""
    clock, python = rig.place / "clock", rig.place / "python"
    _set(clock, 0)
    python.mkdir(exist_ok=True)
    (python / "sitecustomize.py").write_text(_SLEEP)
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(python), os.environ.get("PYTHONPATH")))),
        "LD_PRELOAD": str(_library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
        "FAKETIME_SKIP_CMDS": "ffmpeg",
    }
    control, outcomes = Programme(rig, _CONTROL), []
    verdict: Control | None = None
    # The servers keep the right time: they are there before the daemon, and not started by it.
    async with commands.servers(rig.program.data_dir), radio.on_air([control.station]) as address:
        rig.configure(streams=[{"name": _CONTROL, "url": address + control.station.path}])
        async with rig.running(environment=environment) as watch:
            control.begin()
            if await watch.until(lambda: watch.found[_CONTROL], _SOUND_S) is None:
                raise MonitorError(f"before any fault nothing is recognised: {watch.state(_CONTROL)}")
            for fault in faults:
                if fault.by_s > 0:  # afterwards rows are an hour ahead
                    verdict = await control.judge(watch, SCENE)
                outcomes.append(await _suffer(fault, watch, clock))
                rig.say(outcomes[-1].described)
            verdict = verdict or await control.judge(watch, SCENE)
            return outcomes, verdict.with_problems(await watch.end())


async def _suffer(fault: ClockFault, watch: Watch, clock: Path) -> Outcome:
    at_s = time.time()
    _set(clock, fault.by_s)
    noticed = await watch.until(lambda: fault.seen(watch), fault.notice_s)
    noticed_s = time.time()
    _set(clock, 0)
    recovered = await watch.until(lambda: fault.well(watch) and watch.ready, fault.recover_s)
    problems = []
    if not noticed:
        problems.append(f"{fault.name}: never {fault.expected}; ahead {watch.metric('monitor_clock_ahead_seconds')}")
    if not recovered:
        problems.append(f"{fault.name}: still {watch.metric('monitor_clock_ahead_seconds')} s ahead")
    return Outcome(
        fault=fault,
        expected=fault.expected,
        noticed_s=noticed_s - at_s if noticed else None,
        recovered_s=time.time() - noticed_s if recovered else None,
        problems=tuple(problems),
    )


def _set(clock: Path, by_s: int) -> None:
    """Its readers read it again each second, and must never find it empty."""
    written = clock.with_suffix(".new")
    written.write_text(f"{by_s:+d}\n")
    written.replace(clock)


def _library() -> Path:
    """Raises MissingPartError where faketime is not installed."""
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{_LIBRARY}"))
    if not found:
        raise MissingPartError("this needs faketime; install it (Debian: apt-get install faketime)")
    return found[0]
