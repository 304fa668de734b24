"""The one application behind the port: API, page, metrics and probes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CollectorRegistry

import monitor
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.catalog.register import Register
from monitor.daemon.courtesy import Courtesy
from monitor.record.listings import Listings
from monitor.record.outbox import Outbox
from monitor.web import additions, audio, deliveries, docs, events, health, jobs, matches, references, search, streams
from monitor.web.answers import Answers, Sharing
from monitor.web.assets import Assets
from monitor.web.authority import SCHEME, Authority
from monitor.web.border import Border
from monitor.web.daemon import Daemon
from monitor.web.events import Events
from monitor.web.jobs import Jobs
from monitor.web.limits import RateLimit
from monitor.web.problem import add_handlers, add_schema, documented
from monitor.web.uploads import Spool

_STATIC = Path(__file__).parent / "static"
_INVALID = "#/components/schemas/HTTPValidationError"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the faces stand on."""

    daemon: Daemon
    registry: CollectorRegistry
    listings: Listings
    register: Register
    outbox: Outbox
    authority: Authority
    jobs: Jobs
    events: Events
    answers: Answers
    courtesy: Courtesy
    spool: Spool
    ffmpeg: FfmpegProgram
    #: Changes, and searches, that one client may ask for.
    writes: RateLimit
    searches: RateLimit
    uploads_dir: Path
    import_dirs: Sequence[Path]
    max_clip_s: float
    #: Names, besides this machine's, by which the daemon may be asked; None for any.
    hosts: Collection[str] | None

    def written(self) -> None:
        """Matches were written."""
        self.answers.forget()
        self.events.wake()


def create_app(parts: Parts) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="monitor",
        version=monitor.__version__,
        summary="Which of your recordings does each live stream play, since when, and may it?",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    add_handlers(app)
    app.add_middleware(Sharing, answers=parts.answers)
    app.add_middleware(Border, hosts=parts.hosts, courtesy=parts.courtesy)
    authority, daemon = parts.authority, parts.daemon
    may_write = (authority.may_write, parts.writes)
    may_search = (authority.may_search, parts.searches)
    may_try = (authority.may_write, parts.searches)

    api = APIRouter(prefix="/api/v1", dependencies=[Depends(authority.may_read)], responses=documented(401, 403))
    api.include_router(streams.routes(daemon, parts.listings, may_write=may_write, may_try=may_try))
    api.include_router(matches.routes(parts.listings))
    api.include_router(
        additions.routes(
            daemon,
            jobs=parts.jobs,
            spool=parts.spool,
            uploads_dir=parts.uploads_dir,
            import_dirs=parts.import_dirs,
            may_write=may_write,
        )
    )
    api.include_router(references.routes(daemon, parts.register, may_write=may_write))
    api.include_router(audio.routes(parts.register, ffmpeg=parts.ffmpeg))
    api.include_router(jobs.routes(parts.jobs, may_write=may_write))
    api.include_router(
        search.routes(
            daemon, spool=parts.spool, ffmpeg=parts.ffmpeg, max_clip_s=parts.max_clip_s, may_search=may_search
        )
    )
    api.include_router(deliveries.routes(parts.outbox, may_write=may_write, wake=daemon.wake_deliveries))
    api.include_router(events.routes(parts.events))
    api.include_router(health.routes(daemon))
    app.include_router(api)
    app.include_router(health.probes(daemon, parts.registry, may_administer=authority.may_administer))
    app.include_router(docs.routes())

    static = Assets(directory=_STATIC)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await static.get_response("index.html", request.scope)

    app.mount("/docs", docs.assets(), name="docs")
    app.mount("/static", static, name="static")
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: what the framework makes, with our errors and our scheme of tokens."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        problem = documented(422)[422]
        for path in document["paths"].values():
            for operation in path.values():
                if _INVALID in str(operation["responses"].get("422")):
                    operation["responses"]["422"] = problem
        add_schema(document)
        document["components"]["securitySchemes"] = SCHEME
        app.openapi_schema = document
    return app.openapi_schema
