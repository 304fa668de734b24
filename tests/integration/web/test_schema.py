"""Whatever is asked, the answer is one that the OpenAPI document announces, and never a mistake of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from monitor.record.tokens import Scope, Tokens

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 2


def ask_everything(address: str, headers: dict[str, str]) -> set[int]:
    """Ask each operation a few times, with what it takes and what it does not; the statuses that came."""
    schema = schemathesis.openapi.from_url(f"{address}/api/v1/openapi.json")
    statuses: set[int] = set()
    with requests.Session() as session:
        session.trust_env = False
        for found in schema.get_all_operations():
            operation = found.ok()
            fixed: dict[str, Any] = {"query": {"for_s": 0.1}} if operation.path.endswith("/events") else {}
            for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                if fixed and mode is GenerationMode.NEGATIVE:
                    continue  # would wait for an end that was not asked for
                strategy = operation.as_strategy(mode, **fixed)

                @settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=strategy)
                def ask(case: Any) -> None:
                    answer = case.call(session=session, headers=headers, timeout=60)
                    case.validate_response(answer, checks=CHECKS)
                    statuses.add(answer.status_code)

                nothing = Unsatisfiable if mode is GenerationMode.NEGATIVE else ()
                with contextlib.suppress(nothing):  # nothing that it takes can be wrong
                    ask()
    return statuses


@pytest.mark.parametrize("scope", [None, Scope.READ, Scope.ADMIN])
async def test_every_operation_answers_as_announced(house, scope):
    house.write(http={"writes_per_minute": 1e5, "searches_per_minute": 1e5})
    headers = {}
    if scope is not None:
        async with house.deployment() as deployment:
            headers = {"Authorization": f"Bearer {await Tokens(deployment.pool).add('tester', scope)}"}
    async with house.daemon():
        statuses = await asyncio.to_thread(ask_everything, f"http://127.0.0.1:{house.port}", headers)
    assert statuses >= {200, 404, 422}
    assert (403 in statuses) is (scope is Scope.READ) and 401 not in statuses
