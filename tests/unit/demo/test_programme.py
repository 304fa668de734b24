from __future__ import annotations

import numpy as np
import pytest

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.programme import CROSSING_S, Condition, Recording, Tape, demo_programmes, under
from monitor.errors import InputError


def chirps(seed: int, duration_s: float = 60) -> np.ndarray:
    """Noise whose every stretch is unlike every other: positions in it can be told by correlation."""
    return np.random.default_rng(seed).normal(0, 0.1, round(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)


def recording(seed: int, duration_s: float = 60, *, catalogued: bool = True) -> Recording:
    name = f"piece-{seed}"
    return Recording(reference_id=name if catalogued else None, title=name, samples=chirps(seed, duration_s))


def place_of(excerpt: np.ndarray, whole: np.ndarray) -> float:
    size = 1 << (len(excerpt) + len(whole)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(excerpt, size)), size)[: len(whole)]
    return float(np.argmax(correlation)) / SAMPLE_RATE_HZ


def tape(ffmpeg: FfmpegProgram, seed: int = 1) -> Tape:
    return Tape("one", ffmpeg=ffmpeg, rng=np.random.default_rng(seed))


def test_the_truth_of_an_airing_is_where_its_sound_lies(ffmpeg: FfmpegProgram) -> None:
    whole = recording(1)
    recorder = tape(ffmpeg)
    recorder.rest(2.0)
    recorder.play(whole, 8.0)
    programme = recorder.programme()
    silence, airing = programme.airings
    assert (silence.condition, silence.reference_id) == (Condition.SILENCE, None)
    assert (airing.start_s, airing.end_s) == (pytest.approx(2.0), pytest.approx(10.0))
    heard = programme.samples[round(5 * SAMPLE_RATE_HZ) : round(6 * SAMPLE_RATE_HZ)]
    assert place_of(heard, whole.samples) == pytest.approx(airing.position_s(5.0), abs=0.001)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_tempo_is_2_per_cent_and_its_truth_says_so(ffmpeg: FfmpegProgram, seed: int) -> None:
    # Sound so slow that two per cent of an excerpt's length are a small part of a wave.
    slow = np.convolve(chirps(1), np.full(256, 1 / 16, dtype=np.float32), "same").astype(np.float32)
    whole = Recording(reference_id="slow", title="slow", samples=slow)
    recorder = tape(ffmpeg, seed)
    recorder.play(whole, 15.0, condition=Condition.TEMPO)
    programme = recorder.programme()
    (airing,) = programme.airings
    assert airing.tempo_ratio in (0.98, 1.02)
    assert programme.duration_s == pytest.approx(15.0, abs=0.1)
    for time_s in (1.0, 7.0, 14.0):
        start = round(time_s * SAMPLE_RATE_HZ)
        heard = programme.samples[start : start + SAMPLE_RATE_HZ // 8]
        around = round((airing.position_s(time_s) - 0.5) * SAMPLE_RATE_HZ)
        nearby = whole.samples[around : around + SAMPLE_RATE_HZ]
        assert place_of(heard, nearby) == pytest.approx(0.5, abs=0.06)


def test_crossing_pieces_meet_in_the_middle_of_the_fade(ffmpeg: FfmpegProgram) -> None:
    first, second = recording(1), recording(2)
    recorder = tape(ffmpeg)
    recorder.cross(first, second, 10.0)
    programme = recorder.programme()
    leaving, coming = programme.airings
    assert leaving.end_s == coming.start_s == pytest.approx(10.0)
    assert programme.duration_s == pytest.approx(20.0)
    for airing, whole, time_s in ((leaving, first, 4.0), (coming, second, 14.0), (coming, second, 10.5)):
        start = round(time_s * SAMPLE_RATE_HZ)
        heard = programme.samples[start : start + SAMPLE_RATE_HZ]
        assert place_of(heard, whole.samples) == pytest.approx(airing.position_s(time_s), abs=0.001)
    before = programme.samples[: round((10.0 - CROSSING_S / 2) * SAMPLE_RATE_HZ)]
    assert np.abs(np.corrcoef(before[-8000:], first.samples[-8000:])[0, 1]) < 0.1


def test_speech_lies_over_music_at_the_level_asked_for() -> None:
    music, speech = chirps(1, 4), chirps(2, 4)
    mixed = under(music, 0.1 * speech, 6.0)
    music_share = np.dot(mixed, music) / np.dot(music, music)
    speech_share = np.dot(mixed, speech) / np.dot(speech, speech)
    assert 20 * np.log10(music_share / speech_share) == pytest.approx(6.0, abs=0.3)


def test_a_recording_that_is_too_short_or_silent_is_refused_by_name(ffmpeg: FfmpegProgram) -> None:
    with pytest.raises(InputError, match="piece-1 lasts 5 s, too short for an airing of 12 s"):
        tape(ffmpeg).play(recording(1, 5), 12.0)
    silent = Recording(reference_id="hush", title="hush", samples=np.zeros(60 * SAMPLE_RATE_HZ, dtype=np.float32))
    with pytest.raises(InputError, match="hush has no 12 s without a silence"):
        tape(ffmpeg).play(silent, 12.0)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_demo_shows_every_condition_and_the_seed_decides(ffmpeg: FfmpegProgram, seed: int) -> None:
    catalogued = [recording(number) for number in range(1, 13)]
    strangers = [recording(number, catalogued=False) for number in range(21, 24)]

    def programmes(seed: int) -> list:
        return demo_programmes(["a", "b", "c"], catalogued=catalogued, uncatalogued=strangers, ffmpeg=ffmpeg, seed=seed)

    made = programmes(seed)
    airings = [airing for programme in made for airing in programme.airings]
    assert {airing.condition for airing in airings} == set(Condition)
    assert [programme.outage is not None for programme in made].count(True) == 1
    (dropped,) = (airing for airing in airings if airing.condition is Condition.DROPPED)
    outage = next(programme.outage for programme in made if programme.outage)
    assert dropped.start_s + 5 < outage.start_s < outage.start_s + outage.duration_s < dropped.end_s - 10
    for airing in airings:
        assert (airing.reference_id is None) == (
            airing.condition in (Condition.UNCATALOGUED, Condition.SPEECH, Condition.NOISE, Condition.SILENCE)
        )
        if airing.reference_id:
            assert airing.reference_start_s >= 2, "airings come from the middle"
    for programme in made:
        assert 55 < programme.duration_s < 95
        assert [airing.start_s for airing in programme.airings[1:]] == [
            airing.end_s for airing in programme.airings[:-1]
        ]
        assert np.max(np.abs(programme.samples)) < 1
    if seed == 1:
        again, other = programmes(1), programmes(5)
        assert [one.airings for one in again] == [one.airings for one in made]
        assert [one.airings for one in other] != [one.airings for one in made]
