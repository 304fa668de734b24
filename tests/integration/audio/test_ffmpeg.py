"""ffmpeg as a child: found, ended in every way that a parent can end, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from benchmarks.faults import station as behaviours
from benchmarks.faults.station import icecast, on_air, until
from monitor.audio.ffmpeg import LAST_WORDS, QUIET, find_ffmpeg, running
from monitor.audio.source import SourceOptions, open_source
from monitor.errors import ConfigError


def test_the_system_comes_first_then_the_wheel(tmp_path, monkeypatch):
    wheel = imageio_ffmpeg.get_ffmpeg_exe()
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg().path == wheel
    broken.unlink()
    broken.symlink_to(wheel)
    assert find_ffmpeg().path == str(broken)
    assert find_ffmpeg(wheel).version == find_ffmpeg().version


def test_a_configured_ffmpeg_must_run(tmp_path):
    for wrong in (tmp_path / "none", tmp_path, "/bin/false"):
        with pytest.raises(ConfigError, match="is not a program that runs"):
            find_ffmpeg(str(wrong))


def test_no_ffmpeg_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no ffmpeg runs on this machine"):
        find_ffmpeg()


def tone(*output: str) -> list[str]:
    return [*QUIET, "-f", "lavfi", "-i", "sine=440", *output, "-f", "s16le", "-ar", "8000", "-ac", "1", "pipe:1"]


async def test_a_read_ends_anywhere_and_samples_stay_whole(program):
    arguments = [*QUIET, "-f", "lavfi", "-i", "sine=440:d=3", "-f", "s16le", "-ar", "8000", "-ac", "1", "pipe:1"]
    async with running(program, arguments) as run:
        whole = await run.read_block(1 << 20)
    async with running(program, arguments) as run:
        stdout = run._stdout
        ordinary, sizes = stdout.read, iter([1, 3, 1, 1, 2, 5, 7, 1] * 10_000)

        async def in_bits(limit: int) -> bytes:
            return await ordinary(min(limit, next(sizes)))

        stdout.read = in_bits
        parts = []
        while (part := await run.read(4000)).size:
            parts.extend(part.tolist())
        stdout.read = ordinary
        assert await run.wait() == 0
    assert parts == whole.tolist()


async def test_the_last_hundred_lines_are_kept_and_masked(program):
    title = "\n".join(f"line {number} hunter22" for number in range(300))
    arguments = tone("-t", "0.1", "-metadata", f"title={title}")
    async with running(program, arguments, mask=lambda text: text.replace("hunter22", "***")) as run:
        await run.read_block(1 << 20)
        assert await run.wait() == 0
    assert 10 < len(run.last_words) <= LAST_WORDS
    assert not any("hunter22" in line for line in (*run.last_words, *run.opening))
    assert any("Input #0" in line for line in run.opening)


async def test_ended_while_it_writes_and_while_it_waits(program, no_child_left):
    with no_child_left():
        async with running(program, tone()) as run:
            assert os.getpgid(run.pid) == run.pid
            # The pipe is full now, and ffmpeg blocked on it.
            await asyncio.sleep(0.3)
        async with on_air() as station:
            url = station.add("/x", behaviours.dumb)
            async with running(program, [*QUIET, "-i", url, "-f", "null", "-"]):
                await asyncio.sleep(0.3)


async def test_cancelled_again_and_again_it_is_still_reaped(program, no_child_left):
    async def hold() -> None:
        async with running(program, tone()):
            await asyncio.sleep(60)

    with no_child_left():
        task = asyncio.create_task(hold())
        await asyncio.sleep(0.3)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0.002)
        assert task.cancelled()


async def test_a_source_that_is_closed_leaves_nothing(program, make, music, no_child_left):
    mp3 = make("live.mp3", "-i", str(music), "-c:a", "libmp3lame", "-b:a", "48k", "-ac", "1").read_bytes()
    async with on_air() as station:
        url = station.add("/live", icecast(mp3, bytes_per_s=6000))
        source = open_source(url, sample_rate_hz=8000, ffmpeg=program, options=SourceOptions())
        with no_child_left():
            async with contextlib.aclosing(source.listen()) as chunks:
                async for _ in chunks:
                    break
            task = asyncio.create_task(anext(source.listen()))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


PARENT = """
import asyncio, sys
from monitor.audio.ffmpeg import QUIET, FfmpegProgram, running

async def main():
    program = FfmpegProgram(path=sys.argv[1], version="")
    async with running(program, [*QUIET, "-i", sys.argv[2], "-f", "s16le", "pipe:1"]) as run:
        print(run.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_a_killed_daemon_leaves_no_ffmpeg(program):
    """ffmpeg waits for a server that says nothing: neither a broken pipe nor the end of its input would end it."""
    async with on_air() as station:
        url = station.add("/x", behaviours.dumb)
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PARENT, program.path, url, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
        )
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        await until(lambda: bool(station.requests))
        assert _runs(pid)
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        await until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
