from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.audio.resample import Decimator, Resampler


def sine(frequency_hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)).astype(np.float32)


RATIOS = [(32000, 8000), (44100, 8000), (48000, 16000), (8000, 32000), (22050, 16000)]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATIOS)
@pytest.mark.parametrize("frequency_hz", [50.0, 1000.0, 3300.0])
def test_what_both_rates_can_hold_passes_unshifted(from_hz, to_hz, frequency_hz):
    resampler = Resampler(from_hz=from_hz, to_hz=to_hz)
    found = resampler.push(sine(frequency_hz, from_hz))
    edge = round(2 * resampler.delay_samples * to_hz / from_hz)
    error = (found - sine(frequency_hz, to_hz)[: found.size])[edge:]
    assert error.size > 0.8 * to_hz
    assert np.abs(error).max() < 2e-3


@pytest.mark.parametrize("frequency_hz", [4300.0, 6000.0, 11000.0, 15500.0])
def test_what_the_lower_rate_cannot_hold_is_gone(frequency_hz):
    found = Decimator(4).push(sine(frequency_hz, 32000))[100:]
    assert 20 * np.log10(np.sqrt(np.mean(found**2)) / np.sqrt(0.125)) < -70


@given(
    ratio=st.sampled_from([*RATIOS, (3, 1), (1, 1)]),
    length=st.integers(0, 3000),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_any_chunking_gives_the_same_samples(ratio, length, cuts):
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    whole = Resampler(from_hz=ratio[0], to_hz=ratio[1]).push(samples)
    resampler = Resampler(from_hz=ratio[0], to_hz=ratio[1])
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    parts = [resampler.push(samples[begin:end]) for begin, end in itertools.pairwise(edges)]
    together = np.concatenate(parts)
    assert together.dtype == np.float32
    assert together.size == whole.size
    assert np.allclose(together, whole, atol=1e-6)
    due = max(0, -(-(length - resampler.delay_samples) * ratio[1] // ratio[0]))
    assert whole.size == due


def test_full_scale_stays_in_range():
    square = np.where(np.arange(32000) % 64 < 32, 1.0, -1.0).astype(np.float32)
    assert np.abs(Decimator(4).push(square)).max() <= 1.0
