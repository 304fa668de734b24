"""Airings that are heard in parts, each too short to be believed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitor.match.run import Run
from monitor.types import MatchState
from tests.unit.match.simulation import OPTIONS, Airing, Catalog, Listener, Recording, rows, windows

#: So much that four seconds of an airing are not enough.
BELIEVED = replace(OPTIONS, provisional_nats=11.0, confirmed_nats=13.0)
AIRING = Airing("piece-1", 10.0, 20.0, 60.0)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog({f"piece-{n}": Recording(seed=n, duration_s=120.0) for n in range(5)})


def hear(listener: Listener, airing: Airing, from_s: float, until_s: float, *, late_s: float = 0.0) -> None:
    heard = windows(listener.catalog, [airing], until_s=until_s, noise=0.5, seed=13, from_s=from_s)
    for start_s, vector in heard:
        listener.hear(start_s + late_s, vector)


@pytest.fixture
def interrupted(catalog) -> Listener:
    listener = Listener(catalog, options=BELIEVED)
    hear(listener, AIRING, 4.0, 13.5)
    assert listener.events == [] and listener.aligner.candidates
    return listener


def reborn(listener: Listener) -> Listener:
    after = Listener(listener.catalog, options=BELIEVED)
    after.aligner.restore([], listener.aligner.candidates)
    return after


def test_a_part_alone_is_not_believed(catalog):
    listener = Listener(catalog, options=BELIEVED)
    hear(listener, AIRING, 22.0, 25.0)
    assert listener.events == []


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("late_s", [0.0, 3.5, -2.0])
def test_two_parts_are_one_airing_from_its_start(interrupted, killed, late_s):
    listener = reborn(interrupted) if killed else interrupted
    hear(listener, AIRING, 22.0, 25.5, late_s=late_s)
    (event,) = listener.aligner.flush()
    (row,) = rows([*listener.events, event])
    assert row.match.state is MatchState.ENDED
    assert row.match.start_s == pytest.approx(10.0, abs=0.6)
    assert row.match.reference_start_s == pytest.approx(20.0, abs=0.6)
    assert row.match.end_s == pytest.approx(26.0 + late_s, abs=1.5)


def test_three_parts_and_three_deaths_are_one_airing(catalog):
    listener = Listener(catalog, options=replace(BELIEVED, provisional_nats=18.0, confirmed_nats=19.0))
    hear(listener, AIRING, 8.0, 13.5)
    # In one of its lives nothing is heard.
    for part in ((18.0, 20.5), None, (26.0, 29.5)):
        assert listener.events == []
        options = listener.aligner.options
        listener = reborn(listener)
        listener.aligner.options = options
        if part is not None:
            hear(listener, AIRING, *part)
    (match,) = listener.aligner.open_matches
    assert match.start_s == pytest.approx(10.0, abs=0.6)


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_server_sends_again_counts_once(interrupted, killed):
    listener = reborn(interrupted) if killed else interrupted
    # The seconds from 10 to 13.5 come once more, as if they were played from second 16 on.
    hear(listener, AIRING, 10.0, 13.0, late_s=6.0)
    assert listener.events == []


def test_another_second_of_the_recording_is_another_airing(interrupted):
    hear(interrupted, replace(AIRING, reference_start_s=60.0), 22.0, 25.5)
    assert interrupted.events == []


def test_the_other_recording_is_another_airing(interrupted):
    hear(interrupted, replace(AIRING, reference_id="piece-2"), 22.0, 25.5)
    assert interrupted.events == []


@pytest.mark.parametrize("killed", [False, True])
def test_after_the_longest_gap_nothing_goes_on(interrupted, killed):
    listener = reborn(interrupted) if killed else interrupted
    from_s = 14.0 + BELIEVED.max_gap_s
    hear(listener, AIRING, from_s, from_s + 3.5)
    assert listener.events == []


def test_the_stream_being_away_is_an_interruption_too(interrupted):
    for until_s in (16.0, 18.0, 20.0):
        assert interrupted.aligner.unheard(until_s) == []
    assert interrupted.aligner.candidates
    hear(interrupted, AIRING, 22.0, 25.5)
    (match,) = interrupted.aligner.open_matches
    assert match.start_s == pytest.approx(10.0, abs=0.6)


def test_a_stream_that_ended_leaves_no_suspicion(interrupted):
    interrupted.aligner.flush()
    assert interrupted.aligner.candidates == ()


def test_of_many_the_strongest_are_remembered(interrupted):
    (known,) = interrupted.aligner.candidates
    many = [replace(known, reference_id=f"other-{n}", evidence_nats=float(n)) for n in range(40)]
    after = Listener(interrupted.catalog, options=BELIEVED)
    after.aligner.restore([], many)
    assert len(after.aligner.candidates) <= 40
    hear(after, AIRING, 14.0, 17.0)
    after.aligner.unheard(22.0)
    assert "piece-1" in {one.reference_id for one in after.aligner.candidates}


def test_a_candidate_without_a_start_cannot_be_told(interrupted):
    from monitor.match.carried import as_candidate
    from monitor.match.line import Line

    run = Run(reference_id="piece-1", line=Line(origin_s=0.0, tempo_ratio=1.0), born_s=0.0, first_s=0.0, last_s=1.0)
    with pytest.raises(ValueError, match="starts"):
        as_candidate(run)
