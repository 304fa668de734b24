from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.audio.window import Spans, Windower, level_dbfs
from monitor.types import Chunk, Samples, Window

RATE = 1000
ORIGIN_S = 1_760_000_000.25


def noise(count: int, seed: int = 1) -> Samples:
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def chunks(samples: Samples, cuts: list[int], *, start_s: float = ORIGIN_S) -> list[Chunk]:
    edges = [0, *sorted(min(cut, samples.size) for cut in cuts), samples.size]
    return [
        Chunk(
            start_s=start_s + begin / RATE,
            samples=samples[begin:end],
            sample_rate_hz=RATE,
            discontinuity=begin == 0 and end > 0,
        )
        for begin, end in itertools.pairwise(edges)
    ]


def windower(window_samples: int = 100, hop_samples: int = 30) -> Windower:
    return Windower(stream="s", sample_rate_hz=RATE, window_samples=window_samples, hop_samples=hop_samples)


def cut(given_chunks: list[Chunk], **sizes: int) -> list[Window]:
    slicer = windower(**sizes)
    return [window for chunk in given_chunks for window in slicer.push(chunk)]


@given(
    length=st.integers(0, 700),
    cuts=st.lists(st.integers(1, 700), max_size=12),
    window_samples=st.integers(1, 120),
    data=st.data(),
)
def test_any_chunking_gives_the_same_windows(length, cuts, window_samples, data):
    hop_samples = data.draw(st.integers(1, window_samples))
    samples = noise(length)
    found = cut(chunks(samples, cuts), window_samples=window_samples, hop_samples=hop_samples)
    starts = range(0, length - window_samples + 1, hop_samples)
    assert [window.start_s for window in found] == [ORIGIN_S + start / RATE for start in starts]
    for window, start in zip(found, starts, strict=True):
        assert np.array_equal(window.samples, samples[start : start + window_samples])
        assert window.level_dbfs == level_dbfs(window.samples)
        assert window.stream == "s"


@given(
    length=st.integers(0, 700),
    cuts=st.lists(st.integers(0, 700), max_size=12),
    window_samples=st.integers(1, 120),
    data=st.data(),
)
def test_spans_hold_the_same_windows(length, cuts, window_samples, data):
    hop_samples = data.draw(st.integers(1, window_samples))
    samples = noise(length)
    spans = Spans(window_samples=window_samples, hop_samples=hop_samples)
    seen = 0
    edges = [0, *sorted(min(each, length) for each in cuts), length]
    for begin, end in itertools.pairwise(edges):
        if (span := spans.push(samples[begin:end])) is None:
            continue
        first, part = span
        assert first == seen
        count = 1 + (part.size - window_samples) // hop_samples
        assert part.size == window_samples + (count - 1) * hop_samples
        assert np.array_equal(part, samples[first * hop_samples :][: part.size])
        seen += count
    assert seen == max(0, 1 + (length - window_samples) // hop_samples)


def test_a_discontinuity_throws_the_unfinished_window_away_and_dates_the_next():
    slicer = windower()
    before, after = noise(99, seed=2), noise(130, seed=3)
    assert slicer.push(chunks(before, [])[0]) == []
    found = slicer.push(chunks(after, [], start_s=ORIGIN_S + 50)[0])
    assert [window.start_s for window in found] == [ORIGIN_S + 50, ORIGIN_S + 50 + 0.03]
    assert np.array_equal(found[0].samples, after[:100])


def test_rounding_never_adds_up():
    rate, hop = 8000, 3001
    slicer = Windower(stream="s", sample_rate_hz=rate, window_samples=hop, hop_samples=hop)
    block = np.zeros(hop, dtype=np.float32)
    last = None
    for number in range(20_000):
        start_s = ORIGIN_S + number * hop / rate
        (last,) = slicer.push(Chunk(start_s=start_s, samples=block, sample_rate_hz=rate, discontinuity=number == 0))
    assert last is not None
    assert last.start_s == ORIGIN_S + 19_999 * hop / rate


def test_a_chunk_of_another_rate_is_refused():
    chunk = Chunk(start_s=0.0, samples=noise(10), sample_rate_hz=RATE * 2, discontinuity=True)
    with pytest.raises(ValueError, match="2000 Hz was given to windows at 1000 Hz"):
        windower().push(chunk)


@pytest.mark.parametrize(("window_samples", "hop_samples"), [(10, 0), (10, 11)])
def test_a_hop_must_fit_the_window(window_samples, hop_samples):
    with pytest.raises(ValueError, match="does not fit"):
        Spans(window_samples=window_samples, hop_samples=hop_samples)


def test_levels():
    sine = np.sin(2 * np.pi * np.arange(8000) / 80).astype(np.float32)
    assert level_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(sine / 1000) == pytest.approx(-63.01, abs=0.01)
    assert level_dbfs(np.ones(5, dtype=np.float32)) == 0.0
    assert level_dbfs(np.zeros(5, dtype=np.float32)) == -math.inf
    assert level_dbfs(np.empty(0, dtype=np.float32)) == -math.inf
