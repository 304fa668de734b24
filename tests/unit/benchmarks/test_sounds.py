from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from benchmarks.false_alarms import sounds


def piece(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    sounds.write(path, np.sin(np.arange(round(seconds * sounds.RATE_HZ)) / 9).astype(np.float32))


def music(audio, unheard, *, hours=24.0):
    wanted = {"hours": hours, "kinds": ["music"], "seed": 1}
    return [sound.name for sound in sounds.strangers(audio, packages=["held-out"], unheard=unheard, **wanted)]


@pytest.mark.skipif(
    shutil.which("ffprobe") is None and os.environ.get("CI") != "true",
    reason="ffprobe is not installed (Debian package ffmpeg)",
)
def test_music_is_that_of_the_held_out_folders_then_of_all_that_nothing_was_chosen_on(tmp_path):
    audio, unheard = tmp_path / "audio", tmp_path / "unheard"
    piece(audio / "held-out/a.wav", 30)
    piece(audio / "held-out/short.wav", 5)
    piece(audio / "trained/b.wav", 30)
    piece(unheard / "one/c.wav", 30)
    piece(unheard / "two/d.wav", 30)
    held_out, *others = music(audio, unheard)
    assert held_out == "held-out/a.wav"
    assert sorted(others) == ["unheard/one/c.wav", "unheard/two/d.wav"]
    assert music(audio, None) == ["held-out/a.wav"]
    # Enough is enough: 5 of 24 hours are music.
    assert music(audio, unheard, hours=30 / 3600 * 24 / 5) == ["held-out/a.wav"]
