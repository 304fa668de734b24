"""What is periodic, run by APScheduler inside the daemon's loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from monitor.errors import MonitorError

log = logging.getLogger(__name__)

Job = Callable[[], Awaitable[None]]


class Schedule:
    """Named jobs at intervals: never two of one job at once, a missed one runs once, a failed one is logged."""

    def __init__(self, *, on_bug: Callable[[BaseException], None]) -> None:
        self._on_bug = on_bug
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 60}
        )
        self._scheduler.add_listener(self._listen, EVENT_JOB_ERROR | EVENT_JOB_MISSED)

    def every(self, interval_s: float, name: str, job: Job) -> None:
        """Run `job` each `interval_s` from now on, replacing the job of that name."""
        self._scheduler.add_job(
            self._tolerating, "interval", seconds=interval_s, args=(name, job), id=name, replace_existing=True
        )

    def soon(self, name: str, job: Job) -> None:
        """Run `job` once, as soon as the schedule runs."""
        self._scheduler.add_job(self._tolerating, args=(name, job), id=f"{name}, first", misfire_grace_time=None)

    def daily(self, hour: int, name: str, job: Job) -> None:
        """Run `job` each day at `hour` UTC."""
        self._scheduler.add_job(self._tolerating, "cron", hour=hour, args=(name, job), id=name, replace_existing=True)

    def start(self) -> None:
        """Run the jobs from now on."""
        self._scheduler.start()

    def stop(self) -> None:
        """Start no more jobs; those that run are cancelled."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    @property
    def names(self) -> list[str]:
        """The jobs' names."""
        return [job.id for job in self._scheduler.get_jobs()]

    @staticmethod
    async def _tolerating(name: str, job: Job) -> None:
        """Expected trouble (a server is away, a file is bad) is logged and the job comes again."""
        try:
            await job()
        except MonitorError as error:
            log.warning("%s: %s", name, error, extra={"action": "job_failed", "job": name})

    def _listen(self, event: JobEvent) -> None:
        if event.code == EVENT_JOB_MISSED:
            log.warning("%s was missed", event.job_id, extra={"action": "job_missed", "job": event.job_id})
        elif event.exception is not None and not isinstance(event.exception, asyncio.CancelledError):
            self._on_bug(event.exception)
