"""What candidates look like when nothing of the catalog is sounding: the other side of the log-likelihood ratio.

A candidate's line was chosen because some windows agreed on it; what its *next* windows say was not. Their
similarities on uncatalogued audio are the distribution under "something else", exactly as the aligner meets it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.audio.window import level_dbfs
from monitor.daemon.tracker import StretchCache, Tracker
from monitor.embed import fingerprint
from monitor.embed.fingerprint import Fingerprint
from monitor.match.align import Aligner, Options
from monitor.match.identity import uuid7
from monitor.match.score import generic_calibration
from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus
from monitor.training.degrade import beds
from monitor.types import Neighbour, Samples, Vectors

#: Development packages whose music is not in the catalog of this measurement.
UNCATALOGUED = ("lincity-ng-data", "redeclipse-data")
_TOP_K = 10
_SILENCE_DBFS = -70.0
_PIECE_S = 90
_BED_S = 240
#: Nothing is ever believed, so that every candidate stays one.
_NEVER = Options(provisional_nats=np.inf, confirmed_nats=np.inf)


class _Catalog:
    """All music but the uncatalogued, searched by brute force."""

    def __init__(self, corpus: Corpus, embedder: Fingerprint) -> None:
        self._hop_s = embedder.hop_s
        items = [*corpus.select(kind="music", development=True), *corpus.select(kind="music", development=False)]
        self._vectors = {
            item.path: _embed(embedder, corpus.floats(item)) for item in items if item.package not in UNCATALOGUED
        }
        heard = {path: np.flatnonzero(vectors.any(axis=1)) for path, vectors in self._vectors.items()}
        self._names = [path for path, rows in heard.items() for _ in rows]
        self._starts_s = np.concatenate([rows * self._hop_s for rows in heard.values()])
        self._all = np.concatenate([self._vectors[path][rows] for path, rows in heard.items()])

    def search(self, vector: Vectors) -> list[Neighbour]:
        similarity = self._all @ vector
        rows = np.argpartition(-similarity, _TOP_K)[:_TOP_K]
        return [
            Neighbour(
                reference_id=self._names[row],
                reference_start_s=float(self._starts_s[row]),
                similarity=float(similarity[row]),
            )
            for row in rows
        ]

    async def stretch(self, reference_id: str, start_s: float, end_s: float) -> tuple[NDArray[np.float64], Vectors]:
        vectors = self._vectors[reference_id]
        starts_s = np.arange(len(vectors), dtype=np.float64) * np.float64(self._hop_s)
        inside = (starts_s >= start_s) & (starts_s < end_s) & vectors.any(axis=1)
        return starts_s[inside], vectors[inside]


def measure_lines(corpus: Corpus, models: Path, *, seed: int, threads: int, say: Callable[[str], None]) -> None:
    """Add the densities "line" to `fingerprint.calibration.json` in `models`."""
    embedder = fingerprint.load(models, threads=threads)
    path = models / "fingerprint.calibration.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    catalog = _Catalog(corpus, embedder)
    similarities: list[float] = []
    for name, signal in _foreign(corpus, seed):
        found = asyncio.run(_suspicions(catalog, embedder, signal))
        similarities += found
        if found:
            middle, high = np.percentile(found, [50, 99])
            say(f"{name}: {len(found)} windows on lines, median {middle:.2f}, 99 % below {high:.2f}")
    edges = np.asarray(content["edges"])
    density, _ = np.histogram(similarities, bins=edges, density=True)
    content["line"] = [round(float(value), 6) for value in density]
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


async def _suspicions(catalog: _Catalog, embedder: Fingerprint, signal: Samples) -> list[float]:
    aligner = Aligner(
        stream="foreign",
        catalog="all",
        model_id=embedder.model_id,
        window_s=embedder.window_s,
        hop_s=embedder.hop_s,
        calibration=generic_calibration(),
        options=_NEVER,
        new_id=uuid7,
    )
    tracker = Tracker(
        aligner=aligner,
        stretches=StretchCache(catalog),
        dimension=embedder.dimension,
        reference_hop_s=embedder.hop_s,
    )
    found: list[float] = []
    for number, vector in enumerate(_embed(embedder, signal)):
        if vector.any():
            await tracker.step(number * embedder.hop_s, vector[np.newaxis], catalog.search(vector))
            found += [similarity for similarity in aligner.suspicions if not np.isnan(similarity)]
    return found


def _foreign(corpus: Corpus, seed: int) -> Iterator[tuple[str, Samples]]:
    """Music that is not in the catalog, then voices and noise that nobody trained on."""
    for item in corpus.select(kind="music", development=True):
        if item.package in UNCATALOGUED and item.samples > 30 * SAMPLE_RATE_HZ:
            yield Path(item.path).name, corpus.floats(item)[: _PIECE_S * SAMPLE_RATE_HZ]
    over = beds(corpus, development=True, seed=seed + 3)
    for name, bed in (("speech", over.speech), ("noise", over.noise), ("effects", over.effects)):
        samples = np.asarray(bed.numpy()[: _BED_S * SAMPLE_RATE_HZ], dtype=np.float32)
        yield name, samples * np.float32(0.1 / max(float(np.sqrt(np.mean(samples**2))), 1e-9))


def _embed(embedder: Fingerprint, signal: Samples) -> Vectors:
    if len(signal) < embedder.window_samples:
        return np.zeros((0, embedder.dimension), dtype=np.float32)
    vectors = embedder.embed_span(signal)
    size, hop = embedder.window_samples, embedder.hop_samples
    for number in range(len(vectors)):
        if level_dbfs(signal[number * hop : number * hop + size]) <= _SILENCE_DBFS:
            vectors[number] = 0.0
    return vectors
