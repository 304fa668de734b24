"""The demo's composer: pieces of real variety from a seed: keys, metres, harmony, melody, percussion, dynamics.

Every note is played by its own stroke with human timing and loudness, so that no two bars of a piece are the same
sound: a loop repeated exactly would have no single position to find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.demo import instruments
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator, Instrument, Stroke
from monitor.types import Samples

_MODES: Mapping[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
_PROGRESSIONS = (
    (0, 3, 4, 0), (0, 5, 3, 4), (5, 3, 0, 4), (1, 4, 0, 5), (0, 4, 5, 3), (0, 2, 3, 4),
    (3, 4, 2, 5), (0, 6, 3, 4), (5, 1, 4, 0), (0, 3, 0, 4), (2, 5, 1, 4), (0, 1, 3, 4),
)  # fmt: skip
_KEYS = ("C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
_BARS_PER_SECTION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """What a band plays, before a seed decides the notes."""

    name: str
    tempo_bpm: tuple[float, float]
    beats_per_bar: int
    modes: tuple[str, ...]
    lead: Instrument | None
    lead_pitch: int
    accompaniment: Instrument
    pattern: str
    bass: Instrument | None
    bass_pattern: str
    percussion: str
    #: Share of reverberation in the mix.
    room: float
    #: How much later the second of two quavers falls, as a share of a beat.
    swing: float = 0.0


_STYLES: tuple[Style, ...] = (
    Style(
        name="Ballad", tempo_bpm=(66, 84), beats_per_bar=4, modes=("major", "minor"), lead=instruments.flute,
        lead_pitch=74, accompaniment=instruments.electric_piano, pattern="arpeggio", bass=instruments.bass_guitar,
        bass_pattern="roots", percussion="soft", room=0.25,
    ),
    Style(
        name="Waltz", tempo_bpm=(138, 176), beats_per_bar=3, modes=("major", "harmonic minor"),
        lead=instruments.bowed_strings, lead_pitch=71, accompaniment=instruments.plucked_string, pattern="waltz",
        bass=instruments.plucked_string, bass_pattern="roots", percussion="none", room=0.3,
    ),
    Style(
        name="March", tempo_bpm=(104, 124), beats_per_bar=4, modes=("major", "mixolydian"), lead=instruments.brass,
        lead_pitch=67, accompaniment=instruments.brass, pattern="offbeat", bass=instruments.brass,
        bass_pattern="fifths", percussion="march", room=0.2,
    ),
    Style(
        name="Chorale", tempo_bpm=(58, 76), beats_per_bar=4, modes=("minor", "major"), lead=instruments.organ,
        lead_pitch=72, accompaniment=instruments.organ, pattern="sustained", bass=instruments.organ,
        bass_pattern="walking", percussion="none", room=0.4,
    ),
    Style(
        name="Funk", tempo_bpm=(96, 112), beats_per_bar=4, modes=("dorian", "mixolydian"), lead=instruments.brass,
        lead_pitch=70, accompaniment=instruments.electric_piano, pattern="syncopated", bass=instruments.synth_bass,
        bass_pattern="syncopated", percussion="funk", room=0.08,
    ),
    Style(
        name="Folk song", tempo_bpm=(88, 116), beats_per_bar=4, modes=("major", "dorian"),
        lead=instruments.plucked_string, lead_pitch=74, accompaniment=instruments.plucked_string, pattern="strummed",
        bass=instruments.bass_guitar, bass_pattern="fifths", percussion="shaker", room=0.12,
    ),
    Style(
        name="Night drive", tempo_bpm=(116, 132), beats_per_bar=4, modes=("minor", "dorian"),
        lead=instruments.electric_piano, lead_pitch=76, accompaniment=instruments.pad, pattern="sustained",
        bass=instruments.synth_bass, bass_pattern="octaves", percussion="four", room=0.2,
    ),
    Style(
        name="Marimba dance", tempo_bpm=(120, 144), beats_per_bar=4, modes=("major", "mixolydian"),
        lead=instruments.mallets, lead_pitch=76, accompaniment=instruments.mallets, pattern="arpeggio",
        bass=instruments.bass_guitar, bass_pattern="syncopated", percussion="latin", room=0.15,
    ),
    Style(
        name="Swing", tempo_bpm=(126, 168), beats_per_bar=4, modes=("dorian", "major"), lead=instruments.flute,
        lead_pitch=75, accompaniment=instruments.electric_piano, pattern="offbeat", bass=instruments.plucked_string,
        bass_pattern="walking", percussion="swing", room=0.15, swing=0.17,
    ),
    Style(
        name="Landscape", tempo_bpm=(60, 72), beats_per_bar=5, modes=("dorian", "mixolydian"),
        lead=instruments.mallets, lead_pitch=79, accompaniment=instruments.pad, pattern="sustained", bass=None,
        bass_pattern="roots", percussion="none", room=0.5,
    ),
    Style(
        name="Rock", tempo_bpm=(118, 150), beats_per_bar=4, modes=("minor", "mixolydian"), lead=instruments.brass,
        lead_pitch=69, accompaniment=instruments.organ, pattern="strummed", bass=instruments.bass_guitar,
        bass_pattern="octaves", percussion="rock", room=0.1,
    ),
    Style(
        name="Tarantella", tempo_bpm=(150, 186), beats_per_bar=6, modes=("minor", "harmonic minor"),
        lead=instruments.plucked_string, lead_pitch=76, accompaniment=instruments.bowed_strings, pattern="offbeat",
        bass=instruments.bass_guitar, bass_pattern="fifths", percussion="shaker", room=0.2,
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A recording that the demo can catalogue and broadcast."""

    title: str
    #: Shape (n,), at `SAMPLE_RATE_HZ`.
    samples: Samples

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, kw_only=True, slots=True)
class _Note:
    instrument: Instrument
    beat: float
    length_beats: float
    #: MIDI number; percussion takes it as the tuning of the drum.
    pitch: float
    velocity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    chords: tuple[int, ...]
    rhythm: tuple[float, ...]
    contour: tuple[int, ...]
    intensity: float
    has_lead: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bar:
    style: Style
    key: int
    scale: tuple[int, ...]
    #: Scale degree of the chord's root.
    degree: int
    first_beat: float
    level: float

    def pitch(self, steps: int = 0) -> int:
        """MIDI number of the tone so many scale steps above the chord's root, which lies about middle C."""
        degree = self.degree + steps
        return 60 + self.key - 12 * (self.key > 6) + self.scale[degree % 7] + 12 * (degree // 7)


def compose(seed: int, number: int) -> Piece:
    """The piece of that number in the work of that seed: 40 to 70 s. The same two numbers give the same samples."""
    rng = np.random.default_rng([seed, number])
    style = _STYLES[number % len(_STYLES)]
    tempo_bpm = rng.uniform(*style.tempo_bpm)
    beat_s = 60 / tempo_bpm
    bars = round(rng.uniform(42, 66) / (beat_s * style.beats_per_bar))
    key = int(rng.integers(12))
    mode = str(rng.choice(style.modes))
    notes = _arrange(style, bars=bars, key=key, scale=_MODES[mode], rng=rng)
    samples = _perform(notes, beat_s=beat_s, swing=style.swing, rng=rng)
    samples = _reverberate(samples, share=style.room, rng=rng)
    loudest = float(np.max(np.abs(samples)))
    title = f"{style.name} in {_KEYS[key]} {mode}, No. {number + 1}"
    return Piece(title=title, samples=samples * np.float32(0.8 / loudest))


def _arrange(style: Style, *, bars: int, key: int, scale: tuple[int, ...], rng: Generator) -> list[_Note]:
    forms = ("ABACBA", "AABBAC", "ABCABC", "ABABCB")
    form = forms[int(rng.integers(len(forms)))]
    sections = {letter: _section(style, letter, rng) for letter in "ABC"}
    tunings = {drum: float(rng.uniform(0.8, 1.25)) for drum in ("kick", "snare", "tom")}
    notes: list[_Note] = []
    for number in range(bars):
        section = sections[form[number // _BARS_PER_SECTION % len(form)]]
        degree = section.chords[number % len(section.chords)]
        if rng.random() < 0.2:  # a substitute two scale steps away shares two notes with the chord it stands for
            degree = (degree + int(rng.choice((2, 5)))) % 7
        # Dynamics: the piece grows towards its last third, each section has its own level, each bar breathes.
        arc = 0.75 + 0.25 * np.sin(np.pi * min(1.0, 1.3 * number / bars))
        level = section.intensity * arc * rng.uniform(0.92, 1.08)
        first_beat = float(number * style.beats_per_bar)
        is_intro = number < 2
        bar = _Bar(style=style, key=key, scale=scale, degree=degree, first_beat=first_beat, level=level)
        notes += _accompany(bar, rng)
        if style.bass and not (is_intro and rng.random() < 0.5):
            notes += _bass(bar, style.bass, rng)
        if style.lead and section.has_lead and not is_intro:
            notes += _lead(bar, style.lead, section, rng)
        ends_section = number % _BARS_PER_SECTION == _BARS_PER_SECTION - 1
        notes += _percussion(bar, tunings, ends_section, rng)
    return notes


def _section(style: Style, letter: str, rng: Generator) -> _Section:
    rhythm: list[float] = []
    while sum(rhythm) < style.beats_per_bar:
        rhythm.append(float(rng.choice((0.5, 0.5, 1, 1, 1.5, 2))))
    contour = tuple(int(step) for step in np.cumsum(rng.choice((-2, -1, -1, 0, 1, 1, 2), len(rhythm))))
    return _Section(
        chords=_PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))],
        rhythm=tuple(rhythm),
        contour=contour,
        intensity=float({"A": 0.7, "B": 0.9, "C": 0.55}[letter] * rng.uniform(0.9, 1.1)),
        has_lead=letter != "C" or rng.random() < 0.5,
    )


