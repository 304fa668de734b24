"""Transposed readings are searched at every other window."""

from __future__ import annotations

from monitor.daemon.turns import Turns


def test_as_it_sounds_a_window_is_always_searched_and_pairs_of_pitches_by_turns():
    turns = Turns()
    assert [turns.due(9) for _ in range(3)] == [[0, 1, 2, 5, 6], [0, 3, 4, 7, 8], [0, 1, 2, 5, 6]]


def test_two_windows_search_every_reading_that_there_is():
    for readings in range(1, 12):
        turns = Turns()
        one, other = turns.due(readings), turns.due(readings)
        assert sorted({*one, *other}) == list(range(readings)) and set(one) & set(other) == {0}
