"""The recording and alerting rules name what the daemon exposes, and Prometheus's own tool takes and proves them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitor.metrics import Metrics
from monitor.types import StreamState

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "monitor.rules.yaml"
CASES = RULES.with_name("monitor.rules.test.yaml")
DASHBOARDS = RULES.parents[1] / "grafana" / "dashboards"
#: What Prometheus adds to every series that it scrapes.
_SCRAPE_LABELS = {"job", "instance"}
_OPERATORS = {"unless", "and", "or", "ignoring", "on", "without", "by", "group_left", "group_right", "bool", "offset"}
_AGGREGATIONS = {"sum", "max", "min", "avg", "count"}
_SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:ignoring|on|without|by|group_left|group_right)\s*\(([^)]*)\)")
_FUNCTION = re.compile(r"\b[a-z_]+\s*\(")
_NAME = re.compile(r"\b[a-zA-Z_:][\w:]*")

#: Of each sample name, the values of each of its labels.
Exposed = Mapping[str, Mapping[str, set[str]]]


@pytest.fixture
def exposition() -> str:
    metrics = Metrics(CollectorRegistry())
    metrics.build.info({"version": "1.0", "model_id": "fingerprint-0123456789ab"})
    metrics.add_stream("one")
    metrics.set_stream_state("one", StreamState.RECEIVING)
    metrics.add_endpoint("desk")
    metrics.add_canary("canary:default")
    metrics.queue_length.labels("events").set(0)
    metrics.queue_capacity.labels("events").set(1024)
    return generate_latest(metrics.registry).decode()


@pytest.fixture
def exposed(exposition: str) -> Exposed:
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return found


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def alerts() -> Iterator[dict[str, Any]]:
    return (rule for rule in rules() if "alert" in rule)


def recorded(exposed: Exposed) -> Exposed:
    """What is recorded, with the labels of what it is made of."""
    found: dict[str, dict[str, set[str]]] = {}
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = {
                label: values for name in names_of(rule["expr"]) for label, values in exposed.get(name, {}).items()
            }
    return found


def names_of(expression: str) -> set[str]:
    """The metric names of a PromQL expression: what is left without matchers, ranges, groupings and functions."""
    bare = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", expression))
    return set(_NAME.findall(_FUNCTION.sub("(", bare))) - _OPERATORS - _AGGREGATIONS


def unknown_in(alert: Mapping[str, Any], exposed: Exposed) -> list[str]:
    """What an alert names and no daemon exposes: metrics, labels, values of labels."""
    expression = str(alert["expr"])
    names = names_of(expression)
    unknown = sorted(names - exposed.keys())
    labels = {label for name in names for label in exposed.get(name, {})} | _SCRAPE_LABELS
    for name, matchers in _SELECTOR.findall(expression):
        for label, values in _MATCHER.findall(matchers):
            known = exposed.get(name, {}).get(label, set())
            unknown += [f'{name}{{{label}="{value}"}}' for value in values.split("|") if value not in known]
    grouped = {label.strip() for found in _GROUPING.findall(expression) for label in found.split(",")} - {""}
    told = set(re.findall(r"\$labels\.(\w+)", str(alert.get("annotations"))))
    mentioned = set(re.findall(r"\bmonitor_\w+", str(alert.get("annotations"))))
    return [*unknown, *sorted((grouped | told) - labels), *sorted(mentioned - exposed.keys())]


def test_the_rules_name_only_what_the_daemon_exposes(exposed: Exposed) -> None:
    known = {**exposed, **recorded(exposed)}
    unknown = {str(rule.get("alert") or rule.get("record")): unknown_in(rule, known) for rule in rules()}
    assert {rule: names for rule, names in unknown.items() if names} == {}


def test_what_is_recorded_is_proved_or_used(exposed: Exposed) -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    proved = {name for case in cases for check in case.get("promql_expr_test", ()) for name in names_of(check["expr"])}
    used = {name for rule in rules() for name in names_of(str(rule["expr"]))}
    used |= {name for path in DASHBOARDS.glob("*.json") for name in recorded(exposed) if name in path.read_text()}
    assert recorded(exposed).keys() <= proved | used


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("monitor_stream_upp == 0", ["monitor_stream_upp"]),
        ("increase(monitor_windows_dropped[5m]) > 0", ["monitor_windows_dropped"]),
        ('monitor_stream_state{state="mute"} == 1', ['monitor_stream_state{state="mute"}']),
        ('monitor_stream_up{state="silent"} == 1', ['monitor_stream_up{state="silent"}']),
        ("sum by (channel) (monitor_stream_up) == 0", ["channel"]),
    ],
)
def test_a_wrong_name_is_noticed(expression: str, unknown: list[str], exposed: Exposed) -> None:
    assert unknown_in({"expr": expression, "annotations": {}}, exposed) == unknown


def test_each_alert_says_how_bad_it_is_and_what_to_do_and_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    checks = [check for case in cases for check in case.get("alert_rule_test", ())]
    firing = {check["alertname"] for check in checks if check.get("exp_alerts")}
    for alert in alerts():
        assert alert["alert"] in firing
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert set(alert["annotations"]) == {"summary", "description"}
    assert len({alert["alert"] for alert in alerts()}) == len(list(alerts()))


@pytest.fixture
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return program


@pytest.mark.parametrize("words", [("check", "rules", RULES.name), ("test", "rules", CASES.name)])
def test_promtool_takes_the_rules_and_their_cases(promtool: str, words: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *words], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault_with_the_metrics(promtool: str, exposition: str) -> None:
    done = subprocess.run([promtool, "check", "metrics"], input=exposition, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
