"""Embeddings that wait to be searched: in memory while they are few, on disk beyond that and while Milvus is away.

In order and bounded; when full, the stream that holds most loses its oldest. What lies on disk outlives the process:
the next one goes on with it. It is not synced, so a power cut may take the last seconds along.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import struct
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monitor.daemon.framing import body_at, framed
from monitor.errors import StorageError
from monitor.types import BANDS, Embedded

log = logging.getLogger(__name__)

_MEMORY_ITEMS = 4096
_SEGMENT_BYTES = 4 << 20
#: Numbers of segments lie so far apart that one fits before any.
_APART = 1000
#: Is a window, start or until, length, bytes of the name, rows, dimension, frames, mark.
_BODY = struct.Struct("<?ddHHHHI")
_PLACE = struct.Struct("<QQI")  # segment, bytes of it that are done with, CRC-32 of both
_PLACE_BODY = struct.Struct("<QQ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unheard:
    """A stream was not heard until then; `through` is released by each catalog that has come so far."""

    stream: str
    until_s: float
    through: asyncio.Semaphore | None = None


Item = Embedded | Unheard


@dataclass(kw_only=True, slots=True)
class _Segment:
    """One file of items; the oldest `skips` of each stream count as dropped."""

    number: int
    path: Path
    size_bytes: int = 0
    read_bytes: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)


class Backlog:
    """A queue with the face of `FairQueue`. Items of a batch that was taken are done with at the next `take`."""

    def __init__(
        self, directory: Path, *, capacity: int, on_drop: Callable[[str], None], memory_items: int = _MEMORY_ITEMS
    ) -> None:
        """Go on with what an earlier process left in the directory. Raises StorageError."""
        self.capacity = capacity
        self._directory, self._on_drop, self._memory_items = directory, on_drop, memory_items
        self._memory: deque[Item] = deque()
        self._taken: list[Item] = []
        self._taken_of_memory = 0
        self._newest_number = 0
        self._segments: deque[_Segment] = deque()
        self._finished: list[_Segment] = []
        self._held: Counter[str] = Counter()
        self._marks: dict[int, asyncio.Semaphore] = {}
        self._next_mark = 1
        self._away = self._full = self._closed = False
        self._arrived = asyncio.Event()
        self._output: int | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._place = os.open(directory / "position", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_up()
        except OSError as error:
            raise StorageError(f"The backlog in {directory} cannot be opened: {error.strerror}.") from error

    def __len__(self) -> int:
        return self._held.total()

    @property
    def on_disk(self) -> int:
        """How many items wait on disk."""
        return sum(segment.waiting.total() for segment in self._segments)

    def held(self, stream: str) -> int:
        """How many items of the stream wait."""
        return self._held[stream]

    def put(self, stream: str, item: Item) -> None:
        """The item is the last, at the price of an older one when full. Never waits."""
        if len(self) >= self.capacity:
            self._drop_one()
        if self._segments or self._away or len(self._memory) >= self._memory_items:
            if not self._append(item):
                self._on_drop(stream)
                return
        else:
            self._memory.append(item)
        self._held[stream] += 1
        self._arrived.set()

    def take(self, most: int) -> list[Item]:
        """Up to `most` of the oldest items, perhaps none; those taken before are done with. Never waits."""
        self._commit()
        while self._memory and len(self._taken) < most:
            self._taken.append(self._memory.popleft())
        self._taken_of_memory = len(self._taken)
        while not self._memory and self._segments and len(self._taken) < most:
            self._read(most)
        for item in self._taken:
            self._held[item.stream] -= 1
            if not self._held[item.stream]:
                del self._held[item.stream]
        if not len(self):
            self._arrived.clear()
        return list(self._taken)

    async def wait(self) -> bool:
        """Wait for an item; False when the queue is closed and empty."""
        while not len(self):
            if self._closed:
                self._commit()
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    def close(self) -> None:
        """Nothing more will be put: whoever waits goes on until the queue is empty."""
        self._closed = True
        self._arrived.set()

    def hold(self) -> None:
        """Milvus is away: all that waits is on disk, and all that comes, the batch that was taken last too."""
        if self._away:
            return
        self._away = True
        try:
            if self._memory:  # newer than what is being searched, older than what lies on disk
                number = self._segments[0].number - 1 if self._segments else self._new_number()
                segment = self._written(number, list(self._memory))
                segment.waiting.update(item.stream for item in self._memory)
                self._segments.appendleft(segment)
                self._memory.clear()
            if self._taken_of_memory:
                oldest = [*self._finished, *self._segments]
                number = oldest[0].number - 1 if oldest else self._new_number()
                self._finished.insert(0, self._written(number, self._taken[: self._taken_of_memory]))
                self._write_place(number, 0)
        except OSError as error:  # then they stay where they are
            self._no_room(error)

    def release(self) -> None:
        """Milvus is back: what comes may wait in memory again once the disk is empty."""
        self._away = False

    # -- the files ---------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.items"

    def _take_up(self) -> None:
        number, done_bytes = self._read_place()
        own = [path for path in self._directory.glob("*.items") if path.stem.isdecimal()]
        for path in sorted(own, key=lambda path: int(path.stem)):
            segment = _Segment(number=int(path.stem), path=path)
            if segment.number < number:
                path.unlink()
                continue
            segment.read_bytes = done_bytes if segment.number == number else 0
            at = segment.read_bytes
            text = path.read_bytes()
            while (found := _decoded(text, at)) is not None:
                item, at, _ = found
                segment.waiting[item.stream] += 1
            segment.size_bytes = at  # behind a torn or damaged item nothing can be read
            if at < len(text):
                log.warning("%s is damaged from byte %d on", path, at, extra={"action": "backlog_damaged"})
            self._held.update(segment.waiting)
            self._segments.append(segment)
        self._drop_empty()
        self._newest_number = max([number, *(segment.number for segment in self._segments)])

    def _new_number(self) -> int:
        self._newest_number += _APART
        return self._newest_number

    def _written(self, number: int, items: list[Item]) -> _Segment:
        pieces = b"".join(self._encoded(item) for item in items)
        segment = _Segment(number=number, path=self._path(number), size_bytes=len(pieces))
        try:
            segment.path.write_bytes(pieces)
        except OSError:
            segment.path.unlink(missing_ok=True)
            raise
        return segment

    def _append(self, item: Item) -> bool:
        last = self._segments[-1] if self._segments else None
        if last is None or last.size_bytes >= _SEGMENT_BYTES or self._output is None:
            self._close_output()
            number = self._new_number()
            last = _Segment(number=number, path=self._path(number))
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._output = os.open(last.path, flags, 0o600)
            except OSError as error:
                return self._no_room(error)
            self._segments.append(last)
        encoded = self._encoded(item)
        try:
            if os.pwrite(self._output, encoded, last.size_bytes) < len(encoded):
                os.ftruncate(self._output, last.size_bytes)
                return self._no_room(None)
        except OSError as error:
            return self._no_room(error)
        last.size_bytes += len(encoded)
        last.waiting[item.stream] += 1
        self._full = False
        return True

    def _no_room(self, error: OSError | None) -> bool:
        if not self._full:
            said = "the disk is full" if error is None else error
            log.error("embeddings are lost: %s", said, extra={"action": "backlog_full_disk"})
        self._full = True
        return False

    def _read(self, most: int) -> None:
        """Take items of the first segment; a segment that is read to its end is finished."""
        segment = self._segments[0]
        with segment.path.open("rb") as file:
            file.seek(segment.read_bytes)
            text, at = file.read(segment.size_bytes - segment.read_bytes), 0
        while len(self._taken) < most:
            if (found := _decoded(text, at)) is None:
                self._lose(segment)
                break
            item, at, mark = found
            if segment.skips[item.stream]:
                segment.skips[item.stream] -= 1
                continue
            segment.waiting[item.stream] -= 1
            if isinstance(item, Unheard) and mark:
                item = Unheard(stream=item.stream, until_s=item.until_s, through=self._marks.pop(mark, None))
            self._taken.append(item)
            if not segment.waiting.total():
                break
        segment.read_bytes += at
        if not segment.waiting.total():
            self._finish(segment)

    def _lose(self, segment: _Segment) -> None:
        """What is left of the segment cannot be read."""
        lost = segment.waiting.total()
        for stream in segment.waiting.elements():
            self._held[stream] -= 1
            self._on_drop(stream)
        segment.waiting.clear()
        if lost:
            log.error("%d embeddings in %s are damaged", lost, segment.path, extra={"action": "backlog_damaged"})

    def _finish(self, segment: _Segment) -> None:
        if segment is self._segments[-1]:
            self._close_output()
        self._segments.remove(segment)
        self._finished.append(segment)

    def _commit(self) -> None:
        """What was taken is done with."""
        if self._taken and (self._finished or self._segments):
            first = self._segments[0] if self._segments else None
            self._write_place(*((first.number, first.read_bytes) if first else (self._newest_number + 1, 0)))
        self._taken, self._taken_of_memory = [], 0
        for segment in self._finished:
            segment.path.unlink(missing_ok=True)
        self._finished = []

    def _drop_empty(self) -> None:
        for segment in [segment for segment in self._segments if not segment.waiting.total()]:
            self._segments.remove(segment)
            segment.path.unlink(missing_ok=True)

    def _drop_one(self) -> None:
        """The stream that holds most loses its oldest item."""
        stream = max(self._held, key=self._held.__getitem__)
        in_memory = next((item for item in self._memory if item.stream == stream), None)
        if in_memory is not None:
            self._memory.remove(in_memory)
        else:
            segment = next(segment for segment in self._segments if segment.waiting[stream])
            segment.waiting[stream] -= 1
            segment.skips[stream] += 1
            if not segment.waiting.total() and segment is not self._segments[-1]:
                self._finish(segment)
                if not segment.read_bytes:  # nothing of it is being searched
                    self._finished.remove(segment)
                    segment.path.unlink(missing_ok=True)
        self._held[stream] -= 1
        if not self._held[stream]:
            del self._held[stream]
        self._on_drop(stream)

    def _write_place(self, number: int, done_bytes: int) -> None:
        body = _PLACE_BODY.pack(number, done_bytes)
        os.pwrite(self._place, _PLACE.pack(number, done_bytes, zlib.crc32(body)), 0)

    def _read_place(self) -> tuple[int, int]:
        """The segment and how much of it is done with; the beginning of all where that is damaged."""
        stored = os.pread(self._place, _PLACE.size, 0)
        if len(stored) < _PLACE.size or zlib.crc32(stored[: _PLACE_BODY.size]) != _PLACE.unpack(stored)[2]:
            return 0, 0
        number, done_bytes, _ = _PLACE.unpack(stored)
        return number, done_bytes

    def _close_output(self) -> None:
        if self._output is not None:
            os.close(self._output)
            self._output = None

    def _encoded(self, item: Item) -> bytes:
        name, mark, readings, levels = item.stream.encode(), 0, None, None
        if isinstance(item, Unheard):
            head = (False, item.until_s, 0.0)
            if item.through is not None:
                mark, self._next_mark = self._next_mark, self._next_mark + 1
                self._marks[mark] = item.through
        else:
            head, readings, levels = (True, item.start_s, item.window_s), item.readings, item.levels
        rows, dimension = (0, 0) if readings is None else readings.shape
        body = _BODY.pack(*head, len(name), rows, dimension, 0 if levels is None else len(levels), mark) + name
        body += b"" if levels is None else levels.tobytes()
        body += b"" if readings is None else np.ascontiguousarray(readings, dtype="<f4").tobytes()
        return framed(body)


def _decoded(text: bytes, at: int) -> tuple[Item, int, int] | None:
    """The item at `at`, where the next one begins, and its mark; None where there is no whole one."""
    found = body_at(text, at)
    if found is None or len(found[0]) < _BODY.size:
        return None
    body, next_at = found
    is_window, time_s, window_s, name_bytes, rows, dimension, frames, mark = _BODY.unpack_from(body)
    name_end = _BODY.size + name_bytes
    levels_end = name_end + BANDS * frames
    if len(body) != levels_end + 4 * rows * dimension:
        return None
    try:
        stream = body[_BODY.size : name_end].decode()
    except UnicodeDecodeError:
        return None
    item: Item = Unheard(stream=stream, until_s=time_s)
    if is_window:
        readings = levels = None
        if rows:
            readings = np.frombuffer(body, dtype="<f4", offset=levels_end).astype(np.float32).reshape(rows, dimension)
        if frames:
            levels = np.frombuffer(body[name_end:levels_end], dtype=np.uint8).reshape(frames, BANDS)
        item = Embedded(stream=stream, start_s=time_s, window_s=window_s, readings=readings, levels=levels)
    return item, next_at, mark


def of_model(parent: Path, *, catalog: str, model_id: str) -> Path:
    """Where the backlog of a catalog lies; what another model left for it, which nothing can be compared with, goes."""
    wanted = parent / catalog / model_id
    for left in (parent / catalog).glob("*"):
        if left != wanted:
            shutil.rmtree(left, ignore_errors=True)
    return wanted
