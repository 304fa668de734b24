from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.alert.attempt import Endpoint, retry_after_s

NOW_S = 1_772_409_590.0
DAY_S = 86_400.0


@settings(deadline=None)
@given(st.text())
@example("9" * 5000)
@example("١٢")
@example("-5")
@example("1e9")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("Thu, 99 Foo 2026 99:99:99 GMT")
def test_whatever_an_endpoint_asks_for_the_wait_is_bounded(value: str) -> None:
    wait_s = retry_after_s(value, now_s=NOW_S)
    assert wait_s is None or 0 <= wait_s <= DAY_S


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("0", 0),
        (" 120 ", 120),
        ("999999", DAY_S),
        (formatdate(NOW_S + 60, usegmt=True), 60),
        (formatdate(NOW_S - 60, usegmt=True), 0),
        (formatdate(NOW_S + 9 * DAY_S, usegmt=True), DAY_S),
        (formatdate(NOW_S + 60), 60),
    ],
)
def test_seconds_and_dates_are_understood(value: str | None, wait_s: float | None) -> None:
    assert retry_after_s(value, now_s=NOW_S) == wait_s


@settings(deadline=None)
@given(st.text())
def test_what_is_shown_is_one_bounded_line_without_secrets(said: str) -> None:
    desk = Endpoint(
        name="desk",
        url="https://hook.example/in?key=k3y-of-the-url",
        secrets=("s3cret-of-the-desk",),
        headers={"X-Api-Key": "k3y-of-the-header", "X-Team": "rights"},
    )
    shown = desk.shown(f"{said} k3y-of-the-url{said}s3cret-of-the-desk k3y-of-the-header rights")
    assert len(shown) <= 200
    assert shown.isprintable()
    assert not any(secret in shown for secret in ("k3y", "s3cret"))
