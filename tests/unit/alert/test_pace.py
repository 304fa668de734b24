from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alert.pace import Rate, rest_s
from monitor.record.endpoints import TRIP_AFTER


def test_rests_begin_with_the_fifth_failure_and_grow_to_five_minutes() -> None:
    assert [rest_s(failures) for failures in range(TRIP_AFTER)] == [0.0] * TRIP_AFTER
    assert [rest_s(TRIP_AFTER + more) for more in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    assert rest_s(10**9) == 300


@settings(deadline=None)
@given(
    per_s=st.floats(0.01, 1000),
    pauses_s=st.lists(st.floats(0, 100), min_size=2, max_size=60),
    start_s=st.floats(-1e6, 1e9),
)
def test_in_any_span_no_more_is_asked_than_the_rate_and_one_second_s_worth(
    per_s: float, pauses_s: list[float], start_s: float
) -> None:
    rate, now_s = Rate(per_s=per_s), start_s
    asked_s: list[float] = []
    for pause_s in pauses_s:
        now_s += pause_s
        if (wait_s := rate.wait_s(now_s)) > 0:
            now_s += wait_s + 1e-6 * max(1.0, abs(now_s))
        assert rate.wait_s(now_s) < 1e-3 * max(1.0, 1 / per_s)
        rate.spend(now_s)
        asked_s.append(now_s)
    for first in range(len(asked_s)):
        for last in range(first, len(asked_s)):
            most = per_s * (asked_s[last] - asked_s[first]) + max(per_s, 1.0)
            assert last - first + 1 <= most * (1 + 1e-9) + 1.0


def test_one_second_s_worth_is_asked_at_once_after_a_pause_and_no_more() -> None:
    rate = Rate(per_s=3)
    for _ in range(3):
        assert rate.wait_s(100.0) == 0
        rate.spend(100.0)
    assert rate.wait_s(100.0) > 0.3
    assert rate.wait_s(99.0) > 0.3  # whatever the clock does
    assert rate.wait_s(1000.0) == 0
