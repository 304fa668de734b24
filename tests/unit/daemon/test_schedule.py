from __future__ import annotations

import asyncio

from monitor.daemon.schedule import Schedule


async def test_a_job_that_runs_while_the_daemon_stops_is_no_bug():
    bugs: list[BaseException] = []
    began, over = asyncio.Event(), asyncio.Event()

    async def job() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            over.set()

    schedule = Schedule(on_bug=bugs.append)
    schedule.every(0.05, "long", job)
    schedule.start()
    await began.wait()
    schedule.stop()
    await over.wait()
    await asyncio.sleep(0.05)
    assert bugs == []


async def test_a_bug_in_a_job_is_told():
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def job() -> None:
        raise ZeroDivisionError

    schedule = Schedule(on_bug=lambda error: None if told.done() else told.set_result(error))
    schedule.every(0.05, "broken", job)
    schedule.start()
    error = await asyncio.wait_for(told, 60)
    schedule.stop()
    assert isinstance(error, ZeroDivisionError)