def _near(pitch: float, centre: float) -> float:
    """The same tone in the octave nearest to the centre."""
    return pitch - 12 * round((pitch - centre) / 12)


def _accompany(bar: _Bar, rng: Generator) -> list[_Note]:
    beats = bar.style.beats_per_bar
    chord = (0, 2, 4, 6) if rng.random() < 0.3 else (0, 2, 4)
    voiced = sorted(_near(bar.pitch(steps), 60 + int(rng.integers(-3, 4))) for steps in chord)

    def strike(beat: float, length_beats: float, loudness: float, spread_beats: float = 0.0) -> list[_Note]:
        return [
            _Note(
                instrument=bar.style.accompaniment,
                beat=bar.first_beat + beat + index * spread_beats,
                length_beats=length_beats,
                pitch=pitch,
                velocity=0.55 * bar.level * loudness,
            )
            for index, pitch in enumerate(voiced)
        ]

    match bar.style.pattern:
        case "sustained":
            if rng.random() < 0.3:
                return strike(0, beats / 2, 0.9) + strike(beats / 2, beats / 2, 0.8)
            return strike(0, beats, 0.9)
        case "waltz":
            return [note for beat in range(1, beats) if rng.random() < 0.93 for note in strike(beat, 0.6, 0.8, 0.02)]
        case "offbeat":
            return [note for beat in range(beats) if rng.random() < 0.85 for note in strike(beat + 0.5, 0.35, 0.8)]
        case "strummed":
            struck = [beat / 2 for beat in range(2 * beats) if beat % 2 == 0 or rng.random() < 0.55]
            return [note for beat in struck for note in strike(beat, 0.7, rng.uniform(0.6, 1.0), 0.025)]
        case "syncopated":
            struck = [beat / 4 for beat in range(4 * beats) if rng.random() < (0.5 if beat % 4 == 3 else 0.18)]
            return [note for beat in struck for note in strike(beat, 0.3, rng.uniform(0.7, 1.0))]
        case _:
            tones = [*voiced, voiced[0] + 12, voiced[1] + 12]
            start = int(rng.integers(len(tones)))
            direction = int(rng.choice((-1, 1, 2)))
            return [
                _Note(
                    instrument=bar.style.accompaniment,
                    beat=bar.first_beat + step / 2,
                    length_beats=0.9,
                    pitch=tones[(start + direction * step) % len(tones)],
                    velocity=0.7 * bar.level * (1.0 if step % 2 == 0 else 0.8),
                )
                for step in range(2 * beats)
                if rng.random() < 0.93
            ]


