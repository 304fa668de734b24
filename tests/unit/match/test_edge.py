from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.match.edge import Slope, place_edge

WINDOW_S, HOP_S = 2.144, 0.512
SLOPE = Slope(
    shares=np.array([-0.4, 0.0, 0.5, 0.9, 1.8]),
    ratios=np.array([0.15, 0.2, 0.55, 1.0, 1.0]),
    deviations=np.array([0.15, 0.15, 0.12, 0.06, 0.05]),
)


def windows(edge_s: float, *, ending: bool, level: float = 0.9) -> list[tuple[float, float]]:
    starts = np.arange(0.0, 20.0, HOP_S)
    inside_s = edge_s - starts if ending else starts + WINDOW_S - edge_s
    similarities = level * np.interp(inside_s / WINDOW_S, SLOPE.shares, SLOPE.ratios)
    return list(zip(starts.tolist(), similarities.tolist(), strict=True))


@given(edge_s=st.floats(8, 12), error_s=st.floats(-0.4, 0.4), ending=st.booleans(), level=st.floats(0.5, 1.0))
def test_an_edge_is_found_below_the_hop(edge_s, error_s, ending, level):
    heard = windows(edge_s, ending=ending, level=level)
    found = place_edge(heard, guess_s=edge_s + error_s, window_s=WINDOW_S, slope=SLOPE, ending=ending)
    assert found == pytest.approx(edge_s, abs=0.1)


@given(spoilt=st.integers(0, 39), ending=st.booleans())
def test_one_odd_window_does_not_carry_the_edge_away(spoilt, ending):
    heard = windows(10.0, ending=ending)
    heard[spoilt] = (heard[spoilt][0], 0.0)
    found = place_edge(heard, guess_s=10.0, window_s=WINDOW_S, slope=SLOPE, ending=ending)
    assert found == pytest.approx(10.0, abs=0.35)


def test_without_windows_that_are_covered_whole_the_guess_stays():
    heard = [(9.0, 0.4), (9.5, 0.3), (10.0, 0.2)]
    assert place_edge(heard, guess_s=10.0, window_s=WINDOW_S, slope=SLOPE, ending=True) == 10.0
    assert place_edge([], guess_s=10.0, window_s=WINDOW_S, slope=SLOPE, ending=True) == 10.0


def test_while_an_airing_goes_on_its_last_window_is_covered_whole():
    heard = [(start, 0.9) for start, _ in windows(30.0, ending=True)]
    guess_s = heard[-1][0] + WINDOW_S / 2 + HOP_S / 2
    assert place_edge(heard, guess_s=guess_s, window_s=WINDOW_S, slope=SLOPE, ending=True) > guess_s + 0.3


@pytest.mark.parametrize("ending", [True, False])
def test_what_is_claimed_lies_rather_inside_the_airing(ending):
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(200):
        edge_s = float(rng.uniform(8, 12))
        heard = [(start, value + rng.normal(0, 0.08)) for start, value in windows(edge_s, ending=ending)]
        found = place_edge(heard, guess_s=edge_s, window_s=WINDOW_S, slope=SLOPE, ending=ending)
        inside.append(found < edge_s if ending else found > edge_s)
    assert 0.55 < np.mean(inside) < 0.95
