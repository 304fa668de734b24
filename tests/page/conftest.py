"""One daemon on real stations, and Debian's Chromium, for all tests of the page.

Screenshots are kept in build/screenshots for whoever wants to look.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import shutil
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from monitor.demo.composer import compose
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.station import Station, mp3, on_air

from ..acceptance.conftest import Command, Daemon, write_wav

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
#: How long anything may take on a machine that does much else.
PATIENCE_S = 120
TIMEOUT_MS = PATIENCE_S * 1000
#: Every test of the page: on the session's loop, with time for whoever comes first to start everything.
TOGETHER = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]
#: A title that would run if the page took it for markup.
MARKUP = "<img src=x onerror=\"document.title='run'\"> & <b>bold</b>"
PIECES = 4
PHONE = {"width": 390, "height": 844}

expect.set_options(timeout=TIMEOUT_MS)


@dataclass(frozen=True, kw_only=True)
class World:
    """What runs while the page is looked at: `first` plays piece-0 again and again, `second` what a test schedules."""

    command: Command
    daemon: Daemon
    second: Station
    pieces: dict[str, np.ndarray]
    audio: Path

    @property
    def address(self) -> str:
        return self.daemon.address

    def air(self, samples: np.ndarray, *, in_s: float = 2) -> None:
        self.second.schedule(samples, on_air_s=time.time() + in_s)

    async def aired(self) -> dict[str, Any]:
        """The oldest match of `first` that is certain."""

        async def found() -> list[dict[str, Any]]:
            with contextlib.suppress(httpx.TransportError):
                answer = await self.daemon.get("/api/v1/matches?stream=first&state=confirmed&state=ended")
                return [match for match in answer.json()["matches"] if match["end_s"] > match["start_s"] + 5]
            return []

        oldest: dict[str, Any] = (await self.daemon.until(found, timeout_s=PATIENCE_S))[-1]
        return oldest


def seconds(samples: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    return samples[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def _manifest(audio: Path, pieces: dict[str, np.ndarray]) -> Path:
    titles = [MARKUP, "Second Winter", "Paper Lanterns", "The Long Way Down"]
    path = audio / "manifest.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "path", "title", "artist", "owner"))
        for (name, samples), title in zip(pieces.items(), titles, strict=True):
            write_wav(audio / f"{name}.wav", samples)
            rows.writerow((name, audio / f"{name}.wav", title, "The Ferrymen", "Northwind"))
    return path


async def _run_world(directory: Path, begun: asyncio.Future[World], over: asyncio.Event) -> None:
    """Everything is entered and left by one task, as its task groups need it."""
    pieces = {f"piece-{number}": compose(4711, number).samples for number in range(PIECES)}
    audio = directory / "audio"
    audio.mkdir(parents=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        command = Command(directory, listener.getsockname()[1])
    # The stations are on this machine, which a stream added through the API may reach only if that is allowed.
    command.write(http={"port": command.port, "allow_private_streams": True})
    await command.run("catalog", "add", "--manifest", str(_manifest(audio, pieces)))
    from monitor.audio.ffmpeg import find_ffmpeg

    first, second = (Station(name=name, audio=mp3(128), ffmpeg=find_ffmpeg()) for name in ("first", "second"))
    async with on_air([first, second]) as address:
        command.write(
            streams=[
                {"name": "first", "url": address + first.path},
                {"name": "second", "url": address + second.path},
                {"name": "away", "url": "http://127.0.0.1:9/none.mp3"},
            ]
        )
        first.schedule(pieces["piece-0"], on_air_s=time.time() + 3, repeat=True)
        async with _running(command) as daemon:
            begun.set_result(World(command=command, daemon=daemon, second=second, pieces=pieces, audio=audio))
            await over.wait()
            assert await daemon.stop() == 0, "".join(daemon.log)


@contextlib.asynccontextmanager
async def _running(command: Command) -> AsyncIterator[Daemon]:
    process = await command.start("run")
    daemon = Daemon(process, f"http://127.0.0.1:{command.port}")
    reading = asyncio.create_task(daemon.read())
    try:
        await daemon.until(daemon.is_ready, timeout_s=PATIENCE_S * 2)
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(session_dir: Path) -> AsyncIterator[World]:
    begun: asyncio.Future[World] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()
    task = asyncio.create_task(_run_world(session_dir / "page", begun, over))
    await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    yield begun.result()
    over.set()
    await task


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(session_dir: Path, world: World) -> AsyncIterator[Browser]:
    """Chromium, whose microphone hears seconds 12 to 32 of piece-2, over and over."""
    heard = session_dir / "microphone.wav"
    write_wav(heard, seconds(world.pieces["piece-2"], 12, 32))
    async with async_playwright() as playwright:
        arguments = [
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={heard}",
        ]
        browser = await playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        await browser.close()


class Visit:
    """Windows on the page; a fault in one fails the test at its end."""

    def __init__(self, browser: Browser, world: World) -> None:
        self._browser, self._world = browser, world
        self._contexts: list[BrowserContext] = []
        self.faults: list[str] = []

    async def open(self, route: str = "#/live", **options: Any) -> Page:
        """A new window at a route of the page."""
        usual = {"base_url": self._world.address, "viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
        context = await self._browser.new_context(**(usual | options))
        context.set_default_timeout(TIMEOUT_MS)
        self._contexts.append(context)
        page = await context.new_page()
        page.on("console", lambda said: self._said(said.type, said.text, said.location))
        page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        await page.goto(route if ":" in route else f"/{route}")
        return page

    def _said(self, kind: str, text: str, location: Any) -> None:
        if kind in {"error", "warning"}:
            self.faults.append(f"console {kind}: {text} ({location})")

    def _asked(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            self.faults.append(f"asked another host: {url}")

    async def close(self) -> None:
        for context in self._contexts:
            with contextlib.suppress(Exception):
                await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, world: World) -> AsyncIterator[Visit]:
    made = Visit(browser, world)
    yield made
    await made.close()
    assert made.faults == []


async def keep(page: Page, name: str) -> None:
    """Keep a picture of what is seen."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
