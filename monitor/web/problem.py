"""Errors as RFC 9457 problem details, and what the OpenAPI document says of them."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from monitor.errors import ConfigError, InputError, MissingPartError, MonitorError, StorageError, UnreachableError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_REFERENCE = {"$ref": "#/components/schemas/Problem"}


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Where it stands, such as query.limit or body.url.")
    detail: str


class Problem(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


class ProblemError(MonitorError):
    """A request that is answered by a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.errors, self.headers = status, errors, headers


def not_found(what: str) -> ProblemError:
    """There is no such thing."""
    return ProblemError(404, f"there is no {what}")


def problem(
    status: int, detail: str, *, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The answer that says so."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    content: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors is not None:
        content["errors"] = errors
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that an operation may answer with, for its `responses`."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": _REFERENCE}}}
        for status in statuses
    }


def add_handlers(app: FastAPI) -> None:
    """Whatever goes wrong in the application is answered by a problem."""

    @app.exception_handler(MonitorError)
    async def failed(_request: Request, error: MonitorError) -> Response:
        if isinstance(error, ProblemError):
            return problem(error.status, str(error), errors=error.errors, headers=error.headers)
        return problem(_status(error), str(error))

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> Response:
        # The framework's word for a body that is not UTF-8; one that is no JSON is 422 already.
        status = 422 if error.status_code == 400 else error.status_code
        return problem(status, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": ".".join(str(part) for part in found["loc"]), "detail": str(found["msg"])}
            for found in error.errors()
        ]
        return problem(422, "; ".join(f"{found['field']}: {found['detail']}" for found in errors), errors=errors)

    @app.exception_handler(Exception)
    async def bug(_request: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error, extra={"action": "request_bug"})
        return problem(500, "the daemon made a mistake; please report this with its log")


def add_schema(document: dict[str, Any]) -> None:
    """The OpenAPI document describes problems, and not what the framework answers by default."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    described = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= described.pop("$defs", {})
    schemas["Problem"] = described
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _status(error: MonitorError) -> int:
    if isinstance(error, StorageError):
        return 507
    if isinstance(error, InputError):
        return 422
    if isinstance(error, ConfigError | MissingPartError):
        return 400
    return 503 if isinstance(error, UnreachableError) else 500
