from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from monitor.evaluate import scoring
from monitor.evaluate.truth import Airing, Broadcast
from monitor.types import Match, MatchEvent, MatchState

QUERY = Path("radio.wav")


def airing(reference_id, start_s, end_s, **changes):
    given = {"reference_start_s": 30.0, "tempo_ratio": 1.0, "family": "clean", "condition": "clean"} | changes
    return Airing(query=QUERY.name, reference_id=reference_id, start_s=start_s, end_s=end_s, **given)


def life(reference_id, start_s, end_s, *, at=30.0, nats=(6.0, 10.0, 40.0), told_s=None, taken_back=False):
    """The events of a match: provisional, confirmed, ended; or provisional and retracted."""
    told_s = start_s + 2 if told_s is None else told_s
    states = [MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED]
    if taken_back:
        states = [MatchState.PROVISIONAL, MatchState.RETRACTED]
    match_id = uuid4()
    return [
        MatchEvent(
            sequence=number,
            decided_s=told_s + number,
            match=Match(
                match_id=match_id, stream="", catalog="", reference_id=reference_id, state=state, start_s=start_s,
                end_s=end_s, reference_start_s=at, reference_end_s=at + end_s - start_s, origin_s=start_s - at,
                tempo_ratio=1.0, evidence_nats=nats[number], score=0.9, last_hit_s=end_s, model_id="",
            ),
        )
        for number, state in enumerate(states)
    ]  # fmt: skip


def judged(airings, *lives, duration_s=100.0):
    rows = scoring.rows_of(QUERY.name, [event for each in lives for event in each])
    broadcast = Broadcast(path=QUERY, duration_s=duration_s, airings=tuple(airings))
    return scoring.judge([broadcast], {str(QUERY): rows}, {str(QUERY): duration_s})


def test_a_whole_airing_is_right_in_every_respect():
    verdict = judged([airing("a", 10, 30)], life("a", 10, 30))
    (outcome,) = verdict.outcomes
    assert outcome.found and outcome.found_s == pytest.approx(20)
    assert (outcome.delay_s, outcome.start_error_s, outcome.end_error_s) == (2, 0, 0)
    assert outcome.position_error_s == pytest.approx(0)
    assert verdict.precision_s == pytest.approx(1) and not verdict.false_rows and verdict.uncatalogued_s == 80


def test_seconds_beyond_the_airing_are_wrong_and_seconds_before_the_row_are_missed():
    verdict = judged([airing("a", 10, 30)], life("a", 15, 35, at=35.25))
    (outcome,) = verdict.outcomes
    assert outcome.found_s == pytest.approx(15) and verdict.precision_s == pytest.approx(0.75)
    assert (outcome.start_error_s, outcome.end_error_s) == (5, 5)
    assert outcome.position_error_s == pytest.approx(0.25)


def test_another_recording_is_false_and_says_what_really_played():
    verdict = judged(
        [airing("a", 10, 30), airing(None, 40, 60, condition="music")], life("b", 12, 28), life("a", 42, 50)
    )
    assert not verdict.found
    assert [kind for _, kind in verdict.false_rows] == ["another recording (clean)", "music"]
    assert verdict.precision_s == 0


def test_two_rows_of_one_airing_are_counted_and_a_row_of_a_later_airing_is_its_own():
    aired = [airing("a", 10, 30), airing("a", 60, 80)]
    verdict = judged(aired, life("a", 10, 18), life("a", 20, 30), life("a", 60, 80))
    assert [len(outcome.rows) for outcome in verdict.outcomes] == [2, 1]


def test_what_is_told_and_taken_back_is_no_false_row_but_is_counted():
    verdict = judged([airing("a", 10, 30)], life("b", 40, 44, taken_back=True))
    assert not verdict.false_rows and len(verdict.false_words) == 1


def test_a_cover_is_neither_right_nor_wrong():
    cover = airing("a", 10, 30, family="cover", condition="played anew", claimed=False)
    verdict = judged([cover], life("a", 10, 30))
    assert not verdict.outcomes and not verdict.false_rows and verdict.claimed_s == 0
    assert [outcome.found for outcome in verdict.unclaimed] == [True]


def test_the_bound_is_that_of_a_poisson_mean():
    assert scoring.poisson_bound(0) == pytest.approx(2.996, abs=1e-3)
    assert scoring.poisson_bound(10) == pytest.approx(16.962, abs=1e-3)
    assert scoring.poisson_bound(100) == pytest.approx(118.08, abs=0.1)


def test_the_threshold_stays_where_nothing_false_was_believed():
    suggestion = scoring.suggest(judged([airing("a", 10, 30)], life("a", 10, 30)), confirmed_nats=9.0)
    assert (suggestion.evidence_nats, suggestion.highest_false_nats, suggestion.lost) == (9.0, None, 0)


def test_the_threshold_goes_above_what_was_false_and_says_what_that_costs():
    verdict = judged(
        [airing("a", 10, 30), airing("c", 70, 90)],
        life("a", 10, 30),
        life("c", 70, 90, nats=(6, 9, 12)),
        life("b", 40, 60, nats=(6, 9, 14.2)),
    )
    suggestion = scoring.suggest(verdict, confirmed_nats=9.0)
    assert suggestion.highest_false_nats == 14.2
    assert 14.2 < suggestion.evidence_nats <= 16
    assert (suggestion.lost, suggestion.airings) == (1, 2)
