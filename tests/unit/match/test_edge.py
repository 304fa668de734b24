from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.embed import fingerprint
from monitor.match.edge import EdgeModel, around, features, place_edge
from monitor.match.score import load_calibration

WINDOW_S, HOP_S = 2.144, 0.512
#: How like a window is to what it would hold whole, by the share of it that an airing covers before it is cut: the mean
#: of 1,200 cuts of training pieces.
SHARES = (-0.4, 0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.8)
RATIOS = (0.155, 0.179, 0.242, 0.346, 0.392, 0.536, 0.706, 0.825, 0.947, 0.994, 0.998)


@pytest.fixture(scope="module")
def model() -> EdgeModel:
    embedder = fingerprint.load()
    calibration = load_calibration(fingerprint.MODELS / "fingerprint.calibration.json", model_id=embedder.model_id)
    assert calibration.edge is not None
    return calibration.edge


def windows(edge_s: float, *, ending: bool, level: float = 0.9) -> list[tuple[float, float]]:
    starts = np.arange(0.0, 20.0, HOP_S)
    inside_s = edge_s - starts if ending else starts + WINDOW_S - edge_s
    similarities = level * np.interp(inside_s / WINDOW_S, SHARES, RATIOS)
    return list(zip(starts.tolist(), similarities.tolist(), strict=True))


def placed(model: EdgeModel, heard: list[tuple[float, float]], outermost_s: float, *, ending: bool) -> float:
    return place_edge(heard, outermost_s=outermost_s, window_s=WINDOW_S, hop_s=HOP_S, model=model, ending=ending)


@given(edge_s=st.floats(8, 12), off=st.integers(-1, 1), ending=st.booleans(), level=st.floats(0.5, 1.0))
def test_an_edge_is_found_below_the_hop(model, edge_s, off, ending, level):
    heard = windows(edge_s, ending=ending, level=level)
    half_s = edge_s - WINDOW_S / 2 + off * HOP_S
    assert placed(model, heard, half_s, ending=ending) == pytest.approx(edge_s, abs=0.35)


@given(spoilt=st.integers(0, 38), ending=st.booleans())
def test_one_odd_window_does_not_carry_the_edge_away(model, spoilt, ending):
    heard = windows(10.0, ending=ending)
    heard[spoilt] = (heard[spoilt][0], 0.0)
    assert placed(model, heard, 9.0, ending=ending) == pytest.approx(10.0, abs=0.75)


@given(missing=st.integers(0, 38), ending=st.booleans())
def test_a_window_that_was_not_heard_moves_the_edge_little(model, missing, ending):
    heard = windows(10.0, ending=ending)
    del heard[missing]
    assert placed(model, heard, 9.0, ending=ending) == pytest.approx(10.0, abs=0.4)


@pytest.mark.parametrize("ending", [True, False])
def test_an_airing_that_goes_on_below_another_is_not_cut_where_that_begins(model, ending):
    # From second 8 to 11 (or back from 12 to 9) something as loud is heard too, which takes a third of the likeness.
    heard = []
    for start, similarity in windows(11.0 if ending else 9.0, ending=ending):
        over_s = start + WINDOW_S - 8.0 if ending else 12.0 - start
        heard.append((start, similarity * (1 - 0.35 * min(max(over_s / WINDOW_S, 0.0), 1.0))))
    found = placed(model, heard, 10.0 if ending else 8.0, ending=ending)
    assert 9.5 < found < 11.5 if ending else 8.5 < found < 10.5


def test_while_an_airing_goes_on_its_last_window_is_covered_whole(model):
    heard = [(start, 0.9) for start, _ in windows(30.0, ending=True)]
    last_s = heard[-1][0]
    assert last_s + 0.6 * WINDOW_S < placed(model, heard, last_s, ending=True) <= last_s + WINDOW_S


def test_an_edge_lies_within_the_windows_that_were_heard(model):
    lonely = [(10.0, 0.9)]
    assert 10.0 <= placed(model, lonely, 10.0, ending=True) <= 10.0 + WINDOW_S
    assert 10.0 <= placed(model, lonely, 10.0, ending=False) <= 10.0 + WINDOW_S


@pytest.mark.parametrize("ending", [True, False])
def test_what_is_claimed_lies_rather_inside_the_airing(model, ending):
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(200):
        edge_s = float(rng.uniform(8, 12))
        heard = [(start, value + rng.normal(0, 0.08)) for start, value in windows(edge_s, ending=ending)]
        found = placed(model, heard, edge_s - WINDOW_S / 2, ending=ending)
        inside.append(found < edge_s if ending else found > edge_s)
    assert np.mean(inside) > 0.55


def test_windows_are_taken_by_their_place():
    heard = [(0.0, 0.1), (0.5, 0.2), (1.5, 0.4), (2.0, 0.5)]
    seen = around(heard, 1, model_windows=(2, 3), hop_s=0.5)
    np.testing.assert_array_equal(seen, [np.nan, 0.1, 0.2, np.nan, 0.4, 0.5])


def test_the_level_is_that_of_the_windows_inside():
    seen = np.array([[0.8, 0.8, np.nan, 0.8, 0.4, 0.1], [np.nan, np.nan, np.nan, np.nan, 0.4, 0.1]])
    shown = features(seen, inwards=4)
    np.testing.assert_allclose(shown[0], [1, 1, 0, 1, 0.5, 0.125, 0, 0, 1, 0, 0, 0, 0.8])
    assert shown[1, -1] == 0.6, "where none is known, the usual one"
