"""Who aligns which stream: the daemon itself, or processes of its own beside it, on as many cores."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from monitor.catalog.search import CatalogReader
from monitor.daemon.aligning import HEAD_BYTES, PROGRAM, Answer, Ask, Call, Done, Line, body_bytes, packed
from monitor.daemon.desk import Brief, Catalogs, Desk, Ending, Said
from monitor.daemon.lookback import LookBack
from monitor.daemon.turns import Turns
from monitor.errors import MonitorError
from monitor.match.options import Options
from monitor.servers.process import environment
from monitor.types import Embedded, Match, MatchEvent, MatchState, Neighbour, Spectrogram, Vectors

log = logging.getLogger(__name__)

#: Another process is begun when each has so many streams.
_FEW_STREAMS = 4
#: A process that ended so often within so long is not begun again.
_MOST_ENDS, _ENDS_S = 3, 60.0
_CLOSE_S = 2.0
_OPEN = frozenset((MatchState.PROVISIONAL, MatchState.CONFIRMED))


def processes_by_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processes align where the configuration does not say: a core is left for everything else.

    A container may have the time of fewer cores than it sees: its `quota` says so.
    """
    cores = float(len(os.sched_getaffinity(0)))
    with suppress(OSError, ValueError):  # "max 100000" where there is none
        allowed_us, period_us = map(int, quota.read_text(encoding="ascii").split())
        cores = min(cores, allowed_us / period_us)
    return max(round(cores) - 1, 0)


class Seat(Protocol):
    """A desk, wherever it is."""

    #: Whether what it does holds up the daemon's other work.
    here: bool

    def take(self, follower: Follower) -> None:
        """The follower's stream is followed at this desk."""

    async def call(self, follower: Follower, name: str, *arguments: Any) -> Said:
        """What the desk's method says of the follower's stream; nothing, if it is followed no more by then."""

    async def end(self, follower: Follower, ending: Ending) -> Said:
        """As `Desk.end`."""

    def forget(self, follower: Follower) -> None:
        """As `Desk.forget`."""

    def post(self, name: str, *arguments: Any) -> None:
        """The desk's method is called before any other call from now on."""


class Follower:
    """One stream against one catalog, followed at some desk."""

    def __init__(self, brief: Brief, seat: Seat) -> None:
        self._brief, self.seat, self._over = brief, seat, False
        self.turns = Turns()
        #: Up to when the stream has been looked for; minus infinity before its first window.
        self.heard_until_s = float("-inf")
        self._open: dict[UUID, tuple[Match, int]] = {match.match_id: (match, number) for match, number in brief.matches}
        seat.take(self)

    @property
    def key(self) -> tuple[str, str]:
        """The catalog and the stream."""
        return self._brief.catalog, self._brief.stream

    @property
    def brief(self) -> Brief:
        """What another desk is to know that goes on from here."""
        return replace(self._brief, matches=tuple(self._open.values()))

    def set_options(self, options: Options) -> None:
        """New thresholds hold from the next window on."""
        self._brief = replace(self._brief, options=options)
        self.seat.post("set_options", *self.key, options)

    async def step(self, heard: Embedded, neighbours: Sequence[Neighbour]) -> list[MatchEvent]:
        """As `Tracker.step`; of what is followed no more, as where Milvus was away until then, nothing is said."""
        return [] if self._over else self._told(await self.seat.call(self, "step", heard, neighbours))

    async def unheard(self, until_s: float) -> list[MatchEvent]:
        """As `Tracker.unheard`."""
        return [] if self._over else self._told(await self.seat.call(self, "unheard", until_s))

    async def end(self, ending: Ending) -> list[MatchEvent]:
        """The stream is followed no more: what becomes of its open matches."""
        self._over = True
        return self._told(await self.seat.end(self, ending))

    def forget(self) -> None:
        """Another daemon has the stream and its open matches: nothing of it is followed or kept here."""
        self._over = True
        self.seat.forget(self)

    def _told(self, said: Said) -> list[MatchEvent]:
        self.heard_until_s = said.heard_until_s
        for event in said.events:
            if event.match.state in _OPEN:
                self._open[event.match.match_id] = (event.match, event.sequence + 1)
            else:
                self._open.pop(event.match.match_id, None)
        return said.events


