"""The files for Docker, as far as they can be held to the project without it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.check_dockerfile import context, instructions
from monitor import config as configuration

from .conftest import DEPLOY, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def is_watched(service: dict[str, Any]) -> bool:
    """Whether a health check is in force: the service's own, or that of our image."""
    return "test" in service["healthcheck"] if "healthcheck" in service else "build" in service


def secret_names(service: dict[str, Any]) -> set[str]:
    return {secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", ())}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_careful_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] or name == "milvus"
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["pids_limit"] > 0
    assert is_watched(service) or name == "loader"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "build" in service or not service["image"].endswith(":latest")
    assert secret_names(service) <= COMPOSE["secrets"].keys()
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
        elif not source.startswith("${"):
            assert source in COMPOSE["volumes"], source


def test_each_service_waits_until_what_it_needs_is_healthy() -> None:
    waits = {
        name: {needed: condition["condition"] for needed, condition in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    for needs in waits.values():
        assert set(needs.values()) <= {"service_healthy"}
        assert all(is_watched(SERVICES[needed]) for needed in needs)
    assert waits["monitor"].keys() == {"postgres", "milvus"}
    assert waits["milvus"].keys() == {"etcd", "minio"}
    assert waits["prometheus"].keys() == {"monitor", "alertmanager"}
    assert waits["grafana"].keys() == {"prometheus"}


def test_only_monitor_reaches_the_servers() -> None:
    on_storage = {name for name, service in SERVICES.items() if "storage" in service["networks"]}
    assert on_storage == {"postgres", "etcd", "minio", "milvus", "monitor", "loader"}
    assert COMPOSE["networks"]["storage"]["internal"] is True
    assert not any("ports" in SERVICES[name] for name in on_storage - {"monitor"})


def test_milvus_is_of_the_line_that_the_contract_tests_run_on() -> None:
    (tested,) = re.findall(r'"milvus==([0-9.]+);', (ROOT / "pyproject.toml").read_text())
    assert SERVICES["milvus"]["image"] == f"milvusdb/milvus:v{tested}"


def test_the_secrets_are_made_once_random_and_for_nobody_else(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets.sh"
    shutil.copy(DEPLOY / "docker" / "make-secrets.sh", script)

    def made() -> dict[str, str]:
        subprocess.run([str(script)], check=True, timeout=30)
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    first = made()
    assert {f"./deploy/docker/secrets/{name}" for name in first} == {
        secret["file"] for secret in COMPOSE["secrets"].values()
    }
    assert made() == first
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    plain = [first[name] for name in ("postgres-password", "minio-user", "minio-password", "http-token")]
    assert len(set(plain)) == 4 and all(re.fullmatch(r"[0-9a-f]{48}", secret) for secret in plain)
    assert f":{first['postgres-password']}@postgres/" in first["postgres-dsn"]
    assert yaml.safe_load(first["milvus-user.yaml"]) == {
        "minio": {"accessKeyID": first["minio-user"], "secretAccessKey": first["minio-password"]}
    }


def test_the_configuration_of_the_container_is_one(tmp_path: Path) -> None:
    environ = dict(SERVICES["monitor"]["environment"])
    for name, value in environ.items():
        if name.endswith("_FILE"):
            path = tmp_path / Path(value).name
            path.write_text("postgresql://monitor:secret@postgres/monitor" if "DSN" in name else "a" * 48)
            assert path.name in secret_names(SERVICES["monitor"])
            environ[name] = str(path)
    config = configuration.load(DEPLOY / "docker" / "monitor.yaml", environ=environ)
    assert config.http.host == "0.0.0.0" and config.http.token is not None
    assert config.milvus is not None and config.milvus.uri == "http://milvus:19530"
    assert config.postgres is not None
    (published,) = SERVICES["monitor"]["ports"]
    assert published == f"127.0.0.1:{config.http.port}:{config.http.port}"


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    files = {str(path) for path in context(ROOT)}
    tops = {path.partition("/")[0] for path in files}
    assert tops == {"LICENSE", "README.md", "monitor", "pyproject.toml", "tests"}
    assert {path for path in files if path.startswith("tests/")} == {"tests/constraints.txt"}
    assert not any("__pycache__" in path for path in files)
    for name, argument in instructions((ROOT / "Dockerfile").read_text()):
        if name == "COPY" and not argument.startswith("--from"):
            *sources, _ = argument.split()
            for source in sources:
                assert any(path == source or path.startswith(f"{source}/") for path in files), source


def test_the_image_is_not_root_and_says_how_it_is() -> None:
    found = dict(instructions((ROOT / "Dockerfile").read_text()))
    assert found["USER"] == "10001:10001"
    assert "/-/healthy" in found["HEALTHCHECK"]
    assert found["VOLUME"] == "/var/lib/monitor"


def test_hadolint_finds_no_fault_with_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
