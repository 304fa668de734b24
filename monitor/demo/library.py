"""The demo's recordings: composed by seed, or taken from the user's own folder; some are kept out of the catalog."""

from __future__ import annotations

import asyncio
import csv
import multiprocessing
import signal
import wave
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import composer, likeness
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.programme import Recording
from monitor.errors import InputError, UsageError
from monitor.types import Samples

COMPOSED_CATALOGUED = 12
COMPOSED_UNCATALOGUED = 3
#: The uncatalogued pieces are composed with other seeds.
_OTHER_SEED = 1_000_003
_OWN_CATALOGUED = 12
_OWN_UNCATALOGUED = 3
#: Airings come from the first minutes of a recording; shorter ones than the first cannot hold the longest airing.
_OWN_SHORTEST_S = 45.0
_OWN_LONGEST_S = 240.0
_OWN_LARGEST_BYTES = 64 << 20
_SUFFIXES = frozenset(
    (".aac", ".aif", ".aiff", ".ape", ".flac", ".m4a", ".mka", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav",
     ".wma", ".wv")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """What the stations can play, and the manifest from which the loader catalogues the first part of it."""

    catalogued: tuple[Recording, ...]
    uncatalogued: tuple[Recording, ...]
    manifest: Path


async def composed(folder: Path, seed: int) -> Library:
    """A dozen pieces of that seed as WAV files in `folder`, and some of another seed that no catalog holds."""
    loop = asyncio.get_running_loop()
    catalogued = [(seed, number) for number in range(COMPOSED_CATALOGUED)]
    # Styles go round by number: the strangers are in styles that the catalog knows too.
    strangers = [(seed + _OTHER_SEED, (5 * seed + 4 * number) % 12) for number in range(COMPOSED_UNCATALOGUED)]
    # Whoever interrupts the demo interrupts its whole process group: the workers leave that to their owner.
    pool = ProcessPoolExecutor(
        max_workers=2,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        pieces = await asyncio.gather(
            *(loop.run_in_executor(pool, composer.compose, *work) for work in (*catalogued, *strangers))
        )
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    recordings, paths = [], []
    for (_, number), piece in zip(catalogued, pieces, strict=False):
        identifier = f"demo-{seed}-{number + 1:02d}"
        paths.append(folder / f"{identifier}.wav")
        _write_wav(paths[-1], piece.samples)
        recordings.append(Recording(reference_id=identifier, title=piece.title, samples=piece.samples))
    others = [
        Recording(reference_id=None, title=f"{piece.title} (of another seed)", samples=piece.samples)
        for piece in pieces[len(catalogued) :]
    ]
    manifest = _write_manifest(folder, recordings, paths, artist="the composer of the demo")
    return Library(catalogued=tuple(recordings), uncatalogued=tuple(others), manifest=manifest)


async def own(folder: Path, audio: Path, seed: int, *, ffmpeg: FfmpegProgram, say: Callable[[str], None]) -> Library:
    """Recordings of the user, drawn by seed; some are held out, unless they share audio with a catalogued one.

    Raises UsageError where there is no such folder, InputError where it holds too little.
    """
    paths = await asyncio.to_thread(_recordings_in, audio)
    rng = np.random.default_rng([seed, 2])
    catalogued: list[Recording] = []
    chosen: list[Path] = []
    held_out: list[Recording] = []
    for index in rng.permutation(len(paths)):
        path = paths[index]
        if len(held_out) >= _OWN_UNCATALOGUED:
            break
        samples = await _first_minutes(path, ffmpeg)
        if samples is None:
            continue
        identifier = path.relative_to(audio).with_suffix("").as_posix()
        if len(catalogued) < _OWN_CATALOGUED:
            catalogued.append(Recording(reference_id=identifier, title=path.stem, samples=samples))
            chosen.append(path)
        elif not await asyncio.to_thread(_resembles, samples, catalogued):
            held_out.append(Recording(reference_id=None, title=path.stem, samples=samples))
        else:
            say(f"{path.name} shares audio with a catalogued recording: it cannot stand for an uncatalogued one")
    if len(catalogued) > _OWN_UNCATALOGUED and not held_out:
        held_out = [
            Recording(reference_id=None, title=recording.title, samples=recording.samples)
            for recording in catalogued[-2:]
            if not await asyncio.to_thread(_resembles, recording.samples, catalogued[:-2])
        ]
        del catalogued[-2:], chosen[-2:]
    if len(catalogued) < 3 or not held_out:
        raise InputError(
            f"{audio} holds too few recordings of {_OWN_SHORTEST_S:.0f} s or more that differ from each other "
            f"({len(catalogued) + len(held_out)}); the demo needs five"
        )
    manifest = _write_manifest(folder, catalogued, chosen)
    return Library(catalogued=tuple(catalogued), uncatalogued=tuple(held_out), manifest=manifest)


def _recordings_in(audio: Path) -> list[Path]:
    if not audio.is_dir():
        raise UsageError(f"--audio {audio} is not a directory; name a folder with recordings")
    return sorted(
        path
        for path in audio.rglob("*")
        if path.suffix.lower() in _SUFFIXES and path.is_file() and path.stat().st_size <= _OWN_LARGEST_BYTES
    )


async def _first_minutes(path: Path, ffmpeg: FfmpegProgram) -> Samples | None:
    """The recording's first minutes; None for what is too short, too quiet or undecodable: the loader reports those."""
    decoded = decode_file(path, sample_rate_hz=SAMPLE_RATE_HZ, ffmpeg=ffmpeg, max_duration_s=_OWN_LONGEST_S)
    try:
        blocks = [block async for block in decoded]
    except InputError:
        return None
    samples = np.concatenate(blocks)
    loud_enough = float(np.sqrt(np.mean(np.square(samples)))) > 0.005
    return samples if loud_enough and len(samples) >= _OWN_SHORTEST_S * SAMPLE_RATE_HZ else None


def _resembles(samples: Samples, catalogued: list[Recording]) -> bool:
    reduced = likeness.reduced(samples, SAMPLE_RATE_HZ)
    return any(
        likeness.shares_audio(reduced, likeness.reduced(recording.samples, SAMPLE_RATE_HZ)) for recording in catalogued
    )


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def _write_manifest(folder: Path, recordings: list[Recording], paths: list[Path], artist: str = "") -> Path:
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "path", "title", "artist"))
        for recording, path in zip(recordings, paths, strict=True):
            rows.writerow((recording.reference_id, path.absolute(), recording.title, artist))
    return manifest
