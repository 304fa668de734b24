from __future__ import annotations

import pytest

from monitor.match.rivals import Rivals
from monitor.match.suspicion import Suspicion
from monitor.types import Neighbour
from tests.unit.match.simulation import CALIBRATION, HOP_S


def pointing(*origins_s: float, reading: int = 0, name: str = "bed") -> list[list[Neighbour]]:
    """Neighbours of windows a hop apart, each of a recording that would have begun then."""
    return [
        [Neighbour(reference_id=name, reference_start_s=number * HOP_S - origin_s, similarity=0.1, reading=reading)]
        for number, origin_s in enumerate(origins_s)
    ]


def heard(windows: list[list[Neighbour]]) -> Suspicion:
    suspicion = Suspicion(rivals=Rivals(look_back_s=30.0), calibration=CALIBRATION, hop_s=HOP_S)
    for number, neighbours in enumerate(windows):
        suspicion.hear(number * HOP_S, neighbours)
    return suspicion


def test_windows_that_mean_nothing_point_at_one_second_after_another():
    suspicion = heard(pointing(-40.0, -39.9, -40.1, -40.0))
    assert suspicion.pointed_at() == {"bed": [0.0]}
    assert suspicion.origins_s("bed") == [-40.0]
    assert suspicion.origins_s("other") == []


@pytest.mark.parametrize(
    "windows",
    [
        pointing(-40.0),  # too few
        pointing(-40.0, -31.0, -12.0, -25.0),  # all over the recording
        pointing(-40.0, -40.0, -40.0, -40.0, reading=1),  # at another pitch
        [*pointing(-40.0, -40.0, -40.0, -40.0), []],  # the latest does not
        [*pointing(-40.0), *([[]] * 32), *pointing(*[-40.0] * 34)[33:]],  # long ago
    ],
)
def test_it_takes_enough_windows_in_a_short_time_at_the_recordings_own_pitch(windows):
    assert heard(windows).pointed_at() == {}


def test_several_neighbours_of_one_window_are_one_window():
    four = [near for (near,) in pointing(*[-40.0] * 4)]
    assert heard([[near] * 3 for near in four[:1]]).pointed_at() == {}
    assert list(heard([[near] * 3 for near in four[:2]]).pointed_at()) == ["bed"]


def test_windows_close_to_one_another_may_be_an_airing_and_those_before_chance():
    windows = pointing(*[-40.0] * 12)
    sparse = [near if number in {0, 2, 8, 9, 11} else [] for number, near in enumerate(windows)]
    assert heard(sparse).pointed_at() == {"bed": [0.0, 8 * HOP_S]}


def test_what_most_windows_point_at_comes_first():
    few, many = pointing(*[-40.0] * 5), pointing(*[-20.0] * 5, name="other")
    windows = [[*(one if number else []), *two] for number, (one, two) in enumerate(zip(few, many, strict=True))]
    assert list(heard(windows).pointed_at()) == ["other", "bed"]


def test_after_an_interruption_nothing_is_pointed_at():
    suspicion = heard(pointing(*[-40.0] * 4))
    suspicion.forget()
    assert suspicion.pointed_at() == {}
    assert suspicion.origins_s("bed") == []
