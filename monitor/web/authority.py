"""Who may do what through the port.

Reading is open unless the configuration protects it. Changing needs a token of enough scope; while there is none at
all, it needs to come from this machine, by one of this machine's names, and not from another site's page.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request

from monitor.record.tokens import Scope, digest
from monitor.web.problem import ProblemError

#: For `openapi_extra` of what needs a token where any is configured.
SECURED: dict[str, Any] = {"security": [{"token": []}, {}]}
SCHEME = {"token": {"type": "http", "scheme": "bearer", "description": "From `monitor token add`, or http.token."}}
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="monitor"'}
#: A revoked token is refused after so long at the latest.
_FRESH_S = 2.0


class Authority:
    """Says yes by returning, and no by raising ProblemError.

    `token` gives the configuration's own token, which may do everything; `scopes` reads those of the others, by digest.
    """

    def __init__(
        self,
        *,
        token: Callable[[], str | None],
        scopes: Callable[[], Awaitable[Mapping[str, Scope]]],
        protect_reads: bool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token, self._scopes, self._protect_reads, self._now = token, scopes, protect_reads, now
        self._known: Mapping[str, Scope] = {}
        self._known_until_s = -1.0

    async def may_read(self, request: Request) -> None:
        """Whoever asks may read."""
        if self._protect_reads:
            await self._allow(request, Scope.READ)

    async def may_search(self, request: Request) -> None:
        """Whoever asks may have work done that changes nothing."""
        await self._allow(request, Scope.READ)

    async def may_write(self, request: Request) -> None:
        """Whoever asks may change streams and references."""
        await self._allow(request, Scope.WRITE)

    async def may_administer(self, request: Request) -> None:
        """Whoever asks may change the daemon itself."""
        await self._allow(request, Scope.ADMIN)

    async def _allow(self, request: Request, needed: Scope) -> None:
        origin = request.headers.get("origin")
        if origin is not None and _netloc(origin) != request.headers.get("host"):
            raise ProblemError(403, "a page of another site may not do anything here")
        own, others = self._token(), await self._current()
        if own is None and not others:
            _check_local(request)
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise ProblemError(401, "this needs the header 'Authorization: Bearer TOKEN'", headers=_CHALLENGE)
        if own is not None and hmac.compare_digest(digest(given), digest(own)):
            return
        scope = others.get(digest(given))
        if scope is None:
            error = {"WWW-Authenticate": f'{_CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'}
            raise ProblemError(401, "this token is not known; `monitor token add` makes one", headers=error)
        if not scope.includes(needed):
            raise ProblemError(403, f"this needs a token of scope {needed}; the one given has scope {scope}")

    async def _current(self) -> Mapping[str, Scope]:
        if self._now() >= self._known_until_s:
            self._known = await self._scopes()
            self._known_until_s = self._now() + _FRESH_S
        return self._known


def _check_local(request: Request) -> None:
    if request.client is None or not _is_loopback(request.client.host):
        raise ProblemError(
            403, "without a token only this machine may do this; set http.token_file, or use monitor token add"
        )
    if not names_this_machine(request.headers.get("host", "")):
        # A page whose own name was made to point here (DNS rebinding) has the right origin, but not this name.
        raise ProblemError(403, "without a token, ask by the name localhost or 127.0.0.1; or set http.token_file")


def names_this_machine(host: str) -> bool:
    """True if a Host header names the loopback interface."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
