from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.audio.timeline import Timeline
from monitor.types import Chunk

RATE = 1000
NOW_S = 1_760_000_000.0

Arrivals = Sequence[tuple[float, float]]
"""(seconds after NOW_S, seconds of audio that arrive then)"""


class Listened:
    """What a timeline gives for the arrivals, looked at every 50 ms as well as at each arrival."""

    def __init__(self, arrivals: Arrivals, *, until_s: float | None = None, **options: float) -> None:
        self.timeline = Timeline(sample_rate_hz=RATE, **options)
        self.pulled: list[tuple[float, Chunk]] = []
        looks = [*np.arange(0, until_s or arrivals[-1][0] + 0.5, 0.05)]
        steps = sorted([*((at, length) for at, length in arrivals), *((look, 0.0) for look in looks)])
        value = 0
        for at, length in steps:
            if length:
                count = round(length * RATE)
                self.timeline.push(np.arange(value, value + count, dtype=np.float32), NOW_S + at)
                value += count
            self.pulled += [(NOW_S + at, chunk) for chunk in self.timeline.pull(NOW_S + at)]
        self.sent = value

    @property
    def chunks(self) -> list[Chunk]:
        return [chunk for _, chunk in self.pulled]

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([chunk.samples for chunk in self.chunks]) if self.chunks else np.empty(0)

    def lag_s(self, index: int = -1) -> float:
        """How far the end of a chunk lay behind the clock when it was given out."""
        at_s, chunk = self.pulled[index]
        return at_s - end_s(chunk)


def end_s(chunk: Chunk) -> float:
    return chunk.start_s + chunk.samples.size / RATE


