"""Some streams against some catalogs, aligned in one process: the daemon's own, or one that works for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.daemon.lookback import LookBack
from monitor.daemon.tracker import StretchCache, Tracker
from monitor.match.align import Aligner
from monitor.match.identity import uuid7
from monitor.match.options import Options
from monitor.match.score import Calibration
from monitor.types import Embedded, Match, MatchEvent, Neighbour, Spectrogram, Vectors


@dataclass(frozen=True, kw_only=True, slots=True)
class Brief:
    """All that is to be known to follow a stream against a catalog, from where an earlier life was."""

    stream: str
    catalog: str
    model_id: str
    window_s: float
    hop_s: float
    dimension: int
    pitch_ratios: tuple[float, ...]
    reference_hop_s: float
    calibration: Calibration
    options: Options
    #: Matches that are open, each with the number of its next event.
    matches: tuple[tuple[Match, int], ...] = ()
    #: Where its latest windows are kept, and how many; nowhere for what is no stream of the user's.
    kept_in: Path | None = None
    most_kept: int = 0
    #: The clock's time now: what was kept and is later was heard before the clock was set back.
    now_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What came of something that a desk was told of a stream."""

    events: list[MatchEvent]
    #: Up to when the stream has been looked for; minus infinity before its first window.
    heard_until_s: float


def begun(brief: Brief, *, stretches: StretchCache, duration_s: Callable[[str], float | None]) -> Tracker:
    """A tracker that goes on from where the brief says."""
    aligner = Aligner(
        stream=brief.stream,
        catalog=brief.catalog,
        model_id=brief.model_id,
        window_s=brief.window_s,
        hop_s=brief.hop_s,
        calibration=brief.calibration,
        options=brief.options,
        new_id=uuid7,
        duration_s=duration_s,
        pitch_ratios=brief.pitch_ratios,
    )
    aligner.restore([match for match, _ in brief.matches])
    aligner.resume_sequences({match.match_id: sequence for match, sequence in brief.matches})
    kept = None
    if brief.kept_in is not None:
        kept = LookBack(brief.kept_in, brief.stream, most_windows=brief.most_kept)
    return Tracker(
        aligner=aligner,
        stretches=stretches,
        dimension=brief.dimension,
        reference_hop_s=brief.reference_hop_s,
        kept=kept,
        now_s=brief.now_s,
    )


class Ending(Enum):
    """Why a desk follows a stream no more."""

    #: It is not the user's any more: its matches are over, and nothing of it is kept.
    REMOVED = auto()
    #: The daemon stops: its matches end, and are open again if the next start finds them still on.
    INTERRUPTED = auto()
    #: Another tracker goes on with its open matches.
    HANDED_ON = auto()


class Catalogs(Protocol):
    """Where references' own vectors and frames come from."""

    def duration_s(self, catalog: str, reference_id: str) -> float | None:
        """How long the reference is; None if it is not there (any more)."""

    def changed(self, catalog: str) -> None:
        """References came or went: what is known of the catalog is to be asked anew."""

    async def stretch(
        self, catalog: str, reference_id: str, start_s: float, end_s: float
    ) -> tuple[NDArray[np.float64], Vectors]:
        """As `StretchReader.stretch`."""

    async def spectrogram(self, catalog: str, reference_id: str, start_s: float, end_s: float) -> Spectrogram | None:
        """As `StretchReader.spectrogram`."""


class Desk:
    """The trackers of one process, and what they have read of the catalogs."""

    def __init__(self, catalogs: Catalogs) -> None:
        self._catalogs, self._share = catalogs, 1.0
        self._trackers: dict[tuple[str, str], Tracker] = {}
        self._stretches: dict[str, StretchCache] = {}

    def open(self, brief: Brief) -> None:
        """The stream is followed: its open matches go on, and what its latest windows said counts."""
        catalog = brief.catalog
        if catalog not in self._stretches:
            self._stretches[catalog] = StretchCache(_Reader(self._catalogs, catalog), share=self._share)
        self._trackers[catalog, brief.stream] = begun(
            brief, stretches=self._stretches[catalog], duration_s=partial(self._catalogs.duration_s, catalog)
        )

    def set_share(self, share: float) -> None:
        """From now on it may keep so much of what a daemon may keep at hand of each catalog."""
        self._share = share
        for stretches in self._stretches.values():
            stretches.share = share

    def set_options(self, catalog: str, stream: str, options: Options) -> None:
        """New thresholds hold from the next window on."""
        self._trackers[catalog, stream].aligner.options = options

    def changed(self, catalog: str) -> None:
        """References came or went: what was read of the catalog may be gone."""
        self._catalogs.changed(catalog)
        if catalog in self._stretches:
            self._stretches[catalog].clear()

    async def step(self, catalog: str, stream: str, heard: Embedded, neighbours: Sequence[Neighbour]) -> Said:
        """As `Tracker.step`."""
        tracker = self._trackers[catalog, stream]
        events = await tracker.step(heard.start_s, heard.readings, neighbours, heard.levels)
        return Said(events=events, heard_until_s=tracker.aligner.heard_until_s)

    async def unheard(self, catalog: str, stream: str, until_s: float) -> Said:
        """As `Tracker.unheard`."""
        tracker = self._trackers[catalog, stream]
        events = tracker.unheard(until_s)
        return Said(events=events, heard_until_s=tracker.aligner.heard_until_s)

    async def end(self, catalog: str, stream: str, ending: Ending) -> Said:
        """The stream is followed no more: what becomes of its open matches."""
        tracker = self._trackers.pop((catalog, stream))
        if ending is Ending.HANDED_ON:
            events = tracker.aligner.release()
        else:
            if ending is Ending.REMOVED:
                tracker.forget()
            events = tracker.aligner.flush(interrupted=ending is Ending.INTERRUPTED)
        return Said(events=events, heard_until_s=tracker.aligner.heard_until_s)

    def forget(self, catalog: str, stream: str) -> None:
        """Another daemon has the stream and its open matches: nothing of it is followed or kept here."""
        if (tracker := self._trackers.pop((catalog, stream), None)) is not None:
            tracker.forget()


class _Reader:
    """One of the catalogs."""

    def __init__(self, catalogs: Catalogs, name: str) -> None:
        self._catalogs, self._name = catalogs, name

    async def stretch(self, reference_id: str, start_s: float, end_s: float) -> tuple[NDArray[np.float64], Vectors]:
        return await self._catalogs.stretch(self._name, reference_id, start_s, end_s)

    async def spectrogram(self, reference_id: str, start_s: float, end_s: float) -> Spectrogram | None:
        return await self._catalogs.spectrogram(self._name, reference_id, start_s, end_s)
