"""Another piece over the same chords: its windows and its loudness agree with a recording's, its notes do not."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.types import MatchState
from tests.unit.match.bed import PIECE, STARTS_S, Bed
from tests.unit.match.pictures import STEP_S, sound

QUIETLY_OVER_DB = -25.0
CHORDS = 12.0 + 1.5 * (PIECE - 12.0) + 1.6 * (sound(len(PIECE) * STEP_S, 7)[: len(PIECE)] - 12.0)


def played(alike: np.ndarray, length_s: float, *, similarity: float = 0.55, from_s: float = 0.0) -> list[MatchState]:
    bed = Bed(length_s, over_db=QUIETLY_OVER_DB, alike=alike, similarity=similarity, sought=False)
    return [event.match.state for event in bed.play(STARTS_S + length_s + 20.0, from_s=from_s) if event.changed]


@pytest.mark.parametrize("length_s", [6.0, 12.0, 60.0])
def test_a_piece_over_the_same_chords_is_never_believed(length_s):
    assert MatchState.CONFIRMED not in played(CHORDS, length_s)
    assert MatchState.CONFIRMED in played(PIECE, length_s)


def test_what_was_on_air_when_listening_began_is_doubted_as_long_as_anything():
    found = [played(alike, 20.0, similarity=0.6, from_s=STARTS_S) for alike in (CHORDS, PIECE)]
    assert [MatchState.CONFIRMED in states for states in found] == [False, True]
