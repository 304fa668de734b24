"""The bars of the benchmark, and what is excused because two recordings hold the same audio.

The corpus holds near copies: loops, short and long versions, the same piece in two formats, and music that is made of
loops and so plays the same seconds at several places. Whether a row in dispute is such a case is decided by exact
cross-correlation of the waveforms (monitor.demo.likeness), never by the model: the stretch of the *source recording*
that was on the air must occur in the claimed reference with a normalised correlation of 0.5 or more in an excerpt of
4 s (unrelated music stays below 0.2).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from monitor.demo import likeness
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.programme import Airing
from monitor.demo.report import Found, Line, Outcome, Report, Tolerances
from monitor.types import Samples

TOLERANCES = Tolerances(edge_s=1.5, position_s=0.5)
MEDIAN_DELAY_S = 6.0
#: The decoded recording of an id, catalogued or held out.
Recordings = Callable[[str], Samples]


@dataclass(frozen=True, kw_only=True, slots=True)
class Excused:
    """What the waveforms themselves excuse."""

    #: Rows of a reference that holds the same audio as what was aired.
    strays: tuple[Found, ...]
    #: Airings of which only a near copy was found, or another place of the same sound.
    lines: tuple[Line, ...]


def excuse(report: Report, recordings: Recordings) -> Excused:
    """Compare every row in dispute with what was on the air, by waveform."""
    strays = tuple(
        row for row in report.strays if any(_same_audio(row, *case, recordings) for case in _over(row, report))
    )
    found_as_copy = [airing for row in strays for airing, _ in _over(row, report)]
    lines = tuple(
        line
        for line in report.lines
        if (line.outcome is Outcome.MISSED and line.airing in found_as_copy)
        or (line.outcome is Outcome.INEXACT and _repeats_itself(line, report, recordings))
    )
    return Excused(strays=strays, lines=lines)


def _over(row: Found, report: Report) -> list[tuple[Airing, float]]:
    """What was on the air during the row, each with the Unix time at which its programme was heard to begin."""
    began_s = report.on_air_s[row.stream] + (report.latency_s[row.stream] or 0.0)
    return [
        (line.airing, began_s)
        for line in report.lines
        if line.airing.station == row.stream
        and line.airing.title
        and min(row.end_s, began_s + line.airing.end_s) - max(row.start_s, began_s + line.airing.start_s) > 1.0
    ]


def _same_audio(row: Found, airing: Airing, began_s: float, recordings: Recordings) -> bool:
    start_s = max(row.start_s - began_s, airing.start_s)
    end_s = min(row.end_s - began_s, airing.end_s)
    missing_s = max(0.0, likeness.EXCERPT_S + 0.5 - (end_s - start_s))
    aired = _excerpt(recordings(airing.title), airing.position_s(start_s - missing_s), airing.position_s(end_s))
    return likeness.shares_audio(aired, _reduced(recordings(row.reference_id)))


def _repeats_itself(line: Line, report: Report, recordings: Recordings) -> bool:
    """The reference sounds the same where the row puts it: its position is as right as the true one."""
    airing, row = line.airing, line.rows[0]
    if abs(line.position_error_s or 0.0) <= TOLERANCES.position_s:
        return False
    began_s = report.on_air_s[airing.station] + (report.latency_s[airing.station] or 0.0)
    samples = recordings(airing.title)
    true_s, found_s = airing.position_s(airing.middle_s), row.position_s(began_s + airing.middle_s)
    half_s = likeness.EXCERPT_S / 2 + 0.05
    return likeness.shares_audio(
        _excerpt(samples, true_s - half_s, true_s + half_s),
        _excerpt(samples, found_s - half_s - 1, found_s + half_s + 1),
    )


def _excerpt(samples: Samples, start_s: float, end_s: float) -> Samples:
    return _reduced(samples[max(0, round(start_s * SAMPLE_RATE_HZ)) : max(0, round(end_s * SAMPLE_RATE_HZ))])


def _reduced(samples: Samples) -> Samples:
    return likeness.reduced(samples, SAMPLE_RATE_HZ)


def score(report: Report, excused: Excused, packages: Mapping[str, str]) -> dict[str, Any]:
    """Every figure of the run, and under "passed" whether all bars are met."""
    wanted = [line for line in report.lines if line.airing.reference_id is not None]
    judged = [line for line in wanted if line not in excused.lines]
    strays = [row for row in report.strays if row not in excused.strays]
    bad = [line for line in judged if line.outcome is not Outcome.FOUND]
    delay_s = report.median_delay_s
    return {
        "passed": not bad and not strays and delay_s is not None and delay_s <= MEDIAN_DELAY_S,
        "airings": len(wanted),
        "judged": len(judged),
        "found": len(judged) - len(bad),
        "never_aired": len(strays),
        "excused_rows": len(excused.strays),
        "excused_airings": len(excused.lines),
        "median_delay_s": delay_s,
        "latency_s": dict(report.latency_s),
        "by_mount": _shares(judged, lambda line: line.airing.station),
        "by_condition": _shares(judged, lambda line: line.airing.condition.value),
        "by_package": _shares(judged, lambda line: packages[line.airing.title]),
        "errors_s": {
            name: _spread([abs(value) for line in judged if (value := getattr(line, name)) is not None])
            for name in ("start_error_s", "end_error_s", "position_error_s")
        },
        "delay_s": _spread([line.delay_s for line in judged if line.delay_s is not None]),
    }


def _shares(lines: list[Line], key: Callable[[Line], str]) -> dict[str, str]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for line in lines:
        groups[key(line)].append(line.outcome is Outcome.FOUND)
    return {name: f"{sum(found)}/{len(found)}" for name, found in sorted(groups.items())}


def _spread(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    deciles = statistics.quantiles(values, n=20)
    return {"median": statistics.median(values), "p95": deciles[-1], "largest": max(values)}
