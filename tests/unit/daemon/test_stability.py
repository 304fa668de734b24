from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.daemon.stability import Stability, Tolerance
from monitor.daemon.states import TRANSITIONS, IllegalTransitionError, check
from monitor.types import StreamAlarm, StreamState

TOLERANCE = Tolerance(blip_s=10, failures=3, window_s=600)


def test_every_state_is_in_the_table_and_can_be_left_or_is_the_last():
    assert set(TRANSITIONS) == {None, *StreamState}
    assert set().union(*TRANSITIONS.values()) == set(StreamState)
    assert [state for state, after in TRANSITIONS.items() if not after] == [StreamState.STOPPED]
    assert all(StreamState.STOPPED in after for state, after in TRANSITIONS.items() if state and after)


@pytest.mark.parametrize(("before", "after"), list(itertools.product([None, *StreamState], StreamState)))
def test_what_the_table_does_not_hold_is_refused(before, after):
    if after in TRANSITIONS[before]:
        check(before, after)
    else:
        with pytest.raises(IllegalTransitionError, match=f"to {after}"):
            check(before, after)


def test_a_blip_is_counted_and_no_alarm():
    stability = Stability(TOLERANCE, began_s=0)
    stability.heard(100)
    stability.failed(101)
    assert stability.alarm(105) is None
    assert stability.due_s(105) == 110
    stability.heard(109)
    assert stability.take_blips() == 1
    assert stability.take_blips() == 0
    assert stability.alarm(200) is None
    assert stability.due_s(200) is None


def test_longer_than_a_blip_is_down_until_it_is_heard():
    stability = Stability(TOLERANCE, began_s=0)
    stability.heard(100)
    stability.failed(101)
    assert stability.alarm(110) is None
    assert stability.alarm(110.1) is StreamAlarm.DOWN
    for at_s in (130, 190, 250, 330, 440):
        stability.failed(at_s)
    assert stability.alarm(450) is StreamAlarm.DOWN
    stability.heard(500)
    assert stability.alarm(500) is None
    assert stability.take_blips() == 0


def test_what_was_never_heard_is_down_once_it_has_failed():
    stability = Stability(TOLERANCE, began_s=0)
    assert stability.alarm(1000) is None
    stability.failed(15)
    assert stability.alarm(16) is StreamAlarm.DOWN


def test_flapping_is_one_alarm_until_it_has_settled():
    stability = Stability(TOLERANCE, began_s=0)
    alarms = []
    for second in range(2400):
        if second < 400 and second % 20 == 0:
            stability.failed(second)
        if second % 20 >= 12 or second >= 400:
            stability.heard(second)
        alarms.append(stability.alarm(second))
    changes = [alarm for alarm, _ in itertools.groupby(alarms)]
    assert changes == [None, StreamAlarm.DOWN, None, StreamAlarm.DOWN, None, StreamAlarm.DOWN, None,
                       StreamAlarm.FLAPPING, None]  # fmt: skip
    assert alarms[60] is StreamAlarm.FLAPPING
    assert alarms.index(None, 61) == 320 + 600


def test_what_flaps_and_then_dies_is_down_once_the_flapping_is_over():
    stability = Stability(TOLERANCE, began_s=0)
    for at_s in range(0, 100, 20):
        stability.heard(at_s)
        stability.failed(at_s + 1)
    assert stability.alarm(300) is StreamAlarm.FLAPPING
    assert stability.due_s(300) == 621
    assert stability.alarm(621) is StreamAlarm.DOWN


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 300), st.booleans()), max_size=20))
def test_the_alarm_changes_only_when_something_is_told_or_is_due(steps):
    stability = Stability(TOLERANCE, began_s=0)
    now_s = 0.0
    for wait_s, fails in steps:
        end_s = now_s + wait_s
        while (due_s := stability.due_s(now_s)) is not None and due_s < end_s:
            before = stability.alarm(now_s)
            assert stability.alarm(now_s + (due_s - now_s) / 2) is before
            now_s = due_s + 1e-6
        assert stability.alarm(now_s) is stability.alarm(end_s)
        now_s = end_s
        (stability.failed if fails else stability.heard)(now_s)
