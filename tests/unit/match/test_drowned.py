"""An airing that drowns, from the first window that points at it to its row: frames found it, and follow it."""

from __future__ import annotations

import pytest

from monitor.types import MatchState
from tests.unit.match.bed import REFERENCE_S, STARTS_S, Bed


@pytest.mark.parametrize("length_s", [4.0, 12.0, 90.0])
def test_a_drowned_airing_is_one_row_that_is_never_taken_back(length_s):
    bed = Bed(length_s)
    told = bed.play(STARTS_S + length_s + 20.0)
    states = [event.match.state for event in told if event.changed]
    assert states == [MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED]
    match = told[-1].match
    assert match.start_s == pytest.approx(STARTS_S, abs=0.5)
    assert match.end_s == pytest.approx(STARTS_S + length_s, abs=0.5)
    assert match.reference_start_s == pytest.approx(REFERENCE_S + match.start_s - STARTS_S, abs=0.1)


def test_evidence_grows_as_it_is_heard_and_not_by_itself():
    bed = Bed(90.0)
    bed.play(100.0)
    (match,) = bed.aligner.open_matches
    per_s = match.evidence_nats / (match.end_s - match.start_s)
    assert per_s < 10.0
