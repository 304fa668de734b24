"""A process that aligns some of the daemon's streams: a desk at the other end of two pipes.

The daemon sends what its streams heard; the process asks back for what it wants to know of references, one question at
a time. It opens no connection of its own, writes nothing but its streams' look-back, and ends when the daemon does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import struct
import sys
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from monitor.daemon import memory
from monitor.daemon.desk import Desk
from monitor.errors import MonitorError
from monitor.servers.process import end_with
from monitor.types import Spectrogram, Vectors

#: What is started: as a module's main part its messages would be other classes than the daemon's.
PROGRAM = "from monitor.daemon.aligning import main; main()"
_HEAD = struct.Struct("<I")
_GIVE_BACK_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """To the process: a method of its desk, which a `Done` of that number answers; without a number nothing does."""

    name: str
    arguments: tuple[Any, ...]
    number: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """From the process: what came of a call."""

    number: int
    value: Any = None
    #: An error for people; of any other the words.
    error: MonitorError | str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """From the process: a method of the daemon's catalogs, which an `Answer` answers."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """To the process: what the catalogs say."""

    value: Any = None
    error: MonitorError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """From the process: what is to be said in the daemon's log."""

    logger: str
    level: int
    message: str


def packed(message: Call | Done | Ask | Answer | Line) -> bytes:
    """The message as it goes through a pipe."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _HEAD.pack(len(body)) + body


HEAD_BYTES = _HEAD.size


def body_bytes(head: bytes) -> int:
    """How long the message is that begins so."""
    (size,) = _HEAD.unpack(head)
    return int(size)


class _Channel:
    """The process's end of both pipes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        #: Calls that came while an answer was waited for.
        self._waiting: deque[Call] = deque()

    def send(self, message: Done | Ask | Line) -> None:
        self._sink.write(packed(message))
        self._sink.flush()

    def call(self) -> Call:
        """The next one; EOFError when the daemon has closed the pipe or is gone."""
        return self._waiting.popleft() if self._waiting else self._receive()

    def ask(self, name: str, *arguments: Any) -> Any:
        """What the daemon's catalogs answer."""
        self.send(Ask(name=name, arguments=arguments))
        while not isinstance(message := self._receive(), Answer):
            self._waiting.append(message)
        if message.error is not None:
            raise message.error
        return message.value

    def _receive(self) -> Any:
        head = self._source.read(HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            raise EOFError
        # From the process that started this one, and from nobody else.
        return pickle.loads(self._source.read(body_bytes(head)))  # noqa: S301


class _Catalogs:
    """The daemon's catalogs, asked through the pipe."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._durations_s: dict[str, dict[str, float | None]] = {}

    def duration_s(self, catalog: str, reference_id: str) -> float | None:
        known = self._durations_s.setdefault(catalog, {})
        if reference_id not in known:
            known[reference_id] = self._channel.ask("duration_s", catalog, reference_id)
        return known[reference_id]

    def changed(self, catalog: str) -> None:
        self._durations_s.pop(catalog, None)

    async def stretch(
        self, catalog: str, reference_id: str, start_s: float, end_s: float
    ) -> tuple[NDArray[np.float64], Vectors]:
        starts_s, vectors = self._channel.ask("stretch", catalog, reference_id, start_s, end_s)
        return starts_s, vectors

    async def spectrogram(self, catalog: str, reference_id: str, start_s: float, end_s: float) -> Spectrogram | None:
        picture: Spectrogram | None = self._channel.ask("spectrogram", catalog, reference_id, start_s, end_s)
        return picture


class _Sayings(logging.Handler):
    """Log records go to the daemon, which knows its format and what is secret."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.send(Line(logger=record.name, level=record.levelno, message=record.getMessage()))


def main() -> None:
    """Serve the process whose id is the argument, until it ends or closes the pipe."""
    end_with(int(sys.argv[1]), signal.SIGKILL)
    # Who stops the daemon lets it finish first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    memory.keep_together()
    channel = _Channel(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    logging.getLogger().addHandler(_Sayings(channel))
    try:
        asyncio.run(_serve(channel))
    except (EOFError, BrokenPipeError):
        return


async def _serve(channel: _Channel) -> None:
    desk = Desk(_Catalogs(channel))
    given_back_s = time.monotonic()
    while True:
        call = channel.call()
        done = await _done(desk, call)
        if done is not None:
            channel.send(done)
        if time.monotonic() - given_back_s > _GIVE_BACK_S:
            memory.give_back()
            given_back_s = time.monotonic()


async def _done(desk: Desk, call: Call) -> Done | None:
    """What came of the call; None if nobody waits for it, and then a failure ends the process."""
    method = getattr(desk, call.name)
    if call.number is None:
        method(*call.arguments)
        return None
    try:
        return Done(number=call.number, value=await method(*call.arguments))
    except MonitorError as error:
        return Done(number=call.number, error=error)
    except (EOFError, BrokenPipeError):
        raise
    except Exception:  # noqa: BLE001  the daemon ends with it, as with any failure of a stage
        return Done(number=call.number, error=traceback.format_exc())
