"""One suspected airing: the line it follows, the evidence so far, and what of it has been told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from monitor.match.cover import covered_edges
from monitor.match.edge import place_edge
from monitor.match.fit import Fit
from monitor.match.glimpse import Glimpses, glimpses
from monitor.match.line import NEAR_TEMPO_RATIO, Floats, Line, best_segment
from monitor.match.presence import Presence, presence
from monitor.match.score import Calibration, Likeness
from monitor.match.spotting import Spot
from monitor.types import Hit, Match, MatchState, Spectrogram

#: Where a window's similarity crosses from "not yet" to "yes" as an airing slides into it: about this share of the
#: window must be covered. Measured on development audio; used to place the airing's edges inside its edge windows.
COVERED_SHARE = 0.5
#: Windows of one airing differ by so much.
_FILLED_MARGIN = 0.1
#: By windows alone an edge is known to about so much.
_MARGIN_S = 0.3
#: An airing's frames are followed outwards from so far inside.
_SURELY_INSIDE_S = 3.0
#: Where frames inside a match agree less with the recording, they do not say where it ends.
_LEAST_AGREEMENT = 0.35
#: What hardly any station does must be the better shown, since it is sought in so many more places.
_FAR_TEMPO_NATS = 2.0
_TRANSPOSED_NATS = 3.0
#: Evidence of what was believed once is told in full.
_BELIEVED = frozenset((MatchState.CONFIRMED, MatchState.ENDED))
#: One pattern may be like a second of another piece: frames must find a recording in its place so often in a row, each
#: time with so much more heard, unless it is clear once, and are asked of each window where they say so much, of a
#: believed match so much.
_SIGHTINGS, _NEWS_S = 2, 0.9
_LEAST_SPOT_NATS, _LEAST_FOLLOWED_NATS = 6.0, 3.0
#: What is seen of a candidate's notes counts where its windows say so much.
GLIMPSED_NATS = 2.0
#: Lines that differ by less than a hundredth of a second are the same: frames correct them by far more.
_SAME_LINE_DIGITS = 2
#: A candidate with less is not yet worth a record of its windows.
_WORTH_KEEPING_NATS = 1.0


def price_nats(tempo_ratio: float, reading: int) -> float:
    """What a run of that tempo, read at that pitch, has to show beyond the evidence of a match."""
    far = abs(tempo_ratio - 1.0) > NEAR_TEMPO_RATIO
    return far * _FAR_TEMPO_NATS + (reading != 0) * _TRANSPOSED_NATS


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What frames answered when they were asked of a segment of the run."""

    #: From which window to which, of which seconds of the recording.
    segment: tuple[float, ...]
    presence: Presence | None
    glimpses: Glimpses | None


