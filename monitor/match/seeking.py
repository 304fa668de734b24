"""When frames are asked where in a whole recording they are: where windows point at one, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.match.fit import Fit
from monitor.match.line import Floats, Line
from monitor.match.run import Run
from monitor.match.spotting import LEAST_HEARD_S, Recording, Spot
from monitor.match.suspicion import Suspicion
from monitor.types import MatchState, Spectrogram

#: No more recordings than so many are sought in with one window, and none longer than this.
_MOST_SOUGHT = 2
_LONGEST_SOUGHT_S = 1800.0
#: In what parts of the time to a window's middle second an airing may begin; stretches that differ by less are one.
_BEGINS, _ONE_STRETCH_S = (0.0, 0.5, 1.0), 0.1
#: Strays may point at a recording before it is on air: the latest so many seconds are asked too, where windows have
#: pointed for that much longer.
_LATEST_S, _LONGER_S = 3.0, 0.3
#: For so long it is known whose turn it is.
_TURNS_S = 10.0


class Seeking:
    """The recordings of one stream that are sought in by their frames."""

    def __init__(
        self, *, suspicion: Suspicion, duration_s: Callable[[str], float | None], window_s: float, hop_s: float
    ) -> None:
        self._suspicion, self._duration_s = suspicion, duration_s
        self._window_s, self._hop_s = window_s, hop_s
        #: Frames are asked of the middle of each window, which begins so long after it.
        self._lag_s = (window_s - hop_s) / 2
        #: When each recording was last sought in.
        self._sought_s: dict[str, float] = {}

    def wanted(self, runs: Sequence[Run], now_s: float, *, busy: bool) -> dict[str, float]:
        """The references whose whole frames are wanted, and how long they are: those of runs that frames follow, and
        those to be sought in. While the stream is `busy` with a match that goes on nothing else is.
        """
        names = [run.reference_id for run in runs if run.spot is not None] + list(self._due(runs, now_s, busy=busy))
        durations_s = {name: self._duration_s(name) for name in names}
        return {name: duration_s for name, duration_s in durations_s.items() if duration_s is not None}

    def _due(self, runs: Sequence[Run], now_s: float, *, busy: bool) -> dict[str, set[float]]:
        """The references to be sought in, and since when: the clearest of these stretches counts."""
        due: dict[str, set[float]] = {}
        for run in runs:
            known = self._duration_s(run.reference_id) is not None
            if run.sightings and run.state is not MatchState.CONFIRMED and known:
                due.setdefault(run.reference_id, set()).add(run.sightings[0].first_s)
        # What a believed match has told already does not say what else there was.
        believed = [run for run in runs if run.state is MatchState.CONFIRMED]
        told_s = max((run.last_s + self._window_s / 2 for run in believed), default=-np.inf)
        for reference_id, starts_s in ({} if busy else self._suspicion.pointed_at()).items():
            # Half of a window that points at an airing may lie before it.
            begins_s = {starts_s[-1] + share * self._lag_s for share in _BEGINS}
            latest_s = now_s + self._window_s - _LATEST_S
            if latest_s > max(begins_s) + _LONGER_S:
                begins_s.add(latest_s)
            since_s = {max(start_s, told_s) for start_s in {starts_s[0] + self._lag_s, *begins_s}}
            enough = now_s + self._window_s - min(since_s) >= LEAST_HEARD_S
            if enough and (self._duration_s(reference_id) or np.inf) <= _LONGEST_SOUGHT_S:
                due.setdefault(reference_id, set()).update(since_s)
        for run in believed:
            if run.reference_id in due:
                # Nor does it say whether it goes on.
                own_s = run.last_s + self._lag_s + self._hop_s
                due[run.reference_id] = {max(start_s, own_s) for start_s in due[run.reference_id]}
        waits_s = {name: now_s - self._sought_s.get(name, -np.inf) for name in due}
        # By turns: what was not sought for longest comes first.
        fresh = sorted((name for name in due if waits_s[name] > 0.0), key=lambda name: -waits_s[name])
        return {name: due[name] for name in fresh[:_MOST_SOUGHT]}

    def seek(
        self,
        runs: Sequence[Run],
        now_s: float,
        heard: Spectrogram,
        recordings: Mapping[str, Recording],
        *,
        busy: bool,
        since_s: Callable[[str], float],
    ) -> list[Run]:
        """Where what was heard stands out in a recording that windows point at, that is suspected from now on.

        Returns the candidates that are new. Of a reference nothing counts that was heard before `since_s` of it.
        """
        self._sought_s = {name: then_s for name, then_s in self._sought_s.items() if now_s - then_s < _TURNS_S}
        found: list[Run] = []
        for reference_id, starts_s in self._due(runs, now_s, busy=busy).items():
            self._sought_s[reference_id] = now_s
            if (recording := recordings.get(reference_id)) is None:
                continue
            own = [run for run in runs if run.reference_id == reference_id]
            begins_s = _apart({max(start_s, since_s(reference_id)) for start_s in starts_s})
            if now_s + self._window_s - begins_s[0] < LEAST_HEARD_S:
                continue  # too little to say that it is not there
            spot = self._spot(recording, heard, self._origins_s(reference_id, own, now_s), begins_s, now_s)
            near = [] if spot is None else [run for run in own if self._is_at(run, spot.line, now_s)]
            for run in own:
                if run.state is not MatchState.CONFIRMED and run not in near:
                    run.lose_sight()
            if spot is None or spot.nats <= 0.0:
                continue
            if not near:
                near = [self._candidate(reference_id, spot, now_s, since_s(reference_id))]
                found += near
            for run in sorted(near, key=lambda run: run.state is None)[:1]:
                run.sight(spot)
        return found

    def _spot(
        self, recording: Recording, heard: Spectrogram, origins_s: Sequence[float], begins_s: list[float], now_s: float
    ) -> Spot | None:
        """The clearest place, of all that windows point at, of what was heard since one of the times given."""
        last_s = now_s + self._window_s
        spots = [
            recording.spot(heard, first_s=first_s, last_s=last_s, origins_s=origins_s, off_s=self._hop_s)
            for first_s in begins_s
        ]
        return max((spot for spot in spots if spot is not None), key=lambda spot: spot.nats, default=None)

    def _origins_s(self, reference_id: str, own: Sequence[Run], now_s: float) -> list[float]:
        """When a recording would have begun that is where windows point, or where it is suspected."""
        suspected = [now_s - run.line.reference_at(now_s) for run in own if run.reading == 0]
        return self._suspicion.origins_s(reference_id) + suspected

    def _is_at(self, run: Run, line: Line, now_s: float) -> bool:
        off_s = abs(run.line.reference_at(now_s) - line.reference_at(now_s))
        return run.reading == 0 and off_s <= self._hop_s

    @staticmethod
    def _candidate(reference_id: str, spot: Spot, now_s: float, since_s: float) -> Run:
        return Run(
            reference_id=reference_id, line=spot.line, born_s=now_s, since_s=since_s, first_s=now_s, last_s=now_s
        )

    def weighed(
        self,
        run: Run,
        spot: Spot,
        fit: Fit,
        nats: Floats,
        *,
        explained: NDArray[np.bool_],
        heard: Spectrogram,
        recording: Recording,
    ) -> Floats:
        """What windows, and the frames in their middles, say along a line that frames have found, (W,).

        What another run has `explained`, or was told of already, stays as it is in `nats`.
        """
        correlations = recording.follow(heard, fit.line, fit.window_starts_s, lag_s=self._lag_s, span_s=self._hop_s)
        free = ~explained & (fit.nats != 0.0)
        half_s = self._window_s / 2
        middles_s, settled_s = fit.window_starts_s + half_s, run.settled_until_s + half_s
        said = spot.weigh(nats, correlations, middles_s, hop_s=self._hop_s, settled_s=settled_s)
        return np.where(free, said, nats)

    def forget(self) -> None:
        """What comes lies on another clock."""
        self._sought_s.clear()


def _apart(starts_s: Iterable[float]) -> list[float]:
    """The first of those that are as good as one, ascending."""
    found: list[float] = []
    for start_s in sorted(starts_s):
        if not found or start_s - found[-1] >= _ONE_STRETCH_S:
            found.append(start_s)
    return found
