"""How smooth the page stays while two hundred streams change: `python -m benchmarks.page_smoothness`

The page's own files and the real Chromium; the daemon is stood in for by one that says as much as a busy one would:
the levels of all streams each second, ten changes of streams and five matches a second, and a day of airings and gaps
for each strip. Printed are the intervals between frames and the tasks that kept the page from answering (50 ms and
more), after the first picture, while the page is scrolled from end to end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from playwright.async_api import async_playwright

from monitor.web.api import _STATIC
from monitor.web.assets import Assets

_PORT = 18711
_LONGEST_TASK_MS = 200.0
_P95_FRAME_MS = 34.0
_WATCH = """() => {
  window.frames_ms = []; window.tasks_ms = [];
  new PerformanceObserver((list) => list.getEntries().forEach((task) => tasks_ms.push(task.duration)))
    .observe({type: "longtask"});
  let last = performance.now(), down = 1;
  const frame = (now) => {
    frames_ms.push(now - last); last = now;
    scrollBy(0, 8 * down);
    if (scrollY <= 0) down = 1;
    if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1) down = -1;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame((now) => { last = now; requestAnimationFrame(frame); });
}"""


class Busy:
    """What a daemon with many streams would say."""

    def __init__(self, streams: int) -> None:
        self._draw = random.Random(1)
        self._names = [f"station-{number:03d}" for number in range(streams)]
        self.streams = {name: self._stream(name) for name in self._names}

    def _match(self, name: str, start_s: float, state: str) -> dict[str, Any]:
        return {
            "match_id": str(uuid.UUID(int=self._draw.getrandbits(128))),
            "stream": name,
            "catalog": "default",
            "reference_id": f"piece-{self._draw.randrange(500)}",
            "title": f"Piece No. {self._draw.randrange(500)}",
            "artist": "The Ferrymen",
            "state": state,
            "start_s": start_s,
            "end_s": start_s + 180,
            "reference_start_s": 0.0,
            "reference_duration_s": 200.0,
            "tempo_ratio": 1.0,
        }

    def _stream(self, name: str) -> dict[str, Any]:
        now_s = time.time()
        return {
            "name": name, "state": "receiving", "reason": None, "detail": "", "since_s": now_s - 3600, "up": True,
            "level_dbfs": -20.0, "addresses": [f"https://radio.example/{name}"], "catalogs": ["default"],
            "playing": [self._match(name, now_s - 60, "confirmed")], "source": "file", "paused": False,
            "delay_s": 0.4, "behind_s": 1.5, "alarm": None, "alarm_since_s": None,
        }  # fmt: skip

    def history(self) -> dict[str, Any]:
        """Forty airings and three gaps a day for each."""
        day_s = time.time() - 86400
        return {
            name: {
                "matches": [self._match(name, day_s + 2100 * number, "ended") for number in range(40)],
                "gaps": [
                    {"start_s": day_s + 20000 * number, "end_s": day_s + 20000 * number + 300, "reason": "network"}
                    for number in range(3)
                ],
            }
            for name in self._names
        }

    async def events(self) -> AsyncIterator[str]:
        """Levels, changes and matches, in ten helpings a second."""
        for turn in range(1 << 30):
            name = self._draw.choice(self._names)
            stream = self.streams[name]
            stream["playing"] = [] if stream["playing"] else [self._match(name, time.time(), "provisional")]
            yield _event("stream", stream)
            if turn % 2:
                name = self._draw.choice(self._names)
                yield _event("match", self._match(name, time.time() - 5, "confirmed"))
            if turn % 10 == 0:
                yield _event("level", {"levels": {name: -self._draw.uniform(5, 40) for name in self._names}})
            await asyncio.sleep(0.1)


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _app(busy: Busy) -> FastAPI:
    app, static = FastAPI(), Assets(directory=_STATIC)

    @app.get("/api/v1/streams")
    async def streams() -> dict[str, Any]:
        return {"streams": list(busy.streams.values())}

    @app.get("/api/v1/streams/{name}")
    async def stream(name: str) -> dict[str, Any]:
        return busy.streams[name]

    @app.get("/api/v1/history")
    async def history() -> dict[str, Any]:
        return {"streams": busy.history()}

    @app.get("/api/v1/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(busy.events(), media_type="text/event-stream")

    app.mount("/static", static)
    app.mount("/", Assets(directory=_STATIC, html=True))
    return app


async def run(streams: int, duration_s: float) -> int:
    """Serve, watch, print; 1 if the page was not smooth."""
    server = uvicorn.Server(uvicorn.Config(_app(Busy(streams)), port=_PORT, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    async with async_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        await page.goto(f"http://127.0.0.1:{_PORT}/#/live")
        await page.locator(".card .playing-title").nth(streams - 1).wait_for(state="attached", timeout=60_000)
        await asyncio.sleep(3)
        await page.evaluate(_WATCH)
        await asyncio.sleep(duration_s)
        frames_ms, tasks_ms = await page.evaluate("[frames_ms, tasks_ms]")
        await browser.close()
    server.should_exit = True
    server.force_exit = True
    await serving
    frames_ms.sort()
    p50_ms, p95_ms, p99_ms = (frames_ms[int(share * (len(frames_ms) - 1))] for share in (0.5, 0.95, 0.99))
    longest_ms = max(tasks_ms, default=0.0)
    print(
        f"{streams} streams, {duration_s:.0f} s: {len(frames_ms) / duration_s:.0f} frames a second;"
        f" between frames p50 {p50_ms:.0f} ms, p95 {p95_ms:.0f} ms, p99 {p99_ms:.0f} ms, most {frames_ms[-1]:.0f} ms;"
        f" {len(tasks_ms)} tasks over 50 ms, the longest {longest_ms:.0f} ms"
    )
    return 0 if p95_ms <= _P95_FRAME_MS and longest_ms <= _LONGEST_TASK_MS else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.page_smoothness", description=__doc__)
    parser.add_argument("--streams", type=int, default=200, metavar="N", help="streams (200)")
    parser.add_argument("--duration-s", type=float, default=30, metavar="S", help="seconds (30)")
    args = parser.parse_args()
    return asyncio.run(run(args.streams, args.duration_s))


if __name__ == "__main__":
    sys.exit(main())
