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


async def broadcast(music: Path) -> tuple[dict[str, Any], str]:
    """What the benchmark printed: its JSON, and its progress."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.broadcast", "--audio", str(music), "--quick", "--json"),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate()
    assert out, said.decode()
    return json.loads(out), said.decode()


def is_good(told: dict[str, Any]) -> bool:
    """Every airing was found and nothing else; three of four in all respects. The benchmark's bar is higher."""
    figures, excused = told["figures"], told["excused"]["airings"]
    missed = [entry for entry in told["airings"] if entry["outcome"] == "MISSED" and entry["title"] not in excused]
    return not missed and figures["never_aired"] == 0 and figures["found"] >= 0.75 * figures["judged"] >= 7


@pytest.mark.skipif(shutil.which("icecast2") is None, reason="icecast2 is not installed")
async def test_every_airing_on_every_mount_of_a_real_icecast_is_found(music: Path) -> None:
    told, said = await broadcast(music)
    if not is_good(told):
        # It happens in real time, on a machine that may have been too busy for it: then once more.
        told, said = await broadcast(music)
    assert is_good(told), (told["never_aired"], said)
    assert set(told["figures"]["by_mount"]) == {"mp3-128", "mp3-48", "aac-64", "opus-48"}
