from __future__ import annotations

import pytest

from monitor.errors import InputError
from monitor.evaluate import truth
from monitor.evaluate.truth import Airing, Broadcast


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "radio.wav").write_bytes(b"sound")
    return tmp_path


def written(folder, text):
    path = folder / "truth.csv"
    path.write_text(text)
    return path


def test_what_is_written_is_read(folder):
    airings = (
        Airing(
            query="radio.wav", reference_id="a/b, c", start_s=1.5, end_s=9.25, reference_start_s=3.125,
            tempo_ratio=1.02, family="noise", condition="noise, +5 dB", snr_db=5.0,
        ),
        Airing(
            query="radio.wav", reference_id=None, start_s=10, end_s=20, reference_start_s=None, tempo_ratio=1.0,
            family="music", condition="music",
        ),
    )  # fmt: skip
    truth.write([Broadcast(path=folder / "radio.wav", duration_s=20, airings=airings)], folder / "truth.csv")
    (read,) = truth.read(folder / "truth.csv")
    assert read.path == folder / "radio.wav" and read.duration_s is None
    for before, after in zip(airings, read.airings, strict=True):
        for name in ("reference_id", "start_s", "end_s", "reference_start_s", "tempo_ratio", "condition", "snr_db"):
            assert getattr(after, name) == getattr(before, name)


def test_the_first_four_columns_are_enough_and_a_file_may_hold_nothing(folder):
    path = written(folder, "query,reference_id,start_s,end_s\nradio.wav,,,\n")
    (read,) = truth.read(path)
    assert read.airings == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("query,start_s\nradio.wav,1\n", "there is no reference_id"),
        ("", "needs rows"),
        ("query,reference_id,start_s,end_s\nnone.wav,a,1,2\n", "line 2: there is no file"),
        ("query,reference_id,start_s,end_s\nradio.wav,a,one,2\n", "line 2"),
        ("query,reference_id,start_s,end_s\nradio.wav,a,3,2\n", "the first before the second"),
    ],
)
def test_bad_truth_is_one_sentence(folder, text, words):
    with pytest.raises(InputError, match=words):
        truth.read(written(folder, text))


def test_a_truth_that_is_no_file_or_no_text_says_what_to_give(folder):
    with pytest.raises(InputError, match=r"none.csv cannot be read: No such file or directory; give a CSV file with"):
        truth.read(folder / "none.csv")
    (folder / "sound.csv").write_bytes(b"RIFF\xff\xfe")
    with pytest.raises(InputError, match=r"sound.csv is no CSV file in UTF-8: .*; save it as one"):
        truth.read(folder / "sound.csv")


def test_what_is_not_catalogued_is_the_rest():
    def at(start_s, end_s, reference_id="a"):
        return Airing(
            query="q", reference_id=reference_id, start_s=start_s, end_s=end_s, reference_start_s=None,
            tempo_ratio=1.0, family="", condition="",
        )  # fmt: skip

    assert truth.uncatalogued_s([at(10, 30), at(20, 40), at(50, 60), at(70, 90, None)], 100) == 60
