"""Tunes by seed as Standard MIDI files: songs, waltzes, pads, and the repetitive electronic kind that deceives most."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.demo.instruments import Generator

_TICKS = 480
_DRUMS = 9
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 3, 5, 7, 10), (0, 2, 4, 7, 9))
_PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (5, 3, 0, 4), (1, 4, 0, 5), (0, 0, 3, 4), (0, 6, 5, 6), (0, 2, 3, 4))
_KICK, _SNARE, _CLAP, _HAT, _OPEN_HAT, _CRASH, _TOM = 36, 38, 39, 42, 46, 49, 45
#: General MIDI's families by what they are good for; of each only the programs that the part may use are taken.
_LEADS = (*range(16), *range(24, 32), *range(40, 44), *range(56, 80), *range(80, 88), *range(104, 112))
_CHORDS = (*range(8), *range(16, 32), *range(48, 56), *range(88, 96))
_BASSES = (*range(32, 40), 58, 70, 87)


class Part(enum.IntEnum):
    """Who may use which of General MIDI's programs: every third, so that no two share an instrument."""

    #: Left to training.
    TRAINING = 0
    #: Rendered pieces of the catalog.
    CATALOG = 1
    #: What no catalog holds.
    STRANGERS = 2


class Form(enum.StrEnum):
    """How a tune is made."""

    SONG = "song"
    WALTZ = "waltz"
    PAD = "pad"
    LOOP = "loop"
    BEATS = "beats"
    ARPEGGIO = "arpeggio"
    CHIP = "chip"


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One stroke; beats from the tune's beginning."""

    channel: int
    pitch: int
    beat: float
    length_beats: float
    velocity: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tune:
    """A MIDI file and what is known of it."""

    name: str
    form: Form
    duration_s: float
    midi: bytes


def compose(seed: int, number: int, *, part: Part, length_s: float) -> Tune:
    """The tune of that number in the work of that seed, about `length_s` long. Forms go round by number."""
    rng = np.random.default_rng([seed, number, int(part), 77])
    form = list(Form)[number % len(Form)]
    slow = form in {Form.PAD, Form.WALTZ}
    tempo_bpm = float(rng.uniform(62, 110) if slow else rng.uniform(88, 174))
    beats_per_bar = 3 if form is Form.WALTZ else 4
    bars = max(8, round(length_s * tempo_bpm / 60 / beats_per_bar))
    band = _Band(rng, part, form, beats_per_bar)
    notes: list[Note] = []
    for bar in range(bars):
        notes += band.bar(bar, bars)
    duration_s = (bars * beats_per_bar + 4) * 60 / tempo_bpm
    name = f"{part.name.lower()}-{seed}-{number:04d}-{form}"
    return Tune(name=name, form=form, duration_s=duration_s, midi=_file(notes, band.programs, tempo_bpm))


