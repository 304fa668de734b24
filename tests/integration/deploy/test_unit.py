"""The unit and its snippets, by systemd's own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import DEPLOY

UNIT = DEPLOY / "systemd" / "monitor.service"


def systemd(program: str, *words: str) -> str:
    """Output of a program of systemd, which must succeed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package systemd)")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_sandbox_leaves_little_open() -> None:
    said = systemd("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT))
    (level,) = re.findall(r"Overall exposure level for monitor.service: ([0-9.]+)", said)
    assert float(level) <= 2.0


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # What the unit starts is not installed here.
    text = re.sub(
        r"^(Exec\w+=\S*?)/opt/monitor/bin/monitor", rf"\1{shutil.which('true')}", UNIT.read_text(), flags=re.M
    )
    unit = tmp_path / "monitor.service"
    unit.write_text(text)
    said = systemd("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit))
    assert "monitor.service" not in said


def test_the_snippets_make_the_user_and_its_directories(tmp_path: Path) -> None:
    for directory in ("etc", "var/lib"):
        (tmp_path / directory).mkdir(parents=True)
    systemd("systemd-sysusers", f"--root={tmp_path}", str(DEPLOY / "systemd" / "monitor.sysusers.conf"))
    passwd = (tmp_path / "etc/passwd").read_text()
    (entry,) = re.findall(r"^monitor:x:(\d+):(\d+):.*:/var/lib/monitor:(.*)$", passwd, flags=re.M)
    assert entry[2].endswith("nologin")
    tmpfiles = str(DEPLOY / "systemd" / "monitor.tmpfiles.conf")
    systemd("systemd-tmpfiles", f"--root={tmp_path}", "--create", tmpfiles)
    found = {name: (tmp_path / name).stat() for name in ("etc/monitor", "etc/monitor/secrets", "var/lib/monitor")}
    assert {name: oct(stat.st_mode & 0o777) for name, stat in found.items()} == {
        "etc/monitor": "0o750",
        "etc/monitor/secrets": "0o750",
        "var/lib/monitor": "0o700",
    }
    assert found["var/lib/monitor"].st_uid == int(entry[0])
    assert found["etc/monitor"].st_gid == int(entry[1])
