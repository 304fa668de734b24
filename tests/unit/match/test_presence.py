from __future__ import annotations

import dataclasses
from uuid import UUID

import numpy as np
import pytest

from monitor.match.line import Line
from monitor.match.presence import Presence, presence
from monitor.match.run import Run
from monitor.match.score import generic_calibration
from monitor.types import ABSENT, BANDS, MatchState, Spectrogram
from tests.unit.match.pictures import STEP_S, at, mixed, picture, sound

PIECE, OTHER = sound(60.0, 1), sound(60.0, 2)


def aired(between_db: float | None = None, *, shift_s: float = 0.0) -> tuple[Spectrogram, Line]:
    """20 s of the piece, from its 10th on, at 5 s of a stream that plays the other else (or all the time, so loud)."""
    stream = OTHER[: round(30 / STEP_S)].copy()
    there = at(PIECE, 5.0, 25.0)
    here = PIECE[at(PIECE, 10.0, 30.0)][: there.stop - there.start]
    stream[there] = here if between_db is None else mixed(here, stream[there], between_db)
    return picture(stream), Line(origin_s=-5.0 + shift_s, tempo_ratio=1.0)


@pytest.mark.parametrize("between_db", [None, -6.0, 0.0, 3.0])
def test_edges_are_found_within_two_frames_also_under_another_piece_as_loud(between_db):
    stream, line = aired(between_db)
    seen = presence(stream, picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    assert seen.agreement > 0.3
    assert seen.edge(7.0, 10.0, ending=False) == pytest.approx(5.0, abs=2 * STEP_S)
    assert seen.edge(22.0, 19.0, ending=True) == pytest.approx(25.0, abs=2 * STEP_S)


def test_what_does_not_sound_does_not_correlate():
    stream, line = aired()
    seen = presence(stream, picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    outside = (seen.times_s < 4.5) | (seen.times_s > 25.5)
    assert abs(np.nanmean(seen.correlations[outside])) < 0.05
    assert np.nanmean(seen.correlations[~outside]) > 0.9
    strange = presence(picture(OTHER), picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    assert strange.agreement < 0.1


@pytest.mark.parametrize("shift_s", [-0.28, -0.1, 0.15, 0.3])
def test_a_line_that_is_a_little_off_is_corrected(shift_s):
    stream, line = aired(shift_s=shift_s)
    seen = presence(stream, picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    assert seen.line.reference_at(15.0) == pytest.approx(20.0, abs=0.02)
    assert seen.agreement > 0.9


def test_a_tempo_that_is_a_little_off_is_corrected():
    stream, line = aired()
    bent = Line(origin_s=15.0 - 20.0 / 1.02, tempo_ratio=1.02)
    seen = presence(stream, picture(PIECE), bent, pitch_ratio=1.0, first_s=5.5, last_s=24.5)
    assert seen.line.tempo_ratio == pytest.approx(1.0, abs=0.006)
    assert seen.line.reference_at(15.0) == pytest.approx(line.reference_at(15.0), abs=0.03)


def test_a_transposed_airing_is_compared_at_the_recordings_pitch():
    up_two_bands = (3900 / 250) ** (2 / (BANDS - 1))
    stream, line = aired()
    higher = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=np.roll(stream.levels, 2, axis=1))
    seen = presence(higher, picture(PIECE), line, pitch_ratio=up_two_bands, first_s=8.0, last_s=22.0)
    assert seen.agreement > 0.85
    as_it_sounds = presence(higher, picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    assert as_it_sounds.agreement < 0.2


def test_gain_and_an_equaliser_change_nothing():
    stream, line = aired()
    tilted = stream.levels + np.linspace(0, 16, BANDS).astype(np.uint8) - np.uint8(6)
    seen = presence(
        Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=tilted),
        picture(PIECE),
        line,
        pitch_ratio=1.0,
        first_s=8.0,
        last_s=22.0,
    )
    assert seen.agreement > 0.9


def test_unheard_frames_say_nothing_and_an_airing_goes_on_behind_them():
    stream, line = aired()
    levels = stream.levels.copy()
    levels[at(levels, 20.0, 20.5)] = ABSENT
    gapped = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=levels)
    seen = presence(gapped, picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=18.0)
    assert np.isnan(seen.correlations[at(levels, 20.0, 20.5)]).all()
    assert seen.edge(19.0, 16.0, ending=True) == pytest.approx(25.0, abs=2 * STEP_S)


def test_an_airing_does_not_outlast_its_recording():
    stream = picture(PIECE[: round(30 / STEP_S)])
    short = picture(PIECE[: round(12 / STEP_S)])
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    seen = presence(stream, short, line, pitch_ratio=1.0, first_s=2.0, last_s=10.0)
    assert seen.edge(11.0, 8.0, ending=True) == pytest.approx(12.0, abs=2 * STEP_S)


def test_frames_speak_for_what_they_are_and_against_what_they_are_not():
    stream, line = aired(0.0)
    look = {"pitch_ratio": 1.0, "first_s": 8.0, "last_s": 22.0}
    assert presence(stream, picture(PIECE), line, **look).nats > 4.5
    strange = presence(picture(OTHER), picture(PIECE), line, **look)
    assert strange.identity < 0.1
    assert strange.nats < -4.0


def test_another_recording_of_the_same_drums_agrees_in_loudness_and_not_in_identity():
    hits = 6.0 * (np.random.default_rng(7).random(round(60 / STEP_S)) < 0.2)
    one, other = sound(60.0, 1) / 2 + hits[:, None], sound(60.0, 2) / 2 + hits[:, None]
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    kin = presence(picture(one), picture(other), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    assert kin.agreement > 0.4
    assert kin.identity < 0.15
    assert kin.nats < 0


@pytest.mark.parametrize(
    ("agreement", "identity", "inside_s", "nats"),
    [
        (0.9, 0.85, 4.0, 5.0),
        (0.9, 0.85, 2.5, 2.5),
        (0.9, 0.85, 2.0, 0.0),  # one chord
        (0.75, 0.55, 4.0, 3.0),  # transposed half-way between two readings
        (0.45, 0.3, 4.0, 0.0),  # under noise
        (0.75, 0.4, 4.0, -5.0),  # as clear as the first, and another piece on the same instrument
        (0.5, 0.1, 4.0, -2.0),
        (0.1, 0.0, 4.0, -4.0),
        (0.1, 0.0, 8.0, -8.0),
        (0.9, 0.85, 10.0, 5.0),
        (0.59, 0.62, 10.0, 8.8),  # drowned, for so long that nothing else is
        (0.42, 0.44, 7.5, 1.2),
        (0.35, 0.39, 10.0, 0.0),  # as two pads were for half a minute
        (0.35, 0.34, 5.0, 0.0),
        (0.4, 0.36, 10.0, 0.0),  # agrees in loudness and less in this: kin
    ],
)
def test_what_is_heard_clearly_has_identity_or_is_kin(agreement, identity, inside_s, nats):
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    none = np.empty(0)
    seen = Presence(
        times_s=none, correlations=none, line=line, agreement=agreement, identity=identity, inside_s=inside_s
    )
    assert seen.nats == pytest.approx(nats)


def test_only_so_much_around_is_compared_and_it_says_the_same():
    stream, line = aired(0.0)
    look = {"pitch_ratio": 1.0, "first_s": 8.0, "last_s": 12.0}
    near = presence(stream, picture(PIECE), line, around_s=0.3, **look)
    whole = presence(stream, picture(PIECE), line, **look)
    assert near.times_s[[0, -1]] == pytest.approx([7.7, 12.3], abs=STEP_S)
    assert near.identity == pytest.approx(whole.identity, abs=0.05)


def test_smooth_frames_do_not_mind_whether_a_line_meets_the_frames_or_passes_between_them():
    fine = sound(60.0, 3)  # two values a frame, which holds both and half of those beside it
    held = np.stack([fine[:-2], fine[1:-1], fine[1:-1], fine[2:]]).mean(axis=0)
    met, missed = picture(held[0::2]), picture(held[1::2])
    look = {"pitch_ratio": 1.0, "first_s": 8.0, "last_s": 22.0}
    lines = Line(origin_s=0.0, tempo_ratio=1.0), Line(origin_s=-STEP_S / 2, tempo_ratio=1.0)
    sharp = [presence(each, met, line, **look).agreement for each, line in zip((met, missed), lines, strict=True)]
    smooth = [
        presence(each, met, line, smooth=True, **look).agreement
        for each, line in zip((met, missed), lines, strict=True)
    ]
    assert sharp[0] - sharp[1] > 0.03
    assert smooth[0] - smooth[1] < 0.02


def test_where_nothing_was_heard_nothing_is_told():
    nothing = np.full((300, BANDS), ABSENT, dtype=np.uint8)
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    unheard = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=nothing)
    assert presence(unheard, picture(PIECE), line, pitch_ratio=1.0, first_s=2.0, last_s=10.0) is None


@pytest.mark.parametrize(("window_nats", "told_nats"), [(0.5, 1.0), (4.0, 8.0 + 3.0), (9.0, 14.0 + 3.0)])
def test_frames_at_most_double_what_windows_say_and_what_is_seen_says_a_little_more(window_nats, told_nats):
    stream, line = aired()
    run = Run(
        reference_id="piece",
        line=line,
        born_s=8.0,
        first_s=8.0,
        last_s=18.0,
        evidence_nats=window_nats,
        ceiling_nats=99,
    )
    run.look(2.0, 1.0)
    assert run.belief_nats == window_nats  # nothing is known of frames
    run.pictures = stream, picture(PIECE)
    run.look(2.0, 1.0)
    assert run.belief_nats == pytest.approx(told_nats)
    assert run.window_nats == window_nats
    strange = dataclasses.replace(run, looked=None, pictures=(stream, picture(OTHER)))
    strange.look(2.0, 1.0)
    assert strange.belief_nats < window_nats - 4.0


@pytest.mark.parametrize(("last_s", "alone"), [(10.0, False), (18.0, True)])
def test_frames_of_what_drowns_for_long_say_more_than_windows(last_s, alone):
    stream, line = aired(1.5)
    run = Run(
        reference_id="piece", line=line, born_s=8.0, first_s=8.0, last_s=last_s, evidence_nats=2.0, ceiling_nats=99
    )
    run.pictures = stream, picture(PIECE)
    run.look(2.0, 1.0)
    what_is_seen_nats = 3.0
    assert run.frame_nats > 4.0 + what_is_seen_nats if alone else run.frame_nats <= 2.0 + what_is_seen_nats


def test_a_pitch_between_the_readings_is_worked_out():
    stream, line = aired()
    part = 0.4  # of a band
    levels = stream.levels.astype(float)
    higher = np.rint((1 - part) * levels + part * np.roll(levels, 1, axis=1)).astype(np.uint8)
    moved = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=higher)
    seen = presence(moved, picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    assert seen.pitch_ratio == pytest.approx((3900 / 250) ** (part / (BANDS - 1)), rel=0.02)
    still = presence(stream, picture(PIECE), line, pitch_ratio=1.0, first_s=8.0, last_s=22.0)
    assert still.pitch_ratio == 1.0


def test_another_piece_over_the_same_chords_is_bounded_and_no_negative_evidence_is_recorded():
    stream, line = picture(12.0 + 1.3 * (OTHER - 12.0)), Line(origin_s=-5.0, tempo_ratio=1.0)
    run = Run(reference_id="piece", line=line, born_s=8.0, first_s=8.0, last_s=26.0, evidence_nats=8.0, ceiling_nats=99)
    run.pictures = stream, picture(PIECE)
    run.look(2.0, 1.0)
    assert run.frame_nats == -30.0
    run.state, run.match_id = MatchState.PROVISIONAL, UUID(int=1)
    match = run.as_match(
        stream="s",
        catalog="c",
        model_id="m",
        window_s=2.0,
        hop_s=0.5,
        duration_s=60.0,
        calibration=generic_calibration(),
    )
    assert match.evidence_nats == 0.0
