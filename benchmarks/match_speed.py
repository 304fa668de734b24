"""`python -m benchmarks.match_speed --audio DIR [--minutes 60] [--seed N]`: how many times real time `match` runs.

The query is one programme of the broadcast benchmark as an MP3 file; the catalog is the folder's music. Times are
of the command's own report, each stage's seconds set against the seconds of audio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.broadcast import corpus, script
from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.demo import commands
from monitor.demo.commands import Program
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.programme import Programme
from monitor.errors import MonitorError

_STAGES = ("decode_s", "embed_s", "search_s", "align_s", "wall_s")


def main() -> int:
    """Run and print one JSON object, or a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.match_speed", description=__doc__)
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="music in folders")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the query")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--references", type=int, help="limit the catalog to so many pieces")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    try:
        figures = asyncio.run(_measure(args))
    except MonitorError as error:
        print(f"benchmarks.match_speed: {error}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps(figures))
    else:
        catalog = f"{figures['references']} references ({figures['hours']:.1f} h)"
        print(f"{figures['audio_s'] / 60:.0f} minutes against {catalog}")
        for stage, times in figures["times_real_time"].items():
            print(f"  {stage.removesuffix('_s'):7s} {times:8.0f} times real time")
        print(f"{figures['matches']} matches of {figures['airings']} airings")
    return 0


async def _measure(args: argparse.Namespace) -> dict[str, Any]:
    ffmpeg = find_ffmpeg()
    found = await asyncio.to_thread(corpus.survey, args.audio, ffmpeg=ffmpeg, seed=args.seed, largest=args.references)
    with tempfile.TemporaryDirectory(prefix="monitor-speed-") as name:
        place = Path(name)
        os.chmod(place, 0o711)  # noqa: PTH101 - the servers' user must be able to pass
        program = Program(config=place / "monitor.yaml", data_dir=place / "data")
        commands.write_config(program.config, catalog="speed", urls={}, port=0)
        async with commands.servers(program.data_dir):
            catalogued = await corpus.catalogue(found, program=program, catalog="speed", folder=place)
            rng = np.random.default_rng([args.seed, 6])
            programme = await asyncio.to_thread(
                script.write,
                "query",
                minutes=args.minutes,
                catalogued=catalogued,
                held_out=found.held_out,
                talk=corpus.talker(found.voices, ffmpeg=ffmpeg, rng=rng),
                ffmpeg=ffmpeg,
                rng=rng,
            )
            query = await asyncio.to_thread(_encode, programme, place, ffmpeg)
            answer = await program.run("match", str(query), "--json")
    timing = answer["timing"]
    return {
        "audio_s": timing["audio_s"],
        "references": len(catalogued),
        "hours": sum(piece.duration_s for piece in catalogued) / 3600,
        "timing": timing,
        "times_real_time": {stage: timing["audio_s"] / max(1e-3, timing[stage]) for stage in _STAGES},
        "airings": sum(airing.reference_id is not None for airing in programme.airings),
        "matches": len(answer["queries"][0]["matches"]),
    }


def _encode(programme: Programme, folder: Path, ffmpeg: FfmpegProgram) -> Path:
    sound, query = folder / "query.wav", folder / "query.mp3"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((np.clip(programme.samples, -1, 1) * 32767).astype("<i2").tobytes())
    command = [
        ffmpeg.path,
        "-nostdin",
        "-loglevel",
        "error",
        "-i",
        str(sound),
        "-ar",
        "44100",
        "-b:a",
        "128k",
        str(query),
    ]
    subprocess.run(command, check=True)
    sound.unlink()
    return query


if __name__ == "__main__":
    sys.exit(main())