def runs(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    found: list[list[Chunk]] = []
    for chunk in chunks:
        if chunk.discontinuity:
            found.append([])
        found[-1].append(chunk)
    return found


def live(seconds: float, *, block_s: float = 0.5, start_s: float = 0.0, rate: float = 1.0) -> list[tuple[float, float]]:
    return [(start_s + number * block_s / rate, block_s) for number in range(1, int(seconds * rate / block_s) + 1)]


def test_live_audio_without_a_burst_ends_now():
    heard = Listened(live(20))
    assert [chunk.discontinuity for chunk in heard.chunks].count(True) == 1
    assert heard.chunks[0].start_s == pytest.approx(NOW_S)
    assert heard.lag_s() == pytest.approx(0.0, abs=0.06)
    assert heard.timeline.reanchored_total == 0


@pytest.mark.parametrize(("burst_s", "over_s"), [(4.0, 0.0), (11.0, 0.05), (11.0, 1.5), (30.0, 3.0)])
def test_a_burst_lies_before_now_and_is_no_drift(burst_s, over_s):
    pieces = 8
    burst = [(over_s * (piece + 1) / pieces, burst_s / pieces) for piece in range(pieces)]
    heard = Listened([*burst, *live(30, start_s=over_s)])
    assert heard.timeline.reanchored_total == 0
    assert len(runs(heard.chunks)) == 1
    assert heard.chunks[0].start_s == pytest.approx(NOW_S + over_s - burst_s, abs=0.01)
    assert heard.lag_s() == pytest.approx(0.0, abs=0.06)
    assert heard.samples.size == heard.sent


@pytest.mark.parametrize("segment_s", [2.0, 6.0, 10.0])
@pytest.mark.parametrize("phase", [0.1, 0.5, 0.9])
def test_a_playlist_brings_three_segments_and_then_one_at_a_time(segment_s, phase):
    arrivals = [(0.0, segment_s), (0.3, segment_s), (0.5, segment_s)]
    # Each segment itself comes in parts, over a moment.
    for number in range(12):
        at = segment_s * (number + phase)
        arrivals += [(at + part * 0.05, segment_s / 5) for part in range(5)]
    heard = Listened(sorted(arrivals), until_s=segment_s * 13)
    assert heard.timeline.reanchored_total == 0
    assert len(runs(heard.chunks)) == 1
    newest = NOW_S + max(at for at, _ in arrivals)
    assert end_s(heard.chunks[-1]) == pytest.approx(newest, abs=0.4)


@given(
    burst_s=st.floats(0, 30),
    jitter=st.lists(st.floats(0, 1.5), min_size=60, max_size=60),
    clock_ratio=st.floats(0.999, 1.001),
)
def test_never_after_the_wall_clock_never_backwards_nothing_lost(burst_s, jitter, clock_ratio):
    sent = [(0.0, round(burst_s, 3)), *live(30, rate=clock_ratio)]
    arrived, last = [], 0.0
    for (at, length), late in zip(sent, jitter, strict=False):
        last = max(at + late, last)
        arrived.append((last, length))
    heard = Listened([each for each in arrived if each[1] > 0], until_s=40)
    assert np.array_equal(heard.samples, np.arange(heard.sent))
    for at_s, chunk in heard.pulled:
        assert end_s(chunk) <= at_s + 1e-6
    for run in runs(heard.chunks):
        for before, after in itertools.pairwise(run):
            assert after.start_s == pytest.approx(end_s(before), abs=1e-6)
    assert heard.timeline.reanchored_total == 0


def test_a_stall_that_the_server_makes_up_for_shifts_nothing():
    heard = Listened([(0.0, 4.0), *live(10), (18.0, 8.0), *live(20, start_s=18.0)])
    assert heard.timeline.reanchored_total == 0
    assert len(runs(heard.chunks)) == 1
    assert heard.lag_s() == pytest.approx(0.0, abs=0.06)


def test_audio_lost_on_the_way_moves_the_axis_forward_once():
    heard = Listened([(0.0, 4.0), *live(10), *live(30, start_s=15.0)])
    assert heard.timeline.reanchored_total == 1
    first, second = runs(heard.chunks)
    assert second[0].start_s - end_s(first[-1]) == pytest.approx(5.0, abs=0.06)
    assert heard.lag_s() == pytest.approx(0.0, abs=0.06)


def test_less_than_two_seconds_lost_is_left_alone():
    heard = Listened([(0.0, 4.0), *live(10), *live(60, start_s=11.5)])
    assert heard.timeline.reanchored_total == 0
    assert heard.lag_s() == pytest.approx(1.5, abs=0.06)


def test_a_source_whose_clock_is_slow_is_anchored_anew_at_two_seconds():
    heard = Listened(live(400, rate=0.99))
    assert heard.timeline.reanchored_total == 1
    assert all(-0.001 <= at_s - end_s(chunk) <= 2.3 for at_s, chunk in heard.pulled[10:])


def test_a_source_whose_clock_is_fast_waits_and_is_anchored_anew_at_two_seconds():
    heard = Listened(live(400, rate=1.01))
    assert heard.timeline.reanchored_total == 1
    assert all(end_s(chunk) <= at_s + 1e-6 for at_s, chunk in heard.pulled)
    assert heard.timeline.held_s <= 2.5


def test_audio_from_before_sent_again_starts_the_axis_afresh_with_the_newest_now():
    heard = Listened([*live(10), (10.1, 6.0), *live(10, start_s=10.1)])
    assert heard.timeline.reanchored_total == 1
    second = runs(heard.chunks)[1]
    assert heard.samples.size == heard.sent
    assert all(end_s(chunk) <= at_s + 1e-6 for at_s, chunk in heard.pulled)
    assert second[0].start_s < NOW_S + 10
    assert heard.lag_s() == pytest.approx(0.0, abs=0.06)


def test_a_wall_clock_that_is_set_back_or_forward_is_followed():
    timeline = Timeline(sample_rate_hz=RATE)
    ends = []
    for number in range(1, 121):
        at_s = NOW_S + number * 0.5 + (-3600 if number > 40 else 0) + (7200 if number > 80 else 0)
        timeline.push(np.zeros(500, dtype=np.float32), at_s)
        ends += [at_s - end_s(chunk) for chunk in timeline.pull(at_s)]
        ends += [at_s + 0.4 - end_s(chunk) for chunk in timeline.pull(at_s + 0.4)]
    assert timeline.reanchored_total == 2
    assert ends[-1] == pytest.approx(0.0, abs=0.5)
    assert timeline.held_s <= 0.5


def test_a_file_that_arrives_as_fast_as_it_is_read_plays_in_real_time():
    timeline = Timeline(sample_rate_hz=RATE, hold_limit_s=40.0)
    pulled: list[tuple[float, Chunk]] = []
    now_s = NOW_S
    most = 0.0
    while now_s < NOW_S + 100:
        while not timeline.full:
            timeline.push(np.zeros(1000, dtype=np.float32), now_s)
        most = max(most, timeline.held_s)
        pulled += [(now_s, chunk) for chunk in timeline.pull(now_s)]
        now_s += 0.1
    assert timeline.reanchored_total == 0
    assert most <= 41.0
    assert all(end_s(chunk) <= at_s + 1e-6 for at_s, chunk in pulled)
    assert end_s(pulled[-1][1]) == pytest.approx(now_s, abs=1.2)
    assert len(runs([chunk for _, chunk in pulled])) == 1


def test_what_is_held_when_the_source_ends_is_not_lost():
    timeline = Timeline(sample_rate_hz=RATE)
    timeline.push(np.zeros(4000, dtype=np.float32), NOW_S)
    assert timeline.pull(NOW_S + 0.1) == []
    timeline.close()
    (chunk,) = timeline.pull(NOW_S + 0.2)
    assert end_s(chunk) == NOW_S
    assert timeline.due_s(NOW_S + 0.2) is None


def test_a_burst_and_nothing_more_is_given_out_after_the_limit():
    timeline = Timeline(sample_rate_hz=RATE, settle_limit_s=20.0)
    timeline.push(np.zeros(4000, dtype=np.float32), NOW_S)
    assert timeline.pull(NOW_S + 19.9) == []
    due_s = timeline.due_s(NOW_S + 19.9)
    assert due_s == NOW_S + 20.0
    assert len(timeline.pull(due_s)) == 1
