"""Hits become matches: the aligner of one stream against one catalog. Pure: no clock, no I/O.

Each step of a stream is three calls: `observe` takes a window's hits, `wanted` says which stretches of which
references would decide what is suspected, `advance` takes the similarities with them and returns what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from monitor.match.explained import unexplained
from monitor.match.family import lines_around
from monitor.match.fit import Fit, Search, fit_lines
from monitor.match.glimpse import MOST_NATS_BEYOND_KIN
from monitor.match.line import Floats, Line, Plane, best_segment
from monitor.match.oneness import is_doubled, is_told, repeats, succeeds
from monitor.match.options import Options
from monitor.match.placement import better_line
from monitor.match.presence import LONG_S, MOST_FRAME_NATS
from monitor.match.restart import restored
from monitor.match.rivals import Rivals
from monitor.match.run import COVERED_SHARE, GLIMPSED_NATS, Run
from monitor.match.score import Calibration, Likeness
from monitor.match.seeking import Seeking
from monitor.match.spotting import Recording
from monitor.match.suspicion import Suspicion
from monitor.types import Hit, Match, MatchEvent, MatchState, Neighbour, Spectrogram

#: A candidate that no window supports for so long is forgotten.
_CANDIDATE_PATIENCE_S = 4.0
#: After a reconnect a stream's clock is anchored anew, at worst so far from where it was.
_REANCHOR_S = 8.0
#: An airing's row is brought up to date so often, so that a restart finds it fresh.
_UPDATE_S = 5.0
#: A match is placed anew in its whole reference so often, if the reference is no longer than this.
_PLACEMENT_S = 2.5
_LONGEST_PLACED_S = 1800.0
_MOST_CANDIDATES = 12
#: A candidate is judged on so much of the look-back that was heard; all of it once it is a match, which finds its true
#: start.
_CANDIDATE_LOOK_BACK_S = 14.0
#: Nearly all candidates come to nothing: one with less evidence than this, or beside a match that is followed, is
#: looked at every so many windows only.
_DULL_NATS = 1.0
_DULL_WINDOWS = 3
#: A match that is followed by frames is heard clearly again where so many windows say so much by themselves.
_CLEAR_WINDOWS, _CLEAR_NATS = 6, 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A part of a reference whose windows the aligner wants to be compared with the look-back."""

    reference_id: str
    start_s: float
    end_s: float
    #: The stream's windows from here on are to be compared.
    since_s: float = -np.inf
    reading: int = 0
    #: Whether the frames of both are wanted too.
    pictured: bool = False


