"""Who may do what through the port."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from monitor.record.tokens import Scope, digest
from monitor.web.authority import Authority
from monitor.web.problem import ProblemError


def request(peer: str = "127.0.0.1", **headers: str) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "headers": raw, "client": (peer, 1)}
    return Request(scope)


def bearer(token: str, **headers: str) -> Request:
    return request("10.0.0.7", host="monitor.example", authorization=f"Bearer {token}", **headers)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def authority(token: str | None = None, *, protect_reads: bool = False, clock: Clock | None = None, **others: Scope):
    async def scopes() -> dict[str, Scope]:
        return {digest(name): scope for name, scope in others.items()}

    return Authority(token=lambda: token, scopes=scopes, protect_reads=protect_reads, now=clock or Clock())


async def refused(asking: Any) -> int:
    with pytest.raises(ProblemError) as error:
        await asking
    return error.value.status


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "localhost"])
async def test_without_a_token_this_machine_may(host):
    await authority().may_administer(request(host=host))
    await authority().may_write(request(host=host, origin=f"http://{host}"))


@pytest.mark.parametrize("host", ["evil.example:8080", "", "10.0.0.7:8080", "[::1", "localhost.evil.example"])
async def test_a_name_that_was_made_to_point_here_may_not(host):
    assert await refused(authority().may_write(request(host=host, origin=f"http://{host}"))) == 403


async def test_another_site_or_machine_may_not():
    foreign = request(host="localhost:8080", origin="http://evil.example")
    assert await refused(authority().may_write(foreign)) == 403
    assert await refused(authority().may_write(request(host="localhost:8080", origin="null"))) == 403
    assert await refused(authority().may_write(request("10.0.0.7", host="localhost:8080"))) == 403


async def test_another_site_may_not_even_with_a_token():
    assert await refused(authority("secret").may_write(bearer("secret", origin="http://evil.example"))) == 403


async def test_with_a_token_any_name_and_machine_may_that_knows_it():
    await authority("secret").may_administer(bearer("secret"))
    basic = request(host="localhost", authorization="Basic c2VjcmV0")
    for wrong in (bearer("wrong"), request(host="localhost"), basic):
        assert await refused(authority("secret").may_write(wrong)) == 401


@pytest.mark.parametrize("scope", list(Scope))
async def test_each_scope_holds_those_before_it(scope):
    asked = authority(token=None, protect_reads=True, reader=Scope.READ, writer=Scope.WRITE, root=Scope.ADMIN)
    name = {Scope.READ: "reader", Scope.WRITE: "writer", Scope.ADMIN: "root"}[scope]
    needs = {Scope.READ: asked.may_read, Scope.WRITE: asked.may_write, Scope.ADMIN: asked.may_administer}
    for needed, ask in needs.items():
        if list(Scope).index(scope) >= list(Scope).index(needed):
            await ask(bearer(name))
        else:
            assert await refused(ask(bearer(name))) == 403


async def test_reading_is_open_unless_protected():
    await authority("secret").may_read(request("10.0.0.7", host="monitor.example"))
    assert await refused(authority("secret", protect_reads=True).may_read(request("10.0.0.7", host="x"))) == 401


async def test_a_revoked_token_is_refused_soon():
    clock, scopes = Clock(), {digest("one"): Scope.WRITE, digest("two"): Scope.WRITE}

    async def read() -> dict[str, Scope]:
        return dict(scopes)

    asked = Authority(token=lambda: None, scopes=read, protect_reads=False, now=clock)
    await asked.may_write(bearer("one"))
    del scopes[digest("one")]
    clock.now += 5
    assert await refused(asked.may_write(bearer("one"))) == 401
