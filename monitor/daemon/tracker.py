"""One stream against one catalog: the look-back, the reference stretches that the aligner asks for, its events."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.daemon.lookback import LookBack, Past
from monitor.daemon.turns import Turns
from monitor.match.align import Aligner, Stretch
from monitor.match.line import Plane, make_plane
from monitor.match.spotting import Recording
from monitor.types import ABSENT, BANDS, Levels, MatchEvent, Neighbour, Spectrogram, Vectors

#: References are fetched in pieces of so many seconds, so that a long one costs no more than a short one.
_PIECE_S = 240.0
#: Of each catalog so much stays at hand: of its vectors, ...
_VECTORS_BYTES = 192 << 20
#: ... its spectrograms, 120 kB for so many seconds, ...
_MOST_PICTURES = 768
#: ... and its whole recordings; four minutes of one take a megabyte and a half.
_RECORDINGS_BYTES = 192 << 20
#: No server repeats more than this: a stream so far behind itself had its clock set back.
_SET_BACK_S = 120.0


class StretchReader(Protocol):
    """Where a reference's own vectors come from."""

    async def stretch(self, reference_id: str, start_s: float, end_s: float) -> tuple[NDArray[np.float64], Vectors]:
        """Starts (R,) in [start_s, end_s) and vectors (R, d) of the reference's windows."""

    async def spectrogram(self, reference_id: str, start_s: float, end_s: float) -> Spectrogram | None:
        """The frames of the reference's windows that start in [start_s, end_s)."""


class StretchCache:
    """The pieces of references that open runs look at, least recently used first out."""

    def __init__(self, reader: StretchReader, *, share: float = 1.0) -> None:
        self._reader = reader
        #: Of what may stay at hand of a catalog it keeps so much.
        self.share = share
        self._pieces: OrderedDict[tuple[str, int], tuple[NDArray[np.float64], Vectors]] = OrderedDict()
        self._pictures: OrderedDict[tuple[str, int], Spectrogram | None] = OrderedDict()
        self._recordings: OrderedDict[str, Recording | None] = OrderedDict()
        self._recordings_bytes = 0
        self._size_bytes = 0

    async def stretch(self, reference_id: str, start_s: float, end_s: float) -> tuple[NDArray[np.float64], Vectors]:
        """As `StretchReader.stretch`, read at most once while it stays in the cache."""
        pieces = [await self._piece(reference_id, number) for number in _numbers(start_s, end_s)]
        starts_s = np.concatenate([starts for starts, _ in pieces])
        inside = (starts_s >= start_s) & (starts_s < end_s)
        if len(pieces) == 1:
            return starts_s[inside], pieces[0][1][inside]
        vectors = [vectors for starts, vectors in pieces if len(starts)]
        if not vectors:
            return starts_s, pieces[0][1]
        return starts_s[inside], np.concatenate(vectors)[inside]

    async def spectrogram(self, reference_id: str, start_s: float, end_s: float) -> Spectrogram | None:
        """As `StretchReader.spectrogram`, of whole pieces, read at most once while they stay in the cache."""
        pictures = [await self._picture(reference_id, number) for number in _numbers(start_s, end_s)]
        found = [picture for picture in pictures if picture is not None]
        if len(found) < 2:
            return found[0] if found else None
        return joined([(picture.start_s, picture.levels) for picture in found], found[0].step_s)

    async def recording(self, reference_id: str, duration_s: float) -> Recording | None:
        """What changes in the whole reference; None where nothing is known of it."""
        if reference_id not in self._recordings:
            picture = await self.spectrogram(reference_id, 0.0, duration_s)
            self._recordings[reference_id] = None if picture is None else Recording(picture)
            self._recordings_bytes += _nbytes(self._recordings[reference_id])
        self._recordings.move_to_end(reference_id)
        while self._recordings_bytes > self.share * _RECORDINGS_BYTES and len(self._recordings) > 1:
            _, recording = self._recordings.popitem(last=False)
            self._recordings_bytes -= _nbytes(recording)
        return self._recordings[reference_id]

    def clear(self) -> None:
        """The catalog changed: what was read may be gone."""
        self._pieces.clear()
        self._recordings.clear()
        self._recordings_bytes = 0
        self._pictures.clear()
        self._size_bytes = 0

    async def _piece(self, reference_id: str, number: int) -> tuple[NDArray[np.float64], Vectors]:
        key = (reference_id, number)
        if key in self._pieces:
            self._pieces.move_to_end(key)
            return self._pieces[key]
        piece = await self._reader.stretch(reference_id, number * _PIECE_S, (number + 1) * _PIECE_S)
        self._pieces[key] = piece
        self._size_bytes += piece[1].nbytes
        while self._size_bytes > self.share * _VECTORS_BYTES and len(self._pieces) > 1:
            _, (_, vectors) = self._pieces.popitem(last=False)
            self._size_bytes -= vectors.nbytes
        return piece

    async def _picture(self, reference_id: str, number: int) -> Spectrogram | None:
        key = (reference_id, number)
        if key not in self._pictures:
            self._pictures[key] = await self._reader.spectrogram(
                reference_id, number * _PIECE_S, (number + 1) * _PIECE_S
            )
        self._pictures.move_to_end(key)
        while len(self._pictures) > max(self.share * _MOST_PICTURES, 1):
            self._pictures.popitem(last=False)
        return self._pictures[key]


