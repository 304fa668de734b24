"""The log after the kills: one row per airing, as the undisturbed round had it, and gap rows for all that was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.kills.broadcast import Aired
from benchmarks.soak.account import Span, union_s
from monitor.demo.report import Found

#: An airing of which so much was heard must have its row.
LEAST_HEARD_S = 8.0
#: How far the second of the reference may be from where the undisturbed round had it.
POSITION_S = 0.5
#: What was not sent and is in no gap row, up to this, is decoder and clock.
LATENCY_S = 1.0
_EDGE_S = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One airing and the rows of its own."""

    aired: Aired
    heard_s: float
    #: The longest piece of it between two gaps.
    longest_s: float
    rows: tuple[Found, ...]
    #: From where the undisturbed round had it; None where there is not one row.
    position_error_s: float | None

    @property
    def owed(self) -> bool:
        """Whether it must have a row."""
        return self.heard_s >= LEAST_HEARD_S

    @property
    def verdict(self) -> str:
        """What became of it."""
        if len(self.rows) > 1:
            return "twice"
        if not self.rows:
            # What speaks for an airing that is not announced yet dies with the process.
            return "missed" if self.longest_s >= LEAST_HEARD_S else "missed in pieces" if self.owed else "too short"
        exact = self.position_error_s is not None and abs(self.position_error_s) <= POSITION_S
        return "found" if exact else "elsewhere" if self.owed else "too short"


def judge(
    aired: Sequence[Aired], found: Sequence[Found], gaps: Mapping[str, Sequence[Span]], *, undisturbed_until_s: float
) -> list[Judged]:
    """Every airing that began after the undisturbed round."""
    kept = [row for row in found if row.state != "retracted"]
    own = {id(one): [row for row in kept if _overlap_s(one, row) > 0] for one in aired}
    lags_s = {
        (one.airing.station, one.airing.start_s): own[id(one)][0].position_s(_middle_s(one))
        for one in aired
        if one.end_s <= undisturbed_until_s and len(own[id(one)]) == 1
    }
    judged = []
    for one in aired:
        if one.start_s < undisturbed_until_s:
            continue
        rows = tuple(own[id(one)])
        known_s = one.airing.position_s(one.airing.middle_s)  # by the programme, where no round was undisturbed
        expected_s = lags_s.get((one.airing.station, one.airing.start_s), known_s)
        at_s = None if len(rows) != 1 else rows[0].position_s(_middle_s(one))
        spans = [
            (max(start_s, one.start_s), min(end_s, one.end_s))
            for start_s, end_s in gaps[one.airing.station]
            if start_s < one.end_s and end_s > one.start_s
        ]
        judged.append(
            Judged(
                aired=one,
                heard_s=one.end_s - one.start_s - union_s(spans),
                longest_s=max(
                    (end_s - start_s for start_s, end_s in _between(spans, one.start_s, one.end_s)), default=0.0
                ),
                rows=rows,
                position_error_s=None if at_s is None else at_s - expected_s,
            )
        )
    return judged


def strays(aired: Iterable[Aired], found: Sequence[Found]) -> list[Found]:
    """Rows that belong to no airing at all."""
    airings = list(aired)
    return [row for row in found if row.state != "retracted" and not any(_overlap_s(one, row) > 0 for one in airings)]


def unaccounted_s(sent: Sequence[Span], gaps: Sequence[Span], *, since_s: float, until_s: float) -> float:
    """Of what a station sent to nobody, the longest stretch that lies in no gap row, less what is latency."""
    worst_s = 0.0
    for start_s, end_s in _between(sent, since_s, until_s):
        inside = [(max(a_s, start_s), min(b_s, end_s)) for a_s, b_s in gaps if a_s < end_s and b_s > start_s]
        worst_s = max(worst_s, end_s - start_s - union_s(inside) - LATENCY_S)
    return worst_s


def unsent_s(sent: Sequence[Span], *, since_s: float, until_s: float) -> float:
    """How long a station had no listener, the burst of the next one taken off."""
    return sum(end_s - start_s for start_s, end_s in _between(sent, since_s, until_s))


def _between(spans: Sequence[Span], since_s: float, until_s: float) -> list[Span]:
    """What of the time lies in none of the spans."""
    free, reached_s = [], since_s
    for start_s, end_s in sorted(spans):
        if start_s > reached_s:
            free.append((reached_s, min(start_s, until_s)))
        reached_s = max(reached_s, end_s)
    if reached_s < until_s:
        free.append((reached_s, until_s))
    return [(start_s, end_s) for start_s, end_s in free if end_s > start_s]


def _middle_s(one: Aired) -> float:
    return (one.start_s + one.end_s) / 2


def _overlap_s(one: Aired, row: Found) -> float:
    """How long a row of the airing's stream and reference overlaps it."""
    if (row.stream, row.reference_id) != (one.airing.station, one.airing.reference_id):
        return 0.0
    return min(row.end_s, one.end_s + _EDGE_S) - max(row.start_s, one.start_s - _EDGE_S)
