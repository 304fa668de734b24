"""Broadcasts of a catalog's own recordings, by seed: every degradation at several lengths, and much that is none."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import composer, voice
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.errors import InputError
from monitor.evaluate.degrade import Degradation, levelled
from monitor.evaluate.truth import Airing, Broadcast
from monitor.types import Reference, Samples

#: Seconds that an airing lasts.
LENGTHS_S = (3.0, 5.0, 10.0, 20.0)
#: What comes between airings, and how often; "none" is one airing straight after another.
_BETWEEN = {"none": 0.3, "music": 0.3, "voice": 0.2, "noise": 0.15, "silence": 0.05}
_LONGEST_BROADCAST_S = 900.0
#: A second of an airing is never quieter than this: silence cannot be told from silence.
_QUIETEST_DBFS = -45.0
#: Airings come from the first minutes of a recording.
_LONGEST_S = 300.0
#: Seeds of the composer that no demo catalog is made of.
_STRANGERS = 7_000_003
_EDGE_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is evaluated."""

    seed: int
    #: Airings of each degradation at each length.
    airings: int
    degradations: tuple[Degradation, ...]
    lengths_s: tuple[float, ...] = LENGTHS_S


class Library:
    """The catalog's recordings as sound. A file that is gone or cannot be decoded is passed over, and counted."""

    def __init__(self, references: Sequence[Reference], ffmpeg: FfmpegProgram) -> None:
        self._references = sorted(references, key=lambda reference: reference.reference_id)
        self._ffmpeg = ffmpeg
        self.unreadable: dict[str, str] = {}

    def draw(self, rng: Generator) -> Iterator[Reference]:
        """All of them in one random order after another."""
        while len(self.unreadable) < len(self._references):
            for index in rng.permutation(len(self._references)):
                if (reference := self._references[index]).reference_id not in self.unreadable:
                    yield reference
        raise InputError(
            "none of the catalog's recordings can be read from where they were loaded"
            + "".join(f"; {reason}" for reason in list(self.unreadable.values())[:1])
        )

    async def stretch(self, reference: Reference, length_s: float, rng: Generator) -> tuple[float, Samples] | None:
        """A loud enough stretch of a recording and the second at which it begins; None if there is none."""
        length = round(length_s * SAMPLE_RATE_HZ)
        if reference.duration_s < length_s:
            return None
        try:
            sound = await self._decode(reference)
        except InputError as error:
            self.unreadable[reference.reference_id] = str(error)
            return None
        for _ in range(6):
            start = int(rng.integers(0, max(1, len(sound) - length)))
            taken = sound[start : start + length]
            if len(taken) == length and _quietest_dbfs(taken) > _QUIETEST_DBFS:
                return start / SAMPLE_RATE_HZ, taken
        return None

    async def _decode(self, reference: Reference) -> Samples:
        """From the beginning, not from a place that was sought: containers are not exact about places."""
        decoding = decode_file(
            Path(reference.path), sample_rate_hz=SAMPLE_RATE_HZ, ffmpeg=self._ffmpeg, max_duration_s=_LONGEST_S
        )
        async with aclosing(decoding) as decoded:  # type: ignore[type-var]
            return np.concatenate([block async for block in decoded])


async def write(library: Library, plan: Plan, folder: Path, ffmpeg: FfmpegProgram) -> list[Broadcast]:
    """The plan's airings in random order, a quarter of an hour to a file, with what is no airing between them.

    The same catalog and seed give the same sound.
    """
    rng = np.random.default_rng([plan.seed, 31])
    trials = [
        (degradation, length_s)
        for degradation in plan.degradations
        for length_s in plan.lengths_s
        for _ in range(plan.airings)
    ]
    shelf = library.draw(rng)
    strangers = _Strangers(plan.seed)
    broadcasts: list[Broadcast] = []
    tape = _Tape(folder / "broadcast-01.wav")
    for index in rng.permutation(len(trials)):
        degradation, length_s = trials[index]
        if tape.length_s > _LONGEST_BROADCAST_S:
            broadcasts.append(tape.close())
            tape = _Tape(folder / f"broadcast-{len(broadcasts) + 1:02d}.wav")
        kind = str(rng.choice(list(_BETWEEN), p=list(_BETWEEN.values())))
        if kind != "none":
            tape.fill(kind, strangers.sound(kind, float(rng.uniform(4, 18)), rng))
        await _air(degradation, length_s, tape=tape, library=library, shelf=shelf, ffmpeg=ffmpeg, rng=rng)
    broadcasts.append(tape.close())
    return broadcasts


