"""Bounded queues between the stages. Live audio: fresh beats complete, so the oldest is dropped, and counted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """First in, first out over all streams; when full, the stream that holds most loses its oldest item.

    `on_drop` is told of each loss, so that the share lost is even across streams and never silent.
    """

    def __init__(self, *, capacity: int, on_drop: Callable[[str], None]) -> None:
        self.capacity = capacity
        self._on_drop = on_drop
        self._items: deque[tuple[str, Item] | None] = deque()
        self._by_stream: dict[str, deque[int]] = {}
        self._first = 0  # number of the item at the head of `_items`
        self._length = 0
        self._arrived = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return self._length

    def put(self, stream: str, item: Item) -> None:
        """The item is in the queue, at the price of an older one when full. Never waits."""
        if self._length >= self.capacity:
            self._drop_one()
        self._by_stream.setdefault(stream, deque()).append(self._first + len(self._items))
        self._items.append((stream, item))
        self._length += 1
        self._arrived.set()

    def take(self, most: int) -> list[Item]:
        """Up to `most` of the oldest items, perhaps none; never waits."""
        taken: list[Item] = []
        while self._items and len(taken) < most:
            entry = self._items.popleft()
            self._first += 1
            if entry is None:
                continue
            stream, item = entry
            numbers = self._by_stream[stream]
            numbers.popleft()
            if not numbers:
                del self._by_stream[stream]
            self._length -= 1
            taken.append(item)
        if not self._length:
            self._arrived.clear()
        return taken

    async def wait(self) -> bool:
        """Wait for an item; False when the queue is closed and empty."""
        while not self._length:
            if self._closed:
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    def close(self) -> None:
        """Nothing more will be put: whoever waits goes on until the queue is empty."""
        self._closed = True
        self._arrived.set()

    def _drop_one(self) -> None:
        stream = max(self._by_stream, key=lambda name: len(self._by_stream[name]))
        numbers = self._by_stream[stream]
        self._items[numbers.popleft() - self._first] = None
        if not numbers:
            del self._by_stream[stream]
        self._length -= 1
        self._on_drop(stream)
        while self._items and self._items[0] is None:
            self._items.popleft()
            self._first += 1
        if len(self._items) > 2 * self.capacity:
            self._compact()

    def _compact(self) -> None:
        """Forget the places of dropped items: they pile up behind an old item of a stream that has fallen quiet."""
        self._items = deque(entry for entry in self._items if entry is not None)
        self._by_stream = {}
        for number, entry in enumerate(self._items, self._first):
            if entry is not None:
                self._by_stream.setdefault(entry[0], deque()).append(number)
