"""What is aired when: the truth that findings are judged by, made with the broadcasts or read from a CSV file."""

from __future__ import annotations

import csv
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.catalog.item import absolute, shown
from monitor.errors import InputError

#: The truth of broadcasts that are kept, beside them.
FILE_NAME = "truth.csv"
COLUMNS = ("query", "reference_id", "start_s", "end_s", "reference_start_s", "tempo_ratio", "condition", "snr_db")
_NEEDED = COLUMNS[:4]
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Airing:
    """A span of a broadcast and what plays in it."""

    #: Which broadcast.
    query: str
    #: None where it is nothing of the catalog.
    reference_id: str | None
    #: Seconds from the broadcast's beginning.
    start_s: float
    end_s: float
    #: Second of the reference that plays at `start_s`; None if that is not known.
    reference_start_s: float | None
    #: Reference seconds per broadcast second.
    tempo_ratio: float
    #: Family of what was done to it, or kind of what is not catalogued.
    family: str
    condition: str
    snr_db: float | None = None
    #: False for what is not the recording any more, such as a cover.
    claimed: bool = True

    @property
    def length_s(self) -> float:
        """How long it lasts."""
        return self.end_s - self.start_s

    def position_s(self, time_s: float) -> float | None:
        """Which second of the reference plays then."""
        if self.reference_start_s is None:
            return None
        return self.reference_start_s + (time_s - self.start_s) * self.tempo_ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class Broadcast:
    """One file to listen to, and all that is in it."""

    path: Path
    duration_s: float | None
    airings: tuple[Airing, ...]


def read(path: Path) -> list[Broadcast]:
    """The broadcasts of a CSV file with the columns of `COLUMNS`, of which the first four are needed.

    A row without a `reference_id` names a span, or with empty times a whole file, that holds nothing of the catalog.
    Raises InputError naming the line that is wrong.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        wanted = f"give a CSV file with the columns {', '.join(_NEEDED)}"
        raise InputError(f"the truth in {path} cannot be read: {error.strerror}; {wanted}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file in UTF-8: {error}; save it as one") from error
    missing = [name for name in _NEEDED if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"{path} needs rows with the columns {', '.join(_NEEDED)}; there is no {missing[0]}")
    found: dict[Path, list[Airing]] = defaultdict(list)
    for line, row in enumerate(rows, start=2):
        query = absolute(path.parent / (row["query"] or ""))
        if not row["query"] or not os.path.isfile(query):  # noqa: PTH113 - Path.is_file raises for names that cannot be
            raise InputError(f"{path}, line {line}: there is no file {shown(query)[:_SHOWN_CHARACTERS]}")
        airings = found[query]
        if row["reference_id"] or row["start_s"]:
            airings.append(_airing(row, query, where=f"{path}, line {line}"))
    return [
        Broadcast(path=query, duration_s=None, airings=tuple(sorted(airings, key=lambda airing: airing.start_s)))
        for query, airings in found.items()
    ]


def write(broadcasts: Sequence[Broadcast], path: Path) -> None:
    """A CSV file that `read` reads, beside the broadcasts."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for broadcast in broadcasts:
            for airing in broadcast.airings:
                level = "" if airing.snr_db is None else f"{airing.snr_db:g}"
                begin = "" if airing.reference_start_s is None else f"{airing.reference_start_s:.3f}"
                span = (f"{airing.start_s:.3f}", f"{airing.end_s:.3f}", begin, f"{airing.tempo_ratio:g}")
                rows.writerow((broadcast.path.name, airing.reference_id or "", *span, airing.condition, level))


def _airing(row: dict[str, str], query: Path, *, where: str) -> Airing:
    def number(name: str, default: float | None) -> float | None:
        text = (row.get(name) or "").strip()
        value = float(text) if text else default
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {text}")
        return value

    try:
        start_s, end_s = number("start_s", None), number("end_s", None)
        reference_start_s, snr_db = number("reference_start_s", None), number("snr_db", None)
        tempo_ratio = number("tempo_ratio", 1.0) or 1.0
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if start_s is None or end_s is None or not 0 <= start_s < end_s:
        raise InputError(f"{where}: start_s and end_s must be seconds, the first before the second")
    condition = row.get("condition") or ("as given" if row["reference_id"] else "uncatalogued")
    return Airing(
        query=str(query),
        reference_id=row["reference_id"] or None,
        start_s=start_s,
        end_s=end_s,
        reference_start_s=reference_start_s,
        tempo_ratio=tempo_ratio,
        family=condition,
        condition=condition,
        snr_db=snr_db,
    )


def uncatalogued_s(airings: Sequence[Airing], duration_s: float) -> float:
    """How much of a broadcast holds nothing of the catalog."""
    aired: list[tuple[float, float]] = []
    for start_s, end_s in sorted((airing.start_s, airing.end_s) for airing in airings if airing.reference_id):
        if aired and start_s <= aired[-1][1]:
            aired[-1] = aired[-1][0], max(aired[-1][1], end_s)
        else:
            aired.append((start_s, end_s))
    return max(0.0, duration_s - sum(end_s - start_s for start_s, end_s in aired))
