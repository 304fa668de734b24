from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.match.identity import uuid7
from monitor.match.score import MOST_AGAINST_NATS, MOST_FOR_NATS, from_histograms, generic_calibration, load_calibration

histogram = st.lists(st.floats(0, 10), min_size=8, max_size=8)


@given(same=histogram, other=histogram)
def test_more_similar_never_means_less_evidence(same, other):
    calibration = from_histograms(edges=np.linspace(-1, 1, 9), same=np.array(same), other=np.array(other))
    nats = calibration.log_likelihood_ratio(np.linspace(-1.2, 1.2, 101))
    assert np.all(np.diff(nats) >= -1e-9)
    assert nats.min() >= MOST_AGAINST_NATS and nats.max() <= MOST_FOR_NATS


def test_the_ratio_is_that_of_the_densities():
    same, other = np.array([0.1, 0.2, 0.7]), np.array([0.7, 0.2, 0.1])
    calibration = from_histograms(edges=np.array([0.0, 1.0, 2.0, 3.0]), same=same, other=other)
    at_centres = calibration.log_likelihood_ratio(np.array([1.5, 2.5]))
    assert at_centres == pytest.approx([0.0, np.log(7)], abs=0.02)


def test_silence_says_nothing():
    assert generic_calibration().log_likelihood_ratio(np.array([np.nan, 1.0])).tolist() == [0.0, 4.0]


def test_a_broken_calibration_is_refused_by_name(tmp_path):
    path = tmp_path / "x.calibration.json"
    path.write_text(json.dumps({"edges": [0, 1], "same": {}}))
    with pytest.raises(ConfigError, match=r"x\.calibration\.json cannot be read"):
        load_calibration(path, model_id="x")


def test_the_calibration_of_another_model_is_refused_with_both_ids(tmp_path):
    path = tmp_path / "x.calibration.json"
    histograms = {"same": {"all": [0.1, 0.9]}, "other_best": [0.9, 0.1], "edges": [-1, 0, 1]}
    path.write_text(json.dumps({"model_id": "x-1"} | histograms))
    assert load_calibration(path, model_id="x-1").nats[1] > 0
    with pytest.raises(ConfigError, match=r"made for x-1, not for x-2"):
        load_calibration(path, model_id="x-2")


@given(time_s=st.floats(0, 1e10), bits=st.integers(0, 2**74 - 1))
def test_ids_are_version_7_and_sort_by_time(time_s, bits):
    this, later = uuid7(time_s, bits), uuid7(time_s + 0.0011, 0)
    assert this.version == 7 and this.variant == "specified in RFC 4122"
    assert this.int < later.int
    assert this.int >> 80 == int(time_s * 1000)
