"""An evaluation as one HTML file: the table and the plots, no script, nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from monitor.evaluate import chart
from monitor.evaluate.evaluation import Evaluation
from monitor.evaluate.report import figures, table
from monitor.evaluate.scoring import poisson_bound

#: Lines of a plot: families of degradations, none for all.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "all": (),
    "clean": ("clean",),
    "noise": ("noise",),
    "speech": ("speech",),
    "codec, filter, room": ("codec", "filter", "room", "loudness"),
    "speed, pitch, tempo": ("speed", "pitch", "tempo"),
}
_STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 74rem; padding: 0 1rem; }
pre { overflow-x: auto; font-size: .85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
svg .grid { stroke: var(--line); stroke-width: .5; } svg .mark { stroke: currentColor; stroke-dasharray: 4 3; }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem .1rem 0; text-align: left; }
"""


def page(evaluation: Evaluation) -> str:
    """The whole document."""
    told = figures(evaluation)
    verdict = evaluation.verdict
    curves = {
        f"{family} on top": [(float(level), row["recall_airings"]) for level, row in levels.items()]
        for family, levels in told["by_snr"].items()
    }
    plots = [
        chart.lines(
            curves, title="Recall of airings against level", x_label="recording over the rest, dB",
            y_label="recall", percent=True,
        ),
        chart.lines(
            _by_length(evaluation), title="Recall of airings against length", x_label="airing, s", y_label="recall",
            percent=True,
        ),
        chart.lines(
            {
                "all": _cumulative([outcome.delay_s for outcome in verdict.found]),
                "clean": _cumulative([o.delay_s for o in verdict.found if o.airing.family == "clean"]),
            },
            title="Detection delay", x_label="seconds after the start", y_label="share of found airings told of",
            percent=True,
        ),
        chart.histogram(
            {
                "right": told["scores"]["right_nats"],
                "false": told["scores"]["false_nats"],
                "taken back": told["scores"]["taken_back_nats"],
            },
            title="Score distributions", x_label="evidence, nats",
            marks={"provisional": evaluation.provisional_nats, "confirmed": evaluation.confirmed_nats},
        ),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation of {html.escape(evaluation.catalog)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Evaluation of catalog {html.escape(evaluation.catalog)}</h1>"
        f'<div class="plots">{"".join(plots)}</div>'
        f"<h2>False alarms per stream-day</h2>{_alarms(evaluation, told)}"
        f"<h2>Figures</h2><pre>{html.escape(table(evaluation))}</pre></body></html>\n"
    )


def _by_length(evaluation: Evaluation) -> dict[str, list[tuple[float, float]]]:
    """Recall at each length in whole seconds, of all airings and of groups of families."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name, families in _GROUPS.items():
        tallies = evaluation.verdict.tally(
            lambda airing, families=families: (  # type: ignore[misc]
                str(round(airing.length_s)) if not families or airing.family in families else None
            )
        )
        series[name] = sorted((float(length), tally.recall_airings) for length, tally in tallies.items())
    return series


def _cumulative(values: Sequence[float | None]) -> list[tuple[float, float]]:
    known = sorted(value for value in values if value is not None)
    return [(value, (place + 1) / len(known)) for place, value in enumerate(known)]


def _alarms(evaluation: Evaluation, told: dict[str, Any]) -> str:
    """Rows of something that was not played, by what played instead, over all that was listened to."""
    days = max(1e-9, evaluation.verdict.listened_s / 86_400)
    kinds = {**told["false_alarms"]["by_kind"], "in all": told["false_alarms"]["rows"]}
    rows = "".join(
        f"<tr><td>{html.escape(kind)}</td><td>{count}</td><td>{count / days:.1f}</td>"
        f"<td>{poisson_bound(count) / days:.1f}</td></tr>"
        for kind, count in kinds.items()
    )
    return (
        "<table><tr><th>while this played</th><th>false rows</th><th>per stream-day</th>"
        f"<th>below, with 95 % confidence</th></tr>{rows}</table>"
    )
