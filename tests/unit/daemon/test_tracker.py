from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.daemon.tracker import StretchCache, Tracker
from monitor.errors import UnreachableError
from monitor.types import MatchState, Neighbour
from tests.unit.match.simulation import DIMENSION, REFERENCE_HOP_S, Airing, Catalog, Listener, Recording, windows


class Reader:
    """Reference windows each half second; the vector holds the window's number."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, float]] = []

    async def spectrogram(self, reference_id, start_s, end_s):
        return None

    async def stretch(self, reference_id, start_s, end_s):
        self.calls.append((reference_id, start_s, end_s))
        starts = np.arange(0.0, 1000.0, 0.5)
        inside = (starts >= start_s) & (starts < end_s)
        return starts[inside], np.stack([starts[inside]] * 4, axis=1).astype(np.float32)


async def test_a_stretch_across_pieces_is_whole_and_read_once():
    reader = Reader()
    cache = StretchCache(reader)
    for _ in range(2):
        starts, vectors = await cache.stretch("a", 230.0, 250.0)
        assert starts.tolist() == np.arange(230.0, 250.0, 0.5).tolist()
        assert vectors[:, 0].tolist() == starts.tolist()
    assert len(reader.calls) == 2


async def test_past_the_end_there_is_nothing():
    starts, vectors = await StretchCache(Reader()).stretch("a", 5000.0, 5030.0)
    assert len(starts) == 0 and len(vectors) == 0


async def test_the_least_recently_used_piece_makes_room():
    reader = Reader()
    cache = StretchCache(reader, capacity_bytes=20_000)
    for name in ("a", "b", "a", "c", "a", "b"):
        await cache.stretch(name, 0.0, 1.0)
    assert [name for name, _, _ in reader.calls] == ["a", "b", "c", "b"]


async def test_a_changed_catalog_is_read_again():
    reader = Reader()
    cache = StretchCache(reader)
    await cache.stretch("a", 0.0, 1.0)
    cache.clear()
    await cache.stretch("a", 0.0, 1.0)
    assert len(reader.calls) == 2


async def test_what_a_clock_set_back_ends_is_told_though_the_catalog_is_away_then():
    simulated = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(3)})
    away = False

    class Away:
        async def spectrogram(self, reference_id, start_s, end_s):
            return None

        async def stretch(self, reference_id, start_s, end_s):
            if away:
                raise UnreachableError("Milvus is away")
            starts = simulated.starts[reference_id]
            inside = (starts >= start_s) & (starts < end_s)
            return starts[inside], simulated.vectors[reference_id][inside]

    tracker = Tracker(
        aligner=Listener(simulated).aligner,
        stretches=StretchCache(Away(), capacity_bytes=1),
        dimension=DIMENSION,
        reference_hop_s=REFERENCE_HOP_S,
    )
    stream = list(windows(simulated, [Airing("piece-1", 0.0, 0.0, 40.0)], until_s=30, noise=0.2, seed=1))
    events = []
    for start_s, vector in stream:
        events += await tracker.step(1000 + start_s, vector[np.newaxis], simulated.search(vector, 10))
    assert events[-1].match.state is MatchState.CONFIRMED
    away = True
    tracker._stretches.clear()
    start_s, vector = stream[0]
    strong = [Neighbour(reference_id="piece-2", reference_start_s=0.0, similarity=1.0)]
    tracker.aligner.options = dataclasses.replace(tracker.aligner.options, provisional_nats=1.0)
    with pytest.raises(UnreachableError):
        await tracker.step(start_s, vector[np.newaxis], strong)
    away = False
    events = await tracker.step(start_s, vector[np.newaxis], strong)
    assert events[0].match.state is MatchState.ENDED
