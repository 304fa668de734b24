"""Who may change something through the port."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from monitor.web.api import RefusedError, _authorise


def request(peer: str = "127.0.0.1", **headers: str) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "headers": raw, "client": (peer, 1)}
    return Request(scope)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "localhost"])
def test_without_a_token_this_machine_may(host):
    _authorise(request(host=host), None)
    _authorise(request(host=host, origin=f"http://{host}"), None)


@pytest.mark.parametrize("host", ["evil.example:8080", "", "10.0.0.7:8080"])
def test_a_name_that_was_made_to_point_here_may_not(host):
    with pytest.raises(RefusedError):
        _authorise(request(host=host, origin=f"http://{host}"), None)


def test_another_site_or_machine_may_not():
    with pytest.raises(RefusedError):
        _authorise(request(host="localhost:8080", origin="http://evil.example"), None)
    with pytest.raises(RefusedError):
        _authorise(request("10.0.0.7", host="localhost:8080"), None)


def test_with_a_token_any_name_and_machine_may_that_knows_it():
    _authorise(request("10.0.0.7", host="monitor.example", authorization="Bearer secret"), "secret")
    with pytest.raises(RefusedError):
        _authorise(request(host="localhost", authorization="Bearer wrong"), "secret")
