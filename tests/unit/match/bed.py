"""A stream with a recording in it, or with what is like it: windows and frames both, as the daemon has them."""

from __future__ import annotations

import numpy as np

from monitor.match.changes import cut
from monitor.match.line import make_plane
from monitor.match.spotting import Recording
from monitor.types import MatchEvent, Neighbour
from tests.unit.match.pictures import STEP_S, mixed, picture, sound
from tests.unit.match.simulation import DIMENSION, HOP_S, REFERENCE_HOP_S, WINDOW_S, simulated_aligner, unit

DURATION_S = 200.0
STARTS_S, REFERENCE_S = 10.0, 40.0
PIECE, OTHER = sound(DURATION_S, 1), sound(170.0, 2)


class Bed:
    """A stream of which a recording is a part, under another sound: its windows are hardly like it.

    Instead of the recording its levels may be any that are `alike`, as long as it. What is like itself everywhere is
    not `sought` in: there is no place to be found.
    """

    def __init__(
        self,
        length_s: float,
        *,
        over_db: float = 3.0,
        alike: np.ndarray = PIECE,
        similarity: float = 0.28,
        sought: bool = True,
    ) -> None:
        self.similarity, self.sought = similarity, sought
        self.dice, self.end_s = np.random.default_rng(0), STARTS_S + length_s
        self.starts_s = np.arange(0, DURATION_S - WINDOW_S, REFERENCE_HOP_S)
        latent = self.dice.standard_normal((len(self.starts_s) + 8, DIMENSION))
        self.vectors = unit(np.stack([latent[at : at + 8].mean(axis=0) for at in range(len(self.starts_s))]))
        self.levels = OTHER.copy()
        there = slice(round(STARTS_S / STEP_S), round(self.end_s / STEP_S))
        first = round(REFERENCE_S / STEP_S)
        self.levels[there] = mixed(alike[first : first + there.stop - there.start], OTHER[there], over_db)
        self.aligner = simulated_aligner(duration_s=lambda _: DURATION_S)
        self.recording, self.heard = Recording(picture(PIECE)), []

    def play(self, until_s: float, *, from_s: float = 0.0) -> list[MatchEvent]:
        found: list[MatchEvent] = []
        for start_s in np.arange(from_s, until_s, HOP_S).tolist():
            found += self.hear(start_s)
        return found

    def hear(self, start_s: float) -> list[MatchEvent]:
        on_air = STARTS_S <= start_s <= self.end_s - WINDOW_S
        near, vector = [], unit(self.dice.standard_normal(DIMENSION))
        if on_air:
            there_s = start_s - STARTS_S + REFERENCE_S
            other = np.sqrt(1 - self.similarity**2)
            vector = unit(self.similarity * self.vectors[round(there_s / REFERENCE_HOP_S)] + other * vector)
            near = [Neighbour(reference_id="bed", reference_start_s=there_s, similarity=0.9 * self.similarity)]
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
        wanted = self.aligner.recordings() if self.sought else {}
        return self.aligner.advance(planes, heard, dict.fromkeys(wanted, self.recording))