def _bass(bar: _Bar, instrument: Instrument, rng: Generator) -> list[_Note]:
    beats = bar.style.beats_per_bar
    root = _near(bar.pitch(), 40)
    fifth = _near(bar.pitch(4), root + 4)
    match bar.style.bass_pattern:
        case "roots":
            line = [(0.0, root, float(beats))]
        case "fifths":
            line = [(float(beat), root if beat % 4 == 0 or beats == 3 else fifth, 0.9) for beat in range(0, beats, 2)]
        case "octaves":
            line = [(step / 2, root + 12 * (step % 2), 0.45) for step in range(2 * beats) if rng.random() < 0.92]
        case "walking":
            steps = np.cumsum([0, *rng.choice((-2, -1, 1, 2), beats - 1)])
            line = [(float(beat), _near(bar.pitch(int(steps[beat])), 42), 0.95) for beat in range(beats)]
        case _:
            struck = [0.0, *(step / 4 for step in range(2, 4 * beats) if rng.random() < 0.28)]
            line = [(beat, root if rng.random() < 0.6 else fifth, 0.35) for beat in struck]
    return [
        _Note(
            instrument=instrument,
            beat=bar.first_beat + beat,
            length_beats=length,
            pitch=pitch,
            velocity=0.95 * bar.level,
        )
        for beat, pitch, length in line
    ]


