from __future__ import annotations

import numpy as np
import pytest

from monitor.match.glimpse import Glimpses, glimpses
from monitor.match.line import Line
from monitor.types import ABSENT, BANDS, Spectrogram
from tests.unit.match.pictures import STEP_S, at, mixed, picture, sound

PIECE, OTHER = sound(60.0, 1), sound(60.0, 2)
LINE = Line(origin_s=0.0, tempo_ratio=1.0)


def seen(stream: Spectrogram, **other: float) -> Glimpses:
    found = glimpses(stream, picture(PIECE), LINE, **{"pitch_ratio": 1.0, "first_s": 20.0, "last_s": 26.0, **other})
    assert found is not None
    return found


@pytest.mark.parametrize(("over_db", "exact", "missing"), [(-6.0, 0.7, 0.05), (0.0, 0.45, 0.1), (6.0, 0.3, 0.2)])
def test_a_recording_under_another_sound_is_somewhere_exactly_as_loud(over_db, exact, missing):
    found = seen(picture(mixed(PIECE, OTHER, over_db)))
    assert found.exact > exact
    assert found.missing < missing
    assert found.kinship(0.3) == 0.0


def test_another_sound_lacks_what_the_recording_has():
    found = seen(picture(OTHER))
    assert found.missing > 0.2
    assert found.kinship(0.3) == 1.0
    assert found.kinship(0.8) == 0.0  # frames know better


def test_another_piece_over_the_same_chords_lacks_its_notes():
    # Slow chords of both, and what changes of one or the other.
    slow = np.repeat(np.random.default_rng(5).normal(0, 2.0, (60, BANDS)), 16, axis=0)[: len(PIECE)]
    one, other = 12.0 + slow[: len(PIECE)] + (PIECE - 12.0), 12.0 + slow[: len(PIECE)] + (OTHER - 12.0)
    look = {"pitch_ratio": 1.0, "first_s": 20.0, "last_s": 26.0}
    kin = glimpses(picture(other), picture(one), LINE, **look)
    itself = glimpses(picture(one), picture(one), LINE, **look)
    assert kin.kinship(0.5) == 1.0
    assert itself.exact > 0.95
    assert itself.missing == 0.0


def test_gain_and_an_equaliser_change_nothing():
    tilted = picture(mixed(PIECE, OTHER, -6.0) + np.linspace(0.0, 3.0, BANDS) - 2.0)
    assert seen(tilted).exact > 0.6
    assert seen(tilted).missing < 0.12


def test_a_transposed_airing_is_compared_at_the_recordings_pitch():
    up_two_bands = (3900 / 250) ** (2 / (BANDS - 1))
    higher = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=np.roll(picture(PIECE).levels, 2, axis=1))
    assert seen(higher, pitch_ratio=up_two_bands).exact > 0.9
    assert seen(higher).exact < 0.4


def test_along_a_line_of_windows_alone_only_what_no_kin_show_is_evidence():
    chord, airing = Glimpses(exact=0.34, missing=0.09), Glimpses(exact=0.6, missing=0.02)
    assert chord.nats > 3.0
    assert chord.nats_beyond_kin == 0.0
    assert airing.nats_beyond_kin == pytest.approx(3.0)
    assert Glimpses(exact=0.1, missing=0.5).nats_beyond_kin == 0.0


def test_hiss_is_as_loud_as_any_hiss_and_says_nothing_of_a_recording():
    dice = np.random.default_rng(3)
    one, other = (picture(12.0 + dice.normal(0, 0.25, (len(PIECE), BANDS))) for _ in range(2))
    look = {"pitch_ratio": 1.0, "first_s": 20.0, "last_s": 26.0}
    hiss = glimpses(other, one, LINE, **look)
    assert hiss.folds > 1.5
    assert hiss.nats < 0.5
    itself = glimpses(picture(PIECE), picture(PIECE), LINE, **look)
    assert itself.nats == 8.0


def test_a_note_that_dies_away_says_less_the_sooner_it_does():
    ending = picture(np.concatenate([PIECE[: round(24 / STEP_S)], np.zeros_like(PIECE[: round(10 / STEP_S)])]))
    whole, ends = (
        glimpses(ending, ending, LINE, pitch_ratio=1.0, first_s=first_s, last_s=first_s + 3.0)
        for first_s in (20.0, 23.0)
    )
    assert (whole.exact, ends.exact) == (1.0, 1.0)
    assert whole.sounding_s == pytest.approx(3.0, abs=2 * STEP_S)
    assert ends.sounding_s == pytest.approx(1.0, abs=2 * STEP_S)
    assert whole.nats > 0.0
    assert ends.nats == 0.0


def test_too_little_says_nothing():
    stream, look = picture(PIECE), {"pitch_ratio": 1.0, "first_s": 20.0, "last_s": 20.5}
    assert glimpses(stream, picture(PIECE), LINE, **look) is None
    levels = stream.levels.copy()
    levels[at(levels, 15.0, 30.0)] = ABSENT
    unheard = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=levels)
    assert glimpses(unheard, picture(PIECE), LINE, **{**look, "last_s": 26.0}) is None


CLEARLY, FAINTLY = 0.7, 0.4


def test_what_is_heard_clearly_has_its_notes_or_is_another_piece():
    itself, kin = Glimpses(exact=0.6, missing=0.05), Glimpses(exact=0.3, missing=0.24)
    assert itself.weigh(4.0, CLEARLY, 10.0) == 4.0
    assert 0.0 > kin.weigh(4.0, CLEARLY, 4.0) > kin.weigh(4.0, CLEARLY, 8.0)
    assert kin.weigh(4.0, CLEARLY, 60.0) == kin.weigh(4.0, CLEARLY, 3600.0)  # it is bounded


def test_of_what_is_faint_nothing_is_asked():
    assert Glimpses(exact=0.3, missing=0.24).weigh(4.0, FAINTLY, 8.0) == 4.0


def test_frames_that_are_as_exact_a_moment_off_say_less():
    first, held = (Glimpses(exact=0.5, missing=0.2, folds_beside=folds) for folds in (-0.5, 0.8))
    assert first.weigh(4.0, CLEARLY, 4.0) > held.weigh(4.0, CLEARLY, 4.0) >= 0.0


@pytest.mark.parametrize("before", [5.0, -5.0, -25.0])
def test_the_less_is_exact_and_the_more_is_missing_the_more_speaks_for_kin(before):
    shares = np.linspace(0.0, 0.5, 51)
    by_exact = [Glimpses(exact=exact, missing=0.4).less_kin(before, 0.44, 4.0) for exact in shares.tolist()]
    by_missing = [Glimpses(exact=0.2, missing=missing).less_kin(before, 0.44, 4.0) for missing in shares.tolist()]
    assert np.all(np.diff(by_exact) >= 0.0) and by_exact[-1] == before
    assert np.all(np.diff(by_missing) <= 0.0) and by_missing[0] == before
    assert by_exact[0] == by_missing[-1] == min(before, -8.0)  # kin never speak for the recording
    assert Glimpses(exact=0.2, missing=0.4).less_kin(before, 0.44, 2.0) == before  # too short to say
