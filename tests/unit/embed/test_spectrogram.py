from __future__ import annotations

import numpy as np
import pytest

from monitor.embed.spectrogram import Spectrograph
from monitor.types import ABSENT, BANDS, HIGHEST_BAND_HZ, LOWEST_BAND_HZ

RATE_HZ, WINDOW, HOP = 8000, 17_152, 2048


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


@pytest.fixture
def spectrograph() -> Spectrograph:
    return Spectrograph(sample_rate_hz=RATE_HZ, window_samples=WINDOW, reference_hop_samples=HOP)


def test_a_tone_is_loudest_in_its_band(spectrograph):
    seconds = np.arange(RATE_HZ) / RATE_HZ
    spacing = np.log(HIGHEST_BAND_HZ / LOWEST_BAND_HZ) / (BANDS - 1)
    for band in (3, 16, 28):
        tone = (0.5 * np.sin(2 * np.pi * LOWEST_BAND_HZ * np.exp(band * spacing) * seconds)).astype(np.float32)
        levels = spectrograph.of(tone)
        assert levels.shape == (RATE_HZ // 512 - 1, BANDS)
        assert (levels.argmax(axis=1) == band).all()


def test_silence_is_the_lowest_level_and_less_than_a_frame_is_nothing(spectrograph):
    assert not spectrograph.of(np.zeros(RATE_HZ, dtype=np.float32)).any()
    assert spectrograph.of(np.zeros(1000, dtype=np.float32)).shape == (0, BANDS)


def test_overlapping_windows_share_their_frames(spectrograph):
    sound = noise(6.0)
    windows = spectrograph.of_windows(sound, hop_samples=2 * HOP, count=8)
    for number, levels in enumerate(windows):
        alone = spectrograph.of(sound[number * 2 * HOP : number * 2 * HOP + WINDOW])
        np.testing.assert_array_equal(levels, alone)
    np.testing.assert_array_equal(windows[0][8:], windows[1][:-8])


def test_rows_make_the_picture_again_and_hold_each_frame_once(spectrograph):
    sound = noise(6.0)
    kept = np.arange(1 + (len(sound) - WINDOW) // HOP)
    rows = spectrograph.rows(sound, kept)
    assert [len(row) for row in rows] == [32 * BANDS] + [4 * BANDS] * (len(kept) - 1)
    assert all(row.isascii() and row.isprintable() and " " not in row for row in rows)
    picture = spectrograph.assembled(kept, rows)
    assert (picture.start_s, picture.step_s) == (0.064, 0.064)
    np.testing.assert_array_equal(picture.levels, spectrograph.of(sound)[: len(picture.levels)])


def test_windows_that_were_left_out_are_absent_unless_others_hold_their_frames(spectrograph):
    sound = noise(12.0)
    kept = np.array([0, 1, 2, 20, 21, 23])
    rows = spectrograph.rows(sound, kept)
    picture, whole = spectrograph.assembled(kept, rows), spectrograph.of(sound)
    heard = picture.levels[:, 0] != ABSENT
    np.testing.assert_array_equal(np.flatnonzero(~heard), np.arange(2 * 4 + 32, 20 * 4))
    np.testing.assert_array_equal(picture.levels[heard], whole[: len(heard)][heard])


def test_a_part_of_a_reference_begins_with_what_its_first_row_holds(spectrograph):
    sound = noise(6.0)
    kept = np.arange(15)
    rows = spectrograph.rows(sound, kept)
    picture = spectrograph.assembled(kept[5:], rows[5:])
    assert picture.start_s == pytest.approx(5 * 0.256 + 0.064)
    heard = picture.levels[:, 0] != ABSENT
    assert np.flatnonzero(heard)[0] == 28
    np.testing.assert_array_equal(picture.levels[heard], spectrograph.of(sound)[20 + 28 : 20 + len(heard)])
    assert spectrograph.assembled(kept[:0], []) is None


@pytest.mark.parametrize("row", ["", "A", "\u20ac" * BANDS, " " * BANDS, "A" * 99 * BANDS])
def test_a_damaged_row_is_as_if_it_were_not_there(spectrograph, row):
    kept = np.arange(15)
    rows = spectrograph.rows(noise(6.0), kept)
    broken = spectrograph.assembled(kept, [*rows[:7], row, *rows[8:]])
    whole = spectrograph.assembled(kept, rows)
    missing = np.flatnonzero(broken.levels[:, 0] == ABSENT)
    np.testing.assert_array_equal(missing, np.arange(7 * 4 + 28, 7 * 4 + 32))
    np.testing.assert_array_equal(np.delete(broken.levels, missing, 0), np.delete(whole.levels, missing, 0))


def test_a_hop_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="hop of 2047 samples is not 4 equal steps"):
        Spectrograph(sample_rate_hz=RATE_HZ, window_samples=WINDOW, reference_hop_samples=2047)
