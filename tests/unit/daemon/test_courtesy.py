from __future__ import annotations

import asyncio

from monitor.daemon.courtesy import Courtesy


async def _given_way(courtesy: Courtesy, longest_s: float) -> asyncio.Task[None]:
    task = asyncio.create_task(courtesy.give_way(longest_s))
    for _ in range(10):
        await asyncio.sleep(0.003)
    return task


async def test_nobody_asks_and_others_still_have_a_turn():
    courtesy, turns = Courtesy(), []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await courtesy.give_way(60.0)
    assert turns == [1]


async def test_a_window_waits_until_all_are_answered():
    courtesy = Courtesy()
    first, second = courtesy.asked(), courtesy.asked()
    task = await _given_way(courtesy, 60.0)
    courtesy.answered(first)
    courtesy.answered(first)
    await asyncio.sleep(0.01)
    assert not task.done()
    courtesy.answered(second)
    await asyncio.wait_for(task, 1.0)


async def test_it_waits_no_longer_than_it_is_told_to():
    courtesy = Courtesy()
    courtesy.asked()
    await asyncio.wait_for(courtesy.give_way(0.02), 1.0)


async def test_nobody_waits_for_an_answer_that_itself_waits():
    now_s = [100.0]
    courtesy = Courtesy(now=lambda: now_s[0])
    courtesy.asked()
    now_s[0] += 0.3
    await asyncio.wait_for(courtesy.give_way(60.0), 1.0)
    # Nor for those that were answered while it waits.
    task = await _given_way(courtesy, 60.0)
    assert task.done()
    soon = courtesy.asked()
    task = await _given_way(courtesy, 60.0)
    assert not task.done()
    courtesy.answered(soon)
    await asyncio.wait_for(task, 1.0)
