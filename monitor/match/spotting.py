"""Airings so deep under other sound that their windows are like anything: sought by frames in a whole recording.

Windows that mean little one by one still point at one second after another of one recording. Then what was heard is
correlated, frame by frame, with all of that recording (a matched filter: North, "An analysis of the factors which
determine signal/noise discrimination", 1943). An airing is believed where the place that windows point at stands out
of all others, and the recording's notes are seen there. How far it stands out is counted in what the other places of
the same recording scatter by (as scores of speakers are normalised by impostors': Auckenthaler et al., 2000): slow
chords, loops and drums are like themselves everywhere and stand out nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from monitor.match.changes import Flat, Floats, around, between, changes, cut, is_heard, sharpened
from monitor.match.glimpse import Glimpses, glimpses
from monitor.match.line import Line
from monitor.types import BANDS, Spectrogram

#: Of all places of a recording the best one stands out by so many deviations by chance; each further one is worth so
#: many nats, and all of them at most so many.
_CHANCE_DEVIATIONS = 3.0
_NATS_PER_DEVIATION = 3.0
MOST_SPOT_NATS = 15.0
#: One that says so much, so much of it by what is seen there, need not be found twice.
_CLEAR_NATS, _CLEARLY_SEEN_NATS = 8.0, 2.0
#: Fewer seconds heard do not stand out, and so many seconds of other places say what is usual.
LEAST_HEARD_S = 2.5
_LEAST_ELSEWHERE_S = 15.0
#: Of less than this each second says a part: pieces on one synthesiser share a pattern of a few notes.
_ENOUGH_S = 4.5
#: Frames are alike for so long to either side of the true place.
_BESIDE_S = 1.0
#: The deviation of frames that have nothing in common, for one second; a calm recording scatters by no less.
_LEAST_DEVIATION = 0.07
#: What is exceeded by chance in so many places, and by how many deviations of a bell: the larger of these says how
#: wide a distribution with long tails is.
_TAILS = ((0.995, 2.58), (0.99, 2.33), (0.97, 1.88))
#: Each frame weighs as much as the others, but for those that are far quieter than the usual one for so long: of one
#: note that dies away the attack would be all that is compared.
_EVEN_S, _LEAST_POWER = 0.5, 0.1
_AROUND_S = 1.5
#: A stretch is hardly ever longer than this; spectra are of so many frames, or a few times as many.
_LONGEST_FRAMES, _FRAMES_STEP = 512, 1024
#: Quieter seconds of the recording than this share of its energy are not divided by their own.
_LEAST_ENERGY = 0.1
#: A spotted line is off by at most so much as time goes by.
_DRIFTS_S = np.arange(-2, 3) * 0.032
_SMALL = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """Where in a recording what was heard stands out."""

    line: Line
    #: The stream's seconds that were compared.
    first_s: float
    last_s: float
    #: Of the frames there, at once.
    correlation: float
    #: How far that is above other places, less how far the highest of them is above it.
    deviations: float
    #: What is seen of the recording there.
    glimpses: Glimpses | None = None

    @property
    def nats(self) -> float:
        """The evidence that the recording is on air, if windows point there too; none where more of it is missing than
        is there as it is, as nearly always at the best place of another recording.
        """
        sounding_s = self.last_s - self.first_s if self.glimpses is None else self.glimpses.sounding_s
        enough = min(sounding_s / _ENOUGH_S, 1.0)
        stands_out = (self.deviations - _CHANCE_DEVIATIONS) * _NATS_PER_DEVIATION * enough
        if self.glimpses is None:
            return min(stands_out, MOST_SPOT_NATS)
        return min(stands_out + self.glimpses.nats, MOST_SPOT_NATS) if self.glimpses.folds > 0.0 else 0.0

    @property
    def is_clear(self) -> bool:
        """Whether it need not be found again to be believed; the model card says what other recordings reach."""
        return self.glimpses is not None and self.glimpses.nats >= _CLEARLY_SEEN_NATS and self.nats >= _CLEAR_NATS

    def weigh(
        self, nats: Floats, correlations: Floats, middles_s: Floats, *, hop_s: float, settled_s: float = -np.inf
    ) -> Floats:
        """What windows say, (W,), by themselves and by the correlations of their frames around `middles_s`.

        Those of the spot say together what it says, where most are what it was; those with their middles up to
        `settled_s`, which have left the look-back, did. Outside it each speaks as one inside would, and as much
        against the recording where it is nothing.
        """
        half = self.correlation / 2
        share = np.clip((correlations - half) / half, -1.0, 1.0)
        inside = share[(middles_s >= self.first_s) & (middles_s < self.last_s)]
        gone = max(min(settled_s + hop_s, self.last_s) - self.first_s, 0.0) / hop_s
        whole = float(np.nansum(np.fmax(inside, 0.0))) + gone
        said = share * self.nats / max(whole, (len(inside) + gone) / 2, 1.0)
        said = np.where(np.isnan(correlations), nats, said)
        return np.asarray(np.where(nats > 0.0, np.maximum(nats, said), said))


class Recording:
    """A reference's changes, worked out once for as often as it is asked for."""

    def __init__(self, picture: Spectrogram) -> None:
        self.start_s, self.step_s = picture.start_s, picture.step_s
        self._picture = picture
        self.changes, self._heard = _evened(picture), is_heard(picture)
        #: Its spectrum along time, of one size: band by band, which is how transforms are quick.
        self._spectrum = np.empty((BANDS, 0), dtype=np.complex64)
        self._energy = np.concatenate([[0.0], np.cumsum(np.sum(self.changes**2, axis=1, dtype=np.float64))])

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        return 3 * self.changes.nbytes

    def spot(
        self,
        stream: Spectrogram,
        *,
        first_s: float,
        last_s: float,
        origins_s: Sequence[float] | None = None,
        off_s: float = 0.0,
    ) -> Spot | None:
        """The place that what was heard from `first_s` to `last_s` is most like, at the recording's tempo and pitch; of
        those only that are at most `off_s` off from where a recording is that began at one of the `origins_s`.

        None where too little was heard, or the recording is too short to say what is usual.
        """
        # What lies further off has no part in how frames are evened.
        stream = cut(stream, first_s - _AROUND_S, last_s + _AROUND_S)
        first, last = (math.ceil((edge_s - stream.start_s) / self.step_s - 1e-6) for edge_s in (first_s, last_s))
        first = max(first, 0)
        count, step_s = min(last, len(stream.levels)) - first, self.step_s
        if count <= 0 or np.count_nonzero(is_heard(stream)[first : first + count]) * step_s < LEAST_HEARD_S:
            return None
        heard = _evened(stream)[first : first + count]
        places, found = self._correlated(heard)
        started_s = stream.start_s + first * step_s
        likely = found
        if origins_s is not None:
            off = np.abs(started_s - (self.start_s + places * step_s) - np.asarray(origins_s)[:, np.newaxis])
            likely = np.where((off <= off_s).any(axis=0), found, -np.inf)
        best = int(np.argmax(likely))
        if not np.isfinite(likely[best]):
            return None
        elsewhere = np.sort(found[np.abs(places - places[best]) * step_s > _BESIDE_S])
        if len(elsewhere) * step_s < _LEAST_ELSEWHERE_S:
            return None
        middle = float(elsewhere[len(elsewhere) // 2])
        tails = [(float(elsewhere[int(share * len(elsewhere))]) - middle) / wide for share, wide in _TAILS]
        deviation = max(*tails, float(elsewhere.std()), _LEAST_DEVIATION / math.sqrt(count * step_s))
        at = float(places[best]) + _between_peaks(found, best)
        # Equal turns are as high as one another; where another place is higher it stands out no more.
        outdone = float(found.max() - found[best])
        spot = Spot(
            line=Line(origin_s=started_s - (self.start_s + at * step_s), tempo_ratio=1.0),
            first_s=started_s,
            last_s=started_s + count * step_s,
            correlation=float(found[best]),
            deviations=(float(found[best]) - middle - outdone) / deviation,
        )
        if spot.nats <= 0.0:
            return spot
        seen = glimpses(stream, self._picture, spot.line, pitch_ratio=1.0, first_s=spot.first_s, last_s=spot.last_s)
        return replace(spot, glimpses=seen)

    def _correlated(self, heard: Flat) -> tuple[Floats, Floats]:
        """Where the first frame heard would lie, in frames of the recording, and the correlation there.

        Half of what was heard may lie before the recording's beginning or beyond its end.
        """
        count, length = len(heard), len(self.changes)
        # One size for all stretches of a look-back: the recording's spectrum stays.
        size = -(-(length + max(count, _LONGEST_FRAMES)) // _FRAMES_STEP) * _FRAMES_STEP
        if self._spectrum.shape[1] != size // 2 + 1:
            self._spectrum = _spectrum(self.changes, size)
        sums = np.fft.irfft((self._spectrum * np.conj(_spectrum(heard, size))).sum(axis=0), size)
        places = np.arange(-(count // 2), max(length - count // 2, 1 - count // 2))
        energy = self._energy[np.clip(places + count, 0, length)] - self._energy[np.clip(places, 0, length)]
        usual = self._energy[-1] / max(length, 1) * count
        norms = np.sqrt(float(np.sum(heard**2)) * np.maximum(energy, _LEAST_ENERGY * usual)) + _SMALL
        return places.astype(np.float64), sums[places % size] / norms

    def follow(self, stream: Spectrogram, line: Line, starts_s: Floats, *, lag_s: float, span_s: float) -> Floats:
        """How far the recording goes on along a line: the correlation, (W,), of the `span_s` that begin `lag_s` after
        each of these times; NaN where nothing was heard or the recording has no such second.
        """
        if not len(stream.levels) or not len(self.changes):
            return np.full(len(starts_s), np.nan)
        heard, known = _evened(stream), self.changes.copy()
        known[~self._heard] = np.nan
        times_s = stream.start_s + stream.step_s * np.arange(len(heard))
        frames = round(span_s / stream.step_s)
        firsts = np.rint((starts_s + lag_s - stream.start_s) / stream.step_s).astype(int)
        rows = firsts[:, np.newaxis] + np.arange(frames)
        inside = (rows >= 0) & (rows < len(heard))
        rows = np.clip(rows, 0, len(heard) - 1)
        heard[~is_heard(stream)] = np.nan

        def along(drift_s: float) -> Floats:
            reference_s = line.tempo_ratio * (times_s - line.origin_s) + drift_s
            there = between(known, np.asarray((reference_s - self.start_s) / self.step_s))
            one, other = np.where(inside[..., np.newaxis], heard[rows], np.nan), there[rows]
            both = ~np.isnan(one[..., 0]) & ~np.isnan(other[..., 0])
            one, other = np.where(both[..., np.newaxis], one, 0.0), np.where(both[..., np.newaxis], other, 0.0)
            norms = np.sqrt(np.sum(one**2, axis=(1, 2)) * np.sum(other**2, axis=(1, 2))) + _SMALL
            found = np.sum(one * other, axis=(1, 2)) / norms
            return np.asarray(np.where(both.any(axis=1), found, np.nan), dtype=np.float64)

        return max((along(drift_s) for drift_s in _DRIFTS_S.tolist()), key=lambda found: float(np.nansum(found)))


def _spectrum(found: Flat, size: int) -> NDArray[np.complex64]:
    """Of each band of changes (T, BANDS), filled with zeros up to `size`: (BANDS, size // 2 + 1)."""
    return np.fft.rfft(np.ascontiguousarray(found.T), size).astype(np.complex64, copy=False)


def _evened(picture: Spectrogram) -> Flat:
    """The sharpened changes, each frame as strong as the others."""
    found = sharpened(changes(picture, 1.0))
    power = np.sum(found**2, axis=1, keepdims=True)
    near = around(power, np.ones(len(power), dtype=np.bool_), _EVEN_S, picture.step_s)
    usual = float(power.mean()) if len(power) else 0.0
    return np.asarray(found / np.sqrt(near + _LEAST_POWER * usual + _SMALL), dtype=np.float32)


def _between_peaks(found: Floats, best: int) -> float:
    """Where between its neighbours a peak lies, by the parabola through the three."""
    if not 0 < best < len(found) - 1:
        return 0.0
    before, here, after = found[best - 1 : best + 2].tolist()
    bend = before - 2 * here + after
    # Where only some places are looked at the best of them may lie on a slope.
    return 0.5 * (before - after) / bend if bend < 0 and here >= max(before, after) else 0.0
