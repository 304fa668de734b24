"""An evaluation as figures (one JSON object) and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monitor.evaluate.evaluation import Evaluation
from monitor.evaluate.scoring import Tally, Verdict, poisson_bound
from monitor.evaluate.truth import Airing

_DAY_S = 86_400.0
HONEST = (
    "A cover or a live performance is another recording: that it is found is neither claimed nor counted as wrong.",
    "Degradations are simulated, and the airings are of your catalog's own files: real stations differ.",
)


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """All that was measured. The same catalog, configuration, seed and machine give the same figures."""
    verdict = evaluation.verdict
    plan = evaluation.plan
    found = verdict.found
    return {
        "catalog": evaluation.catalog,
        "references": evaluation.references,
        "references_unreadable": dict(evaluation.unreadable),
        "model_id": evaluation.model_id,
        "seed": plan.seed if plan else None,
        "broadcasts": len(evaluation.broadcasts),
        "hours": verdict.listened_s / 3600,
        "seconds": {
            "recall": _rounded(_share(sum(o.found_s for o in verdict.outcomes), _aired_s(verdict))),
            "precision": _rounded(verdict.precision_s),
            "aired_s": _rounded(_aired_s(verdict)),
            "claimed_s": _rounded(verdict.claimed_s),
        },
        "airings": {
            "aired": len(verdict.outcomes),
            "found": len(found),
            "recall": _rounded(_share(len(found), len(verdict.outcomes))),
            "rows": sum(len(outcome.rows) for outcome in found),
            "rows_per_airing_found": _rounded(_share(sum(len(outcome.rows) for outcome in found), len(found))),
            "precision": _rounded(
                _share(
                    sum(len(outcome.rows) for outcome in found),
                    sum(len(outcome.rows) for outcome in found) + len(verdict.false_rows),
                )
            ),
        },
        "delay_s": _spread([outcome.delay_s for outcome in found]),
        "delay_clean_s": _spread([outcome.delay_s for outcome in found if outcome.airing.family == "clean"]),
        "start_error_s": _errors([outcome.start_error_s for outcome in found], within_s=1.0),
        "end_error_s": _errors([outcome.end_error_s for outcome in found], within_s=1.0),
        "position_error_s": _errors([outcome.position_error_s for outcome in found], within_s=0.25),
        "by_condition": _tallies(verdict, lambda airing: airing.condition),
        "by_length": _tallies(verdict, length_label),
        "by_condition_and_length": _tallies(verdict, lambda airing: f"{airing.condition}, {airing.length_s:.0f} s"),
        "by_snr": snr_curves(verdict),
        "false_alarms": {
            "rows": len(verdict.false_rows),
            "per_stream_day": _rounded(len(verdict.false_rows) / max(1e-9, verdict.listened_s / _DAY_S)),
            "upper_95_per_stream_day": _rounded(
                poisson_bound(len(verdict.false_rows)) / max(1e-9, verdict.listened_s / _DAY_S)
            ),
            "by_kind": false_by_kind(verdict),
            "told_and_taken_back": len(verdict.false_words),
            "uncatalogued_hours": _rounded(verdict.uncatalogued_s / 3600),
            "each": [
                {
                    "query": row.query,
                    "reference_id": row.reference_id,
                    "start_s": _rounded(row.start_s),
                    "end_s": _rounded(row.end_s),
                    "evidence_nats": _rounded(row.evidence_nats),
                    "while": kind,
                }
                for row, kind in verdict.false_rows
            ],
        },
        "covers": {
            "played": len(verdict.unclaimed),
            "found_though_not_claimed": sum(outcome.found for outcome in verdict.unclaimed),
        },
        "threshold": {
            "provisional_evidence_nats": evaluation.provisional_nats,
            "confirmed_evidence_nats": evaluation.confirmed_nats,
            "suggested_confirmed_evidence_nats": evaluation.suggestion.evidence_nats,
            "highest_false_evidence_nats": _rounded(evaluation.suggestion.highest_false_nats),
            "airings_lost_by_it": evaluation.suggestion.lost,
            "strongest_evidence_nats": _rounded(evaluation.strongest_nats),
        },
        "scores": {
            "right_nats": [_rounded(max(row.evidence_nats for row in outcome.rows)) for outcome in found],
            "false_nats": [_rounded(row.evidence_nats) for row, _ in verdict.false_rows],
            "taken_back_nats": [_rounded(row.evidence_nats) for row in verdict.false_words],
        },
        "limits": list(HONEST),
    }


def table(evaluation: Evaluation) -> str:
    """What somebody reads at the end of the command."""
    told = figures(evaluation)
    seconds, airings, alarms, threshold = (told[name] for name in ("seconds", "airings", "false_alarms", "threshold"))
    of_seed = "" if told["seed"] is None else f", seed {told['seed']}"
    listened = f"{told['hours']:.2f} h in {told['broadcasts']} broadcasts"
    found = f"{airings['found']} of {airings['aired']} found ({_percent(airings['recall'])})"
    each = f"{_number(airings['rows_per_airing_found'])} rows each"
    bound = f"(below {alarms['upper_95_per_stream_day']:.1f} with 95 % confidence, of {told['hours']:.2f} h)"
    rate = f"{alarms['rows']}, {alarms['per_stream_day']:.1f} per stream-day {bound}"
    delays = f"{_spread_words(told['delay_s'])} after the start; clean airings {_spread_words(told['delay_clean_s'])}"
    heads = f"{'recall':>9s}{'of seconds':>12s}{'F1':>9s}{'rows each':>11s}{'delay':>8s}"
    lines = [
        f"{listened} against {told['references']} references ({told['model_id']}{of_seed})",
        "",
        f"{'':24s}{'airings':>8s}{'found':>7s}{heads}",
        *(_row(name, row) for name, row in told["by_condition"].items()),
        "",
        *(_row(name, row) for name, row in told["by_length"].items()),
        "",
        f"seconds      recall {_percent(seconds['recall'])}, precision {_percent(seconds['precision'])}",
        f"airings      {found}, {each}, precision {_percent(airings['precision'])}",
        f"first word   {delays}",
        f"start        {_error_words(told['start_error_s'])}",
        f"end          {_error_words(told['end_error_s'])}",
        f"position     {_error_words(told['position_error_s'])}",
        f"false rows   {rate}; {alarms['told_and_taken_back']} told and taken back",
        *(f"             {rows} while {kind} played" for kind, rows in alarms["by_kind"].items()),
        f"threshold    {_threshold_words(threshold)}",
    ]
    covers = told["covers"]
    if covers["played"]:
        lines.append(
            f"played anew  {covers['found_though_not_claimed']} of {covers['played']} found, which is not claimed"
        )
    if told["references_unreadable"]:
        lines.append(f"{len(told['references_unreadable'])} references could not be read from where they were loaded")
    return "\n".join([*lines, "", *HONEST])


def length_label(airing: Airing) -> str:
    """Airings by how long they last."""
    for bound in (4, 7, 14):
        if airing.length_s < bound:
            return f"under {bound} s"
    return "14 s and more"


def snr_curves(verdict: Verdict) -> dict[str, dict[str, dict[str, Any]]]:
    """Recall against the recording's level over what sounds with it: by family, then by level."""
    families = sorted({o.airing.family for o in verdict.outcomes if o.airing.snr_db is not None})
    curves: dict[str, dict[str, dict[str, Any]]] = {}
    for family in families:
        tallies = verdict.tally(
            lambda airing, family=family: (  # type: ignore[misc]
                f"{airing.snr_db:g}" if airing.family == family and airing.snr_db is not None else None
            )
        )
        curves[family] = {level: _tally(tallies[level]) for level in sorted(tallies, key=float)}
    return curves


