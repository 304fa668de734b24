"""`monitor run` told to stop before it has begun: at whatever moment of its loading."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def loaded(pid: int, module: str) -> bool:
    """Whether the process has mapped a shared library of that name."""
    try:
        return module in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("_pydantic_core", signal.SIGTERM),
        ("_multiarray_umath", signal.SIGTERM),
        ("_pydantic_core", signal.SIGHUP),
    ],
)
def test_a_signal_while_it_loads_is_no_crash(data_dir: Path, module: str, number: signal.Signals) -> None:
    config = data_dir / "monitor.yaml"
    config.write_text("postgres: {dsn: 'postgresql://nobody@127.0.0.1:9/none'}\nmilvus: {uri: 'http://127.0.0.1:9'}\n")
    words = ["run", "-c", str(config), "--data-dir", str(data_dir / "data")]
    process = subprocess.Popen([sys.executable, "-m", "monitor", *words], stderr=subprocess.DEVNULL)
    try:
        while not loaded(process.pid, module):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        # Told to stop it ends well, if it was not faster to find that PostgreSQL is not there.
        assert process.wait(60) in ({0, 69} if number is signal.SIGTERM else {69})
    finally:
        process.kill()
        process.wait()
