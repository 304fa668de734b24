"""What the stations play, by seed: airings with everything that broadcasting does to them, and the truth about each."""

from __future__ import annotations

import enum
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import voice
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.errors import InputError
from monitor.types import Samples

TEMPO_CHANGE = 0.02
#: Two pieces that cross are both heard for so long; the fade's middle counts as the end of one and start of the other.
CROSSING_S = 2.0
_EDGE_S = 0.02
#: An airing begins where the recording is not quieter than this for seconds: silence cannot be told from silence.
_QUIETEST_DBFS = -42.0


#: Somebody speaking for so many seconds.
Talk = Callable[[Generator, float], Samples]


class Condition(enum.StrEnum):
    """What is done to the sound, or what is played instead of a catalogued recording."""

    PLAIN = "plain"
    UNDER_SPEECH = "under speech"
    TEMPO = "tempo 2 %"
    CROSSING = "crossing"
    DROPPED = "stream drops"
    UNCATALOGUED = "uncatalogued"
    SPEECH = "speech"
    NOISE = "noise"
    SILENCE = "silence"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Something to play; `reference_id` is None where the catalog does not hold it."""

    reference_id: str | None
    title: str
    #: Mono at `SAMPLE_RATE_HZ`.
    samples: Samples

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, kw_only=True, slots=True)
class Airing:
    """The truth about one item of a programme. Seconds count from the programme's first sample."""

    station: str
    condition: Condition
    #: What must be found; None where nothing must be.
    reference_id: str | None
    title: str
    start_s: float
    end_s: float
    reference_start_s: float
    #: Reference seconds per second of the programme.
    tempo_ratio: float

    def position_s(self, time_s: float) -> float:
        """Which second of the recording plays then."""
        return self.reference_start_s + (time_s - self.start_s) * self.tempo_ratio

    @property
    def middle_s(self) -> float:
        """The instant at which positions are compared."""
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """When the station drops its listeners, and for how long it is away."""

    start_s: float
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Programme:
    """One station's sound and the truth about it."""

    station: str
    #: Mono at `SAMPLE_RATE_HZ`.
    samples: Samples
    airings: tuple[Airing, ...]
    outage: Outage | None = None

    @property
    def duration_s(self) -> float:
        """Length of the programme."""
        return len(self.samples) / SAMPLE_RATE_HZ