class Desks:
    """The desks of one daemon. A stream stays where it was begun."""

    def __init__(self, *, processes: int, on_lost: Callable[[], None] = lambda: None) -> None:
        """At most so many processes align; none: it is done here. Each that is lost, and replaced, is told."""
        self._most, self._on_lost = processes, on_lost
        #: By name, those that streams are to be followed against.
        self.catalogs: dict[str, CatalogReader] = {}
        self._readers = _Readers(self.catalogs)
        self._here = _Here(Desk(self._readers))
        self._processes: list[_Process] = []

    def follow(self, brief: Brief) -> Follower:
        """The stream is followed at the desk that has least to do."""
        return Follower(brief, self._seat())

    def changed(self, catalog: str) -> None:
        """References came or went."""
        seats: list[Seat] = [self._here, *self._processes]
        for seat in seats:
            seat.post("changed", catalog)

    async def close(self) -> None:
        """Nothing is aligned any more."""
        await asyncio.gather(*(process.close() for process in self._processes))

    def _seat(self) -> Seat:
        if self._most <= 0:
            return self._here
        least = min(self._processes, key=lambda process: process.streams, default=None)
        if least is None or (least.streams >= _FEW_STREAMS and len(self._processes) < self._most):
            least = _Process(self._readers, on_lost=self._on_lost)
            self._processes.append(least)
            for process in self._processes:
                process.set_share(1.0 / len(self._processes))
        return least


class _Readers:
    """What desks may ask of the catalogs."""

    def __init__(self, readers: Mapping[str, CatalogReader]) -> None:
        self._readers = readers

    def duration_s(self, catalog: str, reference_id: str) -> float | None:
        reference = self._readers[catalog].reference(reference_id)
        return None if reference is None else reference.duration_s

    def changed(self, catalog: str) -> None:
        """The readers have seen it first."""

    async def stretch(
        self, catalog: str, reference_id: str, start_s: float, end_s: float
    ) -> tuple[NDArray[np.float64], Vectors]:
        return await self._readers[catalog].stretch(reference_id, start_s, end_s)

    async def spectrogram(self, catalog: str, reference_id: str, start_s: float, end_s: float) -> Spectrogram | None:
        return await self._readers[catalog].spectrogram(reference_id, start_s, end_s)


class _Here:
    """A desk in the daemon's own process."""

    here = True

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def take(self, follower: Follower) -> None:
        self._desk.open(follower.brief)

    async def call(self, follower: Follower, name: str, *arguments: Any) -> Said:
        said: Said = await getattr(self._desk, name)(*follower.key, *arguments)
        return said

    async def end(self, follower: Follower, ending: Ending) -> Said:
        return await self._desk.end(*follower.key, ending)

    def forget(self, follower: Follower) -> None:
        self._desk.forget(*follower.key)

    def post(self, name: str, *arguments: Any) -> None:
        getattr(self._desk, name)(*arguments)


class _LostError(Exception):
    """The process ended before it answered."""


