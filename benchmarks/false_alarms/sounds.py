"""What is listened to: real music, rendered tunes, voices and noise, each second used once; and what pads a catalog."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np

from benchmarks.accuracy.material import SHORTEST_S, is_music, length_s
from benchmarks.false_alarms import tunes
from benchmarks.false_alarms.tunes import Part
from monitor.demo.instruments import Generator
from monitor.errors import InputError, MissingPartError
from monitor.types import Samples

RATE_HZ = 16_000
#: Hours of each kind in a run of 24.
SHARES_H = {"music": 5.0, "tunes": 12.0, "voices": 4.0, "noise": 3.0}
_SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
_SUFFIXES = frozenset((".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"))
_VOICE_WORDS = ("/voices/", "/voice/", "voice_samples", "announcer", "tux_ingame_comments", "/titles/")
#: Files that are short are joined to one that lasts about so long.
_BATCH_S = 200.0
_SPEECH_S, _NOISE_S = 120.0, 300.0
_WORDS = """
the and of to in a is that for it was on with he as his at be this have from or one had by word but not what all were
we when your can said there use an each which she do how their if will up other about out many then them these so some
her would make like him into time has look two more write go see number no way could people my than first water been
call who oil its now find long down day did get come made may part over new sound take only little work know place year
live me back give most very after thing our just name good sentence man think say great where help through much before
line right too mean old any same tell boy follow came want show also around form three small set put end does another
well large must big even such because turn here why ask went men read need land different home us move try kind hand
picture again change off play spell air away animal house point page letter mother answer found study still learn
"""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One file to listen to. `make` writes it to the path that it is given."""

    kind: str
    name: str
    duration_s: float
    make: Callable[[Path], None]


def strangers(
    audio: Path, *, packages: Sequence[str], unheard: Path | None, hours: float, kinds: Collection[str], seed: int
) -> Iterator[Sound]:
    """All sounds of these kinds of a run of `hours`, kind after kind. A kind that has too little gives what it has.

    Music is that of the packages, then that of all folders of `unheard`.
    """
    made = {
        "music": chain(_music(audio, packages, seed), _music_beside(unheard, seed)),
        "tunes": _tunes(seed),
        "voices": _voices(audio, seed),
        "noise": _noise(audio, packages, seed),
    }
    for kind, share_h in SHARES_H.items():
        if kind not in kinds:
            continue
        wanted_s = share_h * 3600 * hours / 24
        for sound in made[kind]:
            yield sound
            wanted_s -= sound.duration_s
            if wanted_s <= 0:
                break


def rendered(path: Path, tune: tunes.Tune) -> None:
    """The tune as a WAV file, by fluidsynth and the General MIDI sound font."""
    program = shutil.which("fluidsynth")
    if program is None or not _SOUND_FONT.is_file():
        raise MissingPartError("fluidsynth or its sound font is missing (Debian: fluidsynth, fluid-soundfont-gm)")
    with tempfile.NamedTemporaryFile(suffix=".mid") as midi:
        midi.write(tune.midi)
        midi.flush()
        command = [program, "-ni", "-q", "-R", "0", "-C", "0", "-r", "22050", "-F", str(path)]
        done = subprocess.run([*command, str(_SOUND_FONT), midi.name], capture_output=True, check=False)
    if done.returncode != 0 or not path.is_file():
        raise InputError(f"fluidsynth cannot render {tune.name}: {done.stderr.decode(errors='replace')[-300:]}")


def decoded(path: Path, *, start_s: float = 0.0, longest_s: float | None = None) -> Samples:
    """Mono at `RATE_HZ`; empty where ffmpeg finds no audio."""
    cut = ["-ss", f"{start_s:.3f}"] if start_s > 0 else []
    cut += ["-t", f"{longest_s:.3f}"] if longest_s is not None else []
    command = ["ffmpeg", "-nostdin", "-v", "error", *cut, "-i", str(path), "-ac", "1", "-ar", str(RATE_HZ)]
    done = subprocess.run([*command, "-f", "f32le", "pipe:1"], capture_output=True, check=False)
    return np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], dtype="<f4").astype(np.float32)


def write(path: Path, samples: Samples) -> None:
    """A WAV file, peak at -2 dB."""
    loud = samples * (0.8 / max(1e-6, float(np.max(np.abs(samples), initial=0.0))))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((loud * 32767).astype("<i2").tobytes())


def music_files(audio: Path, packages: Sequence[str]) -> list[Path]:
    """The music of these folders, in a fixed order."""
    return [path for package in packages for path in sorted((audio / package).rglob("*")) if is_music(path)]


