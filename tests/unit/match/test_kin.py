"""What is middling alike for minutes may be of the same make; what is clear for seconds is the recording."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.match.score import Kin, Likeness
from monitor.types import MatchState
from tests.unit.match.simulation import CALIBRATION, Airing, Catalog, Listener, Recording, shipped_calibration, windows

KIN = Kin(rarity_nats=6.0, nats=(np.array([-1.5, -1.5, 0.5]),), near=0.9, near_nats=40.0)
MEASURED = dataclasses.replace(CALIBRATION, kin=KIN)
#: Of noise beside the recording: its windows are then about 0.6 like it, or 0.97.
MIDDLING, CLEAR = 1.3, 0.25
#: A tempo that has its price.
FAR = 1.1


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog({f"piece-{number}": Recording(seed=number, duration_s=90.0) for number in range(4)})


def airing(tempo_ratio: float) -> Airing:
    return Airing(
        reference_id="piece-1", start_s=0.0, reference_start_s=0.0, length_s=80.0 / tempo_ratio, tempo_ratio=tempo_ratio
    )


def heard(catalog: Catalog, *parts: tuple[float, float], calibration, tempo_ratio: float = FAR) -> Listener:
    """A listener that was played piece-1 from its start: parts of so many seconds through so much noise."""
    listener = Listener(catalog, calibration=calibration)
    begin_s = 0.0
    for number, (length_s, noise) in enumerate(parts):
        end_s = begin_s + length_s
        for start_s, vector in windows(
            catalog, [airing(tempo_ratio)], until_s=end_s, from_s=begin_s, noise=noise, seed=number
        ):
            listener.hear(start_s, vector)
        begin_s = end_s
    return listener


@pytest.fixture(scope="module")
def shipped():
    return shipped_calibration()


def likeness(own: np.ndarray) -> Likeness:
    unknown = np.full(len(own), np.nan)
    return Likeness(own=own, rival=unknown, beside=unknown, around=unknown)


def test_the_nearer_the_more_it_says_against_kin(shipped):
    for nats in shipped.judge(likeness(np.linspace(-1.0, 1.0, 201)))[1]:
        assert np.all(np.diff(nats) >= 0.0) and nats[0] < 0.0 < nats[-1]


def test_what_is_middling_speaks_for_kin_and_yet_for_the_recording_where_nothing_else_is_known(shipped):
    neutral = float(shipped.background.similarity(likeness(np.array([0.7])))[0])
    own = np.array([neutral + 0.05, neutral + 0.3])
    for alone, against in zip(*shipped.judge(likeness(own)), strict=True):
        assert against[0] < 0.0 < alone[0]
        assert against[1] > 4.0 and alone[1] > 4.0


def test_silence_says_nothing_against_kin(shipped):
    assert [nats.tolist() for nats in shipped.judge(likeness(np.array([np.nan])))[1]] == [[0.0], [0.0]]


def told(listener: Listener) -> list[MatchState]:
    return [event.match.state for event in listener.events if event.changed]


def test_minutes_of_middling_likeness_are_believed_only_where_nobody_knows_kin(catalog):
    assert told(heard(catalog, (60.0, MIDDLING), calibration=CALIBRATION)) == ["provisional", "confirmed"]
    listener = heard(catalog, (60.0, MIDDLING), calibration=MEASURED)
    assert told(listener) == ["provisional"]
    assert listener.aligner.strongest_nats < 8.0


def test_at_the_recordings_own_tempo_kin_change_nothing(catalog):
    plain, measured = (
        heard(catalog, (60.0, MIDDLING), calibration=calibration, tempo_ratio=1.0)
        for calibration in (CALIBRATION, MEASURED)
    )
    assert told(plain) == told(measured) == ["provisional", "confirmed"]
    assert plain.aligner.strongest_nats == measured.aligner.strongest_nats > 20.0


def test_what_is_clear_is_believed_as_soon_as_ever(catalog):
    events = [heard(catalog, (20.0, CLEAR), calibration=calibration).events for calibration in (CALIBRATION, MEASURED)]
    plain, measured = ([(e.match.state, e.decided_s) for e in each if e.changed] for each in events)
    assert plain == measured and [state for state, _ in measured] == ["provisional", "confirmed"]


def test_a_few_clear_seconds_prove_what_is_middling_before_and_after(catalog):
    listener = heard(catalog, (15.0, MIDDLING), (8.0, CLEAR), (20.0, MIDDLING), calibration=MEASURED)
    assert told(listener) == ["provisional", "confirmed"]
    (match,) = listener.aligner.open_matches
    assert match.start_s < 3.0 and match.last_hit_s > 30.0 and match.evidence_nats > 12.0
    (ended,) = listener.aligner.flush()
    assert ended.match.state is MatchState.ENDED and ended.match.evidence_nats == match.evidence_nats


def test_the_next_life_goes_on_with_what_was_confirmed_and_does_not_believe_what_was_not(catalog):
    for parts, state in (((20.0, CLEAR),), MatchState.CONFIRMED), (((20.0, MIDDLING),), MatchState.PROVISIONAL):
        before = heard(catalog, *parts, calibration=MEASURED)
        (match,) = before.aligner.open_matches
        assert match.state is state
        after = Listener(catalog, calibration=MEASURED)
        after.aligner.restore([match])
        for start_s, vector in windows(catalog, [airing(FAR)], until_s=60.0, from_s=20.0, noise=MIDDLING, seed=9):
            after.hear(start_s, vector)
        (match,) = after.aligner.open_matches
        assert match.state is state and match.last_hit_s > 50.0
        assert (match.evidence_nats > 12.0) is (state is MatchState.CONFIRMED)
