"""What is near to many recordings is no news of one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from monitor.match.rivals import Rivals
from monitor.match.score import Background, Likeness
from monitor.types import Neighbour
from tests.unit.match.simulation import CALIBRATION


def near(reference_id: str, similarity: float, reading: int = 0) -> Neighbour:
    return Neighbour(reference_id=reference_id, reference_start_s=0.0, similarity=similarity, reading=reading)


def test_the_rival_is_the_nearest_window_of_any_other_recording():
    rivals = Rivals(look_back_s=30.0)
    rivals.hear(1.0, [near("b", 0.6), near("a", 0.9), near("a", 0.8), near("c", 0.5)])
    assert rivals.similarity("a", 0, 1.0) == 0.6
    assert rivals.similarity("b", 0, 1.0) == 0.9
    assert rivals.similarity("unheard of", 0, 1.0) == 0.9


def test_where_the_search_found_one_recording_alone_its_last_window_bounds_the_others():
    rivals = Rivals(look_back_s=30.0)
    rivals.hear(1.0, [near("a", 0.9), near("a", 0.7)])
    assert rivals.similarity("a", 0, 1.0) == 0.7


def test_each_pitch_has_its_own_rivals_and_silence_has_none():
    rivals = Rivals(look_back_s=30.0)
    rivals.hear(1.0, [near("a", 0.9), near("b", 0.4), near("b", 0.8, reading=1), near("a", 0.3, reading=1)])
    rivals.hear(1.5, [])
    assert (rivals.similarity("a", 0, 1.0), rivals.similarity("a", 1, 1.0)) == (0.4, 0.8)
    assert math.isnan(rivals.similarity("a", 0, 1.5)) and math.isnan(rivals.similarity("a", 2, 1.0))


def test_a_window_that_was_not_searched_at_a_pitch_has_the_rivals_of_the_one_before_it():
    rivals = Rivals(look_back_s=30.0)
    rivals.hear(1.0, [near("a", 0.9), near("b", 0.8, reading=1), near("a", 0.7, reading=1)])
    rivals.hear(1.5, [near("a", 0.9), near("c", 0.6, reading=2), near("a", 0.5, reading=2)])
    rivals.hear(2.0, [near("a", 0.9), near("d", 0.4, reading=1), near("a", 0.3, reading=1)])
    rivals.hear(4.0, [near("a", 0.9)])
    assert [rivals.similarity("b", 1, start_s) for start_s in (1.0, 1.5, 2.0)] == [0.7, 0.7, 0.4]
    assert [rivals.similarity("a", 2, start_s) for start_s in (1.5, 2.0)] == [0.6, 0.6]
    # Neither from far away nor from what was itself taken over.
    assert math.isnan(rivals.similarity("a", 2, 4.0)) and math.isnan(rivals.similarity("a", 1, 4.0))


def test_what_has_left_the_look_back_is_forgotten():
    rivals = Rivals(look_back_s=10.0)
    rivals.hear(0.0, [near("a", 0.9), near("b", 0.4)])
    rivals.hear(10.5, [near("a", 0.9), near("b", 0.5)])
    assert math.isnan(rivals.similarity("a", 0, 0.0)) and rivals.similarity("a", 0, 10.5) == 0.5


BACKGROUND = Background(
    offset=-0.5,
    rival_weight=1.0,
    beside_weight=0.8,
    around_weight=0.1,
    typical_rival=0.6,
    typical_beside=0.5,
    typical_around=0.3,
    least=0.4,
    most=0.8,
    distinct=0.4,
    repeated=0.8,
    lead=0.2,
    lead_nats=40.0,
)


def background(*, rival: float, beside: float, around: float = 0.3) -> float:
    likeness = Likeness(
        own=np.array([0.7]), rival=np.array([rival]), beside=np.array([beside]), around=np.array([around])
    )
    return float(BACKGROUND.similarity(likeness)[0])


def test_common_and_slow_sounds_are_measured_against_more():
    plain = background(rival=0.65, beside=0.5)
    assert background(rival=0.72, beside=0.5) > plain and background(rival=0.65, beside=0.6) > plain


def test_a_copy_of_the_recording_and_a_drone_hide_nothing_that_is_heard_clearly():
    assert background(rival=0.99, beside=0.5) == 0.8
    assert background(rival=0.99, beside=0.99, around=0.99) == 0.8


def test_what_a_beat_brings_back_after_two_hops_is_no_news():
    assert background(rival=0.65, beside=-0.1, around=0.55) == pytest.approx(
        background(rival=0.65, beside=0.55, around=0.55)
    )


def test_however_sharp_a_sound_is_what_is_as_near_to_another_recording_is_no_news():
    sharp = [background(rival=rival, beside=-0.5, around=-0.5) for rival in (0.6, 0.7, 0.8, 0.9)]
    assert sharp == pytest.approx([0.4, 0.6, 0.8, 0.8])


def test_a_small_catalog_and_what_is_not_known_count_as_typical():
    assert (
        background(rival=0.2, beside=0.5) == background(rival=0.6, beside=0.5) == background(rival=np.nan, beside=0.5)
    )
    assert background(rival=0.65, beside=np.nan) == background(rival=0.65, beside=0.5)
    assert background(rival=0.6, beside=0.0) == 0.4


@pytest.mark.parametrize(
    ("own", "rival", "nats"),
    [
        (0.95, 0.7, 2.0),
        (0.95, 0.8, 0.0),  # much else sounds nearly so
        (0.95, 0.3, 6.0),  # in a small catalog: as if there were typical rivals
        (0.95, math.nan, 6.0),
        (math.nan, 0.7, 0.0),
    ],
)
def test_what_is_far_nearer_than_any_rival_is_beyond_doubt(own, rival, nats):
    one = np.array([math.nan])
    likeness = Likeness(own=np.array([own]), rival=np.array([rival]), beside=one, around=one)
    calibration = dataclasses.replace(CALIBRATION, background=BACKGROUND)
    assert BACKGROUND.beyond_doubt(likeness) == pytest.approx(nats)
    plain = calibration.interpolate(calibration.margins(likeness), calibration.nats)
    [said] = calibration.weigh(likeness, calibration.nats)
    assert said == pytest.approx(plain + nats)
