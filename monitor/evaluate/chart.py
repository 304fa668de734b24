"""Plots as inline SVG: lines, histograms and bars, readable without a script and in light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 560, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 64
#: Told apart by people who see no red or green too (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

Points = Sequence[tuple[float, float]]


def lines(series: Mapping[str, Points], *, title: str, x_label: str, y_label: str, percent: bool = False) -> str:
    """One line for each named series of (x, y); nothing to show gives a sentence."""
    shown = {name: points for name, points in series.items() if points}
    if not shown:
        return _nothing(title)
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    plane = _Plane(min(xs), max(xs), 0.0, 1.0 if percent else max(ys))
    drawn = []
    for number, (name, points) in enumerate(shown.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{plane.x(x):.1f},{plane.y(y):.1f}" for x, y in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [
            f'<circle cx="{plane.x(x):.1f}" cy="{plane.y(y):.1f}" r="3" fill="{colour}">'
            f"<title>{html.escape(name)}: {_value(y, percent)} at {x:g}</title></circle>"
            for x, y in points
        ]
    return _framed(title, plane, drawn, x_label=x_label, y_label=y_label, percent=percent, names=list(shown))


def histogram(
    series: Mapping[str, Sequence[float]], *, title: str, x_label: str, marks: Mapping[str, float], bins: int = 24
) -> str:
    """How often each value comes, for each named series; vertical lines at the marks."""
    shown = {name: values for name, values in series.items() if values}
    if not shown:
        return _nothing(title)
    every = [value for values in shown.values() for value in values] + list(marks.values())
    low, high = min(every), max(every)
    width = (high - low) / bins or 1.0
    counts = {
        name: [sum(min(int((value - low) / width), bins - 1) == place for value in values) for place in range(bins)]
        for name, values in shown.items()
    }
    plane = _Plane(low, low + width * bins, 0.0, float(max(max(row) for row in counts.values())))
    drawn = []
    for number, (name, row) in enumerate(counts.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        for place, count in enumerate(row):
            if count:
                x, right = plane.x(low + place * width), plane.x(low + (place + 1) * width)
                y = plane.y(count)
                drawn.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.0, right - x - 1):.1f}"'
                    f' height="{plane.y(0) - y:.1f}" fill="{colour}" fill-opacity="0.6">'
                    f"<title>{html.escape(name)}: {count}</title></rect>"
                )
    for number, (name, value) in enumerate(marks.items()):
        x = plane.x(value)
        drawn.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" class="mark"/>'
            f'<text x="{x + 4:.1f}" y="{_TOP + 10 + 14 * number}">{html.escape(name)}</text>'
        )
    return _framed(title, plane, drawn, x_label=x_label, y_label="how many", percent=False, names=list(shown))


class _Plane:
    """Values to places on the picture."""

    def __init__(self, low_x: float, high_x: float, low_y: float, high_y: float) -> None:
        self.low_x, self.high_x = (low_x, high_x) if high_x > low_x else (low_x - 0.5, low_x + 0.5)
        self.low_y, self.high_y = low_y, high_y if high_y > low_y else low_y + 1.0

    def x(self, value: float) -> float:
        return _LEFT + (value - self.low_x) / (self.high_x - self.low_x) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.low_y) / (self.high_y - self.low_y) * (_HEIGHT - _TOP - _BOTTOM)


def _framed(
    title: str, plane: _Plane, drawn: Sequence[str], *, x_label: str, y_label: str, percent: bool, names: Sequence[str]
) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = [
        f"<figure><figcaption>{html.escape(title)}</figcaption>",
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">',
    ]
    for value in _ticks(plane.low_y, plane.high_y):
        y = plane.y(value)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_value(value, percent)}</text>'
        )
    parts += [
        f'<text x="{plane.x(value):.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
        for value in _ticks(plane.low_x, plane.high_x)
    ]
    parts += drawn
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{bottom + 34}" text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text transform="translate(12 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    place = float(_LEFT)
    for number, name in enumerate(names):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(
            f'<rect x="{place:.0f}" y="{_HEIGHT - 20}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{place + 14:.0f}" y="{_HEIGHT - 11}">{html.escape(name)}</text>'
        )
        place += 30 + 7.0 * len(name)
    return "".join([*parts, "</svg></figure>"])


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 8)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _value(value: float, percent: bool) -> str:
    return f"{100 * value:.0f} %" if percent else f"{value:g}"


def _nothing(title: str) -> str:
    return f"<figure><figcaption>{html.escape(title)}</figcaption><p>There is nothing to show.</p></figure>"
