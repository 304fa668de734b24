from __future__ import annotations

import numpy as np

from monitor.daemon.tracker import StretchCache


class Reader:
    """Reference windows each half second; the vector holds the window's number."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, float]] = []

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
