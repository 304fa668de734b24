from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from monitor.types import MatchState
from tests.unit.match.simulation import Airing, Catalog, Listener, Recording, unit, windows


@pytest.fixture(scope="module")
def heard() -> Listener:
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=120.0) for n in range(5)})
    listener = Listener(catalog)
    for start_s, vector in windows(catalog, [Airing("piece-1", 10.0, 0.0, 80.0)], until_s=40, noise=0.5, seed=13):
        listener.hear(start_s, vector)
    return listener


@pytest.fixture
def listener(heard) -> Listener:
    """A listener of the test's own, in the middle of an airing."""
    return copy.deepcopy(heard)


def test_a_restored_match_can_be_closed_before_anything_was_heard(listener):
    after = Listener(listener.catalog)
    after.aligner.restore([listener.events[-1].match])
    (event,) = after.aligner.flush()
    assert math.isfinite(event.decided_s) and event.decided_s >= event.match.end_s


@pytest.mark.parametrize("ahead_s", [-1.75, 0.75, 1.75, 4.0])
def test_a_clock_anchored_anew_after_a_gap_does_not_move_the_start(listener, ahead_s):
    (before,) = listener.aligner.open_matches
    airing = [Airing("piece-1", 10.0, 0.0, 80.0)]
    for start_s, vector in windows(listener.catalog, airing, until_s=80, noise=0.5, seed=13, from_s=45.0):
        listener.hear(start_s + ahead_s, vector)
    (after,) = listener.aligner.open_matches
    assert after.match_id == before.match_id and after.last_hit_s > 75
    assert (after.start_s, after.reference_start_s) == (before.start_s, before.reference_start_s)
    assert abs(after.origin_s - (before.origin_s + ahead_s)) < 0.5
    assert {event.match.match_id for event in listener.events if event.changed} == {before.match_id}


def test_what_was_told_before_an_interruption_is_no_evidence_of_another_airing(listener):
    (before,) = listener.aligner.open_matches
    airing = [Airing("piece-1", 10.0, 0.0, 80.0)]
    for start_s, vector in windows(listener.catalog, airing, until_s=90, noise=3.0, seed=13, from_s=45.0):
        listener.hear(start_s + 1.75, vector)
    assert {event.match.match_id for event in listener.events if event.changed} == {before.match_id}


def test_a_match_that_an_interruption_ended_is_open_again_when_the_airing_goes_on(listener):
    (before,) = listener.aligner.open_matches
    ended = replace(before, state=MatchState.ENDED)
    after = Listener(listener.catalog)
    after.aligner.restore([ended])
    after.aligner.resume_sequences({ended.match_id: 7})
    assert after.aligner.open_matches == ()
    airing = [Airing("piece-1", 10.0, 0.0, 80.0)]
    for start_s, vector in windows(listener.catalog, airing, until_s=110, noise=0.5, seed=13, from_s=50.0):
        after.hear(start_s, vector)
    told = [event for event in after.events if event.changed]
    assert [event.match.state.value for event in told] == ["confirmed", "ended"]
    assert {event.match.match_id for event in after.events} == {before.match_id}
    assert after.events[0].sequence == 7 and not told[-1].interrupted
    assert abs(told[-1].match.end_s - 90.0) < 2.0


def test_a_match_that_an_interruption_ended_stays_so_when_the_airing_is_over(listener):
    (before,) = listener.aligner.open_matches
    after = Listener(listener.catalog)
    after.aligner.restore([replace(before, state=MatchState.ENDED)])
    for start_s, vector in windows(listener.catalog, [], until_s=90, noise=0.5, seed=14, from_s=45.0):
        after.hear(start_s, vector)
    assert after.events == [] and after.aligner.flush() == []


def test_listening_that_is_interrupted_says_so_of_what_it_ends(listener):
    (before,) = listener.aligner.open_matches
    after = Listener(listener.catalog)
    after.aligner.restore([before])
    (event,) = after.aligner.flush(interrupted=True)
    assert event.interrupted and event.match.state is MatchState.ENDED


@pytest.mark.parametrize("reading", [0, 1, 2])
@pytest.mark.parametrize("gap_s", [0.0, 3.0])
def test_a_transposed_airing_goes_on_in_its_row_after_a_restart(reading, gap_s):
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=120.0) for n in range(5)})
    airing = [Airing("piece-1", 20.0, 0.0, 40.0)]

    def heard(from_s: float, until_s: float):
        for start_s, vector in windows(catalog, airing, until_s=until_s, noise=0.3, seed=13, from_s=from_s):
            readings = unit(np.random.default_rng(round(10 * start_s)).standard_normal((3, len(vector))))
            readings[reading] = vector
            yield start_s, readings

    before, after = Listener(catalog), Listener(catalog)
    for start_s, readings in heard(0.0, 36.0):
        before.hear(start_s, readings)
    (released,) = [event.match for event in before.aligner.release()]
    after.aligner.restore([released])
    for start_s, readings in heard(36.0 + gap_s, 80.0):
        after.hear(start_s, readings)
    assert {event.match.match_id for event in after.events} == {released.match_id}
    assert after.events[-1].match.state is MatchState.ENDED
    assert abs(after.events[-1].match.end_s - 60.0) < 1.5
