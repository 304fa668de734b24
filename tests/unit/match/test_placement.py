from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.match.line import Line, Plane, make_plane
from monitor.match.placement import better_line
from monitor.types import BANDS, Spectrogram

WINDOW_S, HOP_S, STEP_S = 2.144, 0.512, 0.064


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recording(dice, *, likeness: float) -> np.ndarray:
    """Sixty windows, then the same sixty again but for `likeness`, then sixty others; neighbours are alike."""
    base = dice.normal(size=(184, 128))
    smooth = base[:-4] + base[1:-3] + base[2:-2] + base[3:-1] + base[4:]
    once, other = unit(smooth[:60]), unit(smooth[60:120])
    again = unit(likeness * once + np.sqrt(1 - likeness**2) * unit(dice.normal(size=once.shape)))
    return np.concatenate([once, again, other])


def heard(dice, vectors: np.ndarray, first: int, count: int = 24, noise: float = 0.3) -> Plane:
    windows = unit(vectors[first : first + count] + noise * unit(dice.normal(size=(count, 128))))
    plane = make_plane(
        reference_id="r",
        window_starts_s=100.0 + np.arange(count) * HOP_S,
        window_vectors=windows,
        reference_starts_s=np.arange(len(vectors)) * HOP_S,
        reference_vectors=vectors,
        reference_hop_s=HOP_S,
        hop_s=HOP_S,
    )
    assert plane is not None
    return plane


def line_at(column: float) -> Line:
    return Line(origin_s=100.0 - column * HOP_S, tempo_ratio=1.0)


def placed(plane: Plane, line: Line, count: int = 24) -> Line | None:
    return better_line(
        plane,
        line,
        first_s=100.0,
        last_s=100.0 + (count - 1) * HOP_S,
        window_s=WINDOW_S,
        window_weight=HOP_S / WINDOW_S,
    )


def pictured(plane: Plane, dice, truth: int, count: int = 24, *, likeness: float) -> Plane:
    """With frames: the second turn's bands are those of the first but for `likeness`; the stream hums besides."""
    turn, step_s = round(60 * HOP_S / STEP_S), STEP_S
    once = 12 + 3 * dice.normal(size=(turn, BANDS))
    again = 12 + likeness * (once - 12) + np.sqrt(1 - likeness**2) * 3 * dice.normal(size=once.shape)
    there = np.concatenate([once, again, 12 + 3 * dice.normal(size=(turn, BANDS))])
    first = round(truth * HOP_S / STEP_S)
    here = there[first : first + round((count * HOP_S + WINDOW_S) / STEP_S)]
    here = np.logaddexp(here, 11 + dice.normal(size=here.shape))
    pictures = [
        Spectrogram(start_s=start_s, step_s=step_s, levels=np.clip(np.rint(nepers * 4), 0, 93).astype(np.uint8))
        for start_s, nepers in ((100.0 + STEP_S, here), (STEP_S, there))
    ]
    return dataclasses.replace(plane, pictures=(pictures[0], pictures[1]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("truth", "followed"), [(10, 70), (70, 10)])
def test_of_repetitions_that_windows_cannot_tell_apart_frames_find_the_one_that_plays(seed, truth, followed):
    dice = np.random.default_rng(seed)
    plane = heard(dice, recording(dice, likeness=1.0), truth)
    assert placed(plane, line_at(followed)) is None
    found = placed(pictured(plane, dice, truth, likeness=0.9), line_at(followed))
    assert found is not None
    assert found.reference_at(105.0) == pytest.approx(line_at(truth).reference_at(105.0), abs=0.1)
    assert placed(pictured(plane, dice, truth, likeness=0.9), line_at(truth)) is None


@pytest.mark.parametrize("seed", range(3))
def test_of_exact_repetitions_the_line_stays_where_it_is_by_frames_too(seed):
    dice = np.random.default_rng(seed)
    plane = heard(dice, recording(dice, likeness=1.0), 10)
    pictures = pictured(plane, dice, 10, likeness=1.0)
    assert placed(pictures, line_at(70)) is None
    assert placed(pictures, line_at(10)) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("truth", "followed"), [(10, 70), (70, 10)])
def test_of_two_much_alike_repetitions_the_one_that_plays_is_found(seed, truth, followed):
    dice = np.random.default_rng(seed)
    vectors = recording(dice, likeness=0.95)
    found = placed(heard(dice, vectors, truth), line_at(followed))
    assert found is not None
    assert found.reference_at(100.0) == pytest.approx(truth * HOP_S, abs=0.2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("followed", [10, 70])
def test_of_exact_repetitions_a_match_keeps_its_own(seed, followed):
    dice = np.random.default_rng(seed)
    vectors = recording(dice, likeness=1.0)
    assert placed(heard(dice, vectors, 10), line_at(followed)) is None


@pytest.mark.parametrize("seed", range(5))
def test_what_already_is_on_the_best_line_stays(seed):
    dice = np.random.default_rng(seed)
    vectors = recording(dice, likeness=0.95)
    assert placed(heard(dice, vectors, 10), line_at(10.2)) is None


def test_few_windows_decide_nothing():
    dice = np.random.default_rng(1)
    vectors = recording(dice, likeness=0.5)
    assert placed(heard(dice, vectors, 10, count=4), line_at(70), count=4) is None


def test_the_way_there_may_be_at_another_tempo():
    dice = np.random.default_rng(2)
    vectors = recording(dice, likeness=0.95)
    found = placed(heard(dice, vectors, 10), Line(origin_s=100.0 - 70 * HOP_S / 1.03, tempo_ratio=1.03))
    assert found is not None and found.reference_at(106.0) == pytest.approx(10 * HOP_S + 6.0, abs=0.4)
