"""What was aired against what was found: the match log, read back from PostgreSQL, is judged airing by airing."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from monitor.demo.programme import Airing

_FOUND_SQL = """
SELECT match_id, stream, catalog, reference_id, state, score, tempo_ratio, reference_start_s, reference_end_s,
       extract(epoch FROM start_at)::float8 AS start_s,
       extract(epoch FROM end_at)::float8 AS end_s,
       (SELECT min(extract(epoch FROM event.recorded_at))::float8
          FROM match_events AS event WHERE event.match_id = match.match_id) AS recorded_s
  FROM matches AS match
 WHERE catalog = %s AND end_at >= to_timestamp(%s)
 ORDER BY start_at, match_id
"""
#: How far sound may be behind the transmitter's clock: encoder, server, network, decoder and the daemon's anchor.
LATENCY_LIMITS_S = (-0.5, 6.0)
_SAME_AIRING_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A row of the match log. Seconds are Unix time, or of the reference where the name says so."""

    match_id: UUID
    stream: str
    catalog: str
    reference_id: str
    state: str
    score: float
    tempo_ratio: float
    reference_start_s: float
    reference_end_s: float
    start_s: float
    end_s: float
    #: When the first event of the match was written.
    recorded_s: float | None

    def position_s(self, time_s: float) -> float:
        """Which second of the reference the row says plays then."""
        return self.reference_start_s + (time_s - self.start_s) * self.tempo_ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerances:
    """How exact a row must be."""

    edge_s: float = 1.5
    position_s: float = 0.5


class Outcome(enum.StrEnum):
    """What became of one airing."""

    FOUND = "found"
    QUIET = "nothing, rightly"
    MISSED = "MISSED"
    REPEATED = "FOUND MORE THAN ONCE"
    INEXACT = "INEXACT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One airing with the rows that are its own. Errors are what was found less the truth, latency taken out."""

    airing: Airing
    rows: tuple[Found, ...]
    outcome: Outcome
    start_error_s: float | None = None
    end_error_s: float | None = None
    position_error_s: float | None = None
    #: From the airing's first sample at the transmitter to the first event in PostgreSQL.
    delay_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The verdict on a broadcast."""

    lines: tuple[Line, ...]
    #: Rows that belong to no airing.
    strays: tuple[Found, ...]
    #: Of each station, how far its sound was behind the transmitter's clock; None where nothing was found.
    latency_s: Mapping[str, float | None]
    on_air_s: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Every airing was found exactly once where it was, and nothing else was."""
        return not self.strays and all(line.outcome in (Outcome.FOUND, Outcome.QUIET) for line in self.lines)

    @property
    def median_delay_s(self) -> float | None:
        """From an airing's start to its first event, over all that were found."""
        delays_s = [line.delay_s for line in self.lines if line.delay_s is not None]
        return statistics.median(delays_s) if delays_s else None


async def read_found(connection: psycopg.AsyncConnection[Any], *, catalog: str, since_s: float) -> list[Found]:
    """The catalog's rows that reach past that Unix time, the oldest first."""
    async with connection.cursor(row_factory=class_row(Found)) as cursor:
        await cursor.execute(_FOUND_SQL, (catalog, since_s))
        return await cursor.fetchall()


def judge(
    airings: Sequence[Airing],
    found: Sequence[Found],
    *,
    on_air_s: Mapping[str, float],
    tolerances: Tolerances = Tolerances(),
) -> Report:
    """Give each row to the airing that it overlaps, and each airing its outcome.

    `on_air_s` is the Unix time at which each station's transmitter took in its programme's first sample. What a
    listener hears is older than that clock by the latency of encoder, server and decoder, which no row can know: one
    constant per station, the median over its airings of how far the row's position lags, is taken out before
    comparing, and must itself lie within `LATENCY_LIMITS_S`.
    """
    kept = [row for row in found if row.state != "retracted"]
    own: dict[int, list[Found]] = {index: [] for index in range(len(airings))}
    strays: list[Found] = []
    for row in kept:
        index = _airing_of(row, airings, on_air_s)
        if index is None:
            strays.append(row)
        else:
            own[index].append(row)
    latency_s = {station: _latency_s(station, airings, own, on_air_s) for station in on_air_s}
    lines = [
        _line(airing, own[index], on_air_s[airing.station], latency_s[airing.station] or 0.0, tolerances)
        for index, airing in enumerate(airings)
    ]
    return Report(
        lines=tuple(sorted(lines, key=lambda line: (line.airing.station, line.airing.start_s))),
        strays=tuple(strays),
        latency_s=latency_s,
        on_air_s=dict(on_air_s),
    )


def _airing_of(row: Found, airings: Sequence[Airing], on_air_s: Mapping[str, float]) -> int | None:
    """The airing of the row's reference that the row overlaps longest."""
    overlaps = {
        index: min(row.end_s, on_air_s[airing.station] + airing.end_s + LATENCY_LIMITS_S[1])
        - max(row.start_s, on_air_s[airing.station] + airing.start_s - _SAME_AIRING_S)
        for index, airing in enumerate(airings)
        if airing.station == row.stream and airing.reference_id == row.reference_id
    }
    best = max(overlaps, key=lambda index: overlaps[index], default=None)
    return best if best is not None and overlaps[best] > 0 else None


