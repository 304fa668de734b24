"""An airing that drowns, from the first window that points at it to its row: frames found it, and follow it."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.match.changes import cut
from monitor.match.line import make_plane
from monitor.match.spotting import Recording
from monitor.types import MatchEvent, MatchState, Neighbour
from tests.unit.match.pictures import STEP_S, mixed, picture, sound
from tests.unit.match.simulation import HOP_S, REFERENCE_HOP_S, WINDOW_S, simulated_aligner

DURATION_S, DIMENSION = 200.0, 128
STARTS_S, REFERENCE_S = 10.0, 40.0
PIECE, OTHER = sound(DURATION_S, 1), sound(170.0, 2)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


class Bed:
    """A stream of which a recording is a part, under another sound: its windows are hardly like it."""

    def __init__(self, length_s: float, *, over_db: float = 3.0) -> None:
        self.dice, self.end_s = np.random.default_rng(0), STARTS_S + length_s
        self.starts_s = np.arange(0, DURATION_S - WINDOW_S, REFERENCE_HOP_S)
        latent = self.dice.standard_normal((len(self.starts_s) + 8, DIMENSION))
        self.vectors = unit(np.stack([latent[at : at + 8].mean(axis=0) for at in range(len(self.starts_s))]))
        self.levels = OTHER.copy()
        there = slice(round(STARTS_S / STEP_S), round(self.end_s / STEP_S))
        first = round(REFERENCE_S / STEP_S)
        self.levels[there] = mixed(PIECE[first : first + there.stop - there.start], OTHER[there], over_db)
        self.aligner = simulated_aligner(duration_s=lambda _: DURATION_S)
        self.recording, self.heard = Recording(picture(PIECE)), []

    def play(self, until_s: float) -> list[MatchEvent]:
        found: list[MatchEvent] = []
        for start_s in np.arange(0.0, until_s, HOP_S).tolist():
            found += self.hear(start_s)
        return found

    def hear(self, start_s: float) -> list[MatchEvent]:
        on_air = STARTS_S <= start_s <= self.end_s - WINDOW_S
        near, vector = [], unit(self.dice.standard_normal(DIMENSION))
        if on_air:
            there_s = start_s - STARTS_S + REFERENCE_S
            vector = unit(0.28 * self.vectors[round(there_s / REFERENCE_HOP_S)] + 0.96 * vector)
            near = [Neighbour(reference_id="bed", reference_start_s=there_s, similarity=0.25)]
        self.heard = [past for past in self.heard if past[0] > start_s - 30] + [(start_s, vector)]
        self.aligner.observe(start_s, near if start_s % 1 == 0 else [])
        heard = cut(picture(self.levels[: round((start_s + WINDOW_S) / STEP_S)]), start_s - 30, start_s + WINDOW_S)
        planes = {}
        for stretch in self.aligner.wanted():
            inside = (self.starts_s >= stretch.start_s) & (self.starts_s < stretch.end_s)
            windows = [past for past in self.heard if past[0] >= stretch.since_s]
            known = cut(picture(PIECE), stretch.start_s, stretch.end_s)
            planes[stretch] = make_plane(
                reference_id="bed",
                window_starts_s=np.array([past_s for past_s, _ in windows]),
                window_vectors=np.stack([past for _, past in windows]),
                reference_starts_s=self.starts_s[inside],
                reference_vectors=self.vectors[inside],
                reference_hop_s=REFERENCE_HOP_S,
                hop_s=HOP_S,
                pictures=(heard, known) if stretch.pictured else None,
            )
        wanted = self.aligner.recordings()
        return self.aligner.advance(planes, heard, dict.fromkeys(wanted, self.recording))


@pytest.mark.parametrize("length_s", [4.0, 12.0, 90.0])
def test_a_drowned_airing_is_one_row_that_is_never_taken_back(length_s):
    bed = Bed(length_s)
    told = bed.play(STARTS_S + length_s + 20.0)
    states = [event.match.state for event in told if event.changed]
    assert states == [MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED]
    match = told[-1].match
    assert match.start_s == pytest.approx(STARTS_S, abs=0.5)
    assert match.end_s == pytest.approx(STARTS_S + length_s, abs=0.5)
    assert match.reference_start_s == pytest.approx(REFERENCE_S + match.start_s - STARTS_S, abs=0.1)


def test_evidence_grows_as_it_is_heard_and_not_by_itself():
    bed = Bed(90.0)
    bed.play(100.0)
    (match,) = bed.aligner.open_matches
    per_s = match.evidence_nats / (match.end_s - match.start_s)
    assert per_s < 10.0
