from __future__ import annotations

import numpy as np
import pytest

from monitor.catalog.sameness import sameness

HOP_S = 0.512


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def music(dice, windows: int) -> np.ndarray:
    """Neighbours share most of their sound, as overlapping windows do."""
    noise = dice.normal(size=(windows + 3, 128))
    return unit(sum(noise[step : step + windows] for step in range(4)))


def measured(vectors):
    return sameness(np.arange(len(vectors)), vectors, hop_s=HOP_S)


@pytest.mark.parametrize("windows", [40, 400, 4000])
def test_music_is_not_told_of(windows):
    found = measured(music(np.random.default_rng(1), windows))
    assert found.uniform_ratio < 0.2 and found.repeated_ratio < 0.1 and found.warning is None


def test_a_tone_is_told_of():
    dice = np.random.default_rng(2)
    found = measured(unit(np.ones((200, 128)) + 0.1 * dice.normal(size=(200, 128))))
    assert found.warning is not None and "sounds alike" in found.warning


def test_a_loop_is_told_of():
    bar = music(np.random.default_rng(3), 20)
    found = measured(np.concatenate([bar] * 10))
    assert found.repeated_ratio == 1.0 and found.uniform_ratio < 0.5
    assert found.warning is not None and "100% of it" in found.warning


@pytest.mark.parametrize("windows", [1, 2, 15])
def test_too_few_windows_tell_nothing(windows):
    assert measured(music(np.random.default_rng(4), windows)).warning is None


def test_windows_with_silence_between_them_are_no_neighbours():
    vectors = music(np.random.default_rng(5), 100)
    assert sameness(np.arange(100) * 40, vectors, hop_s=HOP_S).warning is None