def _lead(bar: _Bar, instrument: Instrument, section: _Section, rng: Generator) -> list[_Note]:
    """The section's motif on this bar's chord, varied: notes left out, split, or moved by a step."""
    notes: list[_Note] = []
    beat = 0.0
    anchor = int(rng.choice((0, 2, 4)))
    for length, step in zip(section.rhythm, section.contour, strict=True):
        moved = step + int(rng.choice((-1, 0, 0, 0, 1)))
        halves = 2 if length >= 1 and rng.random() < 0.25 else 1
        for half in range(halves):
            start = beat + half * length / halves
            if start >= bar.style.beats_per_bar or rng.random() < 0.12:
                continue
            notes.append(
                _Note(
                    instrument=instrument,
                    beat=bar.first_beat + start,
                    length_beats=min(length / halves, bar.style.beats_per_bar - start) * 0.95,
                    pitch=_near(bar.pitch(anchor + moved + half), bar.style.lead_pitch),
                    velocity=bar.level * rng.uniform(0.8, 1.1),
                )
            )
        beat += length
    return notes


#: Of each drum: the crotchet offsets within a bar of 4 on which it is sure, and those on which it may be struck.
_GROOVES: Mapping[str, Mapping[str, tuple[tuple[float, ...], tuple[float, ...], float]]] = {
    "soft": {
        "kick": ((0,), (2.5,), 0.4), "shaker": ((0, 1, 2, 3), (0.5, 1.5, 2.5, 3.5), 0.5), "snare": ((), (3,), 0.3),
    },
    "march": {
        "kick": ((0, 2), (), 0), "snare": ((0, 1, 2, 3), (0.75, 1.5, 1.75, 2.75, 3.25, 3.5, 3.75), 0.45),
    },
    "funk": {
        "kick": ((0, 2.5), (0.75, 1.75, 3.25), 0.35), "snare": ((1, 3), (1.75, 2.25, 3.75), 0.25),
        "hat": (tuple(step / 2 for step in range(8)), tuple(0.25 + step / 2 for step in range(8)), 0.5),
    },
    "shaker": {"shaker": ((0, 1, 2, 3, 4, 5), (0.5, 1.5, 2.5, 3.5, 4.5, 5.5), 0.7), "clap": ((), (1, 3), 0.25)},
    "four": {
        "kick": ((0, 1, 2, 3), (3.75,), 0.15), "hat": ((0.5, 1.5, 2.5, 3.5), (0.25, 1.25, 2.75), 0.3),
        "clap": ((1, 3), (), 0),
    },
    "latin": {
        "tom": ((0, 1.5, 3), (2, 2.5, 3.5), 0.4), "shaker": ((0, 1, 2, 3), (0.5, 1.5, 2.5, 3.5), 0.8),
        "clap": ((), (0, 1.5, 3), 0.3), "kick": ((0, 2), (), 0),
    },
    "swing": {"hat": ((0, 1, 2, 3), (1.5, 3.5), 0.75), "snare": ((), (1, 3, 3.5), 0.35), "kick": ((0,), (2,), 0.5)},
    "rock": {
        "kick": ((0, 2), (2.5, 1.5, 3.5), 0.35), "snare": ((1, 3), (3.75,), 0.15),
        "hat": (tuple(step / 2 for step in range(8)), (), 0),
    },
    "none": {},
}  # fmt: skip
_DRUMS: Mapping[str, tuple[Instrument, float, float]] = {
    "kick": (instruments.kick, 30.0, 1.0),
    "snare": (instruments.snare, 54.0, 0.7),
    "hat": (instruments.hat, 60.0, 0.6),
    "shaker": (instruments.shaker, 60.0, 0.6),
    "tom": (instruments.tom, 46.0, 0.8),
    "clap": (instruments.clap, 60.0, 0.7),
}