async def _air(
    degradation: Degradation,
    length_s: float,
    *,
    tape: _Tape,
    library: Library,
    shelf: Iterator[Reference],
    ffmpeg: FfmpegProgram,
    rng: Generator,
) -> None:
    for _ in range(40):
        reference = next(shelf)
        taken = await library.stretch(reference, length_s * degradation.tempo_ratio, rng)
        if taken is not None:
            sound = degradation.change(levelled(taken[1]), ffmpeg, rng)
            tape.air(reference, taken[0], levelled(sound, float(rng.uniform(-26, -16))), degradation)
            return
    raise InputError(f"no recording of the catalog has {length_s * degradation.tempo_ratio:.0f} s that are loud enough")


class _Tape:
    """A broadcast being recorded, with its truth."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sounds: list[Samples] = []
        self._airings: list[Airing] = []
        self.length_s = 0.0

    def air(self, reference: Reference, reference_start_s: float, sound: Samples, degradation: Degradation) -> None:
        self._append(
            sound,
            reference_id=reference.reference_id,
            reference_start_s=reference_start_s,
            tempo_ratio=degradation.tempo_ratio,
            family=degradation.family,
            condition=degradation.label,
            snr_db=degradation.snr_db,
            claimed=degradation.claimed,
        )

    def fill(self, kind: str, sound: Samples) -> None:
        self._append(
            sound, reference_id=None, reference_start_s=None, tempo_ratio=1.0, family=kind, condition=kind,
            snr_db=None, claimed=True,
        )  # fmt: skip

    def _append(
        self,
        sound: Samples,
        *,
        reference_id: str | None,
        reference_start_s: float | None,
        tempo_ratio: float,
        family: str,
        condition: str,
        snr_db: float | None,
        claimed: bool,
    ) -> None:
        edge = np.linspace(0, 1, round(_EDGE_S * SAMPLE_RATE_HZ), dtype=np.float32)
        sound = sound.copy()
        sound[: len(edge)] *= edge
        sound[-len(edge) :] *= edge[::-1]
        length_s = len(sound) / SAMPLE_RATE_HZ
        self._airings.append(
            Airing(
                query=self._path.name,
                reference_id=reference_id,
                start_s=self.length_s,
                end_s=self.length_s + length_s,
                reference_start_s=reference_start_s,
                tempo_ratio=tempo_ratio,
                family=family,
                condition=condition,
                snr_db=snr_db,
                claimed=claimed,
            )
        )
        self._sounds.append(sound)
        self.length_s += length_s

    def close(self) -> Broadcast:
        samples = np.concatenate(self._sounds)
        with wave.open(str(self._path), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return Broadcast(path=self._path, duration_s=self.length_s, airings=tuple(self._airings))


class _Strangers:
    """What the catalog does not hold: composed music, babble, noise, silence."""

    def __init__(self, seed: int) -> None:
        self._seed = seed + _STRANGERS
        self._piece = np.zeros(0, dtype=np.float32)
        self._number = 0

    def sound(self, kind: str, length_s: float, rng: Generator) -> Samples:
        if kind == "silence":
            return np.zeros(round(length_s * SAMPLE_RATE_HZ), dtype=np.float32)
        made = {"music": self._music, "voice": voice.babble, "noise": voice.noise}[kind](rng, length_s)
        return levelled(made, float(rng.uniform(-26, -16)))

    def _music(self, _rng: Generator, length_s: float) -> Samples:
        """Piece after piece, no second of them twice."""
        length = round(length_s * SAMPLE_RATE_HZ)
        if len(self._piece) < length:
            self._piece = composer.compose(self._seed, self._number).samples
            self._number += 1
        sound, self._piece = self._piece[:length], self._piece[length:]
        return sound


def _quietest_dbfs(sound: Samples) -> float:
    """The root mean square of the quietest second, relative to the whole stretch at -20 dBFS."""
    loud = levelled(sound)
    seconds = [loud[start : start + SAMPLE_RATE_HZ] for start in range(0, len(loud), SAMPLE_RATE_HZ)]
    whole = [second for second in seconds if len(second) >= SAMPLE_RATE_HZ // 2] or [loud]
    return 20 * float(np.log10(min(float(np.sqrt(np.mean(second**2))) for second in whole) + 1e-9))