def _music(audio: Path, packages: Sequence[str], seed: int) -> Iterator[Sound]:
    files = music_files(audio, packages)
    for index in np.random.default_rng([seed, 1]).permutation(len(files)):
        path = files[index]
        duration_s = length_s(path)
        if duration_s >= SHORTEST_S:
            name = path.relative_to(audio).as_posix()
            yield Sound(kind="music", name=name, duration_s=duration_s, make=partial(_linked, path))


def _music_beside(unheard: Path | None, seed: int) -> Iterator[Sound]:
    if unheard is not None:
        packages = sorted(path.name for path in unheard.iterdir() if path.is_dir())
        for sound in _music(unheard, packages, seed):
            yield replace(sound, name=f"unheard/{sound.name}")


def _tunes(seed: int) -> Iterator[Sound]:
    """None is longer than a 200th of twelve hours: there are at least 200 in a whole run."""
    rng = np.random.default_rng([seed, 2])
    for number in count():
        tune = tunes.compose(seed, number, part=Part.STRANGERS, length_s=float(rng.uniform(120, 210)))
        yield Sound(kind="tunes", name=tune.name, duration_s=tune.duration_s, make=partial(_rendered, tune))


def _voices(audio: Path, seed: int) -> Iterator[Sound]:
    """By turns some real utterances of all packages, each once while there are any, and people of espeak-ng's."""
    files = [
        path
        for path in sorted(audio.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and any(word in f"/{path.relative_to(audio)}" for word in _VOICE_WORDS)
        # What is long enough to be taken for music may be a reference.
        if not (is_music(path) and length_s(path) >= SHORTEST_S)
    ]
    order = np.random.default_rng([seed, 3]).permutation(len(files))
    batches = _batches([files[index] for index in order])
    for number in count():
        if batch := next(batches, None):
            yield Sound(
                kind="voices",
                name=f"utterances-{seed}-{number:03d}",
                duration_s=sum(map(length_s, batch)),
                make=partial(_joined, batch),
            )
        name = f"espeak-{seed}-{number:04d}"
        yield Sound(kind="voices", name=name, duration_s=_SPEECH_S, make=partial(_spoken, seed, number))


def _noise(audio: Path, packages: Sequence[str], seed: int) -> Iterator[Sound]:
    """By turns ambiences and effects of the packages, each once while there are any, and generated noise."""
    effects = (
        path
        for package in packages
        for path in sorted((audio / package).rglob("*"))
        if path.suffix.lower() in _SUFFIXES
        if path.is_file() and not (is_music(path) and length_s(path) >= SHORTEST_S)
    )
    batches = _batches(effects)
    for number in count():
        if batch := next(batches, None):
            yield Sound(
                kind="noise",
                name=f"effects-{number:03d}",
                duration_s=sum(map(length_s, batch)),
                make=partial(_joined, batch),
            )
        name = f"noise-{seed}-{number:03d}"
        yield Sound(kind="noise", name=name, duration_s=_NOISE_S, make=partial(_roaring, seed, number))


def _batches(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Files that together last about `_BATCH_S`."""
    batch: list[Path] = []
    total_s = 0.0
    for path in files:
        batch.append(path)
        total_s += length_s(path)
        if total_s >= _BATCH_S:
            yield batch
            batch, total_s = [], 0.0
    if batch:
        yield batch


def _linked(source: Path, path: Path) -> None:
    path.symlink_to(source.absolute())


def _rendered(tune: tunes.Tune, path: Path) -> None:
    rendered(path, tune)


def _joined(sources: Sequence[Path], path: Path) -> None:
    write(path, np.concatenate([decoded(source) for source in sources]))


def _roaring(seed: int, number: int, path: Path) -> None:
    write(path, _generated(np.random.default_rng([seed, 5, number])))


def _spoken(seed: int, number: int, path: Path) -> None:
    program = shutil.which("espeak-ng")
    if program is None:
        raise MissingPartError("espeak-ng is missing (Debian: espeak-ng)")
    rng = np.random.default_rng([seed, 4, number])
    words = _WORDS.split()
    voices = ("en", "en-us", "en-gb-x-rp", "de", "fr", "es", "it", "pl", "ru", "nl", "sv", "pt", "cs", "hu", "ro", "tr")
    said: list[Samples] = []
    while sum(map(len, said)) < round(_SPEECH_S * RATE_HZ):
        text = " ".join(
            " ".join(rng.choice(words, int(rng.integers(4, 15)))) + str(rng.choice((".", ",", "?"))) for _ in range(10)
        )
        voice = f"{rng.choice(voices)}+{rng.choice(('m', 'f'))}{rng.integers(1, 8)}"
        manner = ("-s", str(rng.integers(110, 220)), "-p", str(rng.integers(15, 85)))
        with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
            subprocess.run([program, "-v", voice, *manner, "-w", wav.name, text], check=True, capture_output=True)
            said.append(decoded(Path(wav.name)))
    write(path, np.concatenate(said)[: round(_SPEECH_S * RATE_HZ)])


def _generated(rng: Generator) -> Samples:
    """Noise of ten kinds in turn: slopes, bands, hum, clicks, machines that go round, sweeps, tones that wander."""
    parts = []
    for _ in range(10):
        size = round(_NOISE_S / 10 * RATE_HZ)
        time_s = np.arange(size) / RATE_HZ
        hertz = np.maximum(np.fft.rfftfreq(size, 1 / RATE_HZ), 20.0)
        spectrum = np.exp(2j * np.pi * rng.random(len(hertz))) * hertz ** -rng.uniform(0, 1.2)
        if rng.random() < 0.5:
            octaves = np.log2(hertz / rng.uniform(150, 4000))
            spectrum *= np.exp(-0.5 * (octaves / rng.uniform(0.2, 1.5)) ** 2)
        sound = np.fft.irfft(spectrum, size)
        sound /= sound.std() + 1e-9
        kind = int(rng.integers(5))
        if kind == 0:
            sound += rng.uniform(0.5, 3) * np.sin(2 * np.pi * rng.choice((50, 60, 100, 120)) * time_s) ** 3
        elif kind == 1:
            sound = 0.1 * sound + 20 * rng.normal(size=size) * (rng.random(size) < rng.uniform(1e-4, 5e-3))
        elif kind == 2:
            sound *= 1 + 0.9 * np.sin(2 * np.pi * rng.uniform(0.3, 12) * time_s)
        elif kind == 3:
            sweep = rng.uniform(100, 500) * 2 ** (
                rng.uniform(0.5, 3) * np.sin(2 * np.pi * rng.uniform(0.03, 0.5) * time_s)
            )
            sound += rng.uniform(1, 4) * np.sin(2 * np.pi * np.cumsum(sweep) / RATE_HZ)
        parts.append(sound / np.abs(sound).max())
    return np.concatenate(parts).astype(np.float32)


class Padding:
    """Pieces without end that fill a catalog: two stretches of real music, each at another speed and through another
    equaliser, laid over one another. No two are the same, and none is what it was made of.
    """

    def __init__(self, files: Sequence[Path], seed: int, *, most_s: float = 4 * 3600.0) -> None:
        rng = np.random.default_rng([seed, 6])
        self._seed = seed
        self._pool: list[Samples] = []
        total_s = 0.0
        for index in rng.permutation(len(files)):
            samples = decoded(files[index])
            self._pool.append(samples)
            total_s += len(samples) / RATE_HZ
            if total_s > most_s:
                break
        if not self._pool:
            raise InputError("there is no music to pad the catalog with")

    def write(self, path: Path, number: int, length_s: float) -> None:
        """The piece of that number."""
        rng = np.random.default_rng([self._seed, 7, number])
        sound = np.zeros(0, dtype=np.float32)
        parts = []
        while len(sound) < length_s * RATE_HZ:
            layers = [self._layer(rng, 30.0) for _ in range(2)]
            length = min(map(len, layers))
            parts.append(layers[0][:length] + np.float32(rng.uniform(0.4, 1.0)) * layers[1][:length])
            sound = np.concatenate(parts)
        write(path, sound[: round(length_s * RATE_HZ)])

    def _layer(self, rng: Generator, length_s: float) -> Samples:
        source = self._pool[int(rng.integers(len(self._pool)))]
        speed = float(rng.choice((rng.uniform(0.7, 0.93), rng.uniform(1.07, 1.4))))
        wanted = round(length_s * speed * RATE_HZ)
        start = int(rng.integers(0, max(1, len(source) - wanted)))
        stretch = np.resize(source[start : start + wanted], wanted)
        sound = np.interp(np.arange(0, wanted - 1, speed), np.arange(wanted), stretch)
        octaves = np.log2(np.maximum(np.fft.rfftfreq(len(sound), 1 / RATE_HZ), 30.0))
        gain_db = sum(
            rng.normal(0, 6) * np.exp(-0.5 * ((octaves - rng.uniform(7, 12)) / rng.uniform(0.4, 2)) ** 2)
            for _ in range(3)
        )
        shaped = np.fft.irfft(np.fft.rfft(sound) * 10 ** (gain_db / 20), len(sound))
        return (shaped / (np.sqrt(np.mean(shaped**2)) + 1e-6)).astype(np.float32)
