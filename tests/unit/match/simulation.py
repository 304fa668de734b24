"""A stream and a catalog made of vectors: windows of one recording are like their overlapping neighbours, as real ones
are, and unlike all else. The search is brute force; nothing of the product is faked but sound and Milvus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from monitor.embed.fingerprint import MODELS
from monitor.match.align import Aligner, Stretch
from monitor.match.identity import uuid7
from monitor.match.line import Plane, make_plane
from monitor.match.options import Options
from monitor.match.score import Calibration, load_calibration
from monitor.types import MatchEvent, Neighbour

WINDOW_S, HOP_S, REFERENCE_HOP_S, DIMENSION = 2.0, 0.5, 0.25, 128
CALIBRATION = Calibration(similarities=np.array([0.2, 0.45, 0.8]), nats=np.array([-1.5, 0.0, 5.0]))
OPTIONS = Options(provisional_nats=4.0, confirmed_nats=8.0)


def shipped_calibration() -> Calibration:
    path = MODELS / "fingerprint.calibration.json"
    return load_calibration(path, model_id=json.loads(path.read_text())["model_id"])


class Recording:
    """Sound as a sequence of random vectors, one each 0.1 s; a window is the mean of what it covers."""

    def __init__(self, seed: int, duration_s: float) -> None:
        self.duration_s = duration_s
        self._latent = np.random.default_rng(seed).standard_normal((int(duration_s * 10) + 1, DIMENSION))

    def latent(self, seconds: np.ndarray) -> np.ndarray:
        index = np.floor(seconds * 10).astype(int)
        inside = (index >= 0) & (index < len(self._latent)) & (seconds < self.duration_s)
        return np.where(inside[:, None], self._latent[np.clip(index, 0, len(self._latent) - 1)], 0.0)


@dataclass(frozen=True)
class Airing:
    reference_id: str
    start_s: float
    reference_start_s: float
    length_s: float
    tempo_ratio: float = 1.0
    gain: float = 1.0


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@dataclass
class Catalog:
    recordings: dict[str, Recording]
    starts: dict[str, np.ndarray] = field(init=False)
    vectors: dict[str, np.ndarray] = field(init=False)
    hop_s: float = REFERENCE_HOP_S

    def __post_init__(self) -> None:
        self.starts, self.vectors = {}, {}
        for name, recording in self.recordings.items():
            starts = np.arange(0.0, recording.duration_s - WINDOW_S + 1e-9, REFERENCE_HOP_S)
            offsets = np.arange(0.0, WINDOW_S, 0.1)
            self.starts[name] = starts
            self.vectors[name] = unit(np.stack([recording.latent(s + offsets + 0.05).mean(axis=0) for s in starts]))
        self._names = [name for name in self.recordings for _ in self.starts[name]]
        self._all_starts = np.concatenate(list(self.starts.values()))
        self._all = np.concatenate(list(self.vectors.values()))

    def search(self, vector: np.ndarray, k: int) -> list[Neighbour]:
        similarity = self._all @ vector
        found: dict[tuple[str, int], Neighbour] = {}
        for i in np.argsort(-similarity)[: k * round(HOP_S / REFERENCE_HOP_S)]:
            name, start_s = self._names[i], float(self._all_starts[i])
            second = name, int(start_s / HOP_S)
            found.setdefault(
                second, Neighbour(reference_id=name, reference_start_s=start_s, similarity=float(similarity[i]))
            )
        return list(found.values())[:k]


def windows(
    catalog: Catalog, airings: list[Airing], *, until_s: float, noise: float, seed: int, from_s: float = 0.0
) -> Iterator[tuple[float, np.ndarray]]:
    """Start and vector of each window of a stream that airs the airings over ever-new noise."""
    rng = np.random.default_rng(100_000 + seed)
    steps = np.arange(0.0, until_s + WINDOW_S, 0.1) + 0.05
    sound = rng.standard_normal((len(steps), DIMENSION)) * noise
    for airing in airings:
        inside = (steps >= airing.start_s) & (steps < airing.start_s + airing.length_s)
        reference_s = airing.reference_start_s + (steps[inside] - airing.start_s) * airing.tempo_ratio
        sound[inside] += airing.gain * catalog.recordings[airing.reference_id].latent(reference_s)
    for start_s in np.arange(from_s, until_s, HOP_S):
        first = round(start_s * 10)
        yield float(start_s), unit(sound[first : first + round(WINDOW_S * 10)].mean(axis=0))


def simulated_aligner(
    *, options: Options = OPTIONS, calibration: Calibration = CALIBRATION, duration_s: Callable[[str], float | None]
) -> Aligner:
    numbers = iter(range(10_000))
    return Aligner(
        stream="radio",
        catalog="default",
        model_id="simulated",
        window_s=WINDOW_S,
        hop_s=HOP_S,
        calibration=calibration,
        options=options,
        new_id=lambda time_s: uuid7(time_s, next(numbers)),
        duration_s=duration_s,
    )


class Listener:
    """Drives an aligner as the pipeline does."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        options: Options = OPTIONS,
        epoch_s: float = 0.0,
        k: int = 10,
        calibration: Calibration = CALIBRATION,
        duration_s: Callable[[str], float | None] = lambda _reference_id: None,
    ) -> None:
        self.catalog, self.epoch_s, self.k = catalog, epoch_s, k
        self.aligner = simulated_aligner(options=options, calibration=calibration, duration_s=duration_s)
        self._ring: list[tuple[float, np.ndarray]] = []
        self.events: list[MatchEvent] = []
        self._asked: set[str] = set()

    def hear(self, start_s: float, vector: np.ndarray, *, shuffle: np.random.Generator | None = None) -> None:
        """`vector` (d,), or (R, d) where the window was read at several pitches."""
        readings = np.atleast_2d(vector)
        start_s += self.epoch_s
        self._ring = [(s, v) for s, v in self._ring if s > start_s - self.aligner.options.look_back_s]
        self._ring.append((start_s, readings))
        neighbours = [
            replace(near, reading=number)
            for number, reading in enumerate(readings)
            for near in self.catalog.search(reading, self.k)
        ]
        if shuffle is not None:
            names = list(self.catalog.recordings)
            neighbours = [
                Neighbour(
                    reference_id=names[shuffle.integers(len(names))],
                    reference_start_s=float(shuffle.uniform(0, 60)),
                    similarity=neighbour.similarity,
                )
                for neighbour in neighbours
            ]
        self.aligner.observe(start_s, neighbours)
        planes: dict[Stretch, Plane | None] = {}
        for stretch in self.aligner.wanted():
            starts = self.catalog.starts[stretch.reference_id]
            inside = (starts >= stretch.start_s) & (starts <= stretch.end_s)
            heard = [(s, v[stretch.reading]) for s, v in self._ring if s >= stretch.since_s]
            planes[stretch] = make_plane(
                reference_id=stretch.reference_id,
                window_starts_s=np.array([s for s, _ in heard]),
                window_vectors=np.stack([v for _, v in heard]),
                reference_starts_s=starts[inside],
                reference_vectors=self.catalog.vectors[stretch.reference_id][inside],
                reference_hop_s=REFERENCE_HOP_S,
                hop_s=HOP_S,
            )
        self._asked |= {stretch.reference_id for stretch in planes if stretch.pictured}
        events = self.aligner.advance(planes)
        # What frames might speak against is not told before they were asked for.
        assert {event.match.reference_id for event in events if event.sequence == 0} <= self._asked
        self.events += events

    def run(self, stream: Iterator[tuple[float, np.ndarray]]) -> list[MatchEvent]:
        for start_s, vector in stream:
            self.hear(start_s, vector)
        self.events += self.aligner.flush()
        return self.events


def rows(events: list[MatchEvent]) -> list[MatchEvent]:
    """The last event of each match that was not retracted."""
    last = {event.match.match_id: event for event in events}
    return [event for event in last.values() if event.match.state.value != "retracted"]
