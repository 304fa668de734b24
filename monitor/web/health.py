"""How the daemon is: for Prometheus, for whoever restarts it, and for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel

import monitor
from monitor.web.authority import SECURED
from monitor.web.daemon import Daemon
from monitor.web.problem import documented


class Model(BaseModel):
    """An embedder in use."""

    name: str
    model_id: str
    dimension: int


class Catalog(BaseModel):
    """A catalog in use."""

    name: str
    references: int
    windows: int
    model_id: str


class Queue(BaseModel):
    """A queue between two stages."""

    name: str
    length: int
    capacity: int


class Server(BaseModel):
    """A server in use; the version is null while it does not answer."""

    version: str | None
    embedded: bool


class Program(BaseModel):
    """A program in use."""

    version: str
    path: str


class Servers(BaseModel):
    """What the daemon stands on."""

    postgres: Server
    milvus: Server
    ffmpeg: Program


class Health(BaseModel):
    """How the daemon is, and what it is made of."""

    version: str
    uptime_s: float
    ready: bool
    reasons: dict[str, str]
    models: list[Model]
    catalogs: list[Catalog]
    queues: list[Queue]
    servers: Servers


class Ready(BaseModel):
    """Whether the daemon does its whole job."""

    status: str
    reasons: dict[str, str]


class Reloaded(BaseModel):
    """The streams that a reload concerned."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class Alive(BaseModel):
    """The process answers."""

    status: str


def probes(daemon: Daemon, registry: CollectorRegistry, *, may_administer: Callable[..., Any]) -> APIRouter:
    """The operations for Prometheus and for whoever supervises the process."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
    async def metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @router.get("/-/healthy")
    async def healthy() -> Alive:
        """The process is alive and its loop turns."""
        return Alive(status="healthy")

    @router.get("/-/ready", response_model=Ready, responses={503: {"model": Ready}})
    async def ready() -> Response:
        """200 while the daemon does its whole job, else 503 with the reasons by part."""
        reasons = daemon.unready()
        status = {"status": "unready" if reasons else "ready", "reasons": reasons}
        return JSONResponse(status, status_code=503 if reasons else 200)

    @router.post(
        "/-/reload",
        response_model=Reloaded,
        responses=documented(400, 401, 403, 503),
        dependencies=[Depends(may_administer)],
        openapi_extra=SECURED,
    )
    async def reload() -> Response:
        """Validate the configuration file, then take it over whole; or change nothing and say why."""
        return JSONResponse(await daemon.reload())

    return router


def routes(daemon: Daemon) -> APIRouter:
    """The operation for people."""
    router = APIRouter(tags=["health"])
    began_s = time.monotonic()

    @router.get("/health", response_model=Health, responses=documented(503))
    async def get_health() -> Response:
        """How the daemon is, and what it is made of."""
        reasons = daemon.unready()
        return JSONResponse(
            {
                "version": monitor.__version__,
                "uptime_s": time.monotonic() - began_s,
                "ready": not reasons,
                "reasons": reasons,
                **await daemon.health(),
            }
        )

    return router
