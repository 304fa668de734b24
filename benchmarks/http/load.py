"""Two hundred requests a second for a minute, beside twenty monitored streams: how long answers take, what is dropped.

Requests leave by the clock, whether or not earlier ones have been answered; how far behind it the slowest left is
printed, with the processor time of either side: a benchmark that is late itself says nothing of the daemon.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import yaml

from benchmarks.http.client import Client
from benchmarks.processes import aligning, processor_s
from monitor.demo.composer import compose
from monitor.demo.instruments import SAMPLE_RATE_HZ

_PORT = 18710
_LIMIT_MS = 100.0
_PATIENCE_S = 30.0
_PATHS = (
    "/api/v1/streams",
    "/api/v1/matches?limit=50",
    "/api/v1/matches?stream=stream-{stream}",
    "/api/v1/references?limit=50",
    "/api/v1/references/count",
    "/api/v1/streams/stream-{stream}/history",
    "/api/v1/history",
    "/api/v1/deliveries",
    "/-/ready",
)


async def run(args: argparse.Namespace) -> int:
    """Start a daemon, ask, print; 1 if answers were late or windows were dropped."""
    directory = Path(tempfile.mkdtemp(prefix="monitor-load-"))
    if os.geteuid() == 0:
        directory.chmod(0o711)  # noqa: ASYNC240
    try:
        return await _run(args, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _run(args: argparse.Namespace, directory: Path) -> int:
    audio = directory / "audio"
    audio.mkdir()
    for number in range(4):
        with wave.open(str(audio / f"piece-{number}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            samples = np.clip(compose(4711, number).samples, -1, 1)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
    streams = [
        {"name": f"stream-{number}", "url": str(audio / f"piece-{number % 4}.wav")} for number in range(args.streams)
    ]
    config = directory / "monitor.yaml"
    pipeline = {} if args.align_processes is None else {"align_processes": args.align_processes}
    config.write_text(yaml.safe_dump({"http": {"port": _PORT}, "streams": streams, "pipeline": pipeline}))
    words = ("-c", str(config), "--data-dir", str(directory / "data"))
    loading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "monitor", "catalog", "add", str(audio), *words), stdout=asyncio.subprocess.DEVNULL
    )
    if await loading.wait():
        return 1
    with (directory / "log").open("wb") as log:
        daemon = await asyncio.create_subprocess_exec(sys.executable, "-m", "monitor", "run", *words, stderr=log)
        client = Client("127.0.0.1", _PORT)
        try:
            await _ready(client, daemon)
            await asyncio.sleep(10)
            return await _ask(args, client, daemon)
        finally:
            client.close()
            if daemon.returncode is None:
                daemon.send_signal(signal.SIGTERM)
            await daemon.wait()


async def _ready(client: Client, daemon: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(180):
        while daemon.returncode is None:
            try:
                if (await client.get("/-/ready"))[0] == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.5)
    raise RuntimeError("the daemon ended")


async def _ask(args: argparse.Namespace, client: Client, daemon: asyncio.subprocess.Process) -> int:
    times_ms: list[float] = []
    statuses: dict[int, int] = {}
    before = await _counted(client)
    others = aligning(daemon.pid)
    processors_s = [processor_s(os.getpid()), processor_s(daemon.pid), sum(map(processor_s, others))]
    late_s = 0.0

    async def ask(path: str) -> None:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                status, _ = await client.get(path)
        except OSError:  # TimeoutError is one
            status = 0
        times_ms.append(1000 * (time.perf_counter() - began))
        statuses[status] = statuses.get(status, 0) + 1

    choose = random.Random(1)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(args.rate * args.duration_s)):
            await asyncio.sleep(max(0.0, began + number / args.rate - time.perf_counter()))
            late_s = max(late_s, time.perf_counter() - began - number / args.rate)
            path = choose.choice(_PATHS).format(stream=choose.randrange(args.streams))
            group.create_task(ask(path))
    lasted_s = time.perf_counter() - began
    after_s = [processor_s(os.getpid()), processor_s(daemon.pid), sum(map(processor_s, others))]
    mine, theirs, aligned = ((after - before) / lasted_s for before, after in zip(processors_s, after_s, strict=True))
    after = await _counted(client)
    quantiles = statistics.quantiles(times_ms, n=100)
    dropped = after["monitor_windows_dropped_total"] - before["monitor_windows_dropped_total"]
    heard = after["monitor_windows_total"] - before["monitor_windows_total"]
    print(
        f"{len(times_ms)} requests in {lasted_s:.1f} s beside {args.streams} streams: p50 {quantiles[49]:.1f} ms,"
        f" p95 {quantiles[94]:.1f} ms, p99 {quantiles[98]:.1f} ms, slowest {max(times_ms):.1f} ms; statuses {statuses};"
        f" {heard:.0f} windows, {dropped:.0f} dropped, {after['monitor_queue_length']:.0f} waiting in the end"
    )
    print(
        f"processor: the daemon {theirs:.0%} of one, {len(others)} aligning beside it {aligned:.0%}, this benchmark"
        f" {mine:.0%}; requests left {1000 * late_s:.0f} ms late at most"
    )
    return 0 if quantiles[94] < _LIMIT_MS and not dropped and set(statuses) == {200} else 1


async def _counted(client: Client) -> dict[str, float]:
    found = dict.fromkeys(("monitor_windows_dropped_total", "monitor_windows_total", "monitor_queue_length"), 0.0)
    _, metrics = await client.get("/metrics")
    for line in metrics.decode().splitlines():
        name, _, rest = line.partition("{")
        if name in found and 'queue="journal_bytes"' not in rest:
            found[name] += float(rest.rpartition(" ")[2])
    return found
