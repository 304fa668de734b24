"""Which runs are one airing: one airing has one row."""

from __future__ import annotations

from collections.abc import Iterable

from monitor.match.run import Run


def succeeds(candidate: Run, run: Run, *, window_s: float) -> bool:
    """Whether a candidate goes on with the recording of a match where that match loses it."""
    told = run.state is not None and candidate.state is None
    same = run.reference_id == candidate.reference_id
    return told and same and candidate.first_s <= run.last_s + window_s


def repeats(candidate: Run, run: Run, *, window_s: float) -> bool:
    """Whether a candidate is on air while a match of the same recording is: a repetition within the recording.

    The second of two airings back to back begins no earlier than in the windows that hold the end of the first.
    """
    return succeeds(candidate, run, window_s=window_s) and candidate.first_s < run.last_s - window_s / 2


def is_told(candidate: Run, matches: Iterable[Run], *, window_s: float, silence_s: float) -> bool:
    """Whether one of the matches follows the candidate's line, and has not been silent for too long."""
    return any(
        other.state is not None
        and other.reference_id == candidate.reference_id
        and abs(other.line.reference_at(candidate.last_s) - candidate.line.reference_at(candidate.last_s)) <= window_s
        and other.last_s >= candidate.first_s - silence_s
        for other in matches
        if other is not candidate
    )


def is_doubled(run: Run, runs: Iterable[Run], *, window_s: float) -> bool:
    """Whether a stronger match of the same recording has been on air while this one was: it is one airing."""
    return any(
        other.state is not None
        and other.reference_id == run.reference_id
        and other.told_nats > run.told_nats
        and min(other.last_s, run.last_s) - max(other.first_s, run.first_s) > window_s / 2
        for other in runs
        if other is not run
    )
