"""All that is suspected at one time is sought together, and each line is what it would be alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.match.fit import Fit, Search, fit_lines
from monitor.match.line import make_plane
from monitor.match.score import Calibration
from tests.unit.match.simulation import (
    CALIBRATION,
    HOP_S,
    REFERENCE_HOP_S,
    WINDOW_S,
    Catalog,
    Recording,
    shipped_calibration,
)

HOP = round(HOP_S / REFERENCE_HOP_S)
SHIPPED = shipped_calibration()
CATALOG = Catalog({"long": Recording(seed=1, duration_s=40.0), "short": Recording(seed=2, duration_s=14.0)})


def search(stream: str, reference: str, *, windows: int, first_s: float = 0.0, **fields) -> Search:
    """The first windows of one recording against another from one of its seconds on."""
    starts, vectors = CATALOG.starts[reference], CATALOG.vectors[reference]
    heard = CATALOG.vectors[stream][::HOP][:windows]
    plane = make_plane(
        reference_id=reference,
        window_starts_s=CATALOG.starts[stream][::HOP][:windows],
        window_vectors=heard,
        reference_starts_s=starts[starts >= first_s],
        reference_vectors=vectors[starts >= first_s],
        reference_hop_s=REFERENCE_HOP_S,
        hop_s=HOP_S,
    )
    assert plane is not None
    family = {"origins_s": np.linspace(-1.0, 1.0, 9), "tempo_ratios": np.ones(9)}
    return Search(plane=plane, rivals=np.full(windows, np.nan), **{**family, **fields})


SEARCHES = [
    search("long", "long", windows=12),
    search("long", "short", windows=12),
    search("short", "short", windows=12, first_s=2.0, settled_until_s=1.0),
    search("long", "long", windows=7),
    search("short", "long", windows=7),
    search("short", "short", windows=12, origins_s=np.zeros(1), tempo_ratios=np.ones(1)),
]


def with_silence(one: Search) -> Search:
    similarities = one.plane.similarities.copy()
    similarities[3] = np.nan
    return dataclasses.replace(one, plane=dataclasses.replace(one.plane, similarities=similarities))


def fitted(*searches: Search, calibration: Calibration = CALIBRATION) -> list[Fit]:
    return fit_lines(searches, calibration=calibration, window_weight=HOP_S / WINDOW_S, most_tempo_ratio=0.25)


@pytest.mark.parametrize("calibration", [CALIBRATION, SHIPPED], ids=["plain", "shipped"])
def test_each_line_is_what_it_would_be_alone(calibration):
    searches = [*SEARCHES, with_silence(SEARCHES[0]), search("long", "short", windows=12, first_s=11.9)]
    assert searches[-1].plane.similarities.shape[1] == 1
    together = fitted(*searches, calibration=calibration)
    alone = [fit for each in searches for fit in fitted(each, calibration=calibration)]
    for one, beside in zip(alone, together, strict=True):
        assert beside.line == one.line
        for name in ("nats", "kin_nats", "reference_starts_s", "vectors"):
            np.testing.assert_allclose(getattr(beside, name), getattr(one, name), rtol=1e-9, atol=1e-12)
        for field in dataclasses.fields(one.likeness):
            mine, theirs = (getattr(fit.likeness, field.name) for fit in (one, beside))
            np.testing.assert_allclose(theirs, mine, rtol=1e-9, atol=1e-12)


def test_what_is_on_air_lies_on_its_line():
    fits = fitted(*SEARCHES)
    for number in (0, 2, 3, 5):
        assert fits[number].line.reference_at(3.0) == pytest.approx(3.0, abs=0.03)
        assert float(fits[number].nats.sum()) > 5.0
    assert float(fits[2].nats[0]) == 0.0, "it is settled"


def test_windows_beyond_a_narrow_plane_do_not_lie_in_a_wide_one_s_columns():
    narrow = search("long", "short", windows=40)
    past = narrow.plane.window_starts_s > float(CATALOG.starts["short"][-1]) + 1.5
    assert past.any()
    _, fit = fitted(search("long", "long", windows=40), narrow)
    assert np.isnan(fit.similarities[past]).all() and not fit.vectors[past].any()
    assert (fit.nats[past] < 0.0).all()


def test_nothing_is_sought_where_nothing_is_suspected():
    assert fitted() == []
