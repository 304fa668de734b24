"""What the next life of a daemon makes of what the one before had heard, and told, a moment ago."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.match.options import Options
from monitor.types import Match, MatchState
from tests.unit.match.bed import DURATION_S, STARTS_S, Bed
from tests.unit.match.simulation import HOP_S, simulated_aligner

OPTIONS = Options(provisional_nats=6.0, confirmed_nats=9.0)


def next_life(bed: Bed, *told: Match) -> None:
    bed.aligner = simulated_aligner(options=OPTIONS, duration_s=lambda _: DURATION_S)
    bed.aligner.restore(told)
    for start_s, _ in bed.heard:
        bed.aligner.recall(start_s, [], {})


@pytest.mark.parametrize("restart_s", [12.0, 15.0, 20.0])
def test_an_airing_has_its_start_though_the_life_before_heard_it(restart_s):
    bed = Bed(60.0, over_db=-10.0, similarity=0.55)
    bed.play(restart_s)
    next_life(bed)
    told = bed.play(STARTS_S + 80.0, from_s=restart_s)
    assert told[-1].match.state is MatchState.ENDED
    assert told[-1].match.start_s == pytest.approx(STARTS_S, abs=0.3)


def test_frames_that_a_provisional_match_was_told_by_are_not_counted_again():
    bed = Bed(3.5, over_db=-10.0, similarity=0.6, sought=False)
    bed.aligner.options = OPTIONS
    events = []
    for start_s in np.arange(0.0, 30.0, HOP_S).tolist():
        if events := bed.hear(start_s):
            break
    assert [event.match.state for event in events] == [MatchState.PROVISIONAL]
    next_life(bed, events[-1].match)
    later = bed.play(40.0, from_s=start_s + HOP_S)  # nothing more of it is heard
    assert [event.match.state for event in later if event.changed] == [MatchState.RETRACTED]
