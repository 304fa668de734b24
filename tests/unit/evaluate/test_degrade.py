from __future__ import annotations

import numpy as np
import pytest

from monitor.audio.ffmpeg import find_ffmpeg
from monitor.demo.composer import compose
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.evaluate.degrade import degradations, levelled

FFMPEG = find_ffmpeg()
BY_LABEL = {degradation.label: degradation for degradation in degradations()}


@pytest.fixture(scope="module")
def sound():
    """Five seconds from the middle of a composed piece."""
    return levelled(compose(815, 6).samples[10 * SAMPLE_RATE_HZ : 15 * SAMPLE_RATE_HZ])


def changed(label, sound, seed=1):
    return BY_LABEL[label].change(sound, FFMPEG, np.random.default_rng(seed))


def tone(hertz, seconds=4.0):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ).astype("f4")


def loudest_hz(samples):
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * SAMPLE_RATE_HZ / len(samples)


@pytest.mark.parametrize("label", BY_LABEL)
def test_each_is_as_long_as_its_tempo_says_and_is_another_sound(label, sound):
    heard = changed(label, sound)
    assert heard.dtype == np.float32 and np.isfinite(heard).all()
    assert abs(len(heard) - len(sound) / BY_LABEL[label].tempo_ratio) <= 2
    length = min(len(heard), len(sound))
    same = np.corrcoef(heard[:length], sound[:length])[0, 1]
    assert (same > 0.9999) == (label == "clean")


@pytest.mark.parametrize("label", ["noise, +5 dB", "under speech, -10 dB", "equaliser 12 dB", "played anew"])
def test_the_seed_decides(label, sound):
    assert np.array_equal(changed(label, sound), changed(label, sound))
    assert not np.array_equal(changed(label, sound), changed(label, sound, seed=2))


@pytest.mark.parametrize("label", [label for label, each in BY_LABEL.items() if each.snr_db is not None])
def test_what_is_laid_on_top_has_the_stated_level(label, sound):
    bed = changed(label, sound) - sound
    ratio_db = 10 * np.log10(np.mean(sound.astype("f8") ** 2) / np.mean(bed.astype("f8") ** 2))
    assert ratio_db == pytest.approx(BY_LABEL[label].snr_db, abs=0.3)


@pytest.mark.parametrize(
    ("label", "hertz"), [("pitch +10 %", 1100), ("pitch -20 %", 800), ("speed +5 %", 1050), ("tempo +35 %", 1000)]
)
def test_speed_changes_pitch_tempo_does_not_and_pitch_changes_nothing_else(label, hertz):
    assert loudest_hz(changed(label, tone(1000))) == pytest.approx(hertz, rel=0.01)


def test_only_what_is_played_anew_is_not_claimed():
    assert [label for label, each in BY_LABEL.items() if not each.claimed] == ["played anew"]


def test_what_is_played_anew_has_the_notes_but_not_the_waveform():
    heard = changed("played anew", tone(440.0))
    assert loudest_hz(heard) == pytest.approx(440, rel=0.03)
