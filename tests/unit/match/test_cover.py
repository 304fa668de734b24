from __future__ import annotations

import numpy as np
import pytest

from monitor.match.cover import covered_edges
from monitor.match.line import Line
from monitor.match.presence import presence
from monitor.types import ABSENT, BANDS, Spectrogram
from tests.unit.match.pictures import STEP_S, at, mixed, picture, sound

PIECE, OTHER = sound(60.0, 1), sound(60.0, 2)
RECORDING = picture(PIECE)
#: The piece is on air from its 10th second on, from 5 s to 25 s.
START_S, END_S = 5.0, 25.0
LINE = Line(origin_s=-5.0, tempo_ratio=1.0)


def faded(seconds: float, *, ending: bool = True, least: float = 0.0) -> np.ndarray:
    """Amplitudes of the piece's frames, (T,): a straight fade of so many seconds at one end of the airing."""
    times_s = STEP_S * (1 + np.arange(len(OTHER)))
    left_s = END_S - times_s if ending else times_s - START_S
    amplitude = np.clip(left_s / max(seconds, 1e-3), least, 1.0)
    return np.where((times_s >= START_S) & (times_s <= END_S), amplitude, 0.0)


def broadcast(going: np.ndarray, coming: np.ndarray) -> np.ndarray:
    """The piece at some amplitudes and another sound at others, frame by frame."""
    here = np.roll(PIECE, at(PIECE, 0, START_S).stop - at(PIECE, 0, 10.0).stop, axis=0)
    quiet = 1e-4
    return np.logaddexp(
        here + 2 * np.log(np.maximum(going, quiet))[:, np.newaxis],
        OTHER + 2 * np.log(np.maximum(coming, quiet))[:, np.newaxis],
    )


def edges(
    stream: Spectrogram,
    start_s: float,
    end_s: float,
    *,
    pitch_ratio: float = 1.0,
    reference: Spectrogram = RECORDING,
) -> tuple[float, float]:
    """Where they are, by frames that correlate from `start_s` to `end_s`."""
    seen = presence(stream, reference, LINE, pitch_ratio=pitch_ratio, first_s=start_s + 1, last_s=end_s - 1)
    assert seen is not None
    return covered_edges(seen, stream, reference, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("seconds", [3.0, 5.0])
@pytest.mark.parametrize("ending", [True, False])
def test_a_cross_fade_is_followed_to_where_it_reaches_nothing(seconds, ending):
    going = faded(seconds, ending=ending)
    stream = picture(broadcast(going, 1.0 - going))
    # Frames correlate until the other sound is the louder.
    heard_s = 0.7 * seconds
    start_s, end_s = (START_S, END_S - seconds + heard_s) if ending else (START_S + seconds - heard_s, END_S)
    found = edges(stream, start_s, end_s)
    before, after = (end_s, found[1]) if ending else (start_s, found[0])
    true_s = END_S if ending else START_S
    # Somewhat more than half of what is covered is claimed.
    assert abs(after - true_s) < 0.65 * abs(before - true_s)
    assert abs(found[0 if ending else 1] - (start_s if ending else end_s)) < 0.3


def test_under_the_next_piece_an_airing_goes_on_until_the_bound_falls():
    going = faded(0.0)
    coming = (STEP_S * np.arange(len(OTHER)) > END_S - 4.0).astype(float)
    _, end_s = edges(picture(broadcast(going, coming)), START_S, END_S - 3.5)
    assert end_s == pytest.approx(END_S, abs=0.4)


def test_under_a_voice_it_goes_on_to_where_the_recording_itself_begins_and_ends():
    going = faded(0.0)
    times_s = STEP_S * np.arange(len(OTHER))
    coming = ((times_s > END_S - 4.0) | (times_s < START_S + 4.0)).astype(float)
    whole = at(PIECE, 10.0, 30.0)
    recording = Spectrogram(start_s=10.0 + STEP_S, step_s=STEP_S, levels=picture(PIECE).levels[whole])
    found = edges(picture(broadcast(going, coming)), START_S + 3.5, END_S - 3.5, reference=recording)
    assert found == pytest.approx((START_S, END_S), abs=0.4)


def test_what_covers_everything_says_nothing():
    going = faded(0.0)
    coming = 30.0 * (STEP_S * np.arange(len(OTHER)) > END_S - 4.0)
    _, end_s = edges(picture(broadcast(going, coming)), START_S, END_S - 4.0)
    assert end_s == pytest.approx(END_S - 4.0, abs=0.01)


@pytest.mark.parametrize("other", [0.0, 0.3, 1.0])
def test_a_cut_is_where_it_is(other):
    going = faded(0.0)
    stream = picture(broadcast(going, np.where(going > 0, 0.0, other)))
    assert edges(stream, START_S, END_S) == pytest.approx((START_S, END_S), abs=0.3)


def test_what_is_turned_down_before_it_is_cut_is_no_fade():
    going = faded(4.0, least=0.75)
    _, end_s = edges(picture(broadcast(going, np.where(going > 0, 0.0, 1.0))), START_S, END_S - 0.3)
    assert end_s <= END_S + 0.1


def test_nothing_is_claimed_that_was_not_heard():
    going = faded(5.0)
    stream = picture(broadcast(going, 1.0 - going))
    levels = stream.levels.copy()
    levels[at(levels, 23.5, 60.0)] = ABSENT
    _, end_s = edges(Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=levels), START_S, 23.4)
    assert end_s <= 23.6


def test_a_gap_in_what_was_heard_is_not_claimed_where_the_airing_ends_in_it():
    going = faded(0.0)
    coming = (STEP_S * np.arange(len(OTHER)) > END_S - 4.0).astype(float)
    stream = picture(broadcast(going, coming))
    levels = stream.levels.copy()
    levels[at(levels, 23.0, 28.0)] = ABSENT
    _, end_s = edges(Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=levels), START_S, END_S - 3.5)
    assert end_s <= 23.1


def test_a_transposed_fade_is_compared_at_the_recordings_pitch():
    up_two_bands = (3900 / 250) ** (2 / (BANDS - 1))
    going = faded(5.0)
    stream = picture(broadcast(going, 1.0 - going))
    higher = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=np.roll(stream.levels, 2, axis=1))
    _, end_s = edges(higher, START_S, 23.5, pitch_ratio=up_two_bands)
    assert 23.9 < end_s < END_S + 0.3


def test_a_short_airing_does_not_say_how_loud_it_is():
    stream = picture(mixed(PIECE, OTHER))
    assert edges(stream, 10.0, 13.2) == (10.0, 13.2)
