"""The audio folder: which files are music, which packages stay out of the catalog, and whose voices talk."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import voice
from monitor.demo.commands import Program
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.demo.programme import Talk
from monitor.errors import InputError
from monitor.types import Samples

SHORTEST_S = 30.0
#: Airings come from the first minutes of a piece.
LONGEST_S = 400.0
_SMALLEST_BYTES = 100_000
_SUFFIXES = frozenset((".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"))
#: A file that lies directly in a folder of such a name is an effect, a place or a voice, and no piece of music.
_NOT_MUSIC = frozenset(
    ("sounds", "sfx", "effects", "ambience", "ambient", "morph", "voices", "voice", "maps", "titles")
)
_VOICES = frozenset(("voices", "voice", "announcer", "voice_samples", "tux_ingame_comments"))
_DURATION = re.compile(r"Duration: (\d+):(\d+):([\d.]+)")
_PAUSE_S = 0.35


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One recording of the folder; its package is the folder's first level."""

    reference_id: str
    path: Path
    package: str
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """What may be catalogued, what must never be found, and what people say over it."""

    catalogued: tuple[Piece, ...]
    held_out: tuple[Piece, ...]
    voices: tuple[Path, ...]


def survey(audio: Path, *, ffmpeg: FfmpegProgram, seed: int, largest: int | None) -> Corpus:
    """Whole packages are held out, drawn by seed until they make up about a seventh of the pieces.

    `largest` limits the catalog (for a quick run). Raises InputError if the folder holds too little.
    """
    files = sorted(
        path
        for path in audio.rglob("*")
        if path.is_file() and (path.suffix.lower() in _SUFFIXES or not path.suffix) and path.name[0] != "."
    )
    music = [path for path in files if path.parent.name not in _NOT_MUSIC and path.stat().st_size >= _SMALLEST_BYTES]
    with ThreadPoolExecutor(2) as pool:
        durations_s = list(pool.map(lambda path: _duration_s(path, ffmpeg), music))
    pieces = [
        Piece(
            reference_id=path.relative_to(audio).as_posix(),
            path=path,
            package=path.relative_to(audio).parts[0],
            duration_s=duration_s,
        )
        for path, duration_s in zip(music, durations_s, strict=True)
        if duration_s >= SHORTEST_S
    ]
    rng = np.random.default_rng([seed, 3])
    packages = sorted({piece.package for piece in pieces})
    held_out: set[str] = set()
    for package in rng.permutation(packages):
        share = sum(piece.package in (*held_out, package) for piece in pieces) / max(1, len(pieces))
        if share <= 1 / 7:
            held_out.add(str(package))
    if not held_out:
        raise InputError(f"{audio} needs several folders of music, so that whole ones can be held out")
    catalogued = [piece for piece in pieces if piece.package not in held_out]
    if largest is not None:
        catalogued = [catalogued[index] for index in sorted(rng.permutation(len(catalogued))[:largest])]
    return Corpus(
        catalogued=tuple(catalogued),
        held_out=tuple(piece for piece in pieces if piece.package in held_out),
        voices=tuple(path for path in files if _VOICES & set(path.parts)),
    )


async def catalogue(corpus: Corpus, *, program: Program, catalog: str, folder: Path) -> list[Piece]:
    """Load what is to be catalogued; the pieces that are references then: of files with the same sound only one is."""
    manifest = folder / f"{catalog}.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "path", "title", "owner"))
        for piece in corpus.catalogued:
            rows.writerow((piece.reference_id, piece.path.absolute(), piece.path.stem, piece.package))
    words = ("--catalog", catalog, "--manifest", str(manifest), "--json")
    await program.run("catalog", "add", *words, statuses=(0, InputError.exit_code))
    listed = await program.run("catalog", "list", "--catalog", catalog, "--json")
    references = {reference["reference_id"] for reference in listed["references"]}
    return [piece for piece in corpus.catalogued if piece.reference_id in references]


def decode(path: Path, ffmpeg: FfmpegProgram, *, longest_s: float = LONGEST_S) -> Samples:
    """The recording's first minutes, mono at `SAMPLE_RATE_HZ`; empty if ffmpeg cannot decode it."""
    done = subprocess.run(
        [
            *(ffmpeg.path, "-nostdin", "-loglevel", "error", "-i", f"file:{path}", "-t", str(longest_s)),
            *("-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "pipe:1"),
        ],
        capture_output=True,
        check=False,
    )
    return np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], dtype="<f4").astype(np.float32)


def talker(voices: Sequence[Path], *, ffmpeg: FfmpegProgram, rng: Generator) -> Talk:
    """Somebody who strings real utterances together; the demo's babble where the folder has no voices."""
    if not voices:
        return voice.babble
    utterances: list[Samples] = []
    for index in rng.permutation(len(voices))[:80]:
        sound = decode(voices[index], ffmpeg, longest_s=6)
        if len(sound) > SAMPLE_RATE_HZ // 2 and (level := float(np.sqrt(np.mean(sound**2)))) > 1e-3:
            utterances.append((sound * (0.1 / level)).astype(np.float32))
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), dtype=np.float32)

    def spoken(rng: Generator) -> Iterator[Samples]:
        while True:
            yield utterances[int(rng.integers(len(utterances)))]
            yield pause

    def talk(rng: Generator, duration_s: float) -> Samples:
        length = round(duration_s * SAMPLE_RATE_HZ)
        parts: list[Samples] = []
        for part in spoken(rng):
            parts.append(part)
            if sum(map(len, parts)) >= length:
                break
        sound = np.concatenate(parts)[:length]
        return (sound / max(1.0, float(np.max(np.abs(sound))) / 0.9)).astype(np.float32)

    return talk


def _duration_s(path: Path, ffmpeg: FfmpegProgram) -> float:
    command = [ffmpeg.path, "-nostdin", "-hide_banner", "-i", f"file:{path}"]
    said = subprocess.run(command, capture_output=True, check=False).stderr.decode(errors="replace")
    found = _DURATION.search(said)
    if found is None:
        return 0.0
    hours, minutes, seconds = found.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
