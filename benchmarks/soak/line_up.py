"""Who is on the air: healthy stations with airings, silent ones, and such as come and go; and what must be found."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import transmitter
from benchmarks.transmitter import Mount, Tape
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import library, programme, station
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.demo.library import Library
from monitor.demo.programme import Airing, Programme, Recording

#: Airings shorter than this prove nothing.
SHORTEST_AIRING_S = 8.0
#: How long a flapping station is well, and away.
GOOD_S = (20.0, 240.0)
AWAY_S = (1.0, 75.0)
_PROGRAMMES = 4
_PROGRAMME_S = 600.0
#: Music, talk and noise are a third of the time: what two cores bear of sixty streams beside other work.
_PAUSE_S = (25.0, 50.0)
_SILENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LineUp:
    """All stations and the truth about what they play."""

    recordings: Library
    healthy: tuple[Mount, ...]
    silent: tuple[Mount, ...]
    flapping: tuple[Mount, ...]
    airings: dict[str, tuple[Airing, ...]]

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """All of them."""
        return (*self.healthy, *self.silent, *self.flapping)

    def aired(self, mount: Mount, *, since_s: float, until_s: float) -> list[Airing]:
        """What a healthy or flapping station played whole within that time; seconds count from `since_s`."""
        length_s = mount.tape.duration_s
        found = []
        for turn in range(
            math.floor((since_s - mount.began_s) / length_s), 1 + int((until_s - mount.began_s) / length_s)
        ):
            shift_s = mount.began_s + turn * length_s - since_s
            found += [
                dataclasses.replace(airing, start_s=airing.start_s + shift_s, end_s=airing.end_s + shift_s)
                for airing in self.airings[mount.name]
                if airing.start_s + shift_s >= 0 and airing.end_s + shift_s <= until_s - since_s
            ]
        return found


async def compose(folder: Path, *, streams: int, seed: int, ffmpeg: FfmpegProgram) -> LineUp:
    """A third of the stations each; four programmes in two codecs, which every station plays from another place."""
    recordings = await library.composed(folder, seed)
    programmes = await asyncio.to_thread(_write, recordings, seed, ffmpeg)
    formats = [station.mp3(128), station.aac(64), station.mp3(64), station.aac(48)]
    played = [
        await asyncio.to_thread(transmitter.encode, one.samples, audio, ffmpeg)
        for one, audio in zip(programmes, formats, strict=True)
    ]
    quiet = np.zeros(round(_SILENCE_S * SAMPLE_RATE_HZ), dtype=np.float32)
    silence = await asyncio.to_thread(transmitter.encode, quiet, station.mp3(64), ffmpeg)
    chance = random.Random(seed)
    airings: dict[str, tuple[Airing, ...]] = {}

    def mount(name: str, tape: Tape) -> Mount:
        return Mount(name=name, tape=tape, began_s=time.time() - chance.uniform(0, tape.duration_s))

    def playing(kind: str, count: int) -> tuple[Mount, ...]:
        made = []
        for number in range(count):
            which = number % _PROGRAMMES
            made.append(mount(f"{kind}-{number + 1:02d}", played[which]))
            airings[made[-1].name] = tuple(
                dataclasses.replace(airing, station=made[-1].name)
                for airing in programmes[which].airings
                if airing.reference_id is not None and airing.end_s - airing.start_s >= SHORTEST_AIRING_S
            )
        return tuple(made)

    silent = tuple(mount(f"silent-{number + 1:02d}", silence) for number in range(streams // 3))
    return LineUp(
        recordings=recordings,
        healthy=playing("healthy", streams - 2 * (streams // 3)),
        silent=silent,
        flapping=playing("flapping", streams // 3),
        airings=airings,
    )


def _write(recordings: Library, seed: int, ffmpeg: FfmpegProgram) -> list[Programme]:
    """About ten minutes each: airings from random middles, between them strangers, speech, noise and silence."""
    written = []
    for number in range(_PROGRAMMES):
        rng = np.random.default_rng([seed, 8, number])
        tape = programme.Tape("", ffmpeg=ffmpeg, rng=rng)
        known = _round(recordings.catalogued, rng)
        while tape.length_s < _PROGRAMME_S:
            tape.play(next(known), rng.uniform(10, 25))
            match int(rng.integers(5)):
                case 0:
                    stranger = recordings.uncatalogued[int(rng.integers(len(recordings.uncatalogued)))]
                    tape.play(stranger, rng.uniform(8, 15))
                case 1:
                    tape.speak(rng.uniform(4, 10))
                case 2:
                    tape.rustle(rng.uniform(3, 6))
            tape.rest(rng.uniform(*_PAUSE_S))
        tape.rest(4.0)
        written.append(tape.programme())
    return written


def _round(recordings: Sequence[Recording], rng: Generator) -> Iterator[Recording]:
    while True:
        for index in rng.permutation(len(recordings)):
            yield recordings[index]
