"""HTTP faces of a daemon. Reading is open to whoever reaches the port; changing needs the token, or loopback."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

import monitor
from monitor.errors import ConfigError, MonitorError
from monitor.record.listings import Listings
from monitor.record.rows import match_as_json

_STATIC = Path(__file__).parent / "static"
_PAGE_POLICY = "default-src 'self'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class Daemon(Protocol):
    """What the faces ask of the daemon."""

    def unready(self) -> dict[str, str]:
        """Why the daemon is not doing its whole job, by part; empty when it is."""

    def streams(self) -> list[dict[str, Any]]:
        """Each stream's name, state, reason, since when, level, and what plays now."""

    async def reload(self) -> dict[str, list[str]]:
        """Take over the configuration file; what changed, by dotted name. Raises ConfigError, changing nothing."""


class RefusedError(MonitorError):
    """The request may not change anything."""


def create_app(
    *, daemon: Daemon, registry: CollectorRegistry, listings: Listings, token: Callable[[], str | None]
) -> FastAPI:
    """The application; `token` gives the bearer token that changes need (None: loopback peers only)."""
    app = FastAPI(
        title="monitor",
        version=monitor.__version__,
        summary="Which of your recordings does each live stream play, since when, and may it?",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )

    async def may_change(request: Request) -> None:
        _authorise(request, token())

    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: RefusedError) -> Response:
        return _problem(403, "forbidden", str(error))

    @app.exception_handler(MonitorError)
    async def failed(_request: Request, error: MonitorError) -> Response:
        return _problem(400 if isinstance(error, ConfigError) else 503, type(error).__name__, str(error))

    @app.middleware("http")
    async def headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
        return response

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.get("/-/healthy")
    async def healthy() -> dict[str, str]:
        """The process is alive and its loop turns."""
        return {"status": "healthy"}

    @app.get("/-/ready")
    async def ready() -> Response:
        """200 while the daemon does its whole job, else 503 with the reasons by part."""
        reasons = daemon.unready()
        status = {"status": "unready" if reasons else "ready", "reasons": reasons}
        return JSONResponse(status, status_code=503 if reasons else 200)

    @app.post("/-/reload", dependencies=[Depends(may_change)])
    async def reload() -> dict[str, list[str]]:
        """Validate the configuration file, then take it over whole; or change nothing and say why."""
        return await daemon.reload()

    @app.get("/api/v1/streams")
    async def streams() -> dict[str, list[dict[str, Any]]]:
        """Every stream as it is now."""
        return {"streams": daemon.streams()}

    @app.get("/api/v1/matches")
    async def matches(limit: int = 50) -> dict[str, list[dict[str, Any]]]:
        """The latest matches, newest first."""
        found = await listings.matches(limit=max(1, min(limit, 500)))
        return {"matches": [match_as_json(match) for match in found]}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    return app


def _authorise(request: Request, token: str | None) -> None:
    """Raises RefusedError unless the request carries the token or, where there is none, comes from this machine."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise RefusedError("a page of another site may not change anything here")
    if token is not None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise RefusedError("this needs the header 'Authorization: Bearer TOKEN' with the token of http.token_file")
        return
    if request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
        raise RefusedError("without a token only this machine may change anything; set http.token_file")
    if not _names_this_machine(urlsplit(f"//{request.headers.get('host', '')}").hostname or ""):
        # A page whose own name was made to point here (DNS rebinding) has the right origin, but not this name.
        raise RefusedError("without a token, ask by the name localhost or 127.0.0.1; or set http.token_file")


def _names_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _problem(status: int, title: str, detail: str) -> Response:
    """An error as RFC 9457 problem details."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(content, status_code=status, media_type="application/problem+json")
