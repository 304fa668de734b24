"""All faults, scene by scene, and what is said of them afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.faults import air, clock, disk, lives, servers
from benchmarks.faults.clock import clock_faults
from benchmarks.faults.disk import disk_faults
from benchmarks.faults.fault import Control, Fault, Outcome
from benchmarks.faults.lives import daemon_faults
from benchmarks.faults.rig import Rig
from benchmarks.faults.servers import server_faults
from benchmarks.faults.sounds import Sounds
from benchmarks.faults.streams import stream_faults
from benchmarks.faults.webhooks import webhook_faults

Played = tuple[list[Outcome], Control]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Faults that are injected into one run of the daemon, or into several on one data directory."""

    name: str
    faults: Callable[[Sounds], tuple[Fault, ...]]
    play: Callable[[Rig, Sequence[Any]], Awaitable[Played]]


SCENES: tuple[Scene, ...] = (
    Scene(name=air.SCENE, faults=lambda sounds: (*stream_faults(sounds), *webhook_faults()), play=air.play),
    Scene(name=servers.SCENE, faults=lambda _: server_faults(), play=servers.play),
    Scene(name=lives.SCENE, faults=lambda _: daemon_faults(), play=lives.play),
    Scene(name=clock.SCENE, faults=lambda _: clock_faults(), play=clock.play),
    Scene(name=disk.SCENE, faults=lambda _: disk_faults(), play=disk.play),
)


def text(outcomes: Sequence[Outcome], controls: Sequence[Control]) -> str:
    """For people: a line for each fault, then for each healthy stream, then what is wrong."""
    rows: list[tuple[str, ...]] = [
        ("kind", "fault", "what happens", "what the daemon makes of it", "noticed", "well again", "lost")
    ]
    for one in outcomes:
        fault = one.fault
        times = (_seconds(one.noticed_s), _seconds(one.recovered_s))
        rows.append((fault.kind, fault.name, fault.what, one.expected, *times, str(one.lost)))
    lines = [*_ruled(rows), "", *_ruled(by_kind(outcomes))]
    beside = [f"healthy stream, {one.scene}: {one.airings} airings, {one.lost} lost" for one in controls]
    lines += ["", *beside]
    lines += [f"FAILED: {problem}" for problem in problems(outcomes, controls)]
    return "\n".join([*lines, summary(outcomes, controls)])


def by_kind(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """The table of the README: a heading, and a row for each kind of fault."""
    rows: list[tuple[str, ...]] = [
        ("kind", "injected", "survived", "lost", "noticed after", "longest", "well again after", "longest")
    ]
    for kind in dict.fromkeys(one.fault.kind for one in outcomes):
        those = [one for one in outcomes if one.fault.kind is kind]
        noticed = sorted(one.noticed_s for one in those if one.noticed_s is not None)
        recovered = sorted(one.recovered_s for one in those if one.recovered_s is not None)
        survived, lost = sum(one.survived for one in those), sum(one.lost for one in those)
        rows.append((kind, str(len(those)), str(survived), str(lost), *_spread(noticed), *_spread(recovered)))
    return rows


def problems(outcomes: Sequence[Outcome], controls: Sequence[Control]) -> list[str]:
    """What is wrong, one sentence each."""
    told = [one.described for one in outcomes if not one.survived]
    lost = [f"healthy stream, {one.scene}: {one.lost} of {one.airings} airings lost" for one in controls if one.lost]
    return told + lost + [f"healthy stream, {one.scene}: {problem}" for one in controls for problem in one.problems]


def summary(outcomes: Sequence[Outcome], controls: Sequence[Control]) -> str:
    """In one line."""
    survived = sum(one.survived for one in outcomes)
    airings, lost = sum(one.airings for one in controls), sum(one.lost for one in controls)
    after = sum(one.lost for one in outcomes)
    recovered = sorted(one.recovered_s for one in outcomes if one.recovered_s is not None)
    times = f", well again after {recovered[len(recovered) // 2]:.1f} s (median)" if recovered else ""
    return (
        f"{len(outcomes)} faults injected, {survived} survived{times}; {lost} of {airings} airings beside them lost, "
        f"{after} matches or webhooks after them lost"
    )


def as_json(outcomes: Sequence[Outcome], controls: Sequence[Control]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "passed": not problems(outcomes, controls),
        "injected": len(outcomes),
        "survived": sum(one.survived for one in outcomes),
        "lost": sum(one.lost for one in outcomes) + sum(one.lost for one in controls),
        "faults": [
            {
                "name": one.fault.name,
                "kind": one.fault.kind.value,
                "what": one.fault.what,
                "expected": one.expected,
                "noticed_s": one.noticed_s,
                "recovered_s": one.recovered_s,
                "lost": one.lost,
                "survived": one.survived,
                "problems": list(one.problems),
            }
            for one in outcomes
        ],
        "healthy_streams": [
            {"scene": one.scene, "airings": one.airings, "lost": one.lost, "problems": list(one.problems)}
            for one in controls
        ],
    }


def _ruled(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _spread(ordered_s: Sequence[float]) -> tuple[str, str]:
    """The median and the longest of times in order."""
    if not ordered_s:
        return "never", "never"
    return _seconds(ordered_s[len(ordered_s) // 2]), _seconds(ordered_s[-1])


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
