"""References and queries on disk: folders of music become a catalog, the toolkit's generator makes the queries."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.broadcast.corpus import decode, talker
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.errors import InputError
from monitor.types import Samples

DIFFICULTIES = ("easy", "medium", "hard")
#: A shorter file is an effect, and no piece of music.
SHORTEST_S = 20.0
_SMALLEST_BYTES = 100_000
_SUFFIXES = frozenset((".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"))
#: Not music, however long.
_NOT_MUSIC = frozenset(("ambience", "morph", "voices", "voice", "sfx", "effects"))
_VOICES = frozenset(("voices", "voice", "announcer", "voice_samples", "tux_ingame_comments"))
#: Left out, because another file of the package is the same recording (cross-correlation of samples, model card).
NEAR_COPIES = frozenset(("drascula-music--track30",))
#: Stand-ins for the toolkit's three background recordings: words that a file's name must hold.
_WATER = ("water", "river", "creek", "lake")
_STREET = ("trafic", "traffic", "cars", "road", "market")
_NOISE_S = 60.0
_TALKERS = 8


@dataclass(frozen=True, kw_only=True)
class QuerySet:
    """The queries of one difficulty and what is in them."""

    difficulty: str
    queries: tuple[Path, ...]
    annotations: Path
    audio_s: float


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every system gets."""

    #: One folder of references; a file's name without its ending is its id.
    references: Path
    queried: int
    distractors: int
    reference_s: float
    sets: tuple[QuerySet, ...]


def prepare(
    *,
    toolkit: Path,
    audio: Path,
    work: Path,
    packages: Sequence[str],
    queries: int,
    difficulties: Sequence[str],
    seed: int,
    ffmpeg: FfmpegProgram,
    most_distractors: int | None = None,
) -> Material:
    """Queries are cut from `packages` alone; the music of every other folder of `audio` is in the catalog beside it,
    or so many pieces of it, drawn by seed.

    What lies finished in `work` is used again. Raises InputError if there is too little.
    """
    references = work / "references"
    lists = work / "references.json"
    if not lists.is_file():
        _link(audio, packages, references, lists, ffmpeg)
    durations: dict[str, dict[str, float]] = json.loads(lists.read_text(encoding="utf-8"))
    queried, distractors = durations["queried"], durations["distractors"]
    if len(queried) < 10:
        raise InputError(f"{audio} holds {len(queried)} pieces of {', '.join(packages)}; the toolkit wants 10 or more")
    if most_distractors is not None and most_distractors < len(distractors):
        drawn = np.random.default_rng([seed, 10]).permutation(sorted(distractors))[:most_distractors]
        distractors = {str(name): distractors[str(name)] for name in drawn}
        references = _some(references, {*queried, *distractors}, work / f"references-{most_distractors}-{seed}")
    _noise(toolkit, audio, work, ffmpeg=ffmpeg, seed=seed)
    sets = [
        _query_set(toolkit, work, queried, difficulty=difficulty, queries=queries, seed=seed + number)
        for number, difficulty in enumerate(DIFFICULTIES)
        if difficulty in difficulties
    ]
    return Material(
        references=references,
        queried=len(queried),
        distractors=len(distractors),
        reference_s=sum(queried.values()) + sum(distractors.values()),
        sets=tuple(sets),
    )


def is_music(path: Path) -> bool:
    """By its place and size; that it is long enough, `length_s` tells."""
    if path.suffix.lower() not in _SUFFIXES or not path.is_file() or _NOT_MUSIC & set(path.parts):
        return False
    return path.stat().st_size >= _SMALLEST_BYTES


def length_s(path: Path) -> float:
    """Seconds of audio, as ffprobe reads the container."""
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    said = subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()
    try:
        return float(said)
    except ValueError:
        return 0.0


