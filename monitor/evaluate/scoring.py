"""Findings against the truth: seconds, airings, rows, delays, boundaries, positions, false alarms."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from monitor.evaluate.truth import Airing, Broadcast, uncatalogued_s
from monitor.types import MatchEvent, MatchState

#: Rows are compared with the truth in steps of so much.
STEP_S = 0.1
#: A row belongs to an airing that it overlaps by at least half of the shorter of the two.
_OVERLAP_SHARE = 0.5
#: Exact one-sided upper 95 % bound of a Poisson mean, by events seen (Garwood, 1936).
_POISSON_95 = (2.996, 4.744, 6.296, 7.754, 9.154, 10.513, 11.842, 13.148, 14.435, 15.705, 16.962)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One match of a broadcast and how it came about."""

    query: str
    reference_id: str
    start_s: float
    end_s: float
    reference_start_s: float
    tempo_ratio: float
    score: float
    #: The most evidence that any of its events had.
    evidence_nats: float
    #: How much of the broadcast had been heard when it was first told of, and when it was believed.
    provisional_s: float
    confirmed_s: float | None
    #: False for what was told of and taken back.
    ended: bool

    def position_s(self, time_s: float) -> float:
        """Which second of the reference it says plays then."""
        return self.reference_start_s + (time_s - self.start_s) * self.tempo_ratio