class _Band:
    """The instruments and the patterns of one tune; repetitive forms repeat their bars note for note."""

    def __init__(self, rng: Generator, part: Part, form: Form, beats_per_bar: int) -> None:
        self._rng, self._form, self._beats = rng, form, beats_per_bar
        self._scale = _SCALES[int(rng.integers(len(_SCALES)))]
        self._root = int(rng.integers(48, 60))
        self._progression = _PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))]
        self._swing = float(rng.choice((0.0, 0.0, 0.12)))
        self._exact = form in {Form.LOOP, Form.BEATS, Form.ARPEGGIO, Form.CHIP}
        self.programs = {
            channel: _program(rng, part, among) for channel, among in enumerate((_LEADS, _CHORDS, _BASSES, _LEADS))
        }
        #: Sections of eight bars: every tune has a few, and an exact one says the same thing each time it comes.
        self._patterns = [self._pattern() for _ in range(3)]
        self._order = [0, 0, 1, 0, 2, 1, 0, 2]

    def bar(self, number: int, bars: int) -> list[Note]:
        section = self._order[number // 8 % len(self._order)]
        again = self._exact or self._rng.random() < 0.6
        pattern = self._patterns[section] if again else self._pattern()
        degree = self._progression[number % len(self._progression)]
        notes = [
            Note(
                channel=channel,
                pitch=pitch if channel == _DRUMS else self._pitch(pitch + degree, octave),
                beat=number * self._beats + beat + (self._swing if beat % 1 == 0.5 else 0.0),
                length_beats=length,
                velocity=int(np.clip(velocity + (0 if self._exact else self._rng.normal(0, 7)), 20, 127)),
            )
            for channel, pitch, octave, beat, length, velocity in pattern
        ]
        # Electronic music adds and takes away layers: the first and the last bars are thin.
        thin = self._exact and (number < 4 or number >= bars - 4)
        return [note for note in notes if not thin or note.channel in {2, _DRUMS}]

    def _pattern(self) -> list[tuple[int, int, int, float, float, int]]:
        """(channel, scale step or drum, octave, beat, length, velocity) of one bar."""
        rng, beats, form = self._rng, self._beats, self._form
        made: list[tuple[int, int, int, float, float, int]] = []
        if form is not Form.BEATS:
            made += self._harmony()
            made += [(2, 0, -2, float(beat), 0.9, 95) for beat in range(0, beats, 1 if form is Form.LOOP else 2)]
        if form in {Form.SONG, Form.WALTZ, Form.CHIP}:
            beat, step = 0.0, int(rng.integers(-2, 6))
            while beat < beats:
                length = float(rng.choice((0.5, 0.5, 1.0, 1.5)))
                if rng.random() < 0.85:
                    made.append((0, step, 1, beat, min(length, beats - beat), int(rng.integers(75, 110))))
                step = int(np.clip(step + rng.integers(-2, 3), -4, 9))
                beat += length
        if form is Form.ARPEGGIO:
            steps = rng.permutation((0, 2, 4, 7))
            made += [(3, int(steps[place % 4]), 1, place / 4, 0.22, 88) for place in range(beats * 4)]
        if form not in {Form.PAD, Form.WALTZ}:
            made += self._drums()
        return made

    def _harmony(self) -> list[tuple[int, int, int, float, float, int]]:
        if self._form in {Form.LOOP, Form.CHIP}:
            places = [beat + 0.5 for beat in range(self._beats)]
            return [(1, step, 0, beat, 0.4, 80) for beat in places for step in (0, 2, 4)]
        if self._form is Form.WALTZ:
            return [(1, step, 0, float(beat), 0.8, 70) for beat in (1, 2) for step in (0, 2, 4)]
        return [(1, step, 0, 0.0, float(self._beats), 72) for step in (0, 2, 4)]

    def _drums(self) -> list[tuple[int, int, int, float, float, int]]:
        rng = self._rng
        four = self._form in {Form.LOOP, Form.BEATS, Form.ARPEGGIO}
        kicks = [0.0, 1.0, 2.0, 3.0] if four else [0.0, 2.0, float(rng.choice((1.5, 2.5, 3.5)))]
        made = [(_DRUMS, _KICK, 0, beat, 0.2, 110) for beat in kicks]
        made += [(_DRUMS, int(rng.choice((_SNARE, _CLAP))), 0, beat, 0.2, 100) for beat in (1.0, 3.0)]
        step = float(rng.choice((0.25, 0.5, 0.5)))
        made += [
            (_DRUMS, _OPEN_HAT if rng.random() < 0.1 else _HAT, 0, beat, 0.1, int(rng.integers(55, 95)))
            for beat in np.arange(0, self._beats, step).tolist()
            if rng.random() < 0.9
        ]
        if self._form is Form.BEATS:
            made += [(_DRUMS, int(rng.choice((_TOM, 50, 56, 60, 64, 70))), 0, float(beat), 0.2, 90)
                     for beat in rng.choice(np.arange(0, 4, 0.25), 4, replace=False)]  # fmt: skip
        return made

    def _pitch(self, step: int, octave: int) -> int:
        scale = self._scale
        return int(np.clip(self._root + scale[step % len(scale)] + 12 * (step // len(scale) + octave), 24, 103))


def _program(rng: Generator, part: Part, among: Sequence[int]) -> int:
    """One of the part's own programs."""
    return int(rng.choice([program for program in among if program % len(Part) == int(part)]))


def _file(notes: Sequence[Note], programs: dict[int, int], tempo_bpm: float) -> bytes:
    """A Standard MIDI file of format 0 (MIDI 1.0 specification)."""
    events: list[tuple[int, int, bytes]] = [(0, 0, b"\xff\x51\x03" + round(60e6 / tempo_bpm).to_bytes(3, "big"))]
    events += [(0, 1, bytes((0xC0 | channel, program))) for channel, program in programs.items()]
    for note in notes:
        begin = round(note.beat * _TICKS)
        end = begin + max(1, round(note.length_beats * _TICKS))
        events.append((begin, 3, bytes((0x90 | note.channel, note.pitch, note.velocity))))
        events.append((end, 2, bytes((0x80 | note.channel, note.pitch, 0))))
    events.sort()
    track, now = bytearray(), 0
    for tick, _, message in events:
        track += _variable(tick - now) + message
        now = tick
    track += _variable(4 * _TICKS) + b"\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, _TICKS) + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _variable(value: int) -> bytes:
    """A variable-length quantity."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(0x80 | value & 0x7F)
    return bytes(reversed(parts))