def _latency_s(
    station: str, airings: Sequence[Airing], own: Mapping[int, Sequence[Found]], on_air_s: Mapping[str, float]
) -> float | None:
    lags_s = [
        (airing.position_s(airing.middle_s) - row.position_s(on_air_s[station] + airing.middle_s)) / airing.tempo_ratio
        for index, airing in enumerate(airings)
        if airing.station == station
        for row in own[index]
    ]
    return statistics.median(lags_s) if lags_s else None


def _line(airing: Airing, rows: Sequence[Found], on_air_s: float, latency_s: float, tolerances: Tolerances) -> Line:
    if airing.reference_id is None:
        return Line(airing=airing, rows=(), outcome=Outcome.QUIET)
    if not rows:
        return Line(airing=airing, rows=(), outcome=Outcome.MISSED)
    heard_s = on_air_s + latency_s
    row = rows[0]
    start_error_s = row.start_s - heard_s - airing.start_s
    end_error_s = max(row.end_s for row in rows) - heard_s - airing.end_s
    position_error_s = row.position_s(heard_s + airing.middle_s) - airing.position_s(airing.middle_s)
    recorded_s = min((row.recorded_s for row in rows if row.recorded_s is not None), default=None)
    exact = (
        abs(start_error_s) <= tolerances.edge_s
        and abs(end_error_s) <= tolerances.edge_s
        and abs(position_error_s) <= tolerances.position_s
        and LATENCY_LIMITS_S[0] <= latency_s <= LATENCY_LIMITS_S[1]
    )
    return Line(
        airing=airing,
        rows=tuple(rows),
        outcome=Outcome.REPEATED if len(rows) > 1 else Outcome.FOUND if exact else Outcome.INEXACT,
        start_error_s=start_error_s,
        end_error_s=end_error_s,
        position_error_s=position_error_s,
        delay_s=None if recorded_s is None else recorded_s - on_air_s - airing.start_s,
    )


def table(report: Report) -> str:
    """The verdict for people: a line per airing, then what was found and never aired."""
    rows = [("station", "from", "to", "aired", "what", "at", "found", "start", "end", "position", "after")]
    for line in report.lines:
        airing = line.airing
        rows.append(
            (
                airing.station,
                _clock(airing.start_s),
                _clock(airing.end_s),
                str(airing.condition),
                airing.title,
                _clock(airing.reference_start_s) if airing.title else "",
                str(line.outcome),
                _signed(line.start_error_s),
                _signed(line.end_error_s),
                _signed(line.position_error_s),
                "" if line.delay_s is None else f"{line.delay_s:.1f} s",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    text.insert(1, "  ".join("-" * width for width in widths))
    for row in report.strays:
        start_s = row.start_s - report.on_air_s.get(row.stream, row.start_s)
        where = f"on {row.stream} from {_clock(start_s)} for {row.end_s - row.start_s:.1f} s"
        what = f"reference from {_clock(row.reference_start_s)}, score {row.score:.2f}, {row.state}"
        text.append(f"NEVER AIRED: {row.reference_id} {where} ({what})")
    return "\n".join(text)


def summary(report: Report) -> str:
    """The verdict in one line."""
    wanted = [line for line in report.lines if line.airing.reference_id is not None]
    good = sum(line.outcome is Outcome.FOUND for line in wanted)
    delay = "" if report.median_delay_s is None else f", half of them after {report.median_delay_s:.1f} s or less"
    others = f"{len(report.strays)} rows that were never aired" if report.strays else "nothing else found"
    verdict = "PASSED" if report.passed else "FAILED"
    return f"{good} of {len(wanted)} airings found once, in place{delay}; {others}: {verdict}"


def as_json(report: Report) -> dict[str, Any]:
    """The same as one JSON object."""
    return {
        "passed": report.passed,
        "median_delay_s": report.median_delay_s,
        "latency_s": dict(report.latency_s),
        "airings": [_line_json(line, report.on_air_s[line.airing.station]) for line in report.lines],
        "never_aired": [_row_json(row) for row in report.strays],
    }


def _line_json(line: Line, on_air_s: float) -> dict[str, Any]:
    airing = line.airing
    return {
        "stream": airing.station,
        "condition": airing.condition.value,
        "reference_id": airing.reference_id,
        "title": airing.title,
        "start": _iso(on_air_s + airing.start_s),
        "end": _iso(on_air_s + airing.end_s),
        "reference_start_s": airing.reference_start_s,
        "tempo_ratio": airing.tempo_ratio,
        "outcome": line.outcome.value,
        "start_error_s": line.start_error_s,
        "end_error_s": line.end_error_s,
        "position_error_s": line.position_error_s,
        "delay_s": line.delay_s,
        "matches": [_row_json(row) for row in line.rows],
    }


def _row_json(row: Found) -> dict[str, Any]:
    return {
        "match_id": str(row.match_id),
        "stream": row.stream,
        "reference_id": row.reference_id,
        "state": row.state,
        "start": _iso(row.start_s),
        "end": _iso(row.end_s),
        "reference_start_s": row.reference_start_s,
        "reference_end_s": row.reference_end_s,
        "tempo_ratio": row.tempo_ratio,
        "score": row.score,
    }


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")


def _clock(time_s: float) -> str:
    sign, tenths = "-" if time_s < 0 else "", round(abs(time_s) * 10)
    return f"{sign}{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def _signed(error_s: float | None) -> str:
    return "" if error_s is None else f"{error_s:+.2f}"
