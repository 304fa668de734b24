"""Debian's Prometheus and Alertmanager, with our rules, routes and dashboards, on a real daemon that hears an airing.

One daemon for the module: it listens to a recording of its catalog without a licence, and to a station that refuses.
Only addresses and intervals of the shipped configuration are changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import wave
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from monitor.demo.composer import compose
from monitor.demo.instruments import SAMPLE_RATE_HZ

from .conftest import DEPLOY, Service, free_ports, short_directory, until

#: A machine that does much else starts a daemon slowly.
pytestmark = pytest.mark.timeout(900)

DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: For an answer of a server on a machine that does much else.
_PATIENCE_S = 60.0
_NEEDED = {"prometheus": "prometheus", "promtool": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}

for _program, _package in _NEEDED.items():
    if shutil.which(_program) is None:
        pytest.skip(f"{_program} is not installed (Debian package {_package})", allow_module_level=True)


class Receiver(ThreadingHTTPServer):
    """Takes monitor's webhooks at /desk and Alertmanager's notifications at /alerts."""

    def __init__(self) -> None:
        self.posts: dict[str, list[dict[str, Any]]] = {"/desk": [], "/alerts": []}
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts[self.path].append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Everything that runs."""

    daemon: str
    prometheus: str
    alertmanager: str
    receiver: Receiver

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query, which Prometheus must understand."""
        answer = httpx.post(f"{self.prometheus}/api/v1/query", data={"query": expression}, timeout=_PATIENCE_S).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@contextmanager
def server(words: list[str], *, log: Path, ready: str) -> Iterator[None]:
    """A program that runs as long as the block, from when it answers at `ready`."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(ready, timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        until(is_ready, f"{words[0]} is ready")
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with ExitStack() as stack:
        directory = stack.enter_context(short_directory())
        daemon_port, prometheus_port, alertmanager_port = free_ports(3)
        receiver = Receiver()
        threading.Thread(target=receiver.serve_forever, name="receiver", daemon=True).start()
        stack.callback(receiver.server_close)
        stack.callback(receiver.shutdown)

        service = stack.enter_context(_closing(Service(directory, daemon_port)))
        music = directory / "music"
        music.mkdir()
        piece = compose(4711, 1).samples
        for name, samples in (("piece.wav", piece), ("programme.wav", np.tile(piece, 8))):
            with wave.open(str((music if name == "piece.wav" else directory) / name), "wb") as file:
                file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
                file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        service.write(
            streams=[
                {"name": "radio", "url": str(directory / "programme.wav")},
                {"name": "away", "url": "http://127.0.0.1:9/none"},
            ],
            webhooks=[{"name": "desk", "url": f"{receiver.address}/desk", "secret": _SECRET}],
        )
        service.command("catalog", "add", str(music))
        service.start()
        service.next_told(READY="1")

        alertmanager = f"http://127.0.0.1:{alertmanager_port}"
        stack.enter_context(_alertmanager(directory, alertmanager_port, f"{receiver.address}/alerts"))
        prometheus = f"http://127.0.0.1:{prometheus_port}"
        stack.enter_context(_prometheus(directory, prometheus_port, f"127.0.0.1:{daemon_port}", alertmanager_port))
        yield Installation(
            daemon=f"http://127.0.0.1:{daemon_port}",
            prometheus=prometheus,
            alertmanager=alertmanager,
            receiver=receiver,
        )


@contextmanager
def _closing(service: Service) -> Iterator[Service]:
    try:
        yield service
    finally:
        service.close()


def _alertmanager(directory: Path, port: int, hook: str) -> Any:
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": hook, "send_resolved": False}]
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{port}"
    words = ["prometheus-alertmanager", f"--config.file={path}", f"--storage.path={directory / 'alertmanager'}"]
    words += [f"--web.listen-address={address}", "--cluster.listen-address="]
    return server(words, log=directory / "alertmanager.log", ready=f"http://{address}/-/ready")


