"""`monitor demo` as a stranger runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary directory that also the unprivileged user of a root session's servers may enter."""
    with tempfile.TemporaryDirectory(prefix="monitor-test-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


@contextlib.asynccontextmanager
async def demo(temporary: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command; afterwards nothing that it started runs, and nothing that it wrote is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "monitor", "demo", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        limit=1 << 22,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert _processes_that_name(temporary) == []
    # onnxruntime 1.32 writes a session id of its own there as soon as it is imported.
    assert {path.name for path in temporary.iterdir()} <= {".ses"}  # noqa: ASYNC240


def _processes_that_name(directory: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(directory) in line]


async def shown(temporary: Path, *words: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error of a demo in an empty directory of its own."""
    directory = Path(tempfile.mkdtemp(dir=temporary))
    directory.chmod(0o711)  # noqa: ASYNC240
    async with demo(directory, *words) as process:
        out, said = await process.communicate()
    shutil.rmtree(directory)
    return process.returncode, out.decode(), said.decode()


async def test_every_airing_is_found_once_and_of_an_empty_catalog_none(temporary: Path) -> None:
    # Both are on the air for the same minute and a half.
    (code, out, said), (code_without, out_without, said_without) = await asyncio.gather(
        shown(temporary, "--json", "--seed", "1"), shown(temporary, "--empty-catalog", "--seed", "2")
    )
    assert code_without == 1, said_without
    assert "0 of 10 airings found once" in out_without
    assert "FAILED" in out_without
    if code != 0:
        # It happens in real time, on a machine that may have been too busy for it: then once more, alone.
        code, out, said = await shown(temporary, "--json", "--seed", "1")
    assert code == 0, said + out
    told = json.loads(out)
    assert told["passed"]
    assert told["never_aired"] == []
    assert {entry["outcome"] for entry in told["airings"]} == {"found", "nothing, rightly"}
    assert len({entry["stream"] for entry in told["airings"]}) == 3
    assert {entry["condition"] for entry in told["airings"]} == {
        "plain", "under speech", "tempo 2 %", "crossing", "stream drops", "uncatalogued", "speech", "noise", "silence",
    }  # fmt: skip
    assert "http://127.0.0.1:" in told["page"]


async def test_ctrl_c_ends_all_of_it(temporary: Path) -> None:
    async with demo(temporary) as process:
        assert process.stdout
        while b"on the air" not in (line := await process.stdout.readline()):
            assert line, (await process.stderr.read()).decode() if process.stderr else ""
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
        assert process.returncode == 130
        assert said.decode() == "monitor: the demo was interrupted; nothing of it is left running\n"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (
            ["--audio", "no-such-folder"],
            2,
            "monitor: --audio no-such-folder is not a directory; name a folder with recordings",
        ),
        (["-c", "monitor.yaml"], 2, "monitor: monitor demo writes its own configuration; leave --config out"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_sentence(
    temporary: Path, words: list[str], status: int, sentence: str
) -> None:
    async with demo(temporary, *words) as process:
        _, said = await process.communicate()
        assert process.returncode == status
        assert said.decode().strip().splitlines()[-1] == sentence