class Aligner:
    """Runs of hits that agree on their origin, for one stream against one catalog."""

    def __init__(
        self,
        *,
        stream: str,
        catalog: str,
        model_id: str,
        window_s: float,
        hop_s: float,
        calibration: Calibration,
        options: Options,
        new_id: Callable[[float], UUID],
        duration_s: Callable[[str], float | None] = lambda _reference_id: None,
        pitch_ratios: tuple[float, ...] = (1.0,),
    ) -> None:
        self._stream, self._catalog, self._model_id = stream, catalog, model_id
        self._window_s, self._hop_s = window_s, hop_s
        self._calibration, self._new_id, self._duration_s = calibration, new_id, duration_s
        self._pitch_ratios = pitch_ratios
        self.options = options
        self._weight = min(hop_s / window_s, 1.0)
        self._runs: list[Run] = []
        self._rivals = Rivals(look_back_s=options.look_back_s)
        self._suspicion = Suspicion(rivals=self._rivals, calibration=calibration, hop_s=hop_s)
        self._seeking = Seeking(suspicion=self._suspicion, duration_s=duration_s, window_s=window_s, hop_s=hop_s)
        self._now_s = -np.inf
        #: The latest window that was heard, be it by an earlier life.
        self._latest_s = -np.inf
        #: Of each recording, where its latest match that is over ends: what lies before has been told.
        self._over_s: dict[str, float] = {}
        #: Where the latest span began that followed unheard audio; clocks before and after may disagree.
        self._gap_end_s = -np.inf
        #: How long nothing was heard before it.
        self._gap_s = 0.0
        #: The first window of what was heard without interruption.
        self._heard_from_s = -np.inf
        #: The last window of the stream, once it is told that there is no other.
        self._heard_until_s = np.inf

    @property
    def open_matches(self) -> tuple[Match, ...]:
        """Matches that are provisional or confirmed, as they stand."""
        return tuple(self._match(run) for run in self._runs if run.state is not None and not run.interrupted)

    @property
    def hop_s(self) -> float:
        """How far the stream's windows lie apart."""
        return self._hop_s

    @property
    def heard_until_s(self) -> float:
        """The end of the last window that was told; minus infinity before the first."""
        return self._now_s + self._window_s

    @property
    def suspicions(self) -> list[tuple[float, Likeness]]:
        """Of each candidate looked at that is older than the newest window: its evidence, and how like that window is
        to its line.
        """
        candidates = (run for run in self._runs if run.state is None and run.born_s < self._now_s == run.looked_s)
        return [(run.evidence_nats, run.latest) for run in candidates if run.latest is not None]

    @property
    def strongest_nats(self) -> float:
        """The most evidence that any run has now, told or not; 0 where nothing is suspected."""
        return max((run.told_nats for run in self._runs), default=0.0)

    def restore(self, matches: Iterable[Match]) -> None:
        """Take over rows that an earlier life left open; they go on if the airing does, else end at their last hit.

        Of those that an interruption of listening has ended nothing is told unless the airing goes on.
        """
        self._runs += [
            restored(match, window_s=self._window_s, hop_s=self._hop_s, options=self.options) for match in matches
        ]

    def recall(self, start_s: float, neighbours: Sequence[Neighbour], over_s: Mapping[str, float]) -> None:
        """A window was heard by an earlier life, which had told of these recordings up to there: it is evidence for
        what is suspected from now on, as it is across an interruption of listening.
        """
        self._rivals.hear(start_s, neighbours)
        self._over_s.update(over_s)
        self._latest_s = start_s

    def nearest(self, start_s: float) -> tuple[Neighbour, ...]:
        """What is to be recalled of a window of the look-back."""
        return self._rivals.nearest(start_s)

    @property
    def over_s(self) -> Mapping[str, float]:
        """Of each recording, up to where its latest match that is over has told of it."""
        return self._over_s

    def resume_sequences(self, sequences: Mapping[UUID, int]) -> None:
        """Number the coming events of restored matches after those already recorded."""
        for run in self._runs:
            if run.match_id is not None:
                run.sequence = sequences.get(run.match_id, run.sequence)

    def observe(self, start_s: float, neighbours: Sequence[Neighbour]) -> None:
        """Take the window that starts at `start_s` with its neighbours (none for silence). Every window is told."""
        hole = start_s - self._now_s > 2 * self._hop_s + self._window_s
        if hole or self._now_s != self._latest_s:
            # The first window after an interruption: only now is it known how much was missed, and not sent again.
            self._gap_s = max(start_s - self._latest_s, 0.0)
        if hole:
            self._interrupt(start_s)
            self._heard_from_s = start_s
        self._now_s = self._latest_s = start_s
        self._rivals.hear(start_s, neighbours)
        # How like the stream is to where a confirmed match of a reference is: elsewhere it only resembles itself.
        followed: dict[str, float] = {}
        busy = self._is_busy()
        for hit, nats in self._suspicion.hear(start_s, neighbours):
            explaining = [
                run for run in self._runs if run.reference_id == hit.reference_id and self._explains(run, hit)
            ]
            if any(run.state is MatchState.CONFIRMED for run in explaining):
                followed.setdefault(hit.reference_id, hit.similarity)
            # Beside a match most hits are chance: only what is likelier than not is worth looking at.
            likely = nats > 0.0 or not busy
            if likely and not explaining and hit.similarity > followed.get(hit.reference_id, -1.0):
                self._suspect(hit, nats)

    def wanted(self) -> list[Stretch]:
        """The stretches that decide the open runs and candidates, one per reference and region."""
        return [self._stretch(run) for run in self._looked_at()]

    def recordings(self) -> dict[str, float]:
        """The references whose whole frames are wanted beside the stretches, and how long they are."""
        return self._seeking.wanted(self._runs, self._now_s, busy=self._is_busy())

    def _is_busy(self) -> bool:
        """Whether a confirmed airing goes on: whatever else is suspected sounds beside it or not at all."""
        return any(
            run.state is MatchState.CONFIRMED and self._now_s - run.last_s < 1.5 * self._hop_s for run in self._runs
        )

    def _looked_at(self) -> list[Run]:
        """The runs that the newest window is of interest to."""
        told = {run.reference_id for run in self._runs if run.state is not None}
        followed = self._is_busy()
        return [
            run
            for run in self._runs
            if run.state is not None or not self._is_dull(run, beside=followed, told=run.reference_id in told)
        ]

    def _is_dull(self, run: Run, *, beside: bool, told: bool) -> bool:
        """Whether a candidate's next windows can wait, after its second: little speaks for it, or it is `beside` a
        match that is followed. Without one none waits of a reference that was `told` of.
        """
        if run.sightings or self._now_s - run.born_s < 1.5 * self._hop_s:
            return False
        if not beside and (told or run.evidence_nats >= _DULL_NATS):
            return False
        return self._now_s - run.looked_s < (_DULL_WINDOWS - 0.5) * self._hop_s

    def _stretch(self, run: Run) -> Stretch:
        start_s, end_s = self._reach(run)
        if self._is_due(run):
            start_s, end_s = 0.0, self._duration_s(run.reference_id) or 0.0
        return Stretch(
            reference_id=run.reference_id,
            start_s=start_s,
            end_s=end_s,
            since_s=max(run.since_s, self._now_s - self._look_back_s(run)),
            reading=run.reading,
            pictured=run.state is not None or run.spot is not None or run.evidence_nats >= _DULL_NATS,
        )

    def _look_back_s(self, run: Run) -> float:
        """How far back the windows lie that a run is judged on; what was not heard is no part of it."""
        if run.state is not None:
            return self.options.look_back_s
        since_gap_s = self._now_s - self._gap_end_s
        unheard_s = self._gap_s if since_gap_s < _CANDIDATE_LOOK_BACK_S else 0.0
        return min(_CANDIDATE_LOOK_BACK_S + unheard_s, self.options.look_back_s)

    def _reach(self, run: Run) -> tuple[float, float]:
        """The part of the reference that the run's line may touch within the look-back."""
        reach_s = self._look_back_s(run) * (1 + self.options.tempo_max_ratio)
        now_s = run.line.reference_at(self._now_s)
        return max(now_s - reach_s - self._window_s, 0.0), max(now_s + 2 * self._window_s, 0.0)

    def advance(
        self,
        planes: Mapping[Stretch, Plane | None],
        heard: Spectrogram | None = None,
        recordings: Mapping[str, Recording] | None = None,
    ) -> list[MatchEvent]:
        """Score what is suspected with the planes of the stretches wanted, and with the frames of the look-back and of
        the `recordings` asked for; returns what happened, in order.
        """
        recordings = recordings or {}
        # A run that frames find now moves: it is judged by the stretch that it has asked for.
        looked_at = [(run, self._stretch(run)) for run in self._looked_at()]
        if heard is not None:
            self._runs += self._seeking.seek(
                self._runs,
                self._now_s,
                heard,
                recordings,
                busy=self._is_busy(),
                since_s=lambda name: max(self._gap_end_s, self._told_until_s(name)),
            )
        found: list[tuple[Run, Plane]] = []
        for run, stretch in looked_at:
            plane = planes.get(stretch)
            run.pictured, run.pictures = stretch.pictured, None if plane is None else plane.pictures
            if plane is not None and self._is_due(run):
                self._place(run, plane)
                plane = plane.around(*self._reach(run))
            if plane is not None:
                found.append((run, plane))
            run.looked_s = self._now_s
        fitted = self._fitted(found)
        # What was told first keeps its windows; among candidates the strongest goes first.
        fitted.sort(key=lambda pair: (pair[0].state is None, -pair[0].evidence_nats))
        sounding = [(run, fit) for run, fit in fitted if self._sounds(run)]
        for run, fit in fitted:
            first_s = float(fit.window_starts_s[0])
            if run.state is not None and run.known_start is None and first_s > self._before_s(run):
                # What lies before the start is about to leave the look-back: it has said where the start is.
                told = self._match(run)
                run.known_start = (told.start_s, told.reference_start_s)
            run.settle(first_s)
            nats, explained = unexplained(run, fit, sounding)
            if self._is_heard_clearly(run, nats):
                run.lose_sight()
            if run.spot is not None and heard is not None and run.reference_id in recordings:
                run.plain_nats, run.frame_nats = run.settled_plain_nats + best_segment(nats).evidence_nats, 0.0
                recording = recordings[run.reference_id]
                nats = self._seeking.weighed(
                    run, run.spot, fit, nats, explained=explained, heard=heard, recording=recording
                )
            run.follow(fit, nats)
            if self._is_doubtful(run):
                run.look(self._window_s, self._pitch_ratio(run))
            elif run.state is None:
                run.frame_nats = 0.0
            if self._sounds(run) and all(run is not other for other, _ in sounding):
                sounding.append((run, fit))
        self._adopt()
        return list(self._events())

    def unheard(self, until_s: float) -> list[MatchEvent]:
        """The stream was not heard until `until_s`: ends what has waited longer than the longest gap."""
        self._now_s = max(self._now_s, until_s - self._window_s)
        self._interrupt(self._now_s)
        return list(self._events())

    def flush(self, *, interrupted: bool = False) -> list[MatchEvent]:
        """The stream is no longer listened to: confirmed matches end at their last hit, provisional ones retract.

        They may be opened again, by a `restore` of their rows, if listening was only `interrupted`.
        """
        self._heard_until_s = self._now_s
        events = [
            replace(self._close(run), interrupted=interrupted)
            for run in self._runs
            if run.state is not None and not run.interrupted
        ]
        self._runs.clear()
        self._over_s.clear()
        self._suspicion.forget()
        self._seeking.forget()
        # If the clock was set back, what comes is earlier than any gap.
        self._gap_end_s = -np.inf
        return events

    def release(self) -> list[MatchEvent]:
        """Another aligner goes on with the open matches: their rows are brought up to date, for its `restore`."""
        events = [
            self._event(run, changed=False) for run in self._runs if run.state is not None and not run.interrupted
        ]
        self._runs.clear()
        self._over_s.clear()
        self._suspicion.forget()
        return events

    def _interrupt(self, until_s: float) -> None:
        """What was heard before `until_s` lies on the old clock: of matches its evidence and their start are settled.

        What is suspected must be suspected anew; if its line goes on, what was heard before counts again.
        """
        self._gap_end_s = until_s
        self._suspicion.forget()
        self._runs = [run for run in self._runs if run.state is not None]
        for run in self._runs:
            run.lose_sight()
            run.goes_on = True
            run.settle(until_s)
            if run.known_start is None and run.first_s <= run.settled_until_s:
                told = self._match(run)
                run.known_start = (told.start_s, told.reference_start_s)

    # -- suspicion ---------------------------------------------------------------------------------------------------

    def _explains(self, run: Run, hit: Hit) -> bool:
        """Whether a run already follows this hit of its reference: tolerances under a window would split one airing in
        several.
        """
        # At what pitch a restored match was read nobody has written down.
        if run.reading != hit.reading and (run.state is None or self._waits(run)):
            return False
        tolerance_s = self._hop_s if self._waits(run) else self._window_s
        return abs(run.line.reference_at(hit.window_start_s) - hit.reference_start_s) <= tolerance_s

    def _waits(self, run: Run) -> bool:
        """Whether a match was not heard yet since the latest interruption: its line may lie on another clock."""
        return run.state is not None and self._gap_end_s > run.last_s

    def _suspect(self, hit: Hit, nats: float) -> None:
        """Start a candidate from a hit that agrees with an earlier one, or that is strong enough alone."""
        candidates = [run for run in self._runs if run.state is None]
        full = len(candidates) >= _MOST_CANDIDATES
        weakest = min(candidates, key=lambda run: run.promise_nats) if full else None
        if weakest is not None and weakest.promise_nats > nats * self._weight:
            return
        alone = nats >= self.options.provisional_nats
        if not alone and not self._suspicion.is_supported(hit, tempo_max_ratio=self.options.tempo_max_ratio):
            return
        if weakest is not None:
            self._runs.remove(weakest)
        self._runs.append(
            Run(
                reference_id=hit.reference_id,
                reading=hit.reading,
                line=Line(origin_s=hit.window_start_s - hit.reference_start_s, tempo_ratio=1.0),
                born_s=hit.window_start_s,
                since_s=self._told_until_s(hit.reference_id),
                first_s=hit.window_start_s,
                last_s=hit.window_start_s,
                evidence_nats=max(nats * self._weight, 0.0),
            )
        )

    def _told_until_s(self, reference_id: str) -> float:
        """Up to where matches that are over, or that wait since an interruption, have told of a recording."""
        waiting = [run for run in self._runs if run.reference_id == reference_id and self._waits(run)]
        return max([self._over_s.get(reference_id, -np.inf), *(run.last_s + self._hop_s / 2 for run in waiting)])

    # -- evidence ----------------------------------------------------------------------------------------------------

    def _fitted(self, found: Sequence[tuple[Run, Plane]]) -> list[tuple[Run, Fit]]:
        """Of each run the best line near its own, and what each window says along it."""
        fits = fit_lines(
            [self._search(run, plane) for run, plane in found],
            calibration=self._calibration,
            window_weight=self._weight,
            most_tempo_ratio=self.options.tempo_max_ratio,
        )
        return [
            (run, replace(fit, line=run.line) if run.is_led_by_frames else fit)
            for (run, _), fit in zip(found, fits, strict=True)
        ]

    def _search(self, run: Run, plane: Plane) -> Search:
        most = self.options.tempo_max_ratio
        origins_s, tempo_ratios = lines_around(run, self._now_s, hop_s=self._hop_s, tempo_max_ratio=most)
        rival = self._rivals.similarity
        return Search(
            plane=plane,
            origins_s=origins_s,
            tempo_ratios=tempo_ratios,
            rivals=np.array([rival(run.reference_id, run.reading, start) for start in plane.window_starts_s.tolist()]),
            settled_until_s=run.settled_until_s,
        )

    def _is_doubtful(self, run: Run) -> bool:
        """Whether a run is not believed yet, and would be told of if its frames said all they can."""
        if run.spot is not None or run.state is MatchState.CONFIRMED or run.has_turned or run.goes_on:
            return False
        most_nats = min(run.window_nats, MOST_FRAME_NATS)
        if run.window_nats >= _DULL_NATS and run.seen_s(self._window_s) >= LONG_S:
            most_nats = 2 * MOST_FRAME_NATS
        if run.window_nats >= GLIMPSED_NATS:
            most_nats += MOST_NATS_BEYOND_KIN
        return run.window_nats + most_nats >= self.options.provisional_nats

    def _is_heard_clearly(self, run: Run, nats: Floats) -> bool:
        """Whether a believed match needs no frames any more: its latest windows say so much, and all that it has heard
        would be believed without.
        """
        believed = run.settled_plain_nats + best_segment(nats).evidence_nats >= self.options.confirmed_nats
        return run.state is MatchState.CONFIRMED and believed and float(nats[-_CLEAR_WINDOWS:].sum()) >= _CLEAR_NATS

    def _sounds(self, run: Run) -> bool:
        return run.state is not None or run.belief_nats >= self.options.provisional_nats

    def _adopt(self) -> None:
        """A match that lost its line to a clock anchored anew, or to another tempo, takes over the candidate that goes
        on with it.
        """
        for run in [run for run in self._runs if run.state is not None]:
            goes_on = self._goes_on_elsewhere if self._waits(run) else self._goes_on
            candidates = [
                other
                for other in self._runs
                if other.state is None
                and other.pictured
                and other.reference_id == run.reference_id
                and other.last_s > run.last_s + 2 * self._hop_s
                and goes_on(other, run)
            ]
            if candidates:
                self._take_over(run, max(candidates, key=lambda other: other.told_nats))

    def _goes_on_elsewhere(self, candidate: Run, run: Run) -> bool:
        """Whether a candidate is about where a match would be that was not heard since the latest interruption."""
        off_s = abs(candidate.line.reference_at(self._now_s) - run.line.reference_at(self._now_s))
        return off_s <= _REANCHOR_S and candidate.belief_nats >= self.options.provisional_nats / 2

    def _goes_on(self, candidate: Run, run: Run) -> bool:
        """Whether a candidate goes on, at another tempo, from where a believed match was last heard: that it does is
        what its tempo's price asks for.
        """
        if run.state is not MatchState.CONFIRMED or run.interrupted:
            return False
        # The last windows that it was heard in hold some of both tempi.
        turns_s = [run.last_s - share * self._window_s for share in (0.0, 0.5, 1.0)]
        off_s = min(abs(candidate.line.reference_at(at_s) - run.line.reference_at(at_s)) for at_s in turns_s)
        return off_s <= self._window_s / 2 and candidate.told_nats >= self.options.provisional_nats

    def _contests(self, candidate: Run) -> bool:
        """Whether some match must first be placed anew: the candidate may be where that match has been all along."""
        contested = [
            run
            for run in self._runs
            if succeeds(candidate, run, window_s=self._window_s)
            and self._is_placeable(run)
            and run.placed_s < self._now_s
        ]
        for run in contested:
            run.placed_s = -np.inf
        return bool(contested)

    def _take_over(self, run: Run, candidate: Run) -> None:
        """The run goes on along the candidate's line, which its start does not lie on."""
        told = self._match(run)
        run.known_start, run.has_turned = (told.start_s, told.reference_start_s), True
        run.settle(np.inf)
        run.settled_until_s = run.last_s
        run.reading, run.line, run.last_s = candidate.reading, candidate.line, candidate.last_s
        run.recent = {start: value for start, value in candidate.recent.items() if start > run.settled_until_s}
        run.ceiling_nats = max(run.ceiling_nats, candidate.ceiling_nats)
        run.sightings, run.sighted_until_s = candidate.sightings, candidate.sighted_until_s
        run.sighted_since_s = candidate.sighted_since_s
        run.evidence_nats = run.settled_nats + sum(nats for nats, _ in run.recent.values() if nats > 0)
        self._runs.remove(candidate)

    def _is_placeable(self, run: Run) -> bool:
        duration_s = self._duration_s(run.reference_id)
        told = run.state is not None and not run.interrupted
        return told and duration_s is not None and duration_s <= _LONGEST_PLACED_S

    def _before_s(self, run: Run) -> float:
        """From where on what was heard says where a run's start is; before the first window there was nothing."""
        before_s = run.first_s - self._window_s
        return max(before_s, self._heard_from_s) if self._heard_from_s <= run.first_s else before_s

    def _is_due(self, run: Run) -> bool:
        return self._is_placeable(run) and self._now_s - run.placed_s >= _PLACEMENT_S

    def _place(self, run: Run, plane: Plane) -> None:
        """Move the run to the repetition within its recording that what was heard is nearest to."""
        run.placed_s = self._now_s
        # A line that was right for the first of two equal choruses has lost the airing where they part.
        ends = [other.last_s for other in self._runs if other is run or succeeds(other, run, window_s=self._window_s)]
        line = better_line(
            plane,
            run.line,
            first_s=max(run.first_s, self._gap_end_s, run.settled_until_s),
            last_s=max(ends),
            window_s=self._window_s,
            window_weight=self._weight,
            pitch_ratio=self._pitch_ratio(run),
            by_frames_only=run.spot is not None,
        )
        if line is None:
            return
        if run.known_start is not None and not run.has_turned:
            start_s, _ = run.known_start
            run.known_start = (start_s, max(line.reference_at(start_s), 0.0))
        run.line = line

    # -- what happened -----------------------------------------------------------------------------------------------

    def _events(self) -> Iterator[MatchEvent]:
        for run in list(self._runs):
            if run.state is None:
                yield from self._judge_candidate(run)
            elif not run.interrupted:
                yield from self._judge_match(run)
            elif run.last_s > run.told_s and run.evidence_nats - run.settled_nats >= self.options.provisional_nats / 2:
                run.interrupted = False
                yield self._event(run)
                yield from self._judge_match(run)
            elif self._is_over(run):
                self._runs.remove(run)
                self._spend(run)

    def _judge_candidate(self, run: Run) -> Iterator[MatchEvent]:
        followed = [other for other in self._runs if not self._waits(other)]
        told = is_told(run, followed, window_s=self._window_s, silence_s=self.options.silence_s)
        if told or self._now_s - max(run.last_s, run.born_s) > _CANDIDATE_PATIENCE_S:
            self._runs.remove(run)
        elif any(repeats(run, match, window_s=self._window_s) for match in self._runs):
            pass
        elif not run.pictured:
            pass  # the look-back may speak for it at once, and frames were not asked yet
        elif run.belief_nats >= self.options.provisional_nats and not self._contests(run):
            run.state = MatchState.PROVISIONAL
            run.match_id = self._new_id(run.first_s)
            yield self._event(run)
            yield from self._judge_match(run)

    def _judge_match(self, run: Run) -> Iterator[MatchEvent]:
        if is_doubled(run, self._runs, window_s=self._window_s) or (
            run.outshone and run.belief_nats < self.options.provisional_nats
        ):
            # What sounds is another version of the piece, or another second of it, which has its own row.
            run.state = MatchState.RETRACTED
            yield self._event(run)
            self._runs.remove(run)
            return
        length_s = run.last_s - run.first_s + 2 * (COVERED_SHARE - 0.5) * self._window_s + self._hop_s + self._window_s
        believed = run.belief_nats >= self.options.confirmed_nats and length_s >= self.options.min_length_s
        if run.state is MatchState.PROVISIONAL and believed:
            run.believe()
            yield self._event(run)
        if self._is_over(run):
            yield self._close(run)
            self._runs.remove(run)
            self._spend(run)
        elif run.last_s - run.told_s >= _UPDATE_S:
            yield self._event(run, changed=False)

    def _spend(self, run: Run) -> None:
        """What a match has told, now that it is over, is no evidence of another airing of its recording."""
        oldest_s = self._now_s - self.options.look_back_s
        self._over_s = {name: over_s for name, over_s in self._over_s.items() if over_s >= oldest_s}
        over_s = self._over_s[run.reference_id] = run.last_s + self._hop_s / 2
        for other in self._runs:
            if other.state is None and other.reference_id == run.reference_id:
                other.since_s = max(other.since_s, over_s)
                other.evidence_nats = other.ceiling_nats = other.frame_nats = 0.0

    def _is_over(self, run: Run) -> bool:
        waited_s = self._now_s - run.last_s
        heard_s = self._now_s - max(run.last_s, self._gap_end_s)
        return waited_s > self.options.max_gap_s or heard_s > self.options.silence_s

    def _close(self, run: Run) -> MatchEvent:
        run.state = MatchState.ENDED if run.state is MatchState.CONFIRMED else MatchState.RETRACTED
        return self._event(run)

    def _match(self, run: Run) -> Match:
        return run.as_match(
            stream=self._stream,
            catalog=self._catalog,
            model_id=self._model_id,
            window_s=self._window_s,
            hop_s=self._hop_s,
            duration_s=self._duration_s(run.reference_id),
            calibration=self._calibration,
            pitch_ratio=self._pitch_ratio(run),
            heard_s=(self._heard_from_s, self._heard_until_s),
        )

    def _pitch_ratio(self, run: Run) -> float:
        return self._pitch_ratios[run.reading] if run.reading < len(self._pitch_ratios) else 1.0

    def _event(self, run: Run, *, changed: bool = True) -> MatchEvent:
        event = MatchEvent(
            sequence=run.sequence,
            match=self._match(run),
            # A restored match may be closed before anything was heard.
            decided_s=max(self._now_s, run.last_s) + self._window_s,
            hits=run.take_hits(),
            changed=changed,
        )
        run.sequence += 1
        run.told_s = run.last_s
        return event