def _prometheus(directory: Path, port: int, daemon: str, alertmanager_port: int) -> Any:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    # An interval is also how long the daemon may take to answer.
    config["global"] = {"scrape_interval": "3s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    addresses = {
        "monitor:8710": daemon,
        "alertmanager:9093": f"127.0.0.1:{alertmanager_port}",
        "localhost:9090": f"127.0.0.1:{port}",
    }
    for entry in (*config["alerting"]["alertmanagers"], *config["scrape_configs"]):
        for targets in entry["static_configs"]:
            targets["targets"] = [addresses[target] for target in targets["targets"]]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    words = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={directory / 'prometheus'}"]
    words.append(f"--web.listen-address=127.0.0.1:{port}")
    return server(words, log=directory / "prometheus.log", ready=f"http://127.0.0.1:{port}/-/ready")


def test_prometheus_scrapes_the_daemon_and_finds_no_fault_with_its_metrics(installation: Installation) -> None:
    until(lambda: installation.query('up{job="monitor"} == 1'), "the daemon is scraped")
    text = httpx.get(f"{installation.daemon}/metrics", timeout=_PATIENCE_S).text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("process_", "python_"))]
    assert ours == []
    groups = httpx.get(f"{installation.prometheus}/api/v1/rules", timeout=_PATIENCE_S).json()["data"]["groups"]
    assert {rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")} == set()


def test_an_infringement_is_an_alert_that_reaches_the_rights_desk(installation: Installation) -> None:
    def told() -> list[dict[str, Any]]:
        posts = [post for post in installation.receiver.posts["/alerts"] if post["receiver"] == "rights-desk"]
        return [alert for post in posts for alert in post["alerts"]]

    (alert, *_) = until(told, "the rights desk is told")
    assert alert["status"] == "firing"
    assert alert["labels"]["alertname"] == "MonitorInfringement"
    assert alert["labels"]["stream"] == "radio"
    assert alert["annotations"]["summary"] == "Stream radio airs what no licence covers"

    def held() -> bool:
        alerts = httpx.get(f"{installation.alertmanager}/api/v2/alerts", timeout=_PATIENCE_S).json()
        return any(each["labels"]["alertname"] == "MonitorInfringement" for each in alerts)

    until(held, "Alertmanager holds the alert")
    # The daemon's own webhook told the same.
    until(
        lambda: (
            {"match.provisional", "match.confirmed"} <= {post["type"] for post in installation.receiver.posts["/desk"]}
        ),
        "the daemon's own webhooks arrive",
    )


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_each_query_of_each_panel_is_answered_with_data(path: Path, installation: Installation) -> None:
    instance = installation.daemon.removeprefix("http://")
    values = {
        "$instance": instance,
        "$stream": "radio",
        "$__rate_interval": "5m",
    }

    def filled(expression: str) -> str:
        for name, value in values.items():
            expression = expression.replace(name, value)
        assert "$" not in expression, expression
        return expression

    dashboard = json.loads(path.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert panels and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    queries = {
        filled(target["expr"]): panel["title"] for panel in panels for target in panel["targets"] if target["expr"]
    }
    for panel in panels:
        assert panel["targets"] and panel["description"]

    for expression, title in queries.items():
        until(partial(installation.query, expression), f"panel {title!r} of {path.name} has data: {expression}")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_each_variable_of_each_dashboard_has_values(path: Path, installation: Installation) -> None:
    until(lambda: installation.query("monitor_build_info"), "the daemon is scraped")
    for variable in json.loads(path.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            inner = variable["definition"].removeprefix("label_values(").removesuffix(")")
            expression, _, label = inner.rpartition(",")
            query = partial(installation.query, expression.replace("$instance", ".+"))
            found = until(query, f"variable {variable['name']} has values")
            assert all(sample["metric"].get(label.strip()) for sample in found), variable["name"]


def test_the_provisioned_dashboards_are_where_grafana_looks() -> None:
    compose_file = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    grafana = compose_file["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/monitor.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"] and home.name in {path.name for path in DASHBOARDS}
    for path in DASHBOARDS:
        (default,) = [v for v in json.loads(path.read_text())["templating"]["list"] if v["type"] == "datasource"]
        assert default["current"]["value"] == source["uid"]
