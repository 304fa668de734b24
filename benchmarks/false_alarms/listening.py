"""Sounds through the offline twin, one after another; what became of each is kept, so that a run goes on later."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.false_alarms.sounds import RATE_HZ, Sound, decoded
from monitor.daemon.offline import Twin
from monitor.demo.likeness import reduced, shares_audio
from monitor.errors import InputError
from monitor.evaluate.scoring import Row, rows_of

#: What a false row is compared with, on either side of it.
_AROUND_S = 6.0
#: Kinds of which a reference may hold the very recording: a roll of thunder in a piece of music is one.
_RECORDED = frozenset(("music", "noise"))


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One sound and all that was told of it."""

    kind: str
    name: str
    audio_s: float
    #: The most evidence that anything had, told or not.
    strongest_nats: float
    #: Ended matches: each is a false alarm.
    false: tuple[Row, ...]
    #: As `false`, but the same sound by waveform: the reference holds these seconds, whatever its name.
    copies: tuple[Row, ...]
    #: Told of and taken back.
    taken_back: tuple[Row, ...]


async def listen(twin: Twin, sounds: Iterable[Sound], kept: Path) -> list[Heard]:
    """Each sound once; those that `kept` (JSON lines) already has are not listened to again."""
    known = {heard.name: heard for heard in read(kept)}
    every: list[Heard] = []
    for sound in sounds:
        if sound.name not in known:
            with tempfile.TemporaryDirectory(prefix="monitor-alarms-") as folder:
                path = Path(folder) / "sound.wav"
                sound.make(path)
                known[sound.name] = await _heard(twin, sound, path)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(known[sound.name])) + "\n")
        every.append(known[sound.name])
    return every


async def _heard(twin: Twin, sound: Sound, path: Path) -> Heard:
    before_s, twin.strongest_nats = twin.timing.audio_s, 0.0
    try:
        rows = rows_of(sound.name, await twin.events(path))
    except InputError as problem:
        # Too short for one window, or no sound at all: nothing was heard.
        print(f"{sound.name}: {problem}", flush=True)
        rows = []
    ended = [row for row in rows if row.ended]
    copies = [row for row in ended if sound.kind in _RECORDED and _is_copy(row, path, twin)]
    return Heard(
        kind=sound.kind,
        name=sound.name,
        audio_s=twin.timing.audio_s - before_s,
        strongest_nats=twin.strongest_nats,
        false=tuple(row for row in ended if row not in copies),
        copies=tuple(copies),
        taken_back=tuple(row for row in rows if not row.ended),
    )


def _is_copy(row: Row, path: Path, twin: Twin) -> bool:
    """Cross-correlation of waveforms, without any model: four seconds correlate by more than a half."""
    reference = twin.references[row.reference_id]
    begin_s, length_s = max(0.0, row.start_s), row.end_s - row.start_s
    heard = decoded(path, start_s=begin_s, longest_s=length_s + _AROUND_S)
    at_s = max(0.0, row.reference_start_s - _AROUND_S)
    known = decoded(Path(reference.path), start_s=at_s, longest_s=length_s * row.tempo_ratio + 2 * _AROUND_S)
    return bool(len(heard) and len(known)) and shares_audio(reduced(heard, RATE_HZ), reduced(known, RATE_HZ))


def read(kept: Path) -> Iterator[Heard]:
    """What earlier runs have heard."""
    if not kept.is_file():
        return
    for line in kept.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        for name in ("false", "copies", "taken_back"):
            fields[name] = tuple(Row(**row) for row in fields[name])
        yield Heard(**fields)


def told_s(heard: Iterable[Heard]) -> float:
    """Seconds of sound for which something was provisional or more."""
    return float(
        np.sum([row.end_s - row.start_s for each in heard for row in (*each.false, *each.copies, *each.taken_back)])
    )
