"""Loading references: one job at a time, in the daemon, through the same loader as `monitor catalog add`.

A job goes on when whoever asked for it has gone. Jobs live as long as the process: what they loaded stays, and a file
that one had not reached is loaded by sending it again.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from monitor.catalog.intake import LoadResult
from monitor.catalog.item import LoadItem, Problem
from monitor.catalog.listing import listed
from monitor.catalog.loader import Loader, Progress
from monitor.catalog.register import Register
from monitor.errors import MonitorError
from monitor.record.rows import iso
from monitor.types import LoadStatus
from monitor.web.authority import SECURED
from monitor.web.problem import ProblemError, documented, not_found

log = logging.getLogger(__name__)

_MOST_WAITING = 32
#: Finished jobs that can still be asked about.
_REMEMBERED = 200


class JobKind(StrEnum):
    """Where the files come from."""

    UPLOAD = "upload"
    PATHS = "paths"


class JobState(StrEnum):
    """How far a job is; failed when what concerns all files went wrong, done whatever became of each."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobRow(BaseModel):
    """What became of one file; the status is null until that is known."""

    file: str
    reference_id: str
    status: LoadStatus | None
    reason: str | None


class JobReport(BaseModel):
    """A job and its files."""

    job_id: str
    kind: JobKind
    catalog: str
    state: JobState
    reason: str | None
    done: int
    total: int
    rows: list[JobRow]
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class JobAnswer(BaseModel):
    """The job that was taken on."""

    job: JobReport


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobReport]


@dataclass(kw_only=True)
class Job:
    """Files that are to be loaded into a catalog."""

    kind: JobKind
    catalog: str
    #: Files, or what is to be expanded into files when the job begins.
    items: list[LoadItem] = field(default_factory=list)
    paths: tuple[Path, ...] = ()
    #: Directories, without links, that files found by `paths` must lie in.
    roots: tuple[Path, ...] = ()
    #: Holds the uploaded files.
    directory: Path | None = None
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: JobState = JobState.QUEUED
    reason: str | None = None
    results: dict[Path, LoadResult] = field(default_factory=dict)
    queued_s: float = field(default_factory=time.time)
    started_s: float | None = None
    ended_s: float | None = None
    loading: asyncio.Task[Any] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self) -> dict[str, Any]:
        """The job as the API says it."""
        return {
            "job_id": self.job_id,
            "kind": self.kind.value,
            "catalog": self.catalog,
            "state": self.state.value,
            "reason": self.reason,
            "done": len(self.results),
            "total": len(self.items),
            "rows": [self._row(item) for item in self.items],
            "queued_at": iso(self.queued_s),
            "started_at": None if self.started_s is None else iso(self.started_s),
            "ended_at": None if self.ended_s is None else iso(self.ended_s),
        }

    def _row(self, item: LoadItem) -> dict[str, Any]:
        result = self.results.get(item.path)
        shown = item.path.name if self.directory else str(item.path)
        return {
            "file": shown,
            "reference_id": item.reference_id,
            "status": None if result is None else result.status.value,
            # Where an upload lies here says nothing to whoever sent it.
            "reason": result.reason.replace(str(item.path), shown) if result and result.reason else None,
        }


