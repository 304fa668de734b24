from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.daemon.clock import StreamClock


class Machine:
    """A machine whose wall clock is set and whose steady one is not."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = 1_760_000_000.0, 50.0
        self.clock = StreamClock(wall=lambda: self.wall_s, steady=lambda: self.steady_s)

    def pass_s(self, seconds: float) -> float:
        self.wall_s += seconds
        self.steady_s += seconds
        return self.clock()


def test_it_is_the_wall_clock_as_long_as_nobody_sets_that():
    machine = Machine()
    assert machine.clock() == machine.wall_s
    assert machine.pass_s(86400 * 300) == pytest.approx(machine.wall_s)
    assert machine.clock.steps_total == 0


@pytest.mark.parametrize("leap_s", [5.0, 3600.0, 86400.0])
def test_a_leap_forward_is_followed_once_it_has_lasted(leap_s):
    machine = Machine()
    machine.wall_s += leap_s
    assert machine.pass_s(1) == pytest.approx(machine.wall_s - leap_s)
    assert machine.pass_s(31) == pytest.approx(machine.wall_s)
    assert machine.clock.steps_total == 1
    machine.pass_s(1000)
    assert machine.clock.steps_total == 1


def test_a_clock_that_is_set_wrong_and_right_again_moves_nothing():
    machine = Machine()
    machine.wall_s += 86400
    machine.pass_s(20)
    machine.wall_s -= 86400
    assert machine.pass_s(100) == pytest.approx(machine.wall_s)
    assert machine.clock.steps_total == 0


def test_a_clock_that_is_set_back_does_not_take_time_with_it(caplog):
    machine = Machine()
    before_s = machine.pass_s(1)
    machine.wall_s -= 86400
    assert machine.pass_s(10) == pytest.approx(before_s + 10)
    assert machine.pass_s(100) == pytest.approx(before_s + 110)
    assert machine.pass_s(100) == pytest.approx(before_s + 210)
    assert machine.clock.ahead_s() == pytest.approx(86400)
    assert [record.action for record in caplog.records] == ["clock_behind"]
    machine.wall_s += 86400
    machine.pass_s(100)
    assert machine.clock.ahead_s() == pytest.approx(0)
    assert machine.clock.steps_total == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([0.0, 0.0, 1.0, -1.0, 40.0, -40.0, 86400.0, -86400.0]))))
def test_it_never_runs_back(steps):
    machine = Machine()
    before_s = machine.clock()
    for seconds, leap_s in steps:
        machine.wall_s += leap_s
        now_s = machine.pass_s(seconds)
        assert now_s >= before_s + seconds - 1e-6
        before_s = now_s