def _nbytes(recording: Recording | None) -> int:
    return 0 if recording is None else recording.nbytes


def _numbers(start_s: float, end_s: float) -> range:
    """Which pieces hold the windows that start in [start_s, end_s)."""
    return range(int(start_s // _PIECE_S), int(end_s // _PIECE_S) + 1)


def joined(parts: Sequence[tuple[float, Levels]], step_s: float) -> Spectrogram:
    """One picture of parts that may overlap, each with the time of its first frame; the first part begins first."""
    start_s = parts[0][0]
    firsts = [round((first_s - start_s) / step_s) for first_s, _ in parts]
    count = max(first + len(levels) for first, (_, levels) in zip(firsts, parts, strict=True))
    whole = np.full((count, BANDS), ABSENT, dtype=np.uint8)
    for first, (_, levels) in zip(firsts, parts, strict=True):
        heard = levels[:, 0] != ABSENT
        whole[first : first + len(levels)][heard] = levels[heard]
    return Spectrogram(start_s=start_s, step_s=step_s, levels=whole)


class Tracker:
    """Feeds an aligner window by window; the same for live streams and for files."""

    def __init__(
        self,
        *,
        aligner: Aligner,
        stretches: StretchCache,
        dimension: int,
        reference_hop_s: float,
        kept: LookBack | None = None,
        now_s: float | None = None,
    ) -> None:
        """The look-back begins with what an earlier life has `kept` until now."""
        self.aligner, self._kept = aligner, kept
        self.turns = Turns()
        self._stretches, self._reference_hop_s = stretches, reference_hop_s
        self._silence = np.zeros((1, dimension), dtype=np.float32)
        self._starts: deque[float] = deque()
        #: The readings of each window of the look-back; one row of zeros is silence.
        self._readings: deque[Vectors] = deque()
        #: The levels of their frames.
        self._levels: deque[Levels | None] = deque()
        #: What the clock's being set back has ended, until a step tells it.
        self._untold: list[MatchEvent] = []
        for past in kept.recall(length_s=aligner.options.look_back_s, now_s=now_s) if kept is not None else []:
            self._remember(past.start_s, past.readings, past.levels)
            aligner.recall(past.start_s, past.neighbours, past.over_s)
        self._recalled_s = self._starts[-1] if self._starts else None

    async def step(
        self,
        start_s: float,
        readings: Vectors | None,
        neighbours: Sequence[Neighbour],
        levels: Levels | None = None,
    ) -> list[MatchEvent]:
        """The window is heard, read at some pitches (R, d): what happened. After UnreachableError it may be told again.

        Without the `levels` of its frames an airing's edges are known less finely. A window that was heard before
        (servers send past audio on a reconnect) says nothing new.
        """
        if self._starts and self._starts[-1] == self._recalled_s and start_s <= self._starts[-1]:
            # An earlier life has heard it: what waited on disk is told again.
            return self._tell([])
        if self._starts and start_s < self._starts[-1] - _SET_BACK_S:
            self._untold += self.aligner.flush()
            self._starts.clear()
            self._readings.clear()
            self._levels.clear()
            self.forget()
        if self._starts and start_s < self._starts[-1]:
            return self._tell([])
        if not self._starts or start_s > self._starts[-1]:
            self._remember(start_s, readings, levels)
            self.aligner.observe(start_s, neighbours)
        wanted = self.aligner.wanted()
        heard: Spectrogram | None = None
        recordings: dict[str, Recording] = {}
        for reference_id, duration_s in self.aligner.recordings().items():
            if (recording := await self._stretches.recording(reference_id, duration_s)) is not None:
                recordings[reference_id] = recording
                heard = heard or self._heard(recording.step_s)
        planes: dict[Stretch, Plane | None] = {}
        if wanted:
            starts = np.array(self._starts)
            read: dict[int, Vectors] = {}
            for stretch in wanted:
                if stretch in planes:
                    continue
                reference_starts_s, reference_vectors = await self._stretches.stretch(
                    stretch.reference_id, stretch.start_s, stretch.end_s
                )
                if stretch.reading not in read:
                    read[stretch.reading] = self._read(stretch.reading)
                pictures = None
                if stretch.pictured:
                    there = await self._stretches.spectrogram(stretch.reference_id, stretch.start_s, stretch.end_s)
                    heard = heard or (None if there is None else self._heard(there.step_s))
                    pictures = (heard, there) if heard is not None and there is not None else None
                first = int(np.searchsorted(starts, stretch.since_s))
                planes[stretch] = make_plane(
                    reference_id=stretch.reference_id,
                    window_starts_s=starts[first:],
                    window_vectors=read[stretch.reading][first:],
                    reference_starts_s=reference_starts_s,
                    reference_vectors=reference_vectors,
                    reference_hop_s=self._reference_hop_s,
                    hop_s=self.aligner.hop_s,
                    pictures=pictures,
                )
        events = self.aligner.advance(planes, heard, recordings)
        self._keep()
        return self._tell(events)

    def unheard(self, until_s: float) -> list[MatchEvent]:
        """The stream was not heard until then: what has waited too long is over, for the next life too."""
        events = self.aligner.unheard(until_s)
        if events:
            self._keep()
        return events

    def forget(self) -> None:
        """Nobody will go on with the stream: nothing of it is kept."""
        if self._kept is not None:
            self._kept.forget()

    def _keep(self) -> None:
        """The latest window, with what has been told by now, outlives the process."""
        if self._kept is None or not self._starts:
            return
        start_s, readings = self._starts[-1], self._readings[-1]
        self._kept.keep(
            Past(
                start_s=start_s,
                readings=None if readings is self._silence else readings,
                levels=self._levels[-1],
                neighbours=self.aligner.nearest(start_s),
                over_s=self.aligner.over_s,
            )
        )

    def _heard(self, step_s: float) -> Spectrogram | None:
        """The look-back as frames; None where it has none."""
        here = [
            (start_s + step_s, levels)
            for start_s, levels in zip(self._starts, self._levels, strict=True)
            if levels is not None
        ]
        return joined(here, step_s) if here else None

    def _remember(self, start_s: float, readings: Vectors | None, levels: Levels | None) -> None:
        """The window is the latest of the look-back."""
        self._starts.append(start_s)
        self._levels.append(levels)
        self._readings.append(self._silence if readings is None else readings)
        while self._starts[0] < start_s - self.aligner.options.look_back_s:
            self._starts.popleft()
            self._readings.popleft()
            self._levels.popleft()

    def _read(self, reading: int) -> Vectors:
        """The look-back at one pitch, (W, d); zeros where it was not read there."""
        return np.stack([read[reading] if reading < len(read) else self._silence[0] for read in self._readings])

    def _tell(self, events: list[MatchEvent]) -> list[MatchEvent]:
        untold, self._untold = self._untold, []
        return untold + events