class Jobs:
    """The queue of jobs and the one that runs. `loader` gives the loader of a catalog."""

    def __init__(
        self,
        *,
        loader: Callable[[str], Loader],
        register: Register,
        uploads_dir: Path,
        on_change: Callable[[dict[str, Any]], None],
    ) -> None:
        self._loader, self._register, self._uploads_dir = loader, register, uploads_dir
        self._on_change = on_change
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: asyncio.Queue[Job] = asyncio.Queue(_MOST_WAITING)

    def submit(self, job: Job) -> Job:
        """The job will be done. Raises ProblemError 503 if too many wait already."""
        try:
            self._waiting.put_nowait(job)
        except asyncio.QueueFull:
            raise ProblemError(503, "too many jobs wait; come back later", headers={"Retry-After": "30"}) from None
        self._jobs[job.job_id] = job
        ended = [known.job_id for known in self._jobs.values() if known.ended_s is not None]
        for job_id in ended[: max(len(ended) - _REMEMBERED, 0)]:
            del self._jobs[job_id]
        self._on_change(job.report())
        return job

    def list(self) -> Sequence[Job]:
        """All jobs that are known, the newest first."""
        return list(reversed(self._jobs.values()))

    def get(self, job_id: str) -> Job:
        """The job. Raises ProblemError 404."""
        if job_id not in self._jobs:
            raise not_found(f"job {job_id}")
        return self._jobs[job_id]

    async def cancel(self, job: Job) -> None:
        """The job does no more; what it has loaded stays."""
        if job.state is JobState.QUEUED:
            job.state = JobState.CANCELLED  # nobody begins it now
            await self._end(job, JobState.CANCELLED)
        elif job.loading is not None:
            job.loading.cancel()
            await job.ended.wait()

    async def run(self) -> None:
        """Do the jobs, one after the other."""
        while True:
            job = await self._waiting.get()
            if job.state is JobState.QUEUED:
                await self._do(job)

    async def _do(self, job: Job) -> None:
        job.state, job.started_s = JobState.RUNNING, time.time()
        self._on_change(job.report())
        job.loading = asyncio.create_task(self._load(job), name=f"job {job.job_id}")
        try:
            await asyncio.wait([job.loading])
        except asyncio.CancelledError:  # the daemon stops
            job.loading.cancel()
            await asyncio.wait([job.loading])
            raise
        finally:
            if job.loading.cancelled():
                await self._end(job, JobState.CANCELLED)
        if job.loading.cancelled():
            return
        error = job.loading.exception()
        if error is None:
            await self._end(job, JobState.DONE)
        elif isinstance(error, MonitorError | OSError):
            job.reason = str(error)
            await self._end(job, JobState.FAILED)
        else:
            raise error

    async def _load(self, job: Job) -> None:
        if job.paths:
            job.items = await asyncio.to_thread(_found, job.paths, job.roots)

        def told(_progress: Progress, result: LoadResult | None) -> None:
            if result is not None:
                job.results[Path(result.path)] = result
                self._on_change(job.report())

        await self._loader(job.catalog).add(job.items, on_progress=told)

    async def _end(self, job: Job, state: JobState) -> None:
        # Who is told of the end finds nothing that the job leaves behind.
        if job.directory is not None:
            with suppress(MonitorError):  # what is left then, the next start removes
                await discard(job.directory, [item.path for item in job.items], self._register)
                if any(result.status is LoadStatus.REPLACED for result in job.results.values()):
                    await self.clear_leftovers()
        job.state, job.ended_s = state, time.time()
        job.ended.set()
        self._on_change(job.report())
        log.info(
            "job %s %s: %d of %d files",
            *(job.job_id, state, len(job.results), len(job.items)),
            extra={"action": "job_ended", "job_id": job.job_id, "state": state},
        )

    async def clear_leftovers(self) -> None:
        """Uploaded files that no reference is played from are gone, but those of jobs to come."""
        expected = {job.directory for job in self._jobs.values() if job.ended_s is None}
        for directory in await asyncio.to_thread(_directories, self._uploads_dir):
            if directory not in expected:
                await discard(directory, await asyncio.to_thread(_files, directory), self._register)


async def discard(directory: Path, files: Sequence[Path], register: Register) -> None:
    """Of the files in the directory those are gone that no reference was loaded from; an empty directory goes too."""
    kept = await register.of_paths([str(path) for path in files])
    await asyncio.to_thread(_unlink, directory, [path for path in files if str(path) not in kept])


def routes(jobs: Jobs, *, may_write: Sequence[Callable[..., Any]]) -> APIRouter:
    """The operations on jobs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("", response_model=JobList)
    async def list_jobs() -> Response:
        """Jobs that wait, run, or ended lately, the newest first."""
        return JSONResponse({"jobs": [job.report() for job in jobs.list()]})

    @router.get("/{job_id}", response_model=JobReport, responses=documented(404, 422))
    async def get_job(job_id: str) -> Response:
        """One job."""
        return JSONResponse(jobs.get(job_id).report())

    @router.post(
        "/{job_id}/cancel",
        response_model=JobReport,
        responses=documented(401, 403, 404, 422, 429, 503),
        dependencies=[Depends(check) for check in may_write],
        openapi_extra=SECURED,
    )
    async def cancel_job(job_id: str) -> Response:
        """The job does no more; what it has loaded stays."""
        job = jobs.get(job_id)
        await jobs.cancel(job)
        return JSONResponse(job.report())

    return router


def _found(paths: Sequence[Path], roots: Sequence[Path]) -> list[LoadItem]:
    return [item if item.problem else _within(item, roots) for item in listed(paths)]


def _within(item: LoadItem, roots: Sequence[Path]) -> LoadItem:
    # A link, a playlist or a pattern may lead out of the directories that are allowed.
    if any(item.path.resolve().is_relative_to(root) for root in roots):
        return item
    reason = f"{item.path} lies outside the directories of http.import_dirs"
    return replace(item, problem=Problem(status=LoadStatus.FAILED, reason=reason))


def _directories(uploads_dir: Path) -> list[Path]:
    return [path for path in uploads_dir.iterdir() if path.is_dir()] if uploads_dir.is_dir() else []


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_file()]


def _unlink(directory: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    if directory.is_dir() and not any(directory.iterdir()):
        shutil.rmtree(directory, ignore_errors=True)
