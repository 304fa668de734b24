"""Cursors survive the way there and back; anything else is refused in one sentence."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.web.matches import start_of
from monitor.web.paging import cursor, key_of
from monitor.web.problem import ProblemError


@given(st.floats(0, 2e9))
def test_a_cursor_gives_its_key_back(start_s):
    match_id = uuid4()
    assert key_of(cursor(start_s, str(match_id)), start_of, UUID) == (start_s, match_id)


@given(st.text(max_size=60))
def test_no_text_at_all_is_more_than_refused(text):
    try:
        key_of(text, start_of, UUID)
    except ProblemError as error:
        assert error.status == 422


@pytest.mark.parametrize("key", [("x", "y"), (1e300, str(UUID(int=1))), (float("nan"), str(UUID(int=1))), (1.0,)])
def test_keys_that_no_list_gives_are_refused(key):
    with pytest.raises(ProblemError):
        key_of(cursor(*key), start_of, UUID)