@dataclass(kw_only=True)
class Run:
    """Mutable, owned by one `Aligner`; a candidate until `state` is set."""

    reference_id: str
    line: Line
    born_s: float
    #: Stream times of the first and last window of the segment with the largest evidence.
    first_s: float
    last_s: float
    #: Windows before this were told of by an earlier match of the recording.
    since_s: float = -np.inf
    #: The pitch at which the stream is read, as the embedder numbers its readings.
    reading: int = 0
    #: Evidence of windows that have left the look-back, and of the best segment in all.
    settled_nats: float = 0.0
    evidence_nats: float = 0.0
    #: At a pitch or tempo that has a price the evidence says no more than this: what was never clearer may be kin.
    ceiling_nats: float = 0.0
    #: What frames said when they were asked last, beyond the windows.
    frame_nats: float = 0.0
    #: The price that an earlier life had to pay; a tempo found anew from a few windows may seem to be nearer.
    owed_nats: float = 0.0
    #: The latest windows on the line: start -> (nats, hit or None); those before `first_s` are not in the segment.
    recent: dict[float, tuple[float, Hit | None]] = field(default_factory=dict)
    #: Similarities summed over the windows that have left the look-back.
    settled_similarity: float = 0.0
    settled_hits: int = 0
    #: Stream and reference time of the start, once the line is no longer the one it was found on.
    known_start: tuple[float, float] | None = None
    #: Whether the line is another than that of the start.
    has_turned: bool = False
    match_id: UUID | None = None
    state: MatchState | None = None
    sequence: int = 0
    told_hits_until_s: float = -np.inf
    told_s: float = -np.inf
    #: The newest window when the run was last compared with its reference.
    looked_s: float = -np.inf
    #: When the run was last placed in its whole reference.
    placed_s: float = -np.inf
    #: How like the newest window is to what lies on the line, shape (1,).
    latest: Likeness | None = None
    #: The look-back and the recording around the line as frames, if both are known.
    pictures: tuple[Spectrogram, Spectrogram] | None = None
    #: Whether they were asked for.
    pictured: bool = False
    #: What frames answered when they were asked last.
    looked: Look | None = None
    #: What frames said before listening was interrupted, or in an earlier life, is settled: they are not asked again.
    goes_on: bool = False
    #: Where frames found it in its whole recording, the clearest first, each with another second heard (one that is
    #: clearer soon after takes the place of the one before); up to when.
    sightings: tuple[Spot, ...] = ()
    sighted_until_s: float = -np.inf
    #: When the latest of them was seen first, maybe less clearly.
    sighted_since_s: float = -np.inf
    #: What its windows say by themselves, where frames were asked of each.
    plain_nats: float = 0.0
    settled_plain_nats: float = 0.0
    #: Whether some window is explained by a nearer version of the same piece.
    outshone: bool = False
    #: Windows up to here are settled: what they said is in the sums and is not asked again.
    settled_until_s: float = -np.inf
    #: An interruption of listening has ended the match; it goes on, under its id, if the airing does.
    interrupted: bool = False
    #: Hits that left the look-back before an event carried them.
    pending_hits: list[Hit] = field(default_factory=list)

    def settle(self, until_s: float) -> None:
        """Fix the contribution of the windows before `until_s`: the look-back no longer holds them."""
        for start_s in sorted(start for start in self.recent if start < until_s):
            nats, hit = self.recent.pop(start_s)
            self.settled_until_s = max(self.settled_until_s, start_s)
            if self.state is None or not self.first_s <= start_s <= self.last_s:
                continue
            self.settled_nats += nats
            if self.spot is None:
                self.settled_plain_nats += nats
            if hit is not None:
                self.settled_similarity += hit.similarity
                self.settled_hits += 1
                if start_s > self.told_hits_until_s:
                    self.pending_hits.append(hit)

    def follow(self, fit: Fit, nats: Floats) -> None:
        """Take over a new fit of the line; `nats` are the fit's, less what other runs explain."""
        starts = fit.window_starts_s
        self.line = fit.line
        self.latest = fit.likeness.newest
        # Windows that another run explains say nothing of this one.
        clearest = best_segment(np.where(nats < fit.nats, 0.0, fit.kin_nats)).evidence_nats
        self.ceiling_nats = max(self.ceiling_nats, fit.rarity_nats + max(clearest, 0.0))
        if self.state is None:
            segment = best_segment(nats)
            self.evidence_nats = segment.evidence_nats
            self.first_s, self.last_s = float(starts[segment.first]), float(starts[segment.last])
            if self.evidence_nats < _WORTH_KEEPING_NATS:
                self.recent.clear()
                return
        self.recent = {
            float(start): (
                float(value),
                None
                if np.isnan(similarity)
                else Hit(
                    window_start_s=float(start),
                    reference_id=self.reference_id,
                    reference_start_s=float(reference_start),
                    similarity=float(similarity),
                    reading=self.reading,
                ),
            )
            for start, value, similarity, reference_start in zip(
                starts, nats, fit.similarities, fit.reference_starts_s, strict=True
            )
            if start > self.settled_until_s
        }
        if self.state is not None and self.first_s <= self.settled_until_s:
            # The start is settled: evidence grows from there, the end is where the sum is largest.
            sums = np.cumsum(nats)
            best = int(np.argmax(sums))
            if sums[best] > 0:
                self.last_s = max(self.last_s, float(starts[best]))
            self.evidence_nats = self.settled_nats + max(float(sums[best]), 0.0)
        else:
            segment = best_segment(nats)
            self.first_s, self.last_s = float(starts[segment.first]), float(starts[segment.last])
            self.evidence_nats = segment.evidence_nats

    @property
    def told_nats(self) -> float:
        """The evidence, as far as it can say anything."""
        free = self._price_nats == 0.0 or self.state in _BELIEVED
        if self.spot is not None and self.state not in _BELIEVED:
            return min(self.evidence_nats, max(self.plain_nats, self.spot.nats))
        return (self.evidence_nats if free else min(self.evidence_nats, self.ceiling_nats)) + self.frame_nats

    @property
    def belief_nats(self) -> float:
        """What is told, less what the run's tempo and its pitch are unlikely by."""
        return self.told_nats - self._price_nats

    @property
    def window_nats(self) -> float:
        """What would be believed without frames."""
        return self.belief_nats - self.frame_nats

    @property
    def _price_nats(self) -> float:
        return max(price_nats(self.line.tempo_ratio, self.reading), self.owed_nats)

    @property
    def spot(self) -> Spot | None:
        """What frames found in the whole recording, if that is evidence beyond what windows say."""
        clear = [one for one in self.sightings if one.is_clear]
        if len(self.sightings) < _SIGHTINGS and not clear:
            return None
        if self.state in _BELIEVED:
            return self.sightings[-1]
        # What was seen clearly once was there, though it has ended since.
        spot = clear[0] if clear else self.sightings[-1]
        return spot if spot.nats >= _LEAST_SPOT_NATS else None

    @property
    def promise_nats(self) -> float:
        """The evidence, or what frames have seen once and may see again."""
        return max([self.evidence_nats, *(one.nats for one in self.sightings[:1])])

    @property
    def is_led_by_frames(self) -> bool:
        """Whether frames know the line better than windows that are like anything."""
        hopeful = self.state is None and self.promise_nats > self.evidence_nats
        return hopeful or self.spot is not None

    def sight(self, spot: Spot) -> None:
        """Frames found the recording in its place.

        Of all such times the second best is evidence, or the best if it is clear; of a match that is believed the
        latest, since what sounds with it may be louder by now.
        """
        # Around its end an airing is hardly there: that says little of what its windows say then.
        faint = self.state is MatchState.CONFIRMED and spot.nats < _LEAST_FOLLOWED_NATS
        latest = next((one for one in self.sightings if one.last_s == self.sighted_until_s), None)
        news = spot.last_s >= self.sighted_until_s + _NEWS_S
        clearer = latest is not None and spot.nats > latest.nats and spot.last_s < self.sighted_since_s + _NEWS_S
        if faint or not (news or clearer):
            return
        if news:
            self.sighted_since_s = spot.last_s
        self.sighted_until_s = spot.last_s
        if self.state is MatchState.CONFIRMED:
            self.sightings = (*self.sightings[-1:], spot)
        else:
            before = [one for one in self.sightings if news or one is not latest]
            self.sightings = tuple(sorted([*before, spot], key=lambda one: -one.nats)[:_SIGHTINGS])
        if self.is_led_by_frames:
            # Windows found it in a few seconds, and at a tempo that these few seconds seemed to have.
            self.line = (self.sightings[0] if self.state is None else spot).line

    def lose_sight(self) -> None:
        """Frames found the recording elsewhere, or nowhere."""
        self.sightings, self.sighted_until_s, self.sighted_since_s = (), -np.inf, -np.inf

    def believe(self) -> None:
        """What has been seen so far is a match: it is followed by what has made it one."""
        if (spot := self.spot) is not None:
            self.sightings = (spot,) * _SIGHTINGS
        self.state = MatchState.CONFIRMED

    def similarity(self) -> float:
        """Mean similarity along the airing."""
        hits = [hit for start, (_, hit) in self.recent.items() if hit and self.first_s <= start <= self.last_s]
        total = self.settled_similarity + sum(hit.similarity for hit in hits)
        return total / max(self.settled_hits + len(hits), 1)

    def _fills(self, start_s: float) -> bool:
        """Whether a window is as near to the recording as the others are: nothing else sounds in it."""
        hit = self.recent.get(start_s, (0.0, None))[1]
        return hit is not None and hit.similarity >= self.similarity() - _FILLED_MARGIN

    def take_hits(self) -> tuple[Hit, ...]:
        """The hits of the segment that no event has carried yet, and mark them as carried."""
        fresh = [
            hit
            for start, (_, hit) in sorted(self.recent.items())
            if hit and max(self.first_s, self.told_hits_until_s + 1e-6) <= start <= self.last_s
        ]
        hits = (*self.pending_hits, *fresh)
        self.pending_hits.clear()
        if hits:
            self.told_hits_until_s = hits[-1].window_start_s
        return hits

    def extent(self, calibration: Calibration) -> tuple[float, float]:
        """Starts of the first and last window that sound like the recording, beyond those that proved it.

        Speech or a cross-fade over an airing's ends leaves windows that would not have started a suspicion, and yet
        are far nearer to the recording than chance.
        """
        heard = self._heard()
        after = [(start, similarity) for start, similarity in heard if start > self.last_s]
        before = [(start, similarity) for start, similarity in reversed(heard) if start < self.first_s]
        return _reached(before, self.first_s, calibration), _reached(after, self.last_s, calibration)

    def _heard(self) -> list[tuple[float, float]]:
        """Start and similarity of each of the latest windows that was compared."""
        return sorted((start, hit.similarity) for start, (_, hit) in self.recent.items() if hit is not None)

    def _edge(self, guess_s: float, window_s: float, calibration: Calibration, *, ending: bool) -> float:
        if calibration.slope is None:
            return guess_s
        return place_edge(self._heard(), guess_s=guess_s, window_s=window_s, slope=calibration.slope, ending=ending)

    def seen_s(self, window_s: float) -> float:
        """How many seconds of frames the windows of the segment surely cover."""
        return self.last_s - self.first_s + window_s - 2 * _MARGIN_S

    def look(self, window_s: float, pitch_ratio: float) -> None:
        """Ask the frames of all that the windows of the segment cover: their likeness at most doubles what those say,
        unless the airing drowns for long; what is seen of the recording's notes, or is missing, speaks for itself.
        """
        if self.pictures is None:
            return
        # Most candidates wait for a window that supports them: of nearly the same line frames say the same.
        ends_s = [round(self.line.reference_at(at_s), _SAME_LINE_DIGITS) for at_s in (self.first_s, self.last_s)]
        segment = (self.first_s, self.last_s, *ends_s)
        if self.looked is None or self.looked.segment != segment:
            seen = self._seen(self.first_s, self.last_s + window_s, pitch_ratio, around_s=_MARGIN_S)
            found = None if seen is None else self._glimpsed(seen, window_s)
            self.looked = Look(segment=segment, presence=seen, glimpses=found)
        seen, found = self.looked.presence, self.looked.glimpses
        if seen is None:
            return
        # One note that dies away is like any other: what windows do not know at all frames cannot know.
        known = seen.nats if seen.speaks_alone else min(seen.nats, max(self.window_nats, 0.0))
        if found is not None:
            known = found.weigh(known, seen.agreement, seen.inside_s)
            known += found.nats_beyond_kin if self.window_nats >= GLIMPSED_NATS else 0.0
            known = found.less_kin(known, seen.identity, seen.inside_s)
        self.frame_nats = known

    def _glimpsed(self, seen: Presence, window_s: float) -> Glimpses | None:
        """What is seen of the recording within the windows of the segment; None where too little tells."""
        if self.pictures is None:
            return None
        edges_s = self.first_s + _MARGIN_S, self.last_s + window_s - _MARGIN_S
        return glimpses(*self.pictures, seen.line, pitch_ratio=seen.pitch_ratio, first_s=edges_s[0], last_s=edges_s[1])

    def _seen(self, start_s: float, end_s: float, pitch_ratio: float, *, around_s: float = np.inf) -> Presence | None:
        """Frame by frame, whether the recording is on air; None where frames are not known or too few."""
        if self.pictures is None:
            return None
        return presence(
            *self.pictures,
            self.line,
            pitch_ratio=pitch_ratio,
            first_s=start_s + _MARGIN_S,
            last_s=end_s - _MARGIN_S,
            around_s=around_s,
        )

    def as_match(
        self,
        *,
        stream: str,
        catalog: str,
        model_id: str,
        window_s: float,
        hop_s: float,
        duration_s: float | None,
        calibration: Calibration,
        pitch_ratio: float = 1.0,
        heard_s: tuple[float, float] = (-np.inf, np.inf),
    ) -> Match:
        """The match as it stands, its edges placed by what frames say, or else inside the edge windows, and inside the
        reference.

        The stream's pitch is `pitch_ratio` times the recording's. `heard_s` are the first and last windows of what was
        heard: where the airing reaches them it fills them.

        Raises ValueError for a candidate, which nobody has been told of.
        """
        if self.match_id is None or self.state is None:
            raise ValueError("a candidate is not a match")
        covered_s = COVERED_SHARE * window_s + hop_s / 2
        first_s, last_s = (self.first_s, self.last_s) if self.spot is not None else self.extent(calibration)
        start_s = self._edge(first_s + window_s - covered_s, window_s, calibration, ending=False)
        end_s = self._edge(last_s + covered_s, window_s, calibration, ending=True)
        if self.spot is not None:
            # Here it is the frames in the middle of each window that were asked.
            start_s, end_s = first_s + (window_s - hop_s) / 2, last_s + (window_s + hop_s) / 2
        line = self.line
        seen = self._seen(start_s, end_s, pitch_ratio)
        if seen is not None and seen.agreement >= _LEAST_AGREEMENT:
            line, middle_s = seen.line, (start_s + end_s) / 2
            start_s, end_s = (
                seen.edge(start_s, min(start_s + _SURELY_INSIDE_S, middle_s), ending=False),
                seen.edge(end_s, max(end_s - _SURELY_INSIDE_S, middle_s), ending=True),
            )
            if self.pictures is not None:
                start_s, end_s = covered_edges(seen, *self.pictures, start_s=start_s, end_s=end_s)
        if first_s <= heard_s[0] and self._fills(first_s):
            start_s = first_s
        start_s = max(start_s, line.origin_s)
        reference_start_s = max(line.reference_at(start_s), 0.0)
        if self.known_start is not None:
            start_s, reference_start_s = self.known_start
        if last_s >= heard_s[1] and self._fills(last_s):
            end_s = last_s + window_s
        if duration_s is not None:
            end_s = min(end_s, line.origin_s + duration_s / line.tempo_ratio)
        end_s = max(end_s, start_s)
        return Match(
            match_id=self.match_id,
            stream=stream,
            catalog=catalog,
            reference_id=self.reference_id,
            state=self.state,
            start_s=start_s,
            end_s=end_s,
            reference_start_s=reference_start_s,
            reference_end_s=max(line.reference_at(end_s), 0.0),
            origin_s=line.origin_s,
            tempo_ratio=line.tempo_ratio,
            evidence_nats=max(self.told_nats, 0.0),
            score=self.similarity(),
            last_hit_s=self.last_s,
            model_id=model_id,
        )


def _reached(windows: Sequence[tuple[float, float]], from_s: float, calibration: Calibration) -> float:
    """How far the recording is still heard, outwards from a window of the match: where the evidence is largest."""
    if not windows:
        return from_s
    sums = np.cumsum(calibration.edge_ratio(np.array([similarity for _, similarity in windows])))
    furthest = int(np.argmax(sums))
    return windows[furthest][0] if sums[furthest] > 0 else from_s
