"""Readings of a window are numbered by the pitch they are of, whichever were searched."""

from __future__ import annotations

import numpy as np

from monitor.catalog.search import CatalogReader
from monitor.types import Neighbour


class Reader(CatalogReader):
    """One whose index says of each vector only what is written in it."""

    def __init__(self) -> None:
        self.searches = 0

    async def search(self, vectors, k):
        self.searches += 1
        return [
            [Neighbour(reference_id=f"piece-{vector[0]:.0f}", reference_start_s=0.0, similarity=1.0)] * k
            for vector in vectors
        ]


async def test_what_was_searched_keeps_its_number_in_one_call():
    reader = Reader()
    windows = [np.arange(9, dtype=np.float32)[:, np.newaxis], 10 + np.arange(5, dtype=np.float32)[:, np.newaxis]]
    found = await reader.search_readings([(windows[0], [0, 3, 8]), (windows[1], [0, 1])], 2)
    told = [[(near.reference_id, near.reading) for near in each] for each in found]
    assert told == [
        [("piece-0", 0)] * 2 + [("piece-3", 3)] * 2 + [("piece-8", 8)] * 2,
        [("piece-10", 0)] * 2 + [("piece-11", 1)] * 2,
    ]
    assert reader.searches == 1
    assert await reader.search_readings([], 2) == [] and reader.searches == 1
