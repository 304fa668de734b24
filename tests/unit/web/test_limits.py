"""How often one client may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.web.limits import RateLimit
from monitor.web.problem import ProblemError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate_and_each_client_for_itself():
    clock = Clock()
    limit = RateLimit(per_s=2.0, burst=3, now=clock)
    for _ in range(3):
        limit.take("a")
    with pytest.raises(ProblemError) as refused:
        limit.take("a")
    assert refused.value.status == 429 and refused.value.headers == {"Retry-After": "1"}
    limit.take("b")
    clock.now += 0.5
    limit.take("a")
    with pytest.raises(ProblemError):
        limit.take("a")


@given(st.lists(st.floats(0, 3), max_size=200))
def test_no_more_than_the_burst_and_the_rate_ever_pass(pauses_s):
    clock = Clock()
    limit = RateLimit(per_s=5.0, burst=4, now=clock)
    passed = 0
    for pause_s in pauses_s:
        clock.now += pause_s
        try:
            limit.take("a")
        except ProblemError:
            continue
        passed += 1
    assert passed <= 4 + 5.0 * clock.now + 1e-6
