"""The records that flow from source to alert: frozen, keyword-only, with units in their names.

Stream time (`*_s` on the stream's axis) is Unix seconds, UTC, of the audio itself. Reference time is seconds from the
reference's first sample. `datetime` exists only at the SQL and JSON edges.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Vectors = NDArray[np.float32]
#: How loud each band of each frame is, (T, BANDS); a frame of ABSENT was not heard.
Levels = NDArray[np.uint8]

#: The bands of a spectrogram are evenly spaced in log-frequency: pitch is a shift along them.
BANDS = 32
LOWEST_BAND_HZ = 250.0
HIGHEST_BAND_HZ = 3900.0
#: Levels are so many to a neper of power.
LEVELS_PER_NEPER = 4
ABSENT = 255


class StreamState(enum.StrEnum):
    """What a stream is doing now; exactly one holds at any time."""

    CONNECTING = "connecting"
    RECEIVING = "receiving"
    SILENT = "silent"
    STALLED = "stalled"
    BACKING_OFF = "backing_off"
    PAUSED = "paused"
    STOPPED = "stopped"


class StreamAlarm(enum.StrEnum):
    """What is wrong with a stream for long enough that somebody should know; at most one holds at any time."""

    #: Not heard for longer than a blip.
    DOWN = "down"
    #: It fails again and again: one alarm until that ends.
    FLAPPING = "flapping"


class MatchState(enum.StrEnum):
    """The life of a match under one id: provisional, confirmed, ended; or retracted: it was something else."""

    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"
    ENDED = "ended"
    RETRACTED = "retracted"


class EndpointState(enum.StrEnum):
    """Whether a webhook endpoint is sent to; exactly one holds at any time."""

    ACCEPTING = "accepting"
    #: It asked to be left alone for a while (Retry-After).
    HELD = "held"
    #: It failed several times in a row: it is tried rarely, one delivery at a time, until it accepts one.
    TRIPPED = "tripped"
    #: It answered 410 Gone: nothing is sent until it is enabled.
    DISABLED = "disabled"


class ReferenceState(enum.StrEnum):
    """A reference answers searches only while its row says ready."""

    LOADING = "loading"
    READY = "ready"
    DELETING = "deleting"


class LoadStatus(enum.StrEnum):
    """What became of one file given to the loader."""

    ADDED = "added"
    UNCHANGED = "unchanged"
    REPLACED = "replaced"
    DUPLICATE = "duplicate"
    TOO_SHORT = "too_short"
    SILENT = "silent"
    UNREADABLE = "unreadable"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A run of consecutive mono samples from one source."""

    #: Stream time of the first sample.
    start_s: float
    #: float32 in [-1, 1], shape (n,).
    samples: Samples
    sample_rate_hz: int
    #: True when this chunk does not continue the one before: first of a run, or re-anchored.
    discontinuity: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Spectrogram:
    """A stretch of sound as levels, for a stream and for a reference alike."""

    #: Time of the middle of the first frame; frames are `step_s` apart.
    start_s: float
    step_s: float
    levels: Levels


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A slice of a stream that is embedded."""

    stream: str
    start_s: float
    samples: Samples
    #: Root mean square relative to full scale; -inf for digital silence.
    level_dbfs: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """A window after the embedder; `readings` is None where the window was silent and nothing was searched."""

    stream: str
    start_s: float
    window_s: float
    #: (R, dimension), a row for each pitch that the window was read at; the first is as it sounded.
    readings: Vectors | None
    #: (T, BANDS) of its frames.
    levels: Levels | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A catalog window near a query."""

    reference_id: str
    reference_start_s: float
    similarity: float
    #: The reading of the window that is near it.
    reading: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A neighbour that a stream's window earned."""

    window_start_s: float
    reference_id: str
    reference_start_s: float
    similarity: float
    #: The reading of the window that earned it.
    reading: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A run of hits that agree on their origin. Holds all that restores the run after a restart."""

    match_id: UUID
    stream: str
    catalog: str
    reference_id: str
    state: MatchState
    #: Stream time of the airing's first and last heard instant.
    start_s: float
    end_s: float
    #: Seconds of the reference that play at `start_s` and at `end_s`.
    reference_start_s: float
    reference_end_s: float
    #: Stream time at which the reference's second 0 would have aired.
    origin_s: float
    #: Reference seconds per stream second: above 1 the stream plays it faster.
    tempo_ratio: float
    #: Sum of log-likelihood ratios, in nats.
    evidence_nats: float
    #: Mean similarity along the airing, in [-1, 1].
    score: float
    last_hit_s: float
    model_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchEvent:
    """One step in a match's life. `sequence` counts the events of one match from 0, so that recording is idempotent."""

    sequence: int
    match: Match
    #: Stream time up to which the stream had been heard when the event was decided.
    decided_s: float
    #: Hits on the line of the airing that earlier events of this match did not carry.
    hits: tuple[Hit, ...] = ()
    #: False for a mere update of the row (so that a restart finds it fresh): nobody is told.
    changed: bool = True
    #: True where not the airing ended but listening: whoever listens next may open the match again.
    interrupted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One recording of a catalog. `number` is the integer under which its vectors lie in Milvus."""

    catalog: str
    reference_id: str
    number: int
    state: ReferenceState
    path: str
    title: str | None = None
    artist: str | None = None
    isrc: str | None = None
    owner: str | None = None
    label: str | None = None
    #: Every further column of the manifest, kept as given.
    attributes: Mapping[str, str] = field(default_factory=dict)
    duration_s: float
    windows: int
    #: SHA-256 (hex) of the file's bytes and of its decoded audio.
    file_sha256: str
    audio_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamStatus:
    """What a stream is doing, since when, and why."""

    stream: str
    state: StreamState
    reason: str | None
    detail: str
    since_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A span of stream time in which a stream was not heard."""

    stream: str
    start_s: float
    end_s: float
    reason: str
