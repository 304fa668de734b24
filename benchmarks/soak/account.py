"""Every second of every stream is either heard or in a gap row: covered + gaps = wall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

#: Of the wall time; and what a short run's edges may be off by.
TOLERANCE = 0.01
EDGES_S = 5.0

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One stream's time."""

    stream: str
    wall_s: float
    #: Of the stream's own time, overlaps counted once.
    covered_s: float
    gaps_s: float
    gap_rows: int
    #: Seconds that two gap rows of the stream both claim.
    claimed_twice_s: float

    @property
    def error_s(self) -> float:
        """What is accounted for beyond the wall time; below 0, what is not."""
        return self.covered_s + self.gaps_s - self.wall_s

    @property
    def balanced(self) -> bool:
        """Whether the time is accounted for."""
        return abs(self.error_s) <= max(TOLERANCE * self.wall_s, EDGES_S) and self.claimed_twice_s < 1.0


async def read_gaps(
    connection: psycopg.AsyncConnection[Any], streams: Iterable[str], *, since_s: float, until_s: float
) -> dict[str, list[Span]]:
    """The gap rows of each stream within that time (Unix seconds), the earliest first."""
    gaps: dict[str, list[Span]] = {name: [] for name in streams}
    cursor = await connection.execute(
        "SELECT stream, extract(epoch FROM start_at)::float8, extract(epoch FROM end_at)::float8 FROM gaps"
        " WHERE end_at > to_timestamp(%s) AND start_at < to_timestamp(%s) ORDER BY start_at",
        (since_s, until_s),
    )
    for stream, start_s, end_s in await cursor.fetchall():
        if stream in gaps:
            gaps[stream].append((max(start_s, since_s), min(end_s, until_s)))
    return gaps


def settle(
    gaps: Mapping[str, Sequence[Span]], covered_s: Mapping[str, float], *, since_s: float, until_s: float
) -> list[Account]:
    """The account of each stream."""
    return [
        Account(
            stream=stream,
            wall_s=until_s - since_s,
            covered_s=covered_s[stream],
            gaps_s=union_s(spans),
            gap_rows=len(spans),
            claimed_twice_s=sum(end_s - start_s for start_s, end_s in spans) - union_s(spans),
        )
        for stream, spans in gaps.items()
    ]


def union_s(spans: Iterable[Span]) -> float:
    """Seconds that lie in at least one of the spans."""
    total_s, reached_s = 0.0, -float("inf")
    for start_s, end_s in sorted(spans):
        total_s += max(end_s - max(start_s, reached_s), 0.0)
        reached_s = max(reached_s, end_s)
    return total_s