def rows_of(query: str, events: Iterable[MatchEvent]) -> list[Row]:
    """The matches that a broadcast's events tell of, by start."""
    lives: dict[object, list[MatchEvent]] = defaultdict(list)
    for event in events:
        lives[event.match.match_id].append(event)
    rows = []
    for life in lives.values():
        last = life[-1].match
        confirmed = [event.decided_s for event in life if event.match.state is MatchState.CONFIRMED]
        rows.append(
            Row(
                query=query,
                reference_id=last.reference_id,
                start_s=last.start_s,
                end_s=last.end_s,
                reference_start_s=last.reference_start_s,
                tempo_ratio=last.tempo_ratio,
                score=last.score,
                evidence_nats=max(event.match.evidence_nats for event in life),
                provisional_s=life[0].decided_s,
                confirmed_s=confirmed[0] if confirmed else None,
                ended=last.state is MatchState.ENDED,
            )
        )
    return sorted(rows, key=lambda row: (row.start_s, row.reference_id))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One airing and the rows that it had."""

    airing: Airing
    rows: tuple[Row, ...]
    found_s: float

    @property
    def claimed_s(self) -> float:
        """How much its rows claim, right or wrong."""
        return sum(row.end_s - row.start_s for row in self.rows)

    @property
    def found(self) -> bool:
        """True if it had a row."""
        return bool(self.rows)

    @property
    def delay_s(self) -> float | None:
        """From its start to the first word of it."""
        return (
            min((row.provisional_s for row in self.rows), default=math.nan) - self.airing.start_s if self.rows else None
        )

    @property
    def start_error_s(self) -> float | None:
        """How late its first row begins."""
        return min(row.start_s for row in self.rows) - self.airing.start_s if self.rows else None

    @property
    def end_error_s(self) -> float | None:
        """How late its last row ends."""
        return max(row.end_s for row in self.rows) - self.airing.end_s if self.rows else None

    @property
    def position_error_s(self) -> float | None:
        """How far off the second of the reference is, in the middle of its longest row."""
        if not self.rows:
            return None
        longest = max(self.rows, key=lambda row: row.end_s - row.start_s)
        middle_s = (max(longest.start_s, self.airing.start_s) + min(longest.end_s, self.airing.end_s)) / 2
        played_s = self.airing.position_s(middle_s)
        return None if played_s is None else longest.position_s(middle_s) - played_s


@dataclass(kw_only=True)
class Tally:
    """Airings of one kind, summed."""

    airings: int = 0
    found: int = 0
    aired_s: float = 0.0
    found_s: float = 0.0
    claimed_s: float = 0.0
    rows: int = 0
    delays_s: list[float] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.airings += 1
        self.found += outcome.found
        self.aired_s += outcome.airing.length_s
        self.found_s += outcome.found_s
        self.claimed_s += outcome.claimed_s
        self.rows += len(outcome.rows)
        if outcome.delay_s is not None:
            self.delays_s.append(outcome.delay_s)

    @property
    def recall_airings(self) -> float:
        """Share of the airings that had a row."""
        return self.found / self.airings if self.airings else math.nan

    @property
    def recall_s(self) -> float:
        """Share of the seconds that were found."""
        return self.found_s / self.aired_s if self.aired_s else math.nan

    @property
    def f1_s(self) -> float:
        """Harmonic mean of the seconds' recall and precision; rows of anything else are not in it."""
        return 2 * self.found_s / (self.aired_s + self.claimed_s) if self.aired_s else math.nan


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All broadcasts against all rows."""

    outcomes: tuple[Outcome, ...]
    #: What was played but is not the recording any more, such as a cover.
    unclaimed: tuple[Outcome, ...]
    #: Ended rows of something that was not played, and their kinds: what was.
    false_rows: tuple[tuple[Row, str], ...]
    #: Told of and taken back, and nothing of it was played.
    false_words: tuple[Row, ...]
    listened_s: float
    uncatalogued_s: float
    claimed_s: float
    right_s: float

    @property
    def precision_s(self) -> float:
        """Share of the claimed seconds that were played; 1 where nothing was claimed."""
        return self.right_s / self.claimed_s if self.claimed_s else 1.0

    @property
    def found(self) -> list[Outcome]:
        """The airings that had a row."""
        return [outcome for outcome in self.outcomes if outcome.found]

    def tally(self, kind: Callable[[Airing], str | None]) -> dict[str, Tally]:
        """The airings summed by kind, in the order in which the kinds first come; None is left out."""
        tallies: dict[str, Tally] = {}
        for outcome in self.outcomes:
            if (name := kind(outcome.airing)) is not None:
                tallies.setdefault(name, Tally()).add(outcome)
        return tallies


def judge(
    broadcasts: Sequence[Broadcast], rows: Mapping[str, Sequence[Row]], durations_s: Mapping[str, float]
) -> Verdict:
    """Rows by broadcast (its file's path) against the airings."""
    outcomes: list[Outcome] = []
    unclaimed: list[Outcome] = []
    false_rows: list[tuple[Row, str]] = []
    false_words: list[Row] = []
    claimed_s = right_s = outside_s = 0.0
    for broadcast in broadcasts:
        here = list(rows[str(broadcast.path)])
        ended = [row for row in here if row.ended]
        aired = [airing for airing in broadcast.airings if airing.reference_id]
        belongs = {id(row): _airing_of(row, aired) for row in here}
        for airing in aired:
            own = tuple(row for row in ended if belongs[id(row)] is airing)
            outcome = Outcome(airing=airing, rows=own, found_s=_shared_s([airing], own))
            (outcomes if airing.claimed else unclaimed).append(outcome)
        for row in here:
            owner = belongs[id(row)]
            if owner is None and row.ended:
                false_rows.append((row, _playing(row, broadcast.airings)))
            elif owner is None:
                false_words.append(row)
            if row.ended and (owner is None or owner.claimed):
                same = [other for other in aired if other.reference_id == row.reference_id and other.claimed]
                claimed_s += row.end_s - row.start_s
                right_s += _shared_s(same, [row])
        outside_s += uncatalogued_s(broadcast.airings, durations_s[str(broadcast.path)])
    return Verdict(
        outcomes=tuple(outcomes),
        unclaimed=tuple(unclaimed),
        false_rows=tuple(false_rows),
        false_words=tuple(false_words),
        listened_s=sum(durations_s[str(broadcast.path)] for broadcast in broadcasts),
        uncatalogued_s=outside_s,
        claimed_s=claimed_s,
        right_s=right_s,
    )


def poisson_bound(events: int) -> float:
    """The mean that so few events have a chance of 5 % at."""
    if events < len(_POISSON_95):
        return _POISSON_95[events]
    # Wilson and Hilferty (1931).
    degrees = 2 * (events + 1)
    return degrees / 2 * (1 - 2 / (9 * degrees) + 1.645 * math.sqrt(2 / (9 * degrees))) ** 3


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """The threshold that this evaluation would have wanted."""

    #: For `match.confirmed_evidence_nats`.
    evidence_nats: float
    highest_false_nats: float | None
    #: Right airings that would be lost by it.
    lost: int
    airings: int


def suggest(verdict: Verdict, *, confirmed_nats: float, margin_nats: float = 1.0) -> Suggestion:
    """The least threshold, and never less than the present one, at which nothing false was believed, with a margin."""
    false = [row.evidence_nats for row, _ in verdict.false_rows]
    wanted = max([confirmed_nats, *(nats + margin_nats for nats in false)])
    found = verdict.found
    lost = sum(max(row.evidence_nats for row in outcome.rows) < wanted for outcome in found)
    return Suggestion(
        evidence_nats=math.ceil(wanted * 2) / 2,
        highest_false_nats=max(false) if false else None,
        lost=lost,
        airings=len(found),
    )


def _airing_of(row: Row, aired: Sequence[Airing]) -> Airing | None:
    best, most_s = None, 0.0
    for airing in aired:
        if airing.reference_id != row.reference_id:
            continue
        shared_s = min(row.end_s, airing.end_s) - max(row.start_s, airing.start_s)
        shorter_s = min(row.end_s - row.start_s, airing.length_s)
        if shared_s > most_s and shared_s >= _OVERLAP_SHARE * shorter_s:
            best, most_s = airing, shared_s
    return best


def _playing(row: Row, airings: Sequence[Airing]) -> str:
    """What the most of a row's time was really on."""
    shared = {airing: min(row.end_s, airing.end_s) - max(row.start_s, airing.start_s) for airing in airings}
    most = max(shared, key=lambda airing: shared[airing], default=None)
    if most is None or shared[most] <= 0:
        return "uncatalogued"
    return most.condition if most.reference_id is None else f"another recording ({most.condition})"


def _shared_s(airings: Sequence[Airing], rows: Sequence[Row]) -> float:
    if not airings or not rows:
        return 0.0
    begin = min(airing.start_s for airing in airings)
    end = max(airing.end_s for airing in airings)
    times = np.arange(begin + STEP_S / 2, end, STEP_S)
    played = np.zeros(len(times), dtype=bool)
    claimed = np.zeros(len(times), dtype=bool)
    for airing in airings:
        played |= (times >= airing.start_s) & (times < airing.end_s)
    for row in rows:
        claimed |= (times >= row.start_s) & (times < row.end_s)
    return float(np.count_nonzero(played & claimed)) * STEP_S
