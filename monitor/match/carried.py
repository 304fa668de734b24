"""What was suspected when listening was interrupted: what is heard afterwards may go on with it.

An airing of which only short parts are heard, each too short to be believed, is believed by all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from monitor.match.line import Line
from monitor.match.run import COVERED_SHARE, Run
from monitor.types import Candidate

#: A candidate with less is not worth remembering, nor does less go on with one.
LEAST_NATS = 2.0
#: After a reconnect a stream's clock is anchored anew, at worst so far from where it was.
REANCHOR_S = 8.0
_MOST = 12


class Carried:
    """The candidates of one stream that were cut short: their starts are known, their windows are counted."""

    def __init__(self, *, window_s: float, hop_s: float) -> None:
        self._window_s, self._hop_s = window_s, hop_s
        self._runs: list[Run] = []

    @property
    def candidates(self) -> list[Candidate]:
        """As they stand, for `restore`."""
        return [as_candidate(run) for run in self._runs]

    def restore(self, candidates: Iterable[Candidate]) -> None:
        """Take over what an earlier life suspected when it died."""
        for candidate in candidates:
            covered_s = COVERED_SHARE * self._window_s + self._hop_s / 2
            self._runs.append(
                Run(
                    reference_id=candidate.reference_id,
                    reading=candidate.reading,
                    line=Line(origin_s=candidate.origin_s, tempo_ratio=candidate.tempo_ratio),
                    born_s=candidate.start_s,
                    first_s=candidate.start_s - self._window_s + covered_s,
                    last_s=candidate.last_hit_s,
                    settled_nats=candidate.evidence_nats,
                    evidence_nats=candidate.evidence_nats,
                    settled_similarity=candidate.score,
                    settled_hits=1,
                    settled_until_s=candidate.last_hit_s,
                    known_start=(candidate.start_s, candidate.reference_start_s),
                )
            )

    def take(self, run: Run) -> None:
        """Remember a candidate whose start is known: as more of what it goes on with, or by itself.

        What only says again what is remembered, as sound that was sent twice does, is left out.
        """
        earlier = self.continued_by(run)
        if earlier is None:
            if any(_same_line(each, run) for each in self._runs):
                return
            run.keep()
            self._runs.append(run)
        else:
            earlier.go_on_with(run)
            earlier.keep()
        if len(self._runs) > _MOST:
            self._runs.remove(min(self._runs, key=lambda each: each.evidence_nats))

    def drop(self, reference_id: str) -> None:
        """The recording was told of: what was suspected of it before is part of that, or was wrong."""
        self._runs = [run for run in self._runs if run.reference_id != reference_id]

    def continued_by(self, run: Run, *, since_s: float = -math.inf) -> Run | None:
        """What a candidate goes on with, further on in the recording, that was last heard after `since_s`; or None.

        Of several the one with the most evidence.
        """
        found = [each for each in self._runs if each.last_s >= since_s and _goes_on(each, run)]
        return max(found, key=lambda each: each.evidence_nats, default=None)

    def forget(self, before_s: float) -> None:
        """Nothing goes on that was last heard before."""
        self._runs = [run for run in self._runs if run.last_s >= before_s]


def as_candidate(run: Run) -> Candidate:
    """The candidate, whose start must be known, as it stands."""
    if run.known_start is None:
        raise ValueError("where the candidate starts is not known")
    return Candidate(
        reference_id=run.reference_id,
        reading=run.reading,
        origin_s=run.line.origin_s,
        tempo_ratio=run.line.tempo_ratio,
        start_s=run.known_start[0],
        reference_start_s=run.known_start[1],
        last_hit_s=run.last_s,
        evidence_nats=run.evidence_nats,
        score=run.similarity(),
    )


def _same_line(earlier: Run, run: Run) -> bool:
    if (earlier.reference_id, earlier.reading) != (run.reference_id, run.reading):
        return False
    return abs(earlier.line.reference_at(run.last_s) - run.line.reference_at(run.last_s)) <= REANCHOR_S


def _goes_on(earlier: Run, run: Run) -> bool:
    return _same_line(earlier, run) and run.nats_after(earlier) >= LEAST_NATS
