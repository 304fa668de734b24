"""What a recording says twice is evidence once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.match.fit import Search, fit_lines
from monitor.match.line import make_plane
from monitor.match.score import Background
from tests.unit.match.simulation import CALIBRATION, HOP_S, REFERENCE_HOP_S, WINDOW_S, Catalog, Recording

BACKGROUND = Background(
    offset=0.0,
    rival_weight=0.0,
    beside_weight=0.0,
    around_weight=0.0,
    typical_rival=-1.0,
    typical_beside=0.0,
    typical_around=0.0,
    least=0.0,
    most=0.0,
    distinct=0.45,
    repeated=0.85,
    lead=0.0,
    lead_nats=0.0,
)


def evidence(piece: Recording, *, calibration) -> float:
    catalog = Catalog({"piece": piece})
    starts, vectors = catalog.starts["piece"], catalog.vectors["piece"]
    hop = round(HOP_S / REFERENCE_HOP_S)
    plane = make_plane(
        reference_id="piece",
        window_starts_s=starts[::hop],
        window_vectors=vectors[::hop],
        reference_starts_s=starts,
        reference_vectors=vectors,
        reference_hop_s=REFERENCE_HOP_S,
        hop_s=HOP_S,
    )
    search = Search(
        plane=plane, origins_s=np.zeros(1), tempo_ratios=np.ones(1), rivals=np.full(len(starts[::hop]), np.nan)
    )
    [fit] = fit_lines([search], calibration=calibration, window_weight=HOP_S / WINDOW_S, most_tempo_ratio=0.25)
    return float(fit.nats.sum())


def loop(*, length_s: float) -> Recording:
    piece = Recording(seed=1, duration_s=16.0)
    size = round(length_s * 10)
    piece._latent = np.resize(piece._latent[:size], piece._latent.shape)
    return piece


def test_the_turns_of_a_loop_say_little_more_than_one_of_them():
    calibration = dataclasses.replace(CALIBRATION, background=BACKGROUND)
    varied = evidence(Recording(seed=1, duration_s=16.0), calibration=calibration)
    assert evidence(loop(length_s=4.0), calibration=calibration) < 0.6 * varied
    assert evidence(loop(length_s=2.0), calibration=calibration) < 0.4 * varied


def test_what_never_comes_again_is_all_news():
    measured = dataclasses.replace(CALIBRATION, background=BACKGROUND)
    varied = Recording(seed=1, duration_s=16.0)
    assert evidence(varied, calibration=measured) == pytest.approx(evidence(varied, calibration=CALIBRATION), rel=0.02)


def test_nothing_is_discounted_for_a_model_whose_likeness_nobody_measured():
    plain = evidence(Recording(seed=1, duration_s=16.0), calibration=CALIBRATION)
    assert evidence(loop(length_s=4.0), calibration=CALIBRATION) == pytest.approx(plain, rel=0.02)
