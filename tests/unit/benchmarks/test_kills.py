"""What the benchmark of kills makes of a log."""

from __future__ import annotations

from uuid import UUID

import pytest

from benchmarks.kills import judging
from benchmarks.kills.broadcast import Aired
from monitor.demo.programme import Airing, Condition
from monitor.demo.report import Found


def aired(start_s: float, end_s: float) -> Aired:
    airing = Airing(
        station="one",
        condition=Condition.PLAIN,
        reference_id="piece",
        title="piece",
        start_s=0.0,
        end_s=end_s - start_s,
        reference_start_s=30.0,
        tempo_ratio=1.0,
    )
    return Aired(airing=airing, turn=0, start_s=start_s, end_s=end_s)


def row(start_s: float, end_s: float, at_s: float, number: int = 1) -> Found:
    return Found(
        match_id=UUID(int=number),
        stream="one",
        catalog="kills",
        reference_id="piece",
        state="ended",
        score=0.9,
        tempo_ratio=1.0,
        reference_start_s=at_s,
        reference_end_s=at_s + end_s - start_s,
        start_s=start_s,
        end_s=end_s,
        recorded_s=None,
    )


@pytest.mark.parametrize(
    ("rows", "gaps", "verdict"),
    [
        ([row(100, 120, 30)], [], "found"),
        ([row(105, 120, 35.2)], [(90, 105)], "found"),
        ([row(105, 120, 36)], [(90, 105)], "elsewhere"),
        ([row(100, 108, 30), row(112, 120, 42, 2)], [(108, 112)], "twice"),
        ([], [(108.5, 120)], "missed"),
        ([], [(106, 114)], "missed in pieces"),
        ([], [(95, 113)], "too short"),
    ],
)
def test_an_airing_has_one_row_if_enough_of_it_was_heard(rows, gaps, verdict):
    (judged,) = judging.judge([aired(100, 120)], rows, {"one": gaps}, undisturbed_until_s=0.0)
    assert judged.verdict == verdict


def test_an_undisturbed_round_says_where_the_others_must_be():
    heard = [row(100, 120, 30.4), row(200, 220, 30.6, 2)]
    (judged,) = judging.judge([aired(100, 120), aired(200, 220)], heard, {"one": []}, undisturbed_until_s=150.0)
    assert judged.position_error_s == pytest.approx(0.2)


def test_a_row_where_nothing_was_aired_is_a_stray():
    stray = row(300, 310, 0, 3)
    assert judging.strays([aired(100, 120)], [row(100, 120, 30), stray]) == [stray]


def test_what_nobody_was_sent_must_be_in_a_gap_row():
    sent = [(0.0, 50.0), (60.0, 100.0)]
    assert judging.unsent_s(sent, since_s=0.0, until_s=100.0) == 10.0
    assert judging.unaccounted_s(sent, [(45.0, 60.0)], since_s=0.0, until_s=100.0) == 0.0
    assert judging.unaccounted_s(sent, [(55.0, 60.0)], since_s=0.0, until_s=100.0) == 4.0
