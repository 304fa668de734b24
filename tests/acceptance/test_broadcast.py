"""A real icecast2 with four mounts, in the benchmark's quick size, on composed music."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

from monitor.demo.composer import compose
from monitor.demo.instruments import SAMPLE_RATE_HZ

pytestmark = pytest.mark.icecast


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Two albums of six pieces, and a single that is small enough to be the one that is held out."""
    for album, numbers in {"first": range(6), "second": range(6, 12), "single": range(12, 13)}.items():
        (tmp_path / album).mkdir()
        for number in numbers:
            piece = compose(99, number)
            with wave.open(str(tmp_path / album / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
                file.writeframes((piece.samples * 32767).astype("<i2").tobytes())
    return tmp_path


def is_right(entry: dict[str, Any]) -> bool:
    """Found once, where it was. Speech may drown the first or last seconds of what it is spoken on."""
    if entry["outcome"] == "INEXACT" and entry["condition"] == "under speech":
        edges_s = (entry["start_error_s"], entry["end_error_s"])
        return max(map(abs, edges_s)) <= 3 and abs(entry["position_error_s"]) <= 0.5
    return entry["outcome"] in ("found", "nothing, rightly")


@pytest.mark.skipif(shutil.which("icecast2") is None, reason="icecast2 is not installed")
async def test_every_airing_on_every_mount_of_a_real_icecast_is_found(music: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.broadcast", "--audio", str(music), "--quick", "--json"),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate()
    assert out, said.decode()
    told = json.loads(out)
    figures = told["figures"]
    bad = [entry for entry in told["airings"] if not is_right(entry)]
    assert bad == [], said.decode()
    assert figures["never_aired"] == 0, told["never_aired"]
    assert set(figures["by_mount"]) == {"mp3-128", "mp3-48", "aac-64", "opus-48"}
    assert figures["judged"] >= 10