def false_by_kind(verdict: Verdict) -> dict[str, int]:
    """How many false rows there were while what was playing."""
    kinds: dict[str, int] = {}
    for _, kind in verdict.false_rows:
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def _aired_s(verdict: Verdict) -> float:
    return sum(outcome.airing.length_s for outcome in verdict.outcomes)


def _tallies(verdict: Verdict, kind: Any) -> dict[str, Any]:
    return {name: _tally(tally) for name, tally in verdict.tally(kind).items()}


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "airings": tally.airings,
        "found": tally.found,
        "recall_airings": _rounded(tally.recall_airings),
        "recall_seconds": _rounded(tally.recall_s),
        "f1_seconds": _rounded(tally.f1_s),
        "rows": tally.rows,
        "delay_median_s": _rounded(float(np.median(tally.delays_s))) if tally.delays_s else None,
    }


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def _spread(values: Sequence[float | None]) -> dict[str, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    median, late = np.percentile(known, [50, 95])
    return {"median": _rounded(median), "p95": _rounded(late)}


def _errors(values: Sequence[float | None], *, within_s: float) -> dict[str, float | None] | None:
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return None
    median, most = np.percentile(np.abs(known), [50, 95])
    return {
        "median": _rounded(float(np.median(known))),
        "median_size": _rounded(median),
        "p95_size": _rounded(most),
        "within_s": within_s,
        "share_within": _rounded(float(np.mean(np.abs(known) <= within_s))),
    }


def _row(name: str, row: Mapping[str, Any]) -> str:
    each = row["rows"] / row["found"] if row["found"] else None
    delay = "" if row["delay_median_s"] is None else f"{row['delay_median_s']:.1f} s"
    return (
        f"{name:24s}{row['airings']:8d}{row['found']:7d}{_percent(row['recall_airings']):>9s}"
        f"{_percent(row['recall_seconds']):>12s}{_percent(row['f1_seconds']):>9s}{_number(each):>11s}{delay:>8s}"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _spread_words(spread: Mapping[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['median']:.1f} s (95 %: {spread['p95']:.1f} s)"


def _error_words(errors: Mapping[str, float] | None) -> str:
    if errors is None:
        return "-"
    return (
        f"off by {errors['median_size']:.2f} s (95 %: {errors['p95_size']:.2f} s);"
        f" {_percent(errors['share_within'])} within {errors['within_s']:g} s"
    )


def _threshold_words(threshold: Mapping[str, Any]) -> str:
    words = (
        f"match.confirmed_evidence_nats is {threshold['confirmed_evidence_nats']:g};"
        f" suggested: {threshold['suggested_confirmed_evidence_nats']:g}"
    )
    if (highest := threshold["highest_false_evidence_nats"]) is None:
        return f"{words} (nothing false was believed)"
    return f"{words} (the highest false evidence was {highest:.1f}; {threshold['airings_lost_by_it']} airings would go)"
