"""The offline twin: the same windows, search and alignment on a file, as fast as the machine allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.audio.window import Spans, level_dbfs
from monitor.catalog.search import CatalogReader
from monitor.daemon.desk import Brief, begun
from monitor.daemon.pipeline import SILENCE_DBFS
from monitor.daemon.tracker import StretchCache, Tracker
from monitor.daemon.turns import Turns
from monitor.embed import Embedder
from monitor.embed.spectrogram import Spectrograph
from monitor.errors import InputError
from monitor.match.options import Options
from monitor.match.score import Calibration
from monitor.types import Levels, Match, MatchEvent, MatchState, Neighbour, Reference, Samples, Vectors

_BLOCK_S = 60.0
_BLOCKS_AHEAD = 2


@dataclass(kw_only=True)
class Timing:
    """Where the time went. Stages overlap, so that their sum may exceed the wall's."""

    audio_s: float = 0.0
    wall_s: float = 0.0
    decode_s: float = 0.0
    embed_s: float = 0.0
    search_s: float = 0.0
    align_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Consecutive windows of a file: `readings[i]` (R, dimension) starts at `starts_s[i]`; silent ones are None."""

    starts_s: list[float]
    readings: list[Vectors | None]
    levels: list[Levels]


class Twin:
    """Matches files against one catalog."""

    def __init__(
        self,
        *,
        reader: CatalogReader,
        embedder: Embedder,
        calibration: Calibration,
        options: Options,
        ffmpeg: FfmpegProgram,
        top_k: int,
    ) -> None:
        self._reader, self._embedder, self._calibration = reader, embedder, calibration
        self._options, self._ffmpeg, self._top_k = options, ffmpeg, top_k
        self._stretches = StretchCache(reader)
        self._spectrograph = Spectrograph.for_embedder(embedder)
        self.timing = Timing()
        #: The most evidence that anything had in any file so far, told or not.
        self.strongest_nats = 0.0

    @property
    def references(self) -> Mapping[str, Reference]:
        """The catalog's references, by id."""
        return self._reader.references

    @property
    def options(self) -> Options:
        """When a run is believed, and when it is over."""
        return self._options

    @property
    def model_id(self) -> str:
        """The model that embeds."""
        return self._embedder.model_id

    async def match(self, path: Path) -> list[Match]:
        """The file's airings, by start. Raises InputError when it cannot be decoded or is too short."""
        last = {event.match.match_id: event.match for event in await self.events(path)}
        return sorted(
            (match for match in last.values() if match.state is MatchState.ENDED), key=lambda match: match.start_s
        )

    async def events(self, path: Path) -> list[MatchEvent]:
        """All that would have been told of the file, in order, each when it was decided. Raises as `match`."""
        began = time.perf_counter()
        tracker = self._tracker(str(path))
        events: list[MatchEvent] = []
        async with aclosing(self._searched(path)) as searched:
            async for block, neighbours in searched:
                with _Stopwatch(self.timing, "align_s"):
                    windows = zip(block.starts_s, block.readings, neighbours, block.levels, strict=True)
                    for start_s, readings, near, levels in windows:
                        events += await tracker.step(start_s, readings, near, None if readings is None else levels)
                        self.strongest_nats = max(self.strongest_nats, tracker.aligner.strongest_nats)
        events += tracker.aligner.flush()
        self.timing.wall_s += time.perf_counter() - began
        return events

    async def windows(self, path: Path) -> list[tuple[float, list[Neighbour]]]:
        """Start of each of the file's windows that is not silent, and what of the catalog is nearest as it sounds."""
        found: list[tuple[float, list[Neighbour]]] = []
        async with aclosing(self._searched(path)) as searched:
            async for block, neighbours in searched:
                for start_s, near, readings in zip(block.starts_s, neighbours, block.readings, strict=True):
                    if readings is not None:
                        found.append((start_s, [one for one in near if one.reading == 0]))
        return found

    async def _searched(self, path: Path) -> AsyncGenerator[tuple[Block, list[list[Neighbour]]], None]:
        """Blocks with the neighbours of their windows; decoding and embedding run ahead."""
        blocks: asyncio.Queue[Block | None] = asyncio.Queue(_BLOCKS_AHEAD)
        turns = Turns()
        producer = asyncio.create_task(self._produce(path, blocks), name=f"embed {path}")
        try:
            while (block := await blocks.get()) is not None:
                loud = [(index, readings) for index, readings in enumerate(block.readings) if readings is not None]
                neighbours: list[list[Neighbour]] = [[] for _ in block.starts_s]
                asked = [(readings, turns.due(len(readings))) for _, readings in loud]
                with _Stopwatch(self.timing, "search_s"):
                    found = await self._reader.search_readings(asked, self._top_k)
                for (index, _), near in zip(loud, found, strict=True):
                    neighbours[index] = near
                yield block, neighbours
            await producer
        finally:
            producer.cancel()
            await asyncio.gather(producer, return_exceptions=True)

    async def _produce(self, path: Path, blocks: asyncio.Queue[Block | None]) -> None:
        try:
            embedder = self._embedder
            spans = Spans(window_samples=embedder.window_samples, hop_samples=embedder.hop_samples)
            decoding = decode_file(path, sample_rate_hz=embedder.sample_rate_hz, ffmpeg=self._ffmpeg, block_s=_BLOCK_S)
            windows = 0
            async with aclosing(decoding) as decoded:  # type: ignore[type-var]
                while True:
                    with _Stopwatch(self.timing, "decode_s"):
                        samples = await anext(decoded, None)
                    if samples is None:
                        break
                    self.timing.audio_s += len(samples) / embedder.sample_rate_hz
                    if (span := spans.push(samples)) is None:
                        continue
                    with _Stopwatch(self.timing, "embed_s"):
                        readings, levels = await asyncio.to_thread(self._embed, span[1])
                    starts_s = [(span[0] + number) * embedder.hop_s for number in range(len(readings))]
                    windows += len(readings)
                    await blocks.put(Block(starts_s=starts_s, readings=readings, levels=levels))
            if not windows:
                raise InputError(f"{path} is shorter than one window ({embedder.window_s:.1f} s); give more of it")
        finally:
            # Whoever has gone away takes nothing out any more: never wait for room then.
            if (task := asyncio.current_task()) is not None and not task.cancelling():
                await blocks.put(None)

    def _embed(self, samples: Samples) -> tuple[list[Vectors | None], list[Levels]]:
        embedder = self._embedder
        size, hop = embedder.window_samples, embedder.hop_samples
        made = embedder.read_span(samples) if self._options.any_pitch else embedder.embed_span(samples)[:, np.newaxis]
        loud = [
            readings if level_dbfs(samples[number * hop : number * hop + size]) > SILENCE_DBFS else None
            for number, readings in enumerate(made)
        ]
        return loud, self._spectrograph.of_windows(samples, hop_samples=hop, count=len(made))

    def _tracker(self, query: str) -> Tracker:
        reader, embedder = self._reader, self._embedder

        def duration_s(reference_id: str) -> float | None:
            reference = reader.references.get(reference_id)
            return None if reference is None else reference.duration_s

        brief = Brief(
            stream=query,
            catalog=reader.name,
            model_id=embedder.model_id,
            window_s=embedder.window_s,
            hop_s=embedder.hop_s,
            dimension=embedder.dimension,
            pitch_ratios=embedder.pitch_ratios,
            reference_hop_s=reader.catalog.hop_s,
            calibration=self._calibration,
            options=self._options,
        )
        return begun(brief, stretches=self._stretches, duration_s=duration_s)


class _Stopwatch:
    """Adds the time that its block takes to one field of a timing."""

    def __init__(self, timing: Timing, name: str) -> None:
        self._timing, self._name = timing, name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed = time.perf_counter() - self._began
        setattr(self._timing, self._name, getattr(self._timing, self._name) + elapsed)