def _percussion(bar: _Bar, tunings: Mapping[str, float], ends_section: bool, rng: Generator) -> list[_Note]:
    style = bar.style
    struck: list[tuple[str, float, float]] = []
    for drum, (sure, possible, chance) in _GROOVES[style.percussion].items():
        struck += [(drum, beat, 1.0) for beat in sure if rng.random() < 0.96]
        struck += [(drum, beat, 0.6) for beat in possible if rng.random() < chance]
    if ends_section and style.percussion not in ("none", "soft", "shaker"):
        roll = [style.beats_per_bar - 1 + step / 4 for step in range(4) if rng.random() < 0.8]
        struck += [(str(rng.choice(("tom", "snare"))), beat, 0.9) for beat in roll]
    return [
        _Note(
            instrument=_DRUMS[drum][0],
            beat=bar.first_beat + beat,
            length_beats=float(rng.uniform(0.05, 0.5)) if drum == "hat" else 0.2,
            pitch=_DRUMS[drum][1] + 12 * float(np.log2(tunings.get(drum, 1.0))) + rng.normal(0, 0.15),
            velocity=_DRUMS[drum][2] * bar.level * accent,
        )
        for drum, beat, accent in struck
        if beat < style.beats_per_bar
    ]


def _perform(notes: Sequence[_Note], *, beat_s: float, swing: float, rng: Generator) -> Samples:
    """Play the notes: the tempo drifts by a per cent or two, hands are some milliseconds early or late."""
    last_beat = int(max(note.beat for note in notes)) + 2
    pace = 1 + 0.015 * np.sin(np.cumsum(rng.normal(0, 0.15, last_beat)) + rng.uniform(0, 6.28))
    beat_times_s = np.concatenate(([0.0], np.cumsum(beat_s * pace)))
    mix = np.zeros(round((beat_times_s[-1] + 3.5) * SAMPLE_RATE_HZ), dtype=np.float32)
    for note in notes:
        beat = note.beat + (swing if note.beat % 1 == 0.5 else 0.0)
        whole = int(beat)
        start_s = beat_times_s[whole] + (beat - whole) * (beat_times_s[whole + 1] - beat_times_s[whole])
        start_s = max(0.0, start_s + rng.normal(0, 0.007))
        stroke = Stroke(
            frequency_hz=440 * 2 ** ((note.pitch - 69) / 12),
            duration_s=note.length_beats * beat_s,
            velocity=float(np.clip(note.velocity * rng.normal(1, 0.1), 0.08, 1.0)),
        )
        sound = note.instrument(stroke, rng)
        first = round(start_s * SAMPLE_RATE_HZ)
        sound = sound[: len(mix) - first]
        mix[first : first + len(sound)] += sound
    return mix


def _reverberate(samples: Samples, *, share: float, rng: Generator) -> Samples:
    """A room: decaying noise, convolved."""
    length_s = 0.6 + 2 * share
    time_s = np.arange(round(length_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    response = rng.normal(0, 1, len(time_s)) * np.exp(-4 * time_s / length_s)
    response /= np.sqrt(np.sum(response**2))
    size = 1 << (len(samples) + len(response)).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return ((1 - share) * samples + share * wet).astype(np.float32)
