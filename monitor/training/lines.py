"""What candidates look like when nothing of the catalog is sounding: the other side of the log-likelihood ratio.

A candidate's line was chosen because some windows agreed on it; what its *next* windows say was not. Their
margins on uncatalogued audio are the distribution under "something else", exactly as the aligner meets it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.audio.window import level_dbfs
from monitor.daemon.tracker import StretchCache, Tracker
from monitor.embed import fingerprint
from monitor.embed.fingerprint import Fingerprint
from monitor.match.align import Aligner
from monitor.match.identity import uuid7
from monitor.match.options import Options
from monitor.match.score import Calibration, Likeness, from_histograms, generic_calibration
from monitor.training import background
from monitor.training.corpus import DEVELOPMENT, SAMPLE_RATE_HZ, Corpus
from monitor.training.degrade import beds
from monitor.training.measure import Catalog, density, make_catalog
from monitor.types import Neighbour, Samples, Vectors

_TOP_K = 15
_SILENCE_DBFS = -70.0
_PIECE_S = 240
_BED_S = 240
#: Candidates with so much evidence are those that a background must keep from being believed.
_STUBBORN_NATS = 2.5
_LEAST_STUBBORN = 200
#: Of windows along lines of kin, by their margins: not measured here, since the music of the corpus has hardly any, but
#: on rendered tunes that `benchmarks.false_alarms` plays (model card).
_KIN = {"mean": 0.02, "deviation": 0.07, "rarity_nats": 9.0, "near": 0.85, "near_nats": 40.0}
#: Nothing is ever believed, so that every candidate stays one.
_NEVER = Options(provisional_nats=np.inf, confirmed_nats=np.inf)


class _Catalog:
    """The music that the model was trained on, searched by brute force."""

    def __init__(self, catalog: Catalog, hop_s: float) -> None:
        self.hop_s, self._per_hop = hop_s, catalog.per_hop
        self._vectors = {
            item.path: catalog.vectors[first : first + count]
            for item, first, count in zip(catalog.pieces, catalog.first, catalog.count, strict=True)
            if item.package not in DEVELOPMENT
        }
        self._names = [path for path, vectors in self._vectors.items() for _ in vectors]
        self._starts_s = np.concatenate([np.arange(len(vectors)) * hop_s for vectors in self._vectors.values()])
        self._all = np.concatenate(list(self._vectors.values()))

    def search(self, vector: Vectors) -> list[Neighbour]:
        similarity = self._all @ vector
        most = _TOP_K * self._per_hop
        rows = np.argpartition(-similarity, most)[:most]
        # Of the windows within one hop of a stream only the nearest counts.
        found: dict[tuple[str, int], Neighbour] = {}
        for row in rows[np.argsort(-similarity[rows])]:
            name, start_s = self._names[row], float(self._starts_s[row])
            second = name, round(start_s / self.hop_s) // self._per_hop
            found.setdefault(
                second, Neighbour(reference_id=name, reference_start_s=start_s, similarity=float(similarity[row]))
            )
        return list(found.values())[:_TOP_K]

    async def stretch(self, reference_id: str, start_s: float, end_s: float) -> tuple[NDArray[np.float64], Vectors]:
        vectors = self._vectors[reference_id]
        starts_s = np.arange(len(vectors), dtype=np.float64) * np.float64(self.hop_s)
        inside = (starts_s >= start_s) & (starts_s < end_s) & vectors.any(axis=1)
        return starts_s[inside], vectors[inside]

    async def spectrogram(self, _reference_id: str, _start_s: float, _end_s: float) -> None:
        """There are no frames here: candidates are measured by their windows alone."""


def measure_lines(corpus: Corpus, models: Path, *, seed: int, threads: int, say: Callable[[str], None]) -> None:
    """Add "background", "margins", "kin" and "line" to `fingerprint.calibration.json` in `models`."""
    embedder = fingerprint.load(models, threads=threads)
    path = models / "fingerprint.calibration.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    catalog = make_catalog(corpus, embedder)
    heard = background.listen(corpus, catalog, embedder, seed=seed, say=say)
    known = _Catalog(catalog, embedder.reference_hop_s)
    signals = list(_foreign(corpus, seed))
    edges = np.asarray(content["edges"])
    # What candidates look like by their similarity alone says which of them would be believed by it.
    blind = _all_suspicions(known, embedder, signals, generic_calibration())
    plain = from_histograms(
        edges=edges,
        same=np.array(density(background.joined([one.likeness for one in heard]).own, edges)),
        other=np.array(density(background.joined([likeness for _, likeness in blind]).own, edges)),
    )
    found = _all_suspicions(known, embedder, signals, plain)
    candidates = background.joined([likeness for _, likeness in found])
    stubborn = [likeness for nats, likeness in found if nats >= _STUBBORN_NATS]
    say(f"{len(found)} windows of candidates, {len(stubborn)} of those with evidence")
    if len(stubborn) < _LEAST_STUBBORN:
        say("too few to measure similarities against: they are taken as they are")
        content["line"] = density(candidates.own, edges)
    else:
        fitted = background.fit(heard, background.joined(stubborn))
        say(str(fitted))
        margins = {one.condition: (one.likeness.own - fitted.similarity(one.likeness)).ravel() for one in heard}
        margins["all"] = np.concatenate(list(margins.values()))
        content["background"] = {name: round(value, 4) for name, value in dataclasses.asdict(fitted).items()}
        content["margins"] = {name: density(values, edges) for name, values in margins.items()}
        content["kin"] = _KIN
        content["line"] = density(candidates.own - fitted.similarity(candidates), edges)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _all_suspicions(
    catalog: _Catalog, embedder: Fingerprint, signals: Sequence[Samples], calibration: Calibration
) -> list[tuple[float, Likeness]]:
    return [one for signal in signals for one in asyncio.run(_suspicions(catalog, embedder, signal, calibration))]


async def _suspicions(
    catalog: _Catalog, embedder: Fingerprint, signal: Samples, calibration: Calibration
) -> list[tuple[float, Likeness]]:
    aligner = Aligner(
        stream="foreign",
        catalog="all",
        model_id=embedder.model_id,
        window_s=embedder.window_s,
        hop_s=embedder.hop_s,
        calibration=calibration,
        options=_NEVER,
        new_id=uuid7,
    )
    tracker = Tracker(
        aligner=aligner,
        stretches=StretchCache(catalog),
        dimension=embedder.dimension,
        reference_hop_s=catalog.hop_s,
    )
    found: list[tuple[float, Likeness]] = []
    for number, vector in enumerate(_embed(embedder, signal)):
        if vector.any():
            await tracker.step(number * embedder.hop_s, vector[np.newaxis], catalog.search(vector))
            found += aligner.suspicions
    return found


def _foreign(corpus: Corpus, seed: int) -> Iterator[Samples]:
    """Development music, which that catalog does not hold, then voices and noise that nobody trained on."""
    for item in corpus.select(kind="music", development=True):
        if item.samples > 30 * SAMPLE_RATE_HZ:
            yield corpus.floats(item)[: _PIECE_S * SAMPLE_RATE_HZ]
    over = beds(corpus, development=True, seed=seed + 3)
    for bed in (over.speech, over.noise, over.effects):
        samples = np.asarray(bed.numpy()[: _BED_S * SAMPLE_RATE_HZ], dtype=np.float32)
        yield samples * np.float32(0.1 / max(float(np.sqrt(np.mean(samples**2))), 1e-9))


def _embed(embedder: Fingerprint, signal: Samples) -> Vectors:
    if len(signal) < embedder.window_samples:
        return np.zeros((0, embedder.dimension), dtype=np.float32)
    vectors = embedder.embed_span(signal)
    size, hop = embedder.window_samples, embedder.hop_samples
    for number in range(len(vectors)):
        if level_dbfs(signal[number * hop : number * hop + size]) <= _SILENCE_DBFS:
            vectors[number] = 0.0
    return vectors
