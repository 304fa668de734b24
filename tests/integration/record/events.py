"""Matches, events and hits to be recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from monitor.types import Hit, Match, MatchEvent, MatchState

#: 2026-03-01T23:59:50Z: ten seconds before a day ends.
EVENING_S = 1_772_409_590.0


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A webhook by name and the states that it wants."""

    name: str
    states: frozenset[MatchState] = frozenset(MatchState)


def make_match(**given: Any) -> Match:
    """A provisional match of eight seconds, unless told otherwise."""
    start_s = given.get("start_s", EVENING_S)
    match = Match(
        match_id=given.get("match_id") or uuid4(),
        stream="radio",
        catalog="songs",
        reference_id="piece-1",
        state=MatchState.PROVISIONAL,
        start_s=start_s,
        end_s=start_s + 8.25,
        reference_start_s=30.5,
        reference_end_s=38.75,
        origin_s=start_s - 30.5,
        tempo_ratio=1.0,
        evidence_nats=42.0,
        score=0.75,
        last_hit_s=start_s + 7.5,
        model_id="fingerprint-0123456789ab",
    )
    return replace(match, **given)


def make_event(
    sequence: int = 0,
    state: MatchState = MatchState.PROVISIONAL,
    *,
    match: Match | None = None,
    hits_s: tuple[float, ...] = (),
    changed: bool = True,
    **given: Any,
) -> MatchEvent:
    """The event that brings the match (a new one, unless given) into the state, with one hit at each of `hits_s`."""
    told = replace(match or make_match(), state=state, **given)
    return MatchEvent(
        sequence=sequence,
        match=told,
        decided_s=told.end_s + 1,
        hits=tuple(
            Hit(window_start_s=at_s, reference_id=told.reference_id, reference_start_s=at_s % 1000, similarity=0.5)
            for at_s in hits_s
        ),
        changed=changed,
    )


def life(match: Match, *states: MatchState) -> list[MatchEvent]:
    """One event per state, in order."""
    return [make_event(sequence, state, match=match) for sequence, state in enumerate(states)]


def uuid_of(number: int) -> UUID:
    """Ids in a known order."""
    return UUID(int=number)
