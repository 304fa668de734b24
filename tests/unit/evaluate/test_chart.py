from __future__ import annotations

from xml.etree import ElementTree

from monitor.evaluate import chart


def picture(text):
    figure = ElementTree.fromstring(text)
    return figure, figure.findall(".//polyline"), figure.findall(".//rect")


def test_lines_go_where_the_values_are():
    text = chart.lines(
        {"up": [(0, 0.0), (10, 1.0)], "down": [(0, 1.0), (10, 0.0)]}, title="t", x_label="x", y_label="y", percent=True
    )
    _, (up, down), _ = picture(text)
    ((left, low), (right, high)) = (map(float, point.split(",")) for point in up.get("points").split())
    assert left < right and low > high
    assert [point.split(",")[1] for point in down.get("points").split()] == [f"{high:.1f}", f"{low:.1f}"]


def test_a_histogram_has_a_bar_for_each_filled_bin_and_its_marks():
    text = chart.histogram({"right": [1, 1, 5], "false": []}, title="t", x_label="nats", marks={"here": 3.0})
    figure, _, bars = picture(text)
    assert sorted(float(bar.get("height")) for bar in bars if bar.find("title") is not None)[0] > 0
    assert sum(bar.find("title") is not None for bar in bars) == 2
    assert len(figure.findall(".//line[@class='mark']")) == 1


def test_names_are_escaped_and_nothing_is_said_to_be_nothing():
    assert "&lt;b&gt;" in chart.lines({"<b>": [(1, 1)]}, title="<b>", x_label="x", y_label="y")
    assert "nothing to show" in chart.lines({"a": []}, title="t", x_label="x", y_label="y")


def test_one_point_is_a_picture_too():
    picture(chart.lines({"a": [(3, 0.0)]}, title="t", x_label="x", y_label="y"))
    picture(chart.histogram({"a": [2.0]}, title="t", x_label="x", marks={}))
