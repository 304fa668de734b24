"""The healthy stream beside the faulty ones: a station whose every airing must be in the log, once and in its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.faults.fault import Control
from benchmarks.faults.rig import Rig, Watch
from monitor.demo import report, station
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.programme import Airing, Condition, Recording
from monitor.demo.report import Outcome, Tolerances
from monitor.demo.station import Station

_LEAD_S = 2.0
_MOMENT_S = 0.1
_AIRING_S = 15.0
#: Longer than `match.end_after_s` need not be: the next piece ends the one before as well.
_BETWEEN_S = 4.0
_FROM_S = 12.0
#: From an airing's end until its row is certain.
_AFTERMATH_S = 90.0


class Programme:
    """The pieces in turn with silence between them, for ever, from the moment that it is put on the air."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.name = name
        self.station = Station(name=name, audio=station.mp3(128), ffmpeg=rig.ffmpeg)
        self._pieces = rig.sounds.catalogued[1:]
        self._on_air_s = float("inf")

    def begin(self) -> None:
        """The first airing is on in a moment."""
        start, count = round(_FROM_S * SAMPLE_RATE_HZ), round(_AIRING_S * SAMPLE_RATE_HZ)
        silence = np.zeros(round(_BETWEEN_S * SAMPLE_RATE_HZ), dtype=np.float32)
        parts = [part for piece in self._pieces for part in (piece.samples[start : start + count], silence)]
        self._on_air_s = time.time() + _LEAD_S
        self.station.schedule(np.concatenate(parts), on_air_s=self._on_air_s, repeat=True)

    def airings(self, until_s: float) -> list[Airing]:
        """Those that have ended by then (Unix seconds)."""
        made: list[Airing] = []
        while True:
            start_s = len(made) * (_AIRING_S + _BETWEEN_S)
            if self._on_air_s + start_s + _AIRING_S > until_s:
                return made
            made.append(_airing(self.name, self._pieces[len(made) % len(self._pieces)], start_s))

    async def judge(self, watch: Watch, scene: str, *, edge_s: float = 3.0) -> Control:
        """What became of all that was aired so far. Rows may be wrong at their edges by `edge_s`."""
        # There is one at least.
        await asyncio.sleep(max(self._on_air_s + _AIRING_S - time.time(), 0) + _MOMENT_S)
        airings = self.airings(time.time())

        def judged() -> report.Report:
            # What is on the air now is judged by nobody.
            over_s = self._on_air_s + (airings[-1].end_s if airings else 0)
            rows = [row for row in watch.found[self.name] if row.start_s < over_s]
            return report.judge(
                airings, rows, on_air_s={self.name: self._on_air_s}, tolerances=Tolerances(edge_s=edge_s, position_s=1)
            )

        await watch.until(lambda: judged().passed, _AFTERMATH_S)
        verdict = judged()
        return Control(
            scene=scene,
            airings=len(airings),
            lost=sum(line.outcome is Outcome.MISSED for line in verdict.lines),
            problems=tuple(_problems(verdict)) if airings else ("nothing was aired",),
        )


def _airing(name: str, piece: Recording, start_s: float) -> Airing:
    return Airing(
        station=name,
        condition=Condition.PLAIN,
        reference_id=piece.reference_id,
        title=piece.title,
        start_s=start_s,
        end_s=start_s + _AIRING_S,
        reference_start_s=_FROM_S,
        tempo_ratio=1.0,
    )


def _problems(verdict: report.Report) -> Sequence[str]:
    problems = []
    for line in verdict.lines:
        if line.outcome is not Outcome.FOUND:
            errors = (line.start_error_s, line.end_error_s, line.position_error_s)
            told = ", ".join("?" if error is None else f"{error:+.1f}" for error in errors)
            where = f"{line.airing.station}: {line.airing.reference_id} at {line.airing.start_s:.0f} s"
            problems.append(f"{where}: {line.outcome} ({told})")
    strays = (f"{row.stream}: {row.reference_id} was never aired ({row.state})" for row in verdict.strays)
    return [*problems, *strays]
