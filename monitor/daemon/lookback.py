"""The latest windows of a stream against one catalog, in a file: what they say outlives the process.

Records are appended and never flushed: what a killed process has written the kernel still has. A record that was cut
off, or lost with the machine's power, is known by its checksum; it and what follows it say nothing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np

from monitor.daemon.framing import body_at, framed
from monitor.types import BANDS, Levels, Neighbour, Vectors

log = logging.getLogger(__name__)

#: A source's sample clock may run ahead of ours by a little.
_AHEAD_S = 2.0
#: No airing goes on after so long.
_STALE_S = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """A window that was heard, embedded, searched and aligned."""

    start_s: float
    #: (R, d), rows of norm 1; None for silence.
    readings: Vectors | None
    #: (T, BANDS) of its frames.
    levels: Levels | None = None
    #: Of each reading the nearest window, and the nearest of another recording.
    neighbours: tuple[Neighbour, ...] = ()
    #: Of each recording, up to where its latest match that is over had told of it then.
    over_s: Mapping[str, float] = field(default_factory=dict)


class LookBack:
    """A stream's file, and its predecessor: each holds so many windows at most."""

    def __init__(self, directory: Path, stream: str, *, most_windows: int) -> None:
        """Nothing is read or written yet; the directory is made with the first window."""
        name = quote(stream, safe="")
        self._file, self._before = directory / f"{name}.windows", directory / f"{name}.windows.before"
        self._most_windows = most_windows
        #: How many windows the file holds; None before it was written by this process.
        self._count: int | None = None
        self._recalled: list[Past] = []
        self._complained = False

    def keep(self, past: Past) -> None:
        """The window will be recalled. A disk that refuses it costs what a kill would have cost without it."""
        try:
            if self._count is None:
                self._count = self._begin()
            if self._count >= self._most_windows:
                with suppress(FileNotFoundError):  # swept, after a day in which nothing was heard
                    os.replace(self._file, self._before)  # noqa: PTH105
                self._count = 0
            with open(self._file, "ab", opener=_private) as file:
                file.write(_packed(past))
            self._count += 1
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.warning("%s: the latest windows are not kept: %s", self._file, error.strerror or error)
            self._complained = True
            # A record may have been cut off: nothing is written after that.
            self._count = None
            self._recalled = []

    def _begin(self) -> int:
        """The file holds what was recalled, and that whole; returns how many windows that is."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        with open(part, "wb", opener=_private) as file:
            file.write(b"".join(_packed(past) for past in self._recalled))
        os.replace(part, self._file)  # noqa: PTH105
        self._before.unlink(missing_ok=True)
        count, self._recalled = len(self._recalled), []
        return count

    def recall(self, *, length_s: float, now_s: float | None = None) -> list[Past]:
        """The windows of the last so many seconds that were heard, in order.

        What lies later than `now_s` was heard before the clock was set back: then all of it is forgotten.
        """
        found: dict[float, Past] = {}
        for path in (self._before, self._file):
            for past in _read(path):
                found[past.start_s] = past
        newest_s = max(found, default=0.0)
        if now_s is not None and newest_s > now_s + _AHEAD_S:
            self.forget()
            return []
        self._recalled = [found[start_s] for start_s in sorted(found) if start_s >= newest_s - length_s]
        return list(self._recalled)

    def forget(self) -> None:
        """Nothing will be recalled."""
        self._count, self._recalled = None, []
        for path in (self._before, self._file):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error.strerror or error)


def sweep(directory: Path, *, now_s: float) -> int:
    """What nobody has added to for a day is gone: files of streams that were removed, which is told to no process that
    does not run. Returns how many files that were.
    """
    gone = 0
    for path in (*directory.rglob("*.windows*"), *directory.rglob("*.part")):
        try:
            if now_s - path.stat().st_mtime > _STALE_S:
                path.unlink()
                gone += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("%s cannot be removed: %s", path, error.strerror or error)
    return gone


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _packed(past: Past) -> bytes:
    said = {
        "start_s": float(past.start_s),
        "shape": None if past.readings is None else past.readings.shape,
        "frames": None if past.levels is None else len(past.levels),
        "near": [
            [one.reference_id, one.reference_start_s, float(one.similarity), one.reading] for one in past.neighbours
        ],
        "over_s": {name: float(over_s) for name, over_s in past.over_s.items()},
    }
    # Half precision moves a similarity by less than a thousandth.
    vectors = b"" if past.readings is None else np.ascontiguousarray(past.readings, dtype="<f2").tobytes()
    levels = b"" if past.levels is None else past.levels.tobytes()
    return framed(json.dumps(said).encode() + b"\n" + levels + vectors)


def _read(path: Path) -> Iterator[Past]:
    """The whole records at the beginning of the file; none if it is not there or cannot be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s: the latest windows cannot be recalled: %s", path, error.strerror or error)
        return
    at = 0
    while (found := body_at(content, at)) is not None:
        body, at = found
        try:
            yield _unpacked(body)
        except (KeyError, TypeError, ValueError):  # another version of monitor wrote it
            return


def _unpacked(body: bytes) -> Past:
    said, _, rest = body.partition(b"\n")
    told = json.loads(said)
    readings = levels = None
    size = BANDS * (told["frames"] or 0)
    if told["frames"] is not None:
        levels = np.frombuffer(rest[:size], dtype=np.uint8).reshape(-1, BANDS)
    if told["shape"] is not None:
        readings = np.frombuffer(rest[size:], dtype="<f2").astype(np.float32).reshape(told["shape"])
    return Past(
        start_s=float(told["start_s"]),
        readings=readings,
        levels=levels,
        neighbours=tuple(
            Neighbour(reference_id=name, reference_start_s=start_s, similarity=similarity, reading=reading)
            for name, start_s, similarity, reading in told["near"]
        ),
        over_s={name: float(over_s) for name, over_s in dict(told["over_s"]).items()},
    )
