"""New references: uploaded, or named by their path on this machine. Both become jobs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from monitor.catalog.item import METADATA_COLUMNS, RESERVED_PREFIX, LoadItem, Metadata, absolute, derived_id
from monitor.web.authority import SECURED
from monitor.web.daemon import Daemon
from monitor.web.jobs import Job, JobAnswer, JobKind, Jobs
from monitor.web.problem import ProblemError, documented
from monitor.web.text import Storable
from monitor.web.uploads import Form, Spool, UploadedFile

_FILE_FIELDS = ("files[]", "files", "file")
_TEXT = {"type": "string", "maxLength": 1000}
_OF_ONE_FILE = ("reference_id", *METADATA_COLUMNS)
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files[]"],
                    "properties": {
                        "files[]": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1000,
                            "items": {"type": "string", "format": "binary"},
                            "description": "Audio in any format that ffmpeg reads.",
                        },
                        "catalog": {**_TEXT, "description": "The first one, if not given."},
                        **{name: {**_TEXT, "description": "With one file only."} for name in _OF_ONE_FILE},
                    },
                }
            }
        },
    }
}


class Paths(BaseModel):
    """Files, directories, playlists or patterns on the daemon's machine."""

    model_config = ConfigDict(extra="forbid")

    paths: list[Storable] = Field(min_length=1, max_length=1000, description="Below http.import_dirs.")
    catalog: Storable | None = Field(default=None, max_length=1000)


def routes(
    daemon: Daemon,
    *,
    jobs: Jobs,
    spool: Spool,
    uploads_dir: Path,
    import_dirs: Sequence[Path],
    may_write: Sequence[Callable[..., Any]],
) -> APIRouter:
    """The operations that add references."""
    router = APIRouter(prefix="/references", tags=["references"], dependencies=[Depends(check) for check in may_write])

    @router.post(
        "",
        status_code=202,
        response_model=JobAnswer,
        responses=documented(401, 403, 404, 408, 413, 415, 422, 429, 503, 507),
        openapi_extra={**SECURED, **_FORM},
    )
    async def upload_references(request: Request) -> Response:
        """Files are taken on as a job: followed by its id, it tells what became of each of them."""
        async with spool.received(request, file_fields=_FILE_FIELDS) as form:
            job = Job(kind=JobKind.UPLOAD, catalog=_catalog(daemon, form.fields.get("catalog")))
            _check_fields(form)
            directory = job.directory = uploads_dir / job.job_id
            job.items = _items(form, directory)
            await asyncio.to_thread(_keep, form.files, directory, [item.path for item in job.items])
            try:
                jobs.submit(job)
            except ProblemError:
                await asyncio.to_thread(_drop, directory)
                raise
        return JSONResponse({"job": job.report()}, status_code=202)

    @router.post(
        "/paths",
        status_code=202,
        response_model=JobAnswer,
        responses=documented(401, 403, 404, 422, 429, 503),
        openapi_extra=SECURED,
    )
    async def import_references(wanted: Paths) -> Response:
        """What lies below the directories of http.import_dirs is taken on as a job, and played from where it lies."""
        roots = tuple([await asyncio.to_thread(directory.resolve) for directory in import_dirs])
        paths = tuple(absolute(path) for path in wanted.paths)
        for path in paths:
            resolved = await asyncio.to_thread(path.resolve)
            if not any(resolved.is_relative_to(root) for root in roots):
                raise ProblemError(422, f"{path} lies outside the directories of http.import_dirs")
        job = Job(kind=JobKind.PATHS, catalog=_catalog(daemon, wanted.catalog), paths=paths, roots=roots)
        return JSONResponse({"job": jobs.submit(job).report()}, status_code=202)

    return router


def _catalog(daemon: Daemon, given: str | None) -> str:
    names = daemon.catalogs()
    if given and given not in names:
        raise ProblemError(404, f"there is no catalog {given[:80]}; known are {', '.join(names)}")
    return given or names[0]


def _check_fields(form: Form) -> None:
    if not form.files:
        raise ProblemError(422, "no file: send at least one in the field files[]")
    if unknown := sorted(form.fields.keys() - {"catalog", *_OF_ONE_FILE}):
        raise ProblemError(422, f"the field {unknown[0][:40]!a} is not known")
    of_one = [name for name in _OF_ONE_FILE if form.fields.get(name)]
    if of_one and len(form.files) > 1:
        raise ProblemError(422, f"{of_one[0]} describes one file; send this one alone")
    if long := [name for name, value in form.fields.items() if len(value.encode()) > 1000]:
        raise ProblemError(422, f"{long[0]} is longer than 1000 bytes")


def _items(form: Form, directory: Path) -> list[LoadItem]:
    """Each file with its id: the one that is given, or its name without suffix. Raises ProblemError for equal ids."""
    items: list[LoadItem] = []
    taken: dict[str, str] = {}
    for file in form.files:
        given = form.fields.get("reference_id")
        path = directory / file.name
        reference_id = given or derived_id(PurePath(file.name), PurePath("/"))
        if reference_id.startswith(RESERVED_PREFIX):
            raise ProblemError(422, f"ids that begin with {RESERVED_PREFIX} are reserved; give another reference_id")
        if reference_id in taken:
            raise ProblemError(
                422, f"{taken[reference_id]} and {file.name} would both be the reference {reference_id}; rename one"
            )
        taken[reference_id] = file.name
        said: dict[str, Any] = {name: form.fields.get(name) or None for name in METADATA_COLUMNS}
        metadata = Metadata(**said)
        items.append(LoadItem(reference_id=reference_id, path=path, id_given=bool(given), metadata=metadata))
    return items


def _keep(files: Sequence[UploadedFile], directory: Path, paths: Sequence[Path]) -> None:
    directory.mkdir(mode=0o700, parents=True)
    for file, path in zip(files, paths, strict=True):
        file.path.replace(path)
        path.chmod(0o600)


def _drop(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
