"""`monitor config` as its parser and its exit codes show it."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import pytest
import yaml

from monitor.cli import config as command
from monitor.config import InvalidConfigError, json_schema

GOOD = "streams: [{name: a, url: 'http://user:hush@h/'}]\n"


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["config", *argv])
    return asyncio.run(args.command(args))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "monitor.yaml"
    path.write_text(GOOD)
    return path


def test_check_of_a_good_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "-c", str(path)) == 0
    assert capsys.readouterr().out == f"{path} is valid: 1 stream, 1 catalog, 0 webhooks\n"
    assert run("check", "-c", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "problems": []}


def test_check_of_a_bad_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(GOOD + "http: {prot: 1}\n")
    with pytest.raises(InvalidConfigError) as refused:
        run("check", "-c", str(path), "--json")
    assert refused.value.exit_code == 78
    problem = {"source": str(path), "line": 2, "key": "http.prot", "message": "is not a key; did you mean 'port'?"}
    assert json.loads(capsys.readouterr().out) == {"valid": False, "problems": [problem]}


def test_show_prints_what_is_in_force(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONITOR_LOG_LEVEL", "debug")
    assert run("show", "-c", str(path), "--data-dir", "/state") == 0
    text = capsys.readouterr().out
    shown = yaml.safe_load(text)
    assert (shown["data_dir"], shown["log"]["level"], shown["http"]["port"]) == ("/state", "debug", 8710)
    assert "hush" not in text
    assert run("show", "-c", str(path), "--data-dir", "/state", "--json") == 0
    assert json.loads(capsys.readouterr().out) == shown


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == json_schema()
