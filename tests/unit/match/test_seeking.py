from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.match.line import Line
from monitor.match.rivals import Rivals
from monitor.match.run import Run
from monitor.match.seeking import Seeking
from monitor.match.spotting import Recording
from monitor.match.suspicion import Suspicion
from monitor.types import MatchState, Neighbour, Spectrogram
from tests.unit.match.pictures import STEP_S, mixed, picture, sound
from tests.unit.match.simulation import CALIBRATION, HOP_S

WINDOW_S = 2.0
PIECE, OTHER = sound(120.0, 1), sound(120.0, 2)


class Stream:
    """One that plays a piece from its 40th second on, at 10 s, under another sound, and whose windows point at it."""

    def __init__(self, length_s: float, *, db: float = 0.0, pointing_from_s: float = 10.0) -> None:
        self.suspicion = Suspicion(rivals=Rivals(look_back_s=30.0), calibration=CALIBRATION, hop_s=HOP_S)
        self.seeking = Seeking(suspicion=self.suspicion, duration_s=lambda _: 120.0, window_s=WINDOW_S, hop_s=HOP_S)
        levels = OTHER[: round(40 / STEP_S)].copy()
        there = slice(round(10 / STEP_S), round((10 + length_s) / STEP_S))
        first = round(40 / STEP_S)
        levels[there] = mixed(PIECE[first : first + there.stop - there.start], levels[there], db)
        self.levels, self.pointing_from_s, self.end_s = levels, pointing_from_s, 10.0 + length_s
        self.runs: list[Run] = []

    def hear(self, until_s: float) -> list[Run]:
        """What is found up to the window that ends then."""
        found = []
        for start_s in np.arange(0.0, until_s - WINDOW_S + 1e-6, HOP_S):
            pointing = self.pointing_from_s <= start_s <= self.end_s - WINDOW_S + 0.3
            near = [Neighbour(reference_id="bed", reference_start_s=start_s + 30.0, similarity=0.1)] if pointing else []
            self.suspicion.hear(start_s, near)
            found += self.seeking.seek(
                self.runs,
                start_s,
                picture(self.levels[: round((start_s + WINDOW_S) / STEP_S)]),
                {"bed": Recording(picture(PIECE))},
                busy=False,
                since_s=lambda _: -np.inf,
            )
            self.runs += found[len(self.runs) :]
        return found


def test_an_airing_of_three_seconds_is_found_as_it_ends():
    (run,) = Stream(3.0).hear(13.5)
    assert run.line.reference_at(11.0) == pytest.approx(41.0, abs=0.1)
    assert run.spot is not None
    assert run.spot.nats >= 9.0


def test_a_stray_window_long_before_does_not_drown_what_has_begun_since():
    stream = Stream(4.0)
    stray = Neighbour(reference_id="bed", reference_start_s=32.0, similarity=0.1)
    stream.suspicion.hear(2.0, [stray])
    (run,) = stream.hear(14.0)
    assert run.spot is not None
    assert run.spot.first_s >= 9.9


def test_what_a_believed_match_explains_is_no_evidence_of_another_recording():
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    believed = Run(reference_id="other", line=line, born_s=0.0, first_s=0.0, last_s=12.5, state=MatchState.CONFIRMED)
    for match, found in ((believed, False), (replace(believed, last_s=8.5), True)):
        stream = Stream(4.0)
        stream.runs.append(match)
        heard = stream.hear(14.5)
        assert bool(heard) is found


def test_what_was_not_heard_is_not_sought():
    stream = Stream(4.0)
    nothing = Spectrogram(start_s=0.0, step_s=STEP_S, levels=picture(OTHER).levels[:0])
    for start_s in (10.0, 10.5, 11.0):
        stream.suspicion.hear(
            start_s, [Neighbour(reference_id="bed", reference_start_s=start_s + 30.0, similarity=0.1)]
        )
        recordings = {"bed": Recording(picture(PIECE))}
        assert not stream.seeking.seek([], start_s, nothing, recordings, busy=False, since_s=lambda _: -np.inf)


def test_of_many_recordings_that_are_pointed_at_each_has_its_turn():
    stream = Stream(6.0)
    others = [Recording(picture(sound(60.0, seed))) for seed in (3, 4, 5)]
    found = []
    for start_s in np.arange(0.0, 15.0, HOP_S):
        near = [Neighbour(reference_id=name, reference_start_s=start_s + 30.0, similarity=0.1) for name in "xyz"]
        if 10.0 <= start_s <= 14.3:
            near.append(Neighbour(reference_id="bed", reference_start_s=start_s + 30.0, similarity=0.1))
        stream.suspicion.hear(start_s, near)
        heard = picture(stream.levels[: round((start_s + WINDOW_S) / STEP_S)])
        recordings = {"bed": Recording(picture(PIECE)), **dict(zip("xyz", others, strict=True))}
        found += stream.seeking.seek(found, start_s, heard, recordings, busy=False, since_s=lambda _: -np.inf)
    assert [run.reference_id for run in found] == ["bed"]


def test_what_frames_follow_is_not_lost_as_another_recording_is_believed():
    stream = Stream(8.0)
    (run,) = stream.hear(14.0)
    run.state, seen = MatchState.PROVISIONAL, run.spot
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    other = Run(reference_id="other", line=line, born_s=9.0, first_s=9.0, last_s=12.5, state=MatchState.CONFIRMED)
    recordings = {"bed": Recording(picture(PIECE))}
    heard = picture(stream.levels[: round(14.5 / STEP_S)])
    stream.seeking.seek([run, other], 12.5, heard, recordings, busy=True, since_s=lambda _: -np.inf)
    assert run.spot is not None
    assert run.spot.nats >= seen.nats
