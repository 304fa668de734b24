"""A file's sound as vectors: decoded, sliced and embedded in bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.audio.window import Spans
from monitor.catalog.index import MAX_WINDOWS, damaged
from monitor.catalog.sameness import sameness
from monitor.embed import Embedder
from monitor.embed.spectrogram import Spectrograph
from monitor.errors import InputError
from monitor.types import Samples, Vectors

#: Windows quieter than this are left out: they are like all other silence.
SILENCE_DBFS = -70.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What a catalog keeps of a file. An hour takes 9 to 16 MB; its samples are gone."""

    duration_s: float
    #: All windows of the sound, silent ones too.
    windows: int
    #: Which of them have a vector, ascending, (n,), and their vectors, (n, dimension); none after a mere check.
    kept: NDArray[np.int64]
    vectors: Vectors
    #: Levels of each of these windows' frames, as text.
    levels: Sequence[str]
    #: SHA-256 (hex) of the samples as 16-bit integers at the embedder's rate.
    audio_sha256: str
    #: What whoever loads it should know of its sound.
    warning: str | None = None


async def read_recording(
    path: Path,
    *,
    embedder: Embedder,
    ffmpeg: FfmpegProgram,
    executor: Executor | None,
    on_audio: Callable[[float], None] = lambda _: None,
    max_duration_s: float | None = None,
) -> Recording:
    """Decode the file and embed its windows, on `executor`'s thread; without one, only check that it can be loaded.

    `on_audio` is told the seconds of each stretch that is done. Raises InputError as `decode_file` does, also for a
    file that is cut off, and for one of more windows than a reference may have or of more sound than `max_duration_s`.
    """
    loop = asyncio.get_running_loop()
    spans = Spans(window_samples=embedder.window_samples, hop_samples=embedder.reference_hop_samples)
    digest = hashlib.sha256()
    samples, windows = 0, 0
    kept: list[NDArray[np.int64]] = []
    vectors: list[Vectors] = []
    spectrograph = Spectrograph.for_embedder(embedder)
    levels: list[str] = []
    decoding = decode_file(path, sample_rate_hz=embedder.sample_rate_hz, ffmpeg=ffmpeg)
    async with aclosing(decoding) as blocks:  # type: ignore[type-var]
        async for block in blocks:
            samples += block.size
            if max_duration_s is not None and samples > max_duration_s * embedder.sample_rate_hz:
                raise InputError(
                    f"{path} is longer than the {max_duration_s:.0f} s that it may last; cut it into parts"
                )
            digest.update(np.round(np.clip(block, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
            if (span := spans.push(block)) is not None:
                first, sound = span
                loud = await asyncio.to_thread(_loud, sound, embedder)
                windows = first + len(loud)
                if windows > MAX_WINDOWS:
                    hours = MAX_WINDOWS * embedder.reference_hop_s / 3600
                    raise InputError(f"{path} is longer than the {hours:.0f} hours of a reference; cut it into parts")
                kept.append(first + np.flatnonzero(loud))
                if executor is not None and loud.any():
                    vectors.append((await loop.run_in_executor(executor, embedder.embed_reference, sound))[loud])
                    levels += await asyncio.to_thread(spectrograph.rows, sound, np.flatnonzero(loud))
            on_audio(block.size / embedder.sample_rate_hz)
    made = np.concatenate(vectors) if vectors else np.empty((0, embedder.dimension), dtype=np.float32)
    if damaged(made).any():
        raise InputError(f"{path}: model {embedder.model_id} gives vectors that are none; please report this file")
    numbers = np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)
    # How alike neighbours are that lie a stream's hop apart is the scale.
    hop = embedder.hop_samples // embedder.reference_hop_samples
    coarse = numbers % hop == 0
    alike = None
    if len(made) and coarse.any():
        alike = await asyncio.to_thread(sameness, numbers[coarse] // hop, made[coarse], hop_s=embedder.hop_s)
    return Recording(
        duration_s=samples / embedder.sample_rate_hz,
        windows=windows,
        kept=numbers,
        vectors=made,
        levels=levels,
        audio_sha256=digest.hexdigest(),
        warning=alike.warning if alike else None,
    )


def _loud(sound: Samples, embedder: Embedder) -> NDArray[np.bool_]:
    windows = sliding_window_view(sound, embedder.window_samples)[:: embedder.reference_hop_samples]
    power = np.einsum("ij,ij->i", windows, windows) / embedder.window_samples
    return np.asarray(power > 10.0 ** (SILENCE_DBFS / 10.0))
