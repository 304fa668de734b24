from __future__ import annotations

import numpy as np
import pytest

from monitor.demo import composer, likeness, voice
from monitor.demo.instruments import SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def pieces() -> list[composer.Piece]:
    return [composer.compose(7, number) for number in range(12)]


def test_a_piece_lasts_40_to_70_s_is_loud_and_never_clips(pieces: list[composer.Piece]) -> None:
    for piece in pieces:
        assert 40 <= piece.duration_s <= 75, piece.title
        assert piece.samples.dtype == np.float32
        assert 0.7 < np.max(np.abs(piece.samples)) <= 0.81
        assert np.sqrt(np.mean(piece.samples**2)) > 0.04, piece.title


def test_the_same_seed_and_number_give_the_same_samples(pieces: list[composer.Piece]) -> None:
    again = composer.compose(7, 4)
    assert again.title == pieces[4].title
    np.testing.assert_array_equal(again.samples, pieces[4].samples)


def test_another_seed_gives_another_recording_of_the_style(pieces: list[composer.Piece]) -> None:
    other = composer.compose(8, 4)
    assert other.title.split()[0] == pieces[4].title.split()[0]
    assert not likeness.shares_audio(
        likeness.reduced(other.samples, SAMPLE_RATE_HZ), likeness.reduced(pieces[4].samples, SAMPLE_RATE_HZ)
    )


def test_no_seconds_of_a_piece_come_back_exactly(pieces: list[composer.Piece]) -> None:
    for piece in pieces:
        half = len(piece.samples) // 2
        first = likeness.reduced(piece.samples[:half], SAMPLE_RATE_HZ)
        second = likeness.reduced(piece.samples[half:], SAMPLE_RATE_HZ)
        assert not likeness.shares_audio(first, second), piece.title


def test_pieces_differ_in_tone_colour(pieces: list[composer.Piece]) -> None:
    def centroid_hz(piece: composer.Piece) -> float:
        power = np.abs(np.fft.rfft(piece.samples)) ** 2
        return float(np.sum(power * np.fft.rfftfreq(len(piece.samples), 1 / SAMPLE_RATE_HZ)) / np.sum(power))

    centroids_hz = [centroid_hz(piece) for piece in pieces]
    assert max(centroids_hz) > 2 * min(centroids_hz)


def test_babble_is_voiced_in_syllables_with_formants() -> None:
    speech = voice.babble(np.random.default_rng(3), 6.0)
    assert len(speech) == 6 * SAMPLE_RATE_HZ
    assert np.max(np.abs(speech)) == pytest.approx(0.8, abs=0.01)
    level = np.sqrt(np.mean(speech[: 6 * SAMPLE_RATE_HZ].reshape(-1, SAMPLE_RATE_HZ // 50) ** 2, axis=1))
    assert np.percentile(level, 95) > 5 * np.percentile(level, 10)
    power = np.abs(np.fft.rfft(speech)) ** 2
    frequency_hz = np.fft.rfftfreq(len(speech), 1 / SAMPLE_RATE_HZ)
    assert power[(frequency_hz > 80) & (frequency_hz < 4200)].sum() > 0.8 * power.sum()


def test_noise_has_no_tone_and_the_length_asked_for() -> None:
    sound = voice.noise(np.random.default_rng(4), 2.5)
    assert len(sound) == round(2.5 * SAMPLE_RATE_HZ)
    power = np.abs(np.fft.rfft(sound)) ** 2
    assert power.max() < 0.05 * power.sum()
