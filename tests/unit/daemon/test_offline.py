from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from monitor.daemon import offline
from monitor.daemon.offline import Twin
from monitor.errors import UnreachableError
from tests.unit.match.simulation import CALIBRATION, OPTIONS


class Model:
    model_id, sample_rate_hz, window_s, hop_s, dimension = "simulated", 64, 2.0, 0.5, 8
    window_samples, hop_samples, reference_hop_samples, pitch_ratios = 128, 32, 16, (1.0,)

    def read_span(self, samples):
        count = 1 + (len(samples) - self.window_samples) // self.hop_samples
        return np.ones((count, 1, self.dimension), np.float32)


class Reader:
    name, references, catalog = "default", {}, SimpleNamespace(hop_s=0.25)

    async def search_readings(self, windows, k):
        await asyncio.sleep(0.2)  # the blocks ahead fill up meanwhile
        raise UnreachableError("Milvus is away")


async def test_a_server_that_goes_away_ends_the_command_rather_than_hang_it(monkeypatch):
    async def decode(*_args, **_kwargs):
        for _ in range(20):
            yield np.full(64 * 10, 0.1, np.float32)

    monkeypatch.setattr(offline, "decode_file", decode)
    twin = Twin(reader=Reader(), embedder=Model(), calibration=CALIBRATION, options=OPTIONS, ffmpeg=None, top_k=5)
    with pytest.raises(UnreachableError):
        async with asyncio.timeout(60):
            await twin.match(Path("x.wav"))
