from __future__ import annotations

import numpy as np
import pytest

from monitor.match.explained import unexplained
from monitor.match.fit import Fit
from monitor.match.glimpse import Glimpses
from monitor.match.line import Line
from monitor.match.run import Run
from monitor.match.score import Likeness
from monitor.match.spotting import Spot
from monitor.types import MatchState

STARTS_S = np.arange(8) * 0.5
LINE = Line(origin_s=0.0, tempo_ratio=1.0)


def fit(similarity: float, vector: np.ndarray) -> Fit:
    unknown = np.full(len(STARTS_S), np.nan)
    return Fit(
        line=LINE,
        window_starts_s=STARTS_S,
        nats=np.full(len(STARTS_S), 1.0),
        kin_nats=np.zeros(len(STARTS_S)),
        rarity_nats=0.0,
        likeness=Likeness(own=np.full(len(STARTS_S), similarity), rival=unknown, beside=unknown, around=unknown),
        reference_starts_s=STARTS_S,
        vectors=np.tile(vector, (len(STARTS_S), 1)).astype(np.float32),
    )


def run(reference_id: str, *, sighted: bool = False) -> Run:
    made = Run(reference_id=reference_id, line=LINE, born_s=0.0, first_s=0.0, last_s=3.5, state=MatchState.CONFIRMED)
    if sighted:
        seen = Glimpses(exact=0.5, missing=0.0)
        spot = Spot(line=LINE, first_s=0.0, last_s=5.0, correlation=0.4, deviations=9.0, glimpses=seen)
        made.sightings = (spot, spot)
    return made


@pytest.mark.parametrize(
    ("likeness", "sighted", "outshone"),
    [
        (0.3, False, True),  # as like one another as one is to the stream
        (0.3, True, False),  # what drowns is as like as that to anything
        (0.7, True, True),  # one piece twice
    ],
)
def test_a_nearer_version_of_a_piece_explains_it_but_any_other_does_not_explain_what_drowns(
    likeness, sighted, outshone
):
    one, other = np.array([1.0, 0.0]), np.array([likeness, np.sqrt(1 - likeness**2)])
    drowned, louder = run("bed", sighted=sighted), run("other")
    nats, explained = unexplained(drowned, fit(0.3, one), [(louder, fit(0.8, other))])
    assert drowned.outshone is outshone
    assert explained.all() == outshone
    assert (nats <= 0.0).all() == outshone
