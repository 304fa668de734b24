from __future__ import annotations

import numpy as np
import pytest

from monitor.demo import likeness

RATE_HZ = likeness.RATE_HZ


def sound(seed: int, duration_s: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(duration_s * RATE_HZ)).astype(np.float32)


def test_an_excerpt_at_another_level_is_found_wherever_it_lies() -> None:
    original = sound(1, 40)
    excerpt = 0.3 * original[round(17.3 * RATE_HZ) : round(27.3 * RATE_HZ)]
    hidden = np.concatenate((sound(2, 12), excerpt, sound(3, 5)))
    assert likeness.shared_correlation(hidden, original) > 0.8
    assert likeness.shares_audio(hidden, original)


def test_noise_on_top_of_the_same_sound_is_still_the_same_sound() -> None:
    original = sound(1, 30)
    noisy = original[: 12 * RATE_HZ] + 0.5 * sound(9, 12)
    assert likeness.shares_audio(noisy, original)


def test_other_sound_is_not_the_same() -> None:
    assert likeness.shared_correlation(sound(1, 30), sound(2, 60)) < 0.2


def test_digital_silence_and_clips_too_short_are_like_nothing() -> None:
    silence = np.zeros(20 * RATE_HZ, dtype=np.float32)
    assert likeness.shared_correlation(silence, sound(1, 20)) == 0
    assert likeness.shared_correlation(sound(1, 20), silence) == 0
    assert likeness.shared_correlation(sound(1, 1), sound(1, 20)) == 0


def test_reduced_keeps_the_time_axis() -> None:
    impulse = np.zeros(32_000, dtype=np.float32)
    impulse[16_000] = 1
    assert np.argmax(likeness.reduced(impulse, 32_000)) == RATE_HZ // 2


def test_a_rate_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="44100 Hz is no multiple of 4000 Hz"):
        likeness.reduced(np.zeros(10, dtype=np.float32), 44_100)
