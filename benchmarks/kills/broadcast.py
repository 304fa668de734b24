"""What is on the air: a few stations whose programmes go round, so that the first round can pass undisturbed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import transmitter
from benchmarks.transmitter import Mount, Tape
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import programme, station
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.demo.library import Library
from monitor.demo.programme import Airing, Recording

#: At 128 kb/s a new listener is sent four seconds of what he missed: the rest of an outage is not heard.
_AUDIO = station.mp3(128)
_AIRING_S = (16.0, 28.0)
_PAUSE_S = (5.0, 9.0)
_LEAD_IN_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Aired:
    """One airing of one round, in Unix seconds of the station's clock."""

    airing: Airing
    turn: int
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Broadcast:
    """The stations and what each round of them plays."""

    manifest: Path
    mounts: tuple[Mount, ...]
    #: What each mount plays from the beginning on; silence before, so that no airing is cut by the beginning.
    tapes: dict[str, Tape]
    airings: dict[str, tuple[Airing, ...]]

    @property
    def round_s(self) -> float:
        """The longest round."""
        return max(tape.duration_s for tape in self.tapes.values())

    def begin(self) -> float:
        """Every programme begins, now; when that is, in Unix seconds."""
        now_s = time.time()
        for mount in self.mounts:
            mount.play(self.tapes[mount.name], now_s)
        return now_s

    def next_whole_s(self, now_s: float) -> float:
        """When the first airing that begins after then has ended."""
        return min(one.end_s for one in self.aired(since_s=now_s, until_s=now_s + 2 * self.round_s))

    def aired(self, *, since_s: float, until_s: float) -> Iterator[Aired]:
        """What was played whole within that time."""
        for mount in self.mounts:
            length_s = self.tapes[mount.name].duration_s
            for turn in range(math.ceil((until_s - mount.began_s) / length_s)):
                began_s = mount.began_s + turn * length_s
                for airing in self.airings[mount.name]:
                    start_s, end_s = began_s + airing.start_s, began_s + airing.end_s
                    if start_s >= since_s and end_s <= until_s:
                        yield Aired(airing=airing, turn=turn, start_s=start_s, end_s=end_s)


def write(recordings: Library, *, stations: int, round_s: float, seed: int, ffmpeg: FfmpegProgram) -> Broadcast:
    """Stations whose programmes last `round_s` or a little longer."""
    lead_in = transmitter.encode(np.zeros(round(_LEAD_IN_S * SAMPLE_RATE_HZ), dtype=np.float32), _AUDIO, ffmpeg)
    mounts, tapes, airings = [], {}, {}
    for number in range(stations):
        rng = np.random.default_rng([seed, 9, number])
        name = f"station-{number + 1}"
        tape = programme.Tape(name, ffmpeg=ffmpeg, rng=rng)
        pieces = _shuffled(recordings.catalogued, rng)
        while tape.length_s < round_s:
            tape.play(next(pieces), rng.uniform(*_AIRING_S))
            tape.rest(rng.uniform(*_PAUSE_S))
        written = tape.programme()
        tapes[name] = transmitter.encode(written.samples, _AUDIO, ffmpeg)
        mounts.append(Mount(name=name, tape=lead_in, began_s=time.time()))
        airings[name] = tuple(airing for airing in written.airings if airing.reference_id is not None)
    return Broadcast(manifest=recordings.manifest, mounts=tuple(mounts), tapes=tapes, airings=airings)


def _shuffled(recordings: Sequence[Recording], rng: Generator) -> Iterator[Recording]:
    while True:
        for index in rng.permutation(len(recordings)):
            yield recordings[index]
