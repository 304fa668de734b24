"""`monitor catalog` as its users run it: a process of its own, the shipped model, the embedded servers."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.catalog.sound import write_melody

_COMMAND = [sys.executable, "-m", "monitor", "catalog"]


def _run(data_dir: Path, *arguments: str | Path, code: int = 0) -> str:
    command = [*_COMMAND, *map(str, arguments), "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout if code in (0, 65) else done.stderr


def _json(data_dir: Path, *arguments: str | Path, code: int = 0) -> Any:
    return json.loads(_run(data_dir, *arguments, "--json", code=code))


def _start(data_dir: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [*_COMMAND, *map(str, arguments), "--data-dir", str(data_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _read_until(process: subprocess.Popen[str], status: str, count: int) -> set[str]:
    """The ids of the first `count` lines of that status."""
    assert process.stdout is not None
    found: set[str] = set()
    while len(found) < count:
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        if line.startswith(status):
            found.add(line.split()[1])
    return found


def test_a_catalog_from_first_file_to_last(data_dir: Path, tmp_path: Path) -> None:
    for seed in range(3):
        write_melody(tmp_path / f"in/{seed}.wav", seed, 8.0)
    (tmp_path / "in/broken.mp3").write_bytes(b"")
    assert _json(data_dir, "list") == {"references": []}
    answer = _json(data_dir, "add", tmp_path / "in", code=65)
    assert [(row["reference_id"], row["status"]) for row in answer["references"]] == [
        ("0", "added"),
        ("1", "added"),
        ("2", "added"),
        ("broken", "unreadable"),
    ]
    assert answer["references"][0]["path"] == f"{tmp_path}/in/0.wav"
    assert answer["references"][0]["reason"] is None
    assert answer["references"][3]["reason"] == f"{tmp_path}/in/broken.mp3 is empty (0 bytes); copy it again"
    summary = answer["summary"]
    assert (summary["catalog"], summary["files"], summary["added"], summary["unreadable"]) == ("default", 4, 3, 1)
    assert summary["model_id"].startswith("fingerprint-")
    listed = _json(data_dir, "list")["references"]
    assert [row["reference_id"] for row in listed] == ["0", "1", "2"]
    assert _json(data_dir, "show", "1") == listed[1]
    (status,) = _json(data_dir, "status")["catalogs"]
    assert (status["catalog"], status["references"], status["search"]) == ("default", 3, "exact")
    assert status["windows"] == status["vectors"] == sum(row["windows"] for row in listed)
    assert _json(data_dir, "remove", "1", "nothing", code=65) == {
        "references": [{"reference_id": "1", "status": "removed"}, {"reference_id": "nothing", "status": "unknown"}]
    }
    verdict = _json(data_dir, "verify")
    assert (verdict["references"], verdict["findings"], verdict["sound"]) == (2, [], True)
    text = _run(data_dir, "add", tmp_path / "in", code=65)
    assert text.splitlines()[-1].startswith("1 added, 2 unchanged, 1 unreadable; ")
    assert "unreadable  broken  (" in text
    assert f"{'path':18} {tmp_path}/in/0.wav" in _run(data_dir, "show", "0")


def test_what_is_asked_for_wrongly_has_its_exit_code_and_one_sentence(data_dir: Path, tmp_path: Path) -> None:
    assert _run(data_dir, "add", code=2).startswith("monitor: nothing to load: name files or directories")
    (tmp_path / "list.csv").write_text("id\n")
    done = subprocess.run(
        [*_COMMAND, "add", "--manifest", str(tmp_path / "list.csv"), "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.startswith(f"monitor: the manifest {tmp_path}/list.csv has no column 'path'")
    assert _run(data_dir, "list", "--catalog", "nope", code=78).startswith("monitor: there is no catalog nope; ")


def test_killed_at_any_time_and_run_again_nothing_is_half_or_twice(data_dir: Path, tmp_path: Path) -> None:
    names = {f"{seed:02}" for seed in range(24)}
    for name in names:
        write_melody(tmp_path / f"{name}.wav", int(name), 12.0)
    added: set[str] = set()
    for count in (1, 4, 2, 5):
        process = _start(data_dir, "add", tmp_path, "--parallel", "3")
        added |= _read_until(process, "added", count)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    answer = _json(data_dir, "add", tmp_path)
    statuses = {row["reference_id"]: row["status"] for row in answer["references"]}
    assert statuses.keys() == names
    assert {statuses[name] for name in added} == {"unchanged"}
    assert set(statuses.values()) == {"added", "unchanged"}
    verdict = _json(data_dir, "verify")
    assert (verdict["references"], verdict["findings"]) == (24, [])
    (status,) = _json(data_dir, "status")["catalogs"]
    assert (status["windows"], status["unfinished"]) == (status["vectors"], 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(data_dir: Path, tmp_path: Path, number: signal.Signals) -> None:
    for seed in range(24):
        write_melody(tmp_path / f"{seed}.wav", seed, 60.0)
    process = _start(data_dir, "add", tmp_path, "--parallel", "2")
    added = _read_until(process, "added", 2)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1] == "monitor: interrupted; run the same command again to go on"
    verdict = _json(data_dir, "verify")
    assert verdict["sound"]
    assert added <= {row["reference_id"] for row in _json(data_dir, "list")["references"]}


def test_a_terminal_shows_a_bar_with_rate_and_time_left(data_dir: Path, tmp_path: Path) -> None:
    for seed in range(4):
        write_melody(tmp_path / f"{seed}.wav", seed, 120.0)
    ours, theirs = pty.openpty()
    command = [*_COMMAND, "add", str(tmp_path), "--data-dir", str(data_dir), "--parallel", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        lines = process.stdout.read().splitlines() if process.stdout else []
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert process.returncode == 0
    assert [line.split()[0] for line in lines[:4]] == ["added"] * 4
    assert "[######......" in shown
    assert "of 4 files" in shown
    assert "times real time" in shown
    assert "left" in shown