def _link(audio: Path, packages: Sequence[str], references: Path, lists: Path, ffmpeg: FfmpegProgram) -> None:
    shutil.rmtree(references, ignore_errors=True)
    references.mkdir(parents=True)
    found: dict[str, dict[str, float]] = {"queried": {}, "distractors": {}}
    seen: set[bytes] = set()
    for path in sorted(audio.rglob("*")):
        if not is_music(path):
            continue
        duration_s = length_s(path)
        if duration_s < SHORTEST_S:
            continue
        # The same sound twice would make every match of the one a false match of the other.
        sound = decode(path, ffmpeg, longest_s=SHORTEST_S).tobytes()
        if sound in seen:
            continue
        seen.add(sound)
        package = path.relative_to(audio).parts[0]
        name = "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in f"{package}--{path.stem}")
        if name in NEAR_COPIES:
            continue
        kind = "queried" if package in packages else "distractors"
        while name in found["queried"] or name in found["distractors"]:
            name += "_"
        found[kind][name] = duration_s
        target = references / f"{name}{path.suffix.lower()}"
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
    lists.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _some(references: Path, names: set[str], folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in references.iterdir():
        if path.stem in names:
            os.link(path, folder / path.name)
    return folder


def _noise(toolkit: Path, audio: Path, work: Path, *, ffmpeg: FfmpegProgram, seed: int) -> None:
    """Three background recordings in `work/noise`: the toolkit's own, or water, a street and a crowd of the folder."""
    folder = work / "noise"
    if len(list(folder.glob("*.wav"))) >= 3:
        return
    folder.mkdir(exist_ok=True)
    own = sorted((toolkit / "noise").glob("*.wav"))
    if len(own) >= 3:
        for path in own:
            shutil.copyfile(path, folder / path.name)
        return
    rng = np.random.default_rng([seed, 9])
    sounds = sorted(path for path in audio.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    for name, words in (("water", _WATER), ("street", _STREET)):
        chosen = [path for path in sounds if any(word in path.stem.lower() for word in words)]
        _write(folder / f"{name}.wav", _bed([decode(path, ffmpeg, longest_s=_NOISE_S) for path in chosen], rng))
    talk = talker([path for path in sounds if _VOICES & set(path.parts)], ffmpeg=ffmpeg, rng=rng)
    _write(folder / "crowd.wav", np.sum([talk(rng, _NOISE_S) for _ in range(_TALKERS)], axis=0))


def _bed(sounds: list[Samples], rng: Generator) -> Samples:
    """One after the other, three at a time, for as long as a background lasts."""
    usable = [sound / max(1e-3, float(np.sqrt(np.mean(sound**2)))) for sound in sounds if len(sound) > SAMPLE_RATE_HZ]
    if not usable:
        usable = [rng.standard_normal(SAMPLE_RATE_HZ).astype(np.float32)]
    length = round(_NOISE_S * SAMPLE_RATE_HZ)
    layers = []
    for _ in range(3):
        layer = np.concatenate([usable[index] for index in rng.permutation(len(usable))])
        layers.append(np.resize(layer, length))
    return np.sum(layers, axis=0).astype(np.float32)


def _write(path: Path, samples: Samples) -> None:
    loud = samples * (0.7 / max(1e-6, float(np.max(np.abs(samples)))))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((loud * 32767).astype("<i2").tobytes())


def _query_set(
    toolkit: Path, work: Path, queried: dict[str, float], *, difficulty: str, queries: int, seed: int
) -> QuerySet:
    folder = work / f"{difficulty}-{queries}-{seed}"
    annotations = folder / "annotations.csv"
    if not annotations.is_file():
        folder.mkdir(exist_ok=True)
        tracks = folder / "tracks.csv"
        files = {path.stem: path for path in (work / "references").iterdir()}
        with tracks.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("track_id", "track_file", "track_duration"))
            rows.writerows((name, files[name].absolute(), duration_s) for name, duration_s in queried.items())
        command = [
            *(sys.executable, str(toolkit.absolute() / "generate_query_audios.py"), str(tracks.absolute())),
            *("--annotation-file", str(annotations.absolute()), "--query-dir", str((folder / "queries").absolute())),
            *("--tmp-dir", str((folder / "tmp").absolute()), "--threads", "2"),
            *("--difficulty", difficulty, "--num-queries", str(queries), "--seed", str(seed)),
        ]
        # The generator looks for its background recordings in the current directory.
        done = subprocess.run(command, cwd=work, capture_output=True, check=False, text=True)
        if done.returncode != 0 or not annotations.is_file():
            raise InputError(f"the toolkit's generator failed: {done.stderr.strip()[-600:]}")
    found = tuple(sorted((folder / "queries").iterdir()))
    return QuerySet(
        difficulty=difficulty,
        queries=found,
        annotations=annotations,
        audio_s=sum(length_s(path) for path in found),
    )
