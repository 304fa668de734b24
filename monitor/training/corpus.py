"""The training corpus, decoded once: every file as 8 kHz mono, coded copies of the music, and synthetic speech.

The cache is two files: `audio.i16` (raw little-endian int16) and `corpus.json`, which says what lies where in it.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.errors import InputError, MissingPartError
from monitor.types import Samples

SAMPLE_RATE_HZ = 8000
#: Packages that are never trained on: everything measured is measured on them. The split is by package, because the
#: pieces of one game share themes and instruments.
DEVELOPMENT = ("drascula-music", "lincity-ng-data", "redeclipse-data", "torcs-data")
_SUFFIXES = {".ogg", ".oga", ".mp3", ".wav", ".flac", ".opus"}
_MUSIC_FROM_S = 20.0
_VOICE_WORDS = ("/voices/", "/voice/", "voice_samples", "announcer", "tux_ingame_comments", "/titles/")
_CODED_S = 100
#: Encoder options, suffix of the file that carries them.
_CODECS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("mp3-24", ("-c:a", "libmp3lame", "-b:a", "24k", "-ac", "1", "-ar", "22050"), ".mp3"),
    ("mp3-48", ("-c:a", "libmp3lame", "-b:a", "48k", "-ac", "2", "-ar", "32000"), ".mp3"),
    ("mp3-64", ("-c:a", "libmp3lame", "-b:a", "64k", "-ac", "2"), ".mp3"),
    ("aac-24", ("-c:a", "aac", "-b:a", "24k", "-ac", "1", "-ar", "22050"), ".m4a"),
    ("aac-48", ("-c:a", "aac", "-b:a", "48k", "-ac", "2", "-ar", "32000"), ".m4a"),
    ("opus-24", ("-c:a", "libopus", "-b:a", "24k", "-ac", "1"), ".ogg"),
    ("opus-32", ("-c:a", "libopus", "-b:a", "32k", "-ac", "2"), ".ogg"),
)
_VOICES = ("en", "en-us", "en-gb-scotland", "de", "fr", "es", "it", "pl", "ru", "sv", "pt", "nl")
_WORD_SALAD = """
the station news weather traffic tonight morning listener music live from our studio game team minister price
street north south bridge open close seven nineteen hundred percent caller thank you welcome back after this
break tomorrow rain sunny wind report police city council vote record summer ticket festival special offer only
today phone number four two nine zero visit shop quality family doctor question answer really because people
"""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A stretch of the cache: one file, or a coded copy of a part of one."""

    package: str
    path: str
    #: "music", "voice" or "effect".
    kind: str
    #: Where it lies in `audio.i16`.
    offset_samples: int
    samples: int
    #: "" for the file itself, else the codec that the copy went through and the sample of the file at which it begins.
    codec: str = ""
    codec_start_samples: int = 0


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The decoded corpus. `audio` is a read-only map of int16."""

    audio: NDArray[np.int16]
    items: tuple[Item, ...]

    def of(self, item: Item) -> NDArray[np.int16]:
        """Give the samples of one item."""
        return self.audio[item.offset_samples : item.offset_samples + item.samples]

    def floats(self, item: Item) -> Samples:
        """Give the samples of one item as float32 in [-1, 1]."""
        return np.asarray(self.of(item), dtype=np.float32) / np.float32(32768)

    def select(self, *, kind: str, development: bool, coded: bool = False) -> list[Item]:
        """Give the items of one kind on one side of the split."""
        return [
            item
            for item in self.items
            if item.kind == kind and (item.package in DEVELOPMENT) is development and bool(item.codec) is coded
        ]


def load(cache: Path) -> Corpus:
    """Open a cache that `build` made. Raises InputError when there is none."""
    index = cache / "corpus.json"
    if not index.is_file():
        raise InputError(f"{cache} holds no decoded corpus; make it with `python -m monitor.training corpus`")
    items = tuple(Item(**row) for row in json.loads(index.read_text()))
    return Corpus(audio=np.memmap(cache / "audio.i16", dtype="<i2", mode="r"), items=items)


def build(
    corpus: Path,
    cache: Path,
    *,
    seed: int,
    parallel: int = 2,
    speeches: int = 80,
    say: Callable[[str], None] = print,
) -> Corpus:
    """Decode everything below `corpus` (one directory per package) into `cache`; a finished cache is left as it is."""
    if (cache / "corpus.json").is_file():
        return load(cache)
    files = sorted(path for path in corpus.glob("*/**/*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise InputError(f"{corpus} holds no audio; fetch it with monitor/training/fetch-audio.sh {corpus}")
    cache.mkdir(parents=True, exist_ok=True)
    ffmpeg = ffmpeg_program()
    items: list[Item] = []
    with (cache / "audio.i16").open("wb") as out, ThreadPoolExecutor(parallel) as pool:
        end = 0

        def keep(made: Iterable[tuple[Item, NDArray[np.int16]]]) -> None:
            nonlocal end
            for item, samples in made:
                out.write(samples.astype("<i2").tobytes())
                items.append(Item(**{**asdict(item), "offset_samples": end, "samples": len(samples)}))
                end += len(samples)

        keep(_decoded(files, corpus, ffmpeg, pool))
        say(f"{len(items)} files decoded, {end / SAMPLE_RATE_HZ / 3600:.1f} h")
        music = [item for item in items if item.kind == "music"]
        keep(_coded(music, corpus, ffmpeg, pool, seed))
        keep(_spoken(ffmpeg, pool, seed, speeches))
        say(f"{len(items)} items with coded copies and speech, {end / SAMPLE_RATE_HZ / 3600:.1f} h")
    (cache / "corpus.json").write_text(json.dumps([asdict(item) for item in items]))
    return load(cache)


def ffmpeg_program() -> str:
    """Give the path of the system's ffmpeg, else of the wheel's."""
    found = shutil.which("ffmpeg")
    if found is None:
        import imageio_ffmpeg

        found = str(imageio_ffmpeg.get_ffmpeg_exe())
    return found


def _kind(path: str, samples: int) -> str:
    if any(word in path for word in _VOICE_WORDS):
        return "voice"
    return "music" if samples >= _MUSIC_FROM_S * SAMPLE_RATE_HZ else "effect"


def _decode(ffmpeg: str, *source: str) -> NDArray[np.int16]:
    """Give a file as mono int16; empty when ffmpeg finds no audio in it."""
    command = [ffmpeg, "-nostdin", "-v", "error", *source, "-vn", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ)]
    done = subprocess.run([*command, "-f", "s16le", "pipe:1"], check=False, capture_output=True)
    return np.frombuffer(done.stdout[: len(done.stdout) // 2 * 2], "<i2")


def _decoded(
    files: list[Path], corpus: Path, ffmpeg: str, pool: ThreadPoolExecutor
) -> Iterator[tuple[Item, NDArray[np.int16]]]:
    for path, samples in zip(files, pool.map(lambda path: _decode(ffmpeg, "-i", str(path)), files), strict=True):
        if len(samples) < SAMPLE_RATE_HZ // 2:
            continue
        package, name = path.relative_to(corpus).parts[0], path.relative_to(corpus).as_posix()
        yield Item(package=package, path=name, kind=_kind(name, len(samples)), offset_samples=0, samples=0), samples


def _coded(
    music: list[Item], corpus: Path, ffmpeg: str, pool: ThreadPoolExecutor, seed: int
) -> Iterator[tuple[Item, NDArray[np.int16]]]:
    dice = random.Random(seed)
    plans = []
    for item in music:
        codec = dice.choice(_CODECS)
        start_s = dice.randrange(max(1, item.samples // SAMPLE_RATE_HZ - _CODED_S + 1))
        plans.append((item, codec, start_s))

    def through(plan: tuple[Item, tuple[str, tuple[str, ...], str], int]) -> NDArray[np.int16]:
        item, (_, options, suffix), start_s = plan
        with tempfile.TemporaryDirectory() as place:
            coded = str(Path(place) / f"coded{suffix}")
            cut = ["-ss", str(start_s), "-t", str(_CODED_S), "-i", str(corpus / item.path)]
            command = [ffmpeg, "-nostdin", "-v", "error", *cut, "-vn", *options, "-map_metadata", "-1", coded]
            subprocess.run(command, check=False, capture_output=True)
            return _decode(ffmpeg, "-i", coded)

    for (item, (name, _, _), start_s), samples in zip(plans, pool.map(through, plans), strict=True):
        if len(samples) >= _MUSIC_FROM_S * SAMPLE_RATE_HZ:
            start = start_s * SAMPLE_RATE_HZ
            yield Item(**{**asdict(item), "codec": name, "codec_start_samples": start}), samples


def _spoken(ffmpeg: str, pool: ThreadPoolExecutor, seed: int, count: int) -> Iterator[tuple[Item, NDArray[np.int16]]]:
    """Let espeak-ng read word salad in many voices; every fourth, of speakers of its own, is for development."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise MissingPartError("espeak-ng is not installed; training needs it for speech (Debian: espeak-ng)")

    def speak(number: int) -> NDArray[np.int16]:
        dice = random.Random(f"{seed} {number}")
        variant = f"+{dice.choice('fm')}{1 + number % 4}"
        text = ". ".join(" ".join(dice.choices(_WORD_SALAD.split(), k=dice.randint(4, 14))) for _ in range(12))
        voice = ["-v", dice.choice(_VOICES) + variant]
        manner = ["-s", str(dice.randint(120, 210)), "-p", str(dice.randint(20, 80))]
        said = subprocess.run([program, *voice, *manner, "--stdout", text], check=True, capture_output=True).stdout
        with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
            wav.write(said)
            wav.flush()
            return _decode(ffmpeg, "-i", wav.name)

    for number, samples in enumerate(pool.map(speak, range(count))):
        package = DEVELOPMENT[0] if number % 4 == 3 else "espeak-ng"
        yield Item(package=package, path=f"espeak-ng/{number}", kind="voice", offset_samples=0, samples=0), samples