class Tape:
    """A programme being recorded, item after item; each adds its sound and its truth."""

    def __init__(self, station: str, *, ffmpeg: FfmpegProgram, rng: Generator, talk: Talk = voice.babble) -> None:
        self._station = station
        self._ffmpeg = ffmpeg
        self._rng = rng
        self._talk = talk
        self._sounds: list[Samples] = []
        self._airings: list[Airing] = []
        self._outage: Outage | None = None
        self._length = 0

    @property
    def length_s(self) -> float:
        """How much has been recorded."""
        return self._length / SAMPLE_RATE_HZ

    def play(
        self, recording: Recording, length_s: float, *, condition: Condition = Condition.PLAIN, music_db: float = 2.0
    ) -> None:
        """A stretch of the recording from a random middle; `music_db` is its level over speech that is talked on it."""
        tempo_ratio = 1.0
        if condition is Condition.TEMPO:
            tempo_ratio = 1 + TEMPO_CHANGE * float(self._rng.choice((-1, 1)))
        start_s, sound = self._stretch(recording, length_s * tempo_ratio)
        if condition is Condition.TEMPO:
            sound = self._change_tempo(sound, tempo_ratio)
        if condition is Condition.UNDER_SPEECH:
            sound = under(sound, self._talk(self._rng, len(sound) / SAMPLE_RATE_HZ), music_db)
        self._append(sound, condition, recording, reference_start_s=start_s, tempo_ratio=tempo_ratio)

    def cross(self, first: Recording, second: Recording, length_s: float) -> None:
        """Two stretches of that length, the second faded in under the end of the first at equal power."""
        half_s = CROSSING_S / 2
        first_s, leaving = self._stretch(first, length_s + half_s)
        second_s, coming = self._stretch(second, length_s + half_s)
        fade = np.linspace(0, np.pi / 2, round(CROSSING_S * SAMPLE_RATE_HZ), dtype=np.float32)
        crossed = leaving[-len(fade) :] * np.cos(fade) + coming[: len(fade)] * np.sin(fade)
        half = len(fade) // 2
        self._append(
            np.concatenate((leaving[: -len(fade)], crossed[:half])),
            Condition.CROSSING,
            first,
            reference_start_s=first_s,
        )
        self._append(
            np.concatenate((crossed[half:], coming[len(fade) :])),
            Condition.CROSSING,
            second,
            reference_start_s=second_s + half_s,
        )

    def drop_within(self, recording: Recording, length_s: float, *, after_s: float, away_s: float) -> None:
        """A stretch in the middle of which the station drops its listeners."""
        self._outage = Outage(start_s=self.length_s + after_s, duration_s=away_s)
        self.play(recording, length_s, condition=Condition.DROPPED)

    def speak(self, length_s: float) -> None:
        """Speech alone."""
        self._append(self._talk(self._rng, length_s), Condition.SPEECH)

    def rustle(self, length_s: float) -> None:
        """Noise alone."""
        self._append(voice.noise(self._rng, length_s), Condition.NOISE)

    def rest(self, length_s: float) -> None:
        """Silence."""
        self._append(np.zeros(round(length_s * SAMPLE_RATE_HZ), dtype=np.float32), Condition.SILENCE)

    def programme(self) -> Programme:
        """Everything so far."""
        return Programme(
            station=self._station,
            samples=np.concatenate(self._sounds).astype(np.float32),
            airings=tuple(self._airings),
            outage=self._outage,
        )

    def _append(
        self,
        sound: Samples,
        condition: Condition,
        recording: Recording | None = None,
        *,
        reference_start_s: float = 0.0,
        tempo_ratio: float = 1.0,
    ) -> None:
        start_s = self.length_s
        if condition is not Condition.CROSSING:
            edge = np.linspace(0, 1, round(_EDGE_S * SAMPLE_RATE_HZ), dtype=np.float32)
            sound = sound.copy()
            sound[: len(edge)] *= edge
            sound[-len(edge) :] *= edge[::-1]
        self._sounds.append(sound)
        self._length += len(sound)
        self._airings.append(
            Airing(
                station=self._station,
                condition=Condition.UNCATALOGUED if recording and recording.reference_id is None else condition,
                reference_id=recording.reference_id if recording else None,
                title=recording.title if recording else "",
                start_s=start_s,
                end_s=self.length_s,
                reference_start_s=reference_start_s,
                tempo_ratio=tempo_ratio,
            )
        )

    def _stretch(self, recording: Recording, length_s: float) -> tuple[float, Samples]:
        """A loud enough stretch from the recording's middle, levelled; where it starts and its samples."""
        length = round(length_s * SAMPLE_RATE_HZ)
        room = len(recording.samples) - length
        if room < 0:
            raise InputError(
                f"{recording.title} lasts {recording.duration_s:.0f} s, too short for an airing of {length_s:.0f} s"
            )
        margin = min(room // 4, 5 * SAMPLE_RATE_HZ)
        for _ in range(50):
            start = int(self._rng.integers(margin, room - margin + 1))
            sound = recording.samples[start : start + length]
            if _quietest_dbfs(sound) > _QUIETEST_DBFS:
                break
        else:
            raise InputError(f"{recording.title} has no {length_s:.0f} s without a silence; leave it out")
        gain_db = -20.0 + self._rng.uniform(-4, 2) - 20 * np.log10(_level(sound))
        levelled = sound * np.float32(10 ** (gain_db / 20))
        loudest = float(np.max(np.abs(levelled)))
        return start / SAMPLE_RATE_HZ, (levelled / max(1.0, loudest / 0.95)).astype(np.float32)

    def _change_tempo(self, sound: Samples, tempo_ratio: float) -> Samples:
        """Stations that fit a slot either turn the platter faster, which raises the pitch too, or stretch time."""
        if self._rng.random() < 0.5:
            position = np.arange(int(len(sound) / tempo_ratio)) * tempo_ratio
            resampled: Samples = np.interp(position, np.arange(len(sound)), sound).astype(np.float32)
            return resampled
        pcm = ("-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1")
        stretched = subprocess.run(
            [
                *(self._ffmpeg.path, "-hide_banner", "-loglevel", "error", *pcm, "-i", "pipe:0"),
                *("-af", f"atempo={tempo_ratio}", *pcm, "pipe:1"),
            ],
            input=sound.astype("<f4").tobytes(),
            capture_output=True,
            check=True,
        ).stdout
        samples: Samples = np.frombuffer(stretched, dtype="<f4").astype(np.float32)
        return samples


def under(music: Samples, speech: Samples, music_db: float) -> Samples:
    """Music with speech of the same length on top; `music_db` is the music's level over the speech's."""
    gain = _level(music) / _level(speech) / 10 ** (music_db / 20)
    mixed = music + speech[: len(music)] * np.float32(gain)
    return (mixed / max(1.0, float(np.max(np.abs(mixed))) / 0.95)).astype(np.float32)


def _level(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) + 1e-9


def _quietest_dbfs(samples: Samples) -> float:
    second = SAMPLE_RATE_HZ
    levels = [_level(samples[start : start + second]) for start in range(0, max(1, len(samples) - second + 1), second)]
    return 20 * float(np.log10(min(levels)))


def demo_programmes(
    stations: Sequence[str],
    *,
    catalogued: Sequence[Recording],
    uncatalogued: Sequence[Recording],
    ffmpeg: FfmpegProgram,
    seed: int,
) -> list[Programme]:
    """About 80 s for each of three stations, with every condition; the seed decides what, where, when and how."""
    rng = np.random.default_rng([seed, 1])
    pieces = _endless(catalogued, rng)
    strangers = _endless(uncatalogued, rng)
    programmes = []
    for station, slots in zip(stations, _plan(rng), strict=True):
        tape = Tape(station, ffmpeg=ffmpeg, rng=rng)
        for slot in slots:
            match slot:
                case Condition.PLAIN | Condition.TEMPO:
                    tape.play(next(pieces), rng.uniform(12, 16), condition=slot)
                case Condition.UNDER_SPEECH:
                    tape.play(next(pieces), rng.uniform(13, 17), condition=slot, music_db=rng.uniform(1, 5))
                case Condition.CROSSING:
                    tape.cross(next(pieces), next(pieces), rng.uniform(11, 14))
                case Condition.DROPPED:
                    after_s = rng.uniform(9, 11)
                    tape.drop_within(next(pieces), rng.uniform(30, 33), after_s=after_s, away_s=rng.uniform(3, 4))
                case Condition.UNCATALOGUED:
                    tape.play(next(strangers), rng.uniform(10, 14))
                case Condition.SPEECH:
                    tape.speak(rng.uniform(5, 7))
                case Condition.NOISE:
                    tape.rustle(rng.uniform(4, 6))
                case Condition.SILENCE:
                    tape.rest(rng.uniform(4, 6))
        programmes.append(tape.programme())
    return programmes


def _plan(rng: Generator) -> list[list[Condition]]:
    """Which items each of three stations plays, in which order."""
    slots = [
        [Condition.PLAIN, Condition.UNDER_SPEECH, Condition.CROSSING, Condition.UNCATALOGUED, Condition.NOISE],
        [Condition.TEMPO, Condition.UNDER_SPEECH, Condition.PLAIN, Condition.UNCATALOGUED, Condition.SPEECH,
         Condition.SILENCE],
        [Condition.DROPPED, Condition.TEMPO, Condition.UNCATALOGUED, Condition.SILENCE, Condition.PLAIN],
    ]  # fmt: skip
    shuffled = [[station[index] for index in rng.permutation(len(station))] for station in slots]
    return [shuffled[index] for index in rng.permutation(len(shuffled))]


def _endless(recordings: Sequence[Recording], rng: Generator) -> Iterator[Recording]:
    """The recordings in a random order, and again once all have been played, but never one twice in succession."""
    last = None
    while True:
        for index in rng.permutation(len(recordings)):
            if index != last or len(recordings) == 1:
                yield recordings[index]
                last = index
