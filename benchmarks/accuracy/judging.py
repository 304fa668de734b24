"""What a system found, as the toolkit's own evaluator scores it, second by second; and which kinds it missed."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.material import QuerySet
from benchmarks.accuracy.systems import Found
from monitor.errors import InputError

_FIELDS = ("reference_id", "query_id", "reference_begin", "reference_end", "query_begin", "query_end")
_LEVEL = "Length Segment results"
#: Bounds of pitch, tempo and speed changes, in percent.
_STEPS = (3, 6, 10, 15, 20, 25, 40)


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Right, wrong and missed seconds."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(
            right=self.right + other.right, wrong=self.wrong + other.wrong, missed=self.missed + other.missed
        )

    @property
    def recall(self) -> float:
        """Share of what was played that was found; NaN where nothing was."""
        return self.right / (self.right + self.missed) if self.right + self.missed else math.nan

    @property
    def precision(self) -> float:
        """Share of what was claimed that is right; 1 where nothing was."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One system on one query set."""

    total: Seconds
    #: Rows that name a piece which the query does not hold, and airings of which no second was found.
    strangers: int
    lost: int
    airings: int
    #: Seconds by kind of change, by noise and by length; each family covers every second once.
    kinds: Mapping[str, Mapping[str, Seconds]]


def judge(found: Iterable[Found], queries: QuerySet, *, toolkit: Path, folder: Path, name: str) -> Verdict:
    """Score by `evaluate_matches.py`. Begins are rounded down and ends up, as the toolkit's annotations are."""
    rows = list(found)
    matches, results = folder / f"{name}-matches.csv", folder / f"{name}-results.csv"
    with matches.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_FIELDS)
        writer.writerows(_whole(row) for row in rows if row.query_end_s > row.query_begin_s)
    command = [
        *(sys.executable, str(toolkit.absolute() / "evaluate_matches.py"), "--level", "seconds"),
        *("--annotation-file", str(queries.annotations), "--matches-file", str(matches)),
        *("--output-csv-file", str(results)),
    ]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode != 0 or done.stderr.strip():
        raise InputError(
            f"the toolkit's evaluator failed: {done.stderr.strip()[-600:]} (it needs `pip install '.[benchmarks]'`)"
        )
    scored = list(_rows(results))
    total = next(_seconds(row) for row in scored if row["tags"] == "TOTAL")
    pairs = {(row["query_id"], row["reference_id"]): _seconds(row) for row in scored if row["query_id"]}
    with queries.annotations.open(encoding="utf-8") as file:
        annotations = list(csv.DictReader(file))
    families: dict[str, dict[str, Seconds]] = {"change": {}, "noise": {}, "length": {}, "merge": {}}
    aired: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for annotation in annotations:
        aired[annotation["query_id"], annotation["reference_id"]].append(annotation)
    for pair, airings in aired.items():
        for family, kind in _kinds(airings[0]).items():
            kinds = families[family]
            kinds[kind] = kinds.get(kind, Seconds()) + pairs[pair]
    return Verdict(
        total=total,
        strangers=sum((row.query_id, row.reference_id) not in aired for row in rows),
        lost=sum(pairs[pair].right == 0 for pair in aired),
        airings=len(aired),
        kinds=families,
    )


def missed_most(verdicts: Sequence[Verdict], family: str) -> list[tuple[str, Seconds]]:
    """The kinds of a family over several query sets, most missed seconds first."""
    summed: dict[str, Seconds] = {}
    for verdict in verdicts:
        for kind, seconds in verdict.kinds[family].items():
            summed[kind] = summed.get(kind, Seconds()) + seconds
    return sorted(summed.items(), key=lambda item: -item[1].missed)


def _whole(row: Found) -> tuple[str, str, int, int, int, int]:
    return (
        row.reference_id,
        row.query_id,
        max(0, math.floor(row.reference_begin_s)),
        math.ceil(row.reference_end_s),
        max(0, math.floor(row.query_begin_s)),
        math.ceil(row.query_end_s),
    )


def _rows(results: Path) -> Iterator[dict[str, str]]:
    """The rows of the last table of the evaluator's file."""
    lines = results.read_text(encoding="utf-8").splitlines()
    return csv.DictReader(line for line in lines[lines.index(_LEVEL) + 1 :] if line)


def _seconds(row: Mapping[str, str]) -> Seconds:
    return Seconds(right=round(float(row["tp"])), wrong=round(float(row["fp"])), missed=round(float(row["fn"])))


def _kinds(annotation: Mapping[str, str]) -> dict[str, str]:
    length_s = int(annotation["query_end"]) - int(annotation["query_begin"])
    merges = {annotation["merge_prev"], annotation["merge_next"]} - {""}
    return {
        "change": _change(annotation),
        "noise": _noise(annotation),
        "length": next((f"under {bound} s" for bound in (8, 12, 20) if length_s < bound), "20 s and more"),
        "merge": "overlapped" if "overlap" in merges else "faded" if "fade" in merges else "concatenated",
    }


def _change(annotation: Mapping[str, str]) -> str:
    tempo_percent = int(annotation["tempo"] or 100) - 100
    pitch_percent = 100 * (2 ** (int(annotation["pitch"] or 0) / 1200) - 1)
    for word, percent in (
        ("speed", tempo_percent if annotation["tempo"] and annotation["pitch"] else 0),
        ("pitch", pitch_percent),
        ("tempo", tempo_percent),
    ):
        if round(percent):
            return f"{word} {'+' if percent > 0 else '-'}{_span(abs(percent))} %"
    for word in ("echo_delay", "high_pass", "low_pass", "reverb"):
        if annotation[word] not in {"", "0"}:
            return word.replace("_delay", "").replace("_", "-")
    return "none"


def _span(percent: float) -> str:
    below = 0
    for bound in _STEPS:
        if percent <= bound:
            return f"{below}..{bound}"
        below = bound
    return f"{below}.."


def _noise(annotation: Mapping[str, str]) -> str:
    if not annotation["noise_type"]:
        return "none"
    if annotation["noise_file"]:
        return f"{Path(annotation['noise_file']).stem} {annotation['noise_snr']} dB"
    return f"{annotation['noise_color']} {annotation['noise_type']} {annotation['noise_snr']} dB"
