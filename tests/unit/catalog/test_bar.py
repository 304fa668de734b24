from __future__ import annotations

import io

from monitor.cli.bar import Bar, clock


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_share_words_and_time_left_on_one_line() -> None:
    output, times = _Terminal(), iter([0.0, 30.0, 30.01, 60.0])
    bar = Bar(output, now=lambda: next(times))
    bar.draw(0.25, "1 of 4 files")
    bar.draw(0.26, "too soon to be drawn")
    bar.draw(0.5, "2 of 4")
    bar.clear()
    first, second, blank, end = output.getvalue().split("\r")[1:]
    assert first == "[######..................]  25% 1 of 4 files, 1:30 left"
    assert second.rstrip() == "[############............]  50% 2 of 4, 1:00 left"
    assert len(second) == len(first)
    assert (blank.strip(), end) == ("", "")


def test_elsewhere_nothing_is_drawn() -> None:
    output = io.StringIO()
    bar = Bar(output)
    bar.draw(0.5, "half")
    bar.clear()
    assert output.getvalue() == ""


def test_a_clock_shows_hours_only_where_there_are_any() -> None:
    assert [clock(0), clock(59.6), clock(3599), clock(3723)] == ["0:00", "1:00", "59:59", "1:02:03"]
