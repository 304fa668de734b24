from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.daemon.queues import FairQueue


def queue(capacity: int) -> tuple[FairQueue[tuple[str, int]], list[str]]:
    dropped: list[str] = []
    return FairQueue(capacity=capacity, on_drop=dropped.append), dropped


def test_what_goes_in_comes_out_in_order():
    waiting, dropped = queue(10)
    for number in range(5):
        waiting.put("ab"[number % 2], ("x", number))
    assert [number for _, number in waiting.take(3)] == [0, 1, 2]
    assert [number for _, number in waiting.take(9)] == [3, 4]
    assert waiting.take(1) == [] and dropped == []


def test_when_full_the_stream_that_holds_most_loses_its_oldest():
    waiting, dropped = queue(4)
    for stream, number in [("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1)]:
        waiting.put(stream, (stream, number))
    assert dropped == ["a"]
    assert waiting.take(9) == [("b", 0), ("a", 1), ("a", 2), ("b", 1)]


@given(
    capacity=st.integers(1, 8),
    steps=st.lists(st.one_of(st.sampled_from("abc"), st.integers(1, 4)), max_size=80),
)
def test_nothing_is_lost_unseen_and_each_stream_stays_in_order(capacity, steps):
    waiting, dropped = queue(capacity)
    put: Counter[str] = Counter()
    taken: list[tuple[str, int]] = []
    for step in steps:
        if isinstance(step, str):
            waiting.put(step, (step, put[step]))
            put[step] += 1
        else:
            taken += waiting.take(step)
        assert len(waiting) <= capacity
    taken += waiting.take(1000)
    assert len(waiting) == 0
    assert Counter(stream for stream, _ in taken) + Counter(dropped) == put
    for stream in "abc":
        mine = [number for name, number in taken if name == stream]
        assert mine == sorted(set(mine))


async def test_a_closed_queue_ends_whoever_waits_once_it_is_empty():
    waiting, _ = queue(3)
    waiter = asyncio.create_task(waiting.wait())
    await asyncio.sleep(0)
    waiting.put("a", ("a", 0))
    assert await waiter is True
    waiting.close()
    assert await waiting.wait() is True
    waiting.take(1)
    assert await waiting.wait() is False


async def test_wait_is_not_satisfied_by_what_was_taken():
    waiting, _ = queue(3)
    waiting.put("a", ("a", 0))
    waiting.take(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting.wait(), 0.02)


def test_behind_an_old_item_of_a_quiet_stream_nothing_piles_up():
    waiting, dropped = queue(4)
    waiting.put("quiet", ("quiet", 0))
    for number in range(1000):
        waiting.put("loud", ("loud", number))
    assert len(waiting._items) <= 9
    assert len(dropped) == 997
    assert waiting.take(9) == [("quiet", 0), ("loud", 997), ("loud", 998), ("loud", 999)]
