"""A few kills of the benchmark's hundred: `python -m benchmarks.kills` runs them all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.kills import broadcast, run
from benchmarks.kills.supervisor import Moment
from monitor.demo.library import Library
from monitor.demo.programme import Recording

from .conftest import write_wav


def library(folder: Path, pieces: dict[str, np.ndarray]) -> Library:
    recordings = [Recording(reference_id=name, title=name, samples=sound) for name, sound in pieces.items()]
    rows = ["id,path,title"]
    for one in recordings:
        write_wav(folder / f"{one.reference_id}.wav", one.samples)
        rows.append(f"{one.reference_id},{folder / f'{one.reference_id}.wav'},{one.title}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return Library(catalogued=tuple(recordings), uncatalogued=(), manifest=manifest)


async def test_no_airing_and_no_webhook_is_lost_by_kills(data_dir, pieces, ffmpeg):
    recordings = library(data_dir, pieces)
    on_air = broadcast.write(recordings, stations=1, round_s=15, seed=7, ffmpeg=ffmpeg)
    moments = [Moment.OPEN, Moment.START, Moment.KEEPER]
    outcome = await run.perform(data_dir, on_air, moments, undisturbed_round=False, seed=7, say=print)
    # Printed, because a failed assertion shows only the beginning and the end of so much.
    print(json.dumps(outcome.figures, indent=2), *outcome.judged, *outcome.strays, sep="\n")
    assert run.nothing_lost(outcome.figures)
    assert [kill.moment for kill in outcome.kills] == moments
    assert outcome.figures["airings"]["owed"] >= 1
