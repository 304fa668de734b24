"""The product as its users run it: the command as a subprocess, real stations, real servers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
import yaml

from monitor.demo.composer import compose
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.servers.client import embedded

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Four composed pieces by name."""
    return {f"piece-{number}": compose(4711, number).samples for number in range(4)}


@dataclass
class Command:
    """`monitor` with a data directory and a configuration file."""

    directory: Path
    port: int
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.directory / "monitor.yaml"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    def write(self, **sections: Any) -> None:
        self.config |= sections
        self.path.write_text(yaml.safe_dump({"http": {"port": self.port}} | self.config))

    async def run(self, *words: str, expect: int = 0) -> tuple[str, str]:
        """Standard output and standard error of one command, whose exit code is as expected."""
        process = await self.start(*words)
        out, err = (text.decode() for text in await process.communicate())
        assert process.returncode == expect, f"{words}: {process.returncode}\n{out}\n{err}"
        return out, err

    async def json(self, *words: str) -> Any:
        return json.loads((await self.run(*words, "--json"))[0])

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "monitor", *words, "-c", str(self.path), "--data-dir", str(self.data_dir)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        process = await self.start("run")
        daemon = Daemon(process, f"http://127.0.0.1:{self.port}")
        reading = asyncio.create_task(daemon.read())
        try:
            await daemon.until(daemon.is_ready)
            yield daemon
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading

    @asynccontextmanager
    async def database(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with (
            embedded(self.data_dir, milvus=False, linger_s=0.5) as addresses,
            await psycopg.AsyncConnection.connect(addresses.postgres_dsn, autocommit=True) as connection,
        ):
            yield connection


class Daemon:
    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process, self.address = process, address
        self.log: list[str] = []

    async def read(self) -> None:
        assert self.process.stderr
        while line := await self.process.stderr.readline():
            self.log.append(line.decode())

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(self.address + path)

    async def post(self, path: str, **kwargs: Any) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.post(self.address + path, **kwargs)

    async def is_ready(self) -> bool:
        try:
            return (await self.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def stream(self, name: str) -> dict[str, Any]:
        streams = (await self.get("/api/v1/streams")).json()["streams"]
        return next(stream for stream in streams if stream["name"] == name)

    async def until(self, condition: Callable[[], Awaitable[Any]], timeout_s: float = 180) -> Any:
        """What the condition returns once it is true; fails with the daemon's log otherwise."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (result := await condition()):
                    assert self.process.returncode is None, "".join(self.log)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            pytest.fail(f"not within {timeout_s} s: {condition}\n{''.join(self.log)}")
        return result

    async def matches(self, *states: str) -> list[dict[str, Any]]:
        found = (await self.get("/api/v1/matches")).json()["matches"]
        return [match for match in found if match["state"] in states]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    async def stop(self) -> int:
        self.process.terminate()
        async with asyncio.timeout(120):
            return await self.process.wait()


@pytest.fixture
def command(data_dir: Path, free_port: int) -> Command:
    made = Command(data_dir, free_port)
    made.write()
    return made


@pytest.fixture
async def loaded(command: Command, pieces: dict[str, np.ndarray], tmp_path: Path) -> Command:
    """The command with a catalog of the first three pieces."""
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in list(pieces)[:3]:
        write_wav(audio / f"{name}.wav", pieces[name])
    await command.run("catalog", "add", str(audio))
    return command


def ffmpegs_of(directory: Path) -> list[int]:
    """Processes of ffmpeg whose command line names something of this test."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if b"ffmpeg" in words and str(directory).encode() in words:
            found.append(int(entry.name))
    return found