class _Process:
    """A desk in a process of its own, which is begun when it is asked first, and anew when it was lost.

    What it followed then goes on from the rows and the look-back, as after a restart of the daemon.
    """

    here = False

    def __init__(self, catalogs: Catalogs, *, on_lost: Callable[[], None]) -> None:
        self._catalogs, self._share, self._on_lost = catalogs, 1.0, on_lost
        self._followers: dict[tuple[str, str], Follower] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()
        self._calls: dict[int, asyncio.Future[Said]] = {}
        self._numbers = itertools.count()
        self._ends_s: deque[float] = deque(maxlen=_MOST_ENDS)
        #: Why it is not begun (again).
        self._gone: Exception | None = None

    @property
    def streams(self) -> int:
        """How many it follows."""
        return len(self._followers)

    def take(self, follower: Follower) -> None:
        self._followers[follower.key] = follower
        self.post("open", follower.brief)

    def set_share(self, share: float) -> None:
        """It may keep so much of what a daemon may keep of each catalog."""
        self._share = share
        self.post("set_share", share)

    async def call(self, follower: Follower, name: str, *arguments: Any) -> Said:
        while True:
            process = await self._begun()
            if self._followers.get(follower.key) is not follower:
                return Said(events=[], heard_until_s=follower.heard_until_s)
            number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
            self._calls[number] = answer
            try:
                self._send(process, Call(name=name, arguments=(*follower.key, *arguments), number=number))
                said: Said = await answer
                return said
            except _LostError:
                continue
            finally:
                self._calls.pop(number, None)

    async def end(self, follower: Follower, ending: Ending) -> Said:
        if self._process is None and not follower.brief.matches:
            # Nothing is open, and nothing was heard: no process is begun to say so.
            if ending is Ending.REMOVED:
                self.forget(follower)
            said = Said(events=[], heard_until_s=follower.heard_until_s)
        else:
            said = await self.call(follower, "end", ending)
        if self._followers.get(follower.key) is follower:
            del self._followers[follower.key]
        return said

    def forget(self, follower: Follower) -> None:
        self._followers.pop(follower.key, None)
        if self._process is not None:
            self.post("forget", *follower.key)
        elif (kept_in := follower.brief.kept_in) is not None:
            LookBack(kept_in, follower.brief.stream, most_windows=follower.brief.most_kept).forget()

    def post(self, name: str, *arguments: Any) -> None:
        # A process that does not run yet is told all of it when it begins.
        if self._process is not None:
            self._send(self._process, Call(name=name, arguments=arguments))

    async def close(self) -> None:
        """The process has ended; one that does not when its pipe is closed is killed. Nothing can be asked any more."""
        async with self._beginning:
            self._gone = self._gone or RuntimeError("nothing is aligned any more: the daemon stops")
            process, reading = self._process, self._reading
        if process is None or reading is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        # It may be waiting for an answer that nobody needs now.
        reading.cancel()
        await asyncio.wait([reading])

    async def _begun(self) -> asyncio.subprocess.Process:
        async with self._beginning:
            if self._gone is not None:
                raise self._gone
            if self._process is None:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-c", PROGRAM, str(os.getpid())),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    # One stream's matrices are small: threads would wait for one another.
                    env=environment() | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                    start_new_session=True,
                )
                self._send(process, Call(name="set_share", arguments=(self._share,)))
                for follower in self._followers.values():
                    brief = follower.brief if not self._ends_s else replace(follower.brief, now_s=time.time())
                    self._send(process, Call(name="open", arguments=(brief,)))
                self._process = process
                self._reading = asyncio.create_task(self._read(process), name="aligning")
                self._reading.add_done_callback(self._ended)
            return self._process

    @staticmethod
    def _send(process: asyncio.subprocess.Process, message: Call | Answer) -> None:
        # What waits in the pipe is bounded by those who wait for answers.
        if process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(packed(message))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Answer what the process asks, hand out what it answers, until it ends."""
        source = process.stdout
        while source is not None:
            try:
                head = await source.readexactly(HEAD_BYTES)
                body = await source.readexactly(body_bytes(head))
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            message = pickle.loads(body)  # noqa: S301  from a process that was started here
            if isinstance(message, Ask):
                self._send(process, await self._answer(message))
            elif isinstance(message, Line):
                logging.getLogger(message.logger).log(message.level, "%s", message.message)
            elif isinstance(message, Done) and (answer := self._calls.get(message.number)) is not None:
                self._hand_out(answer, message)
        await process.wait()

    async def _answer(self, question: Ask) -> Answer:
        try:
            found = getattr(self._catalogs, question.name)(*question.arguments)
            return Answer(value=await found if asyncio.iscoroutine(found) else found)
        except MonitorError as error:
            return Answer(error=error)

    @staticmethod
    def _hand_out(answer: asyncio.Future[Said], done: Done) -> None:
        if answer.done():
            return
        if done.error is None:
            answer.set_result(done.value)
        elif isinstance(done.error, MonitorError):
            answer.set_exception(done.error)
        else:
            answer.set_exception(RuntimeError(done.error))

    def _ended(self, reading: asyncio.Task[None]) -> None:
        """The process is gone: who waits for it asks another, unless it ends again and again."""
        process, self._process = self._process, None
        error = self._gone or (asyncio.CancelledError() if reading.cancelled() else reading.exception())
        if error is not None:
            if process is not None and process.returncode is None:
                process.kill()
        else:
            error = _LostError()
            now_s = time.monotonic()
            self._ends_s.append(now_s)
            code = None if process is None else process.returncode
            if len(self._ends_s) == _MOST_ENDS and now_s - self._ends_s[0] < _ENDS_S:
                # Nobody may have waited for an answer: who asks next is told.
                error = self._gone = MonitorError(
                    f"the process that aligns ended {_MOST_ENDS} times within {_ENDS_S:g} s ({code}); see what ended"
                    " it (-9 is mostly the kernel, for want of memory), or set pipeline.align_processes to 0"
                )
            else:
                self._on_lost()
                words = {"action": "aligning_lost", "code": code, "streams": self.streams}
                log.error(
                    "the process that aligns %d streams ended (%s): another goes on", self.streams, code, extra=words
                )
        for answer in list(self._calls.values()):
            if not answer.done():
                answer.set_exception(error)
