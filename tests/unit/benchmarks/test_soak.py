"""The soak's book-keeping, and the frames that its stations send."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import processes, transmitter
from benchmarks.soak import account
from monitor.audio.ffmpeg import find_ffmpeg
from monitor.demo import station
from monitor.demo.instruments import SAMPLE_RATE_HZ


@pytest.mark.parametrize("audio", [station.mp3(64), station.mp3(128), station.aac(48)], ids=lambda audio: audio.suffix)
def test_a_tape_is_cut_into_whole_frames_and_goes_round(audio):
    tone = np.sin(np.arange(3 * SAMPLE_RATE_HZ) * 0.1).astype(np.float32)
    tape = transmitter.encode(tone, audio, find_ffmpeg())
    assert tape.duration_s == pytest.approx(3.0, abs=0.15)
    assert tape.between(0, tape.frames) == tape.data
    assert tape.between(tape.frames - 1, 2 * tape.frames + 1) == (
        tape.between(tape.frames - 1, tape.frames) + tape.data + tape.between(0, 1)
    )


def test_time_that_neither_covers_nor_misses_is_named():
    gaps = {"whole": [(10.0, 40.0), (30.0, 50.0)], "lost": [(0.0, 100.0)]}
    whole, lost = account.settle(gaps, {"whole": 960.0, "lost": 800.0}, since_s=0.0, until_s=1000.0)
    assert (whole.gaps_s, whole.error_s, whole.claimed_twice_s) == (40.0, 0.0, 10.0)
    assert not whole.balanced  # two rows claim the same time
    assert lost.error_s == -100.0 and not lost.balanced


def test_a_slope_is_per_hour():
    assert processes.slope_per_hour([0, 1800, 3600], [5.0, 6.0, 7.0]) == pytest.approx(2.0)
