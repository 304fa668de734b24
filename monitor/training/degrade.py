"""What broadcast does to music, as batched torch operations: the degraded half of each training pair.

Speed and pitch, rooms and equalisers, speech, noise and other music on top, compression, limiting, clipping, band
limits, drop-outs and fades act on samples; tempo alone acts on the frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from monitor.embed.fingerprint import SMALLEST_POWER, FrontEnd
from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus

#: A degraded window's neighbours in time that tempo may draw in: frames on each side.
_SPARE_FRAMES = 12
#: As much as the spare frames bear.
_STRETCH = 1.35
_SHIFT_S = 0.3
#: Both halves of a pair are transposed together by up to this factor: more pieces from the same recordings.
_TRANSPOSE = 1.25
#: The bands that a window is transposed by and read back: a ratio of 1.19, whatever further readings are made of it.
_SHIFT_BANDS = 4
_NOISE_S = 240


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far time and pitch are taken apart: largest factors, as natural logs."""

    #: Pitch that the network itself has to bear, besides whole shifts of the bands, which are undone for it.
    pitch: float
    tempo: float
    #: Share of windows that are transposed by a whole shift and read back.
    shifted: float


#: What a network can learn from nothing, and what it can bear once it hears.
NARROW = Reach(pitch=0.06, tempo=0.06, shifted=0.0)
WIDE = Reach(pitch=0.10, tempo=0.25, shifted=0.45)


@dataclass(frozen=True, kw_only=True)
class Beds:
    """What is laid over the music: one long signal each, (n,) float32."""

    noise: Tensor
    speech: Tensor
    effects: Tensor
    music: Tensor


def beds(corpus: Corpus, *, development: bool, seed: int) -> Beds:
    """Gather speech, effects and music of one side of the split, and generate noise of many kinds."""
    dice = np.random.default_rng(seed)

    def joined(kind: str, limit_s: int) -> Tensor:
        items = corpus.select(kind=kind, development=development)
        parts, total = [], 0
        for index in dice.permutation(len(items)):
            part = corpus.of(items[index])[: 20 * SAMPLE_RATE_HZ].astype(np.float32)
            level = float(np.sqrt(np.mean(part**2)))
            if level > 30:
                parts.append(part / level)
                total += len(part)
            if total > limit_s * SAMPLE_RATE_HZ:
                break
        return torch.from_numpy(np.concatenate(parts))

    speech = joined("voice", 2400)
    return Beds(
        noise=torch.from_numpy(noises(dice, speech.numpy())),
        speech=speech,
        effects=joined("effect", 1200),
        music=joined("music", 3600),
    )


def noises(dice: np.random.Generator, speech: NDArray[np.float32]) -> NDArray[np.float32]:
    """Generate noise: slopes from white to brown, bands, hum, crackle, and the babble of many voices; level about 1."""
    count = 4 * SAMPLE_RATE_HZ
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    made = []
    for number in range(_NOISE_S // 4):
        kind = number % 6
        if kind < 3:
            shape = np.maximum(hertz, 20.0) ** -dice.uniform(0, 1.2)
        elif kind == 3:
            octaves = np.log2(np.maximum(hertz, 20.0) / dice.uniform(150, 3000))
            shape = np.exp(-0.5 * (octaves / dice.uniform(0.2, 1.5)) ** 2)
        else:
            shape = np.maximum(hertz, 100.0) ** -0.6
        phases = np.exp(2j * np.pi * dice.random(len(hertz)))
        noise = np.fft.irfft(shape * phases * dice.rayleigh(size=len(hertz)), count)
        noise /= noise.std()
        if kind == 4:
            voices = sum(speech[start : start + count] for start in dice.integers(0, len(speech) - count, 8))
            noise = 0.1 * noise + np.asarray(voices) / 3
        if kind == 5:
            clicks = (dice.random(count) < dice.uniform(0.0005, 0.01)) * dice.normal(size=count) * 20
            hum = np.sin(2 * np.pi * dice.choice((50, 60, 120)) * dice.integers(1, 6) * time_s)
            noise = dice.uniform(0, 0.5) * noise + clicks + dice.uniform(0, 1) * hum
        swell = 1 + dice.uniform(0, 0.7) * np.sin(2 * np.pi * dice.uniform(0.1, 3) * time_s)
        made.append(noise * swell / (noise * swell).std())
    return np.concatenate(made).astype(np.float32)


class Degrader:
    """Turns stretches of int16 into the log power of clean and of degraded windows. Seeded by its generator."""

    def __init__(self, front_end: FrontEnd, over: Beds, reach: Reach = NARROW) -> None:
        self._front_end = front_end
        self._reach = reach
        self._shift = math.log(front_end.pitch_ratio(_SHIFT_BANDS))
        self._beds = over
        self._samples = front_end.window_samples + 2 * _SPARE_FRAMES * front_end.step_samples
        self._filters = torch.from_numpy(front_end.filters)
        self._taper = torch.from_numpy(front_end.taper)
        self._numbers = torch.from_numpy(
            np.stack([front_end.band_numbers(shift * _SHIFT_BANDS) for shift in (-1, 0, 1)])
        )
        hertz = torch.fft.rfftfreq(self._samples, 1 / SAMPLE_RATE_HZ)
        self._octave = torch.log2(hertz.clamp(min=30.0) / 1000)

    @property
    def stretch_samples(self) -> int:
        """Samples that the fastest, most shifted window reaches over."""
        half = (self._samples / 2 + _SHIFT_S * SAMPLE_RATE_HZ) * _TRANSPOSE * math.exp(self._shift + WIDE.pitch)
        return 2 * (math.ceil(half) + 4)

    def pairs(self, anchors: Tensor, sources: Tensor, per_piece: int, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """Give (B, frames, bands) log power of the clean and of the degraded windows."""
        count, reach = len(anchors), self._reach
        together = torch.exp((torch.rand(count // per_piece, generator=dice) * 2 - 1) * math.log(_TRANSPOSE))
        together = torch.where(torch.rand(len(together), generator=dice) < 0.5, together, 1.0)
        together = together.repeat_interleave(per_piece)
        spare = _SPARE_FRAMES
        level = torch.zeros(count, dtype=torch.long)
        clean = self.log_power(self._resample(anchors, together, torch.zeros(count)), level)[:, spare:-spare]
        shift = _chance(reach.shifted, count, dice) * torch.sign(_uniform(-1, 1, count, dice))
        pitch = _chance(0.6, count, dice) * _uniform(-reach.pitch, reach.pitch, count, dice)
        speed = torch.exp(pitch + shift * self._shift)
        # A change of speed moves both; with the tempo drawn anew it is one of pitch alone, or of both apart.
        rate = torch.exp(_chance(0.5, count, dice) * _uniform(-reach.tempo, reach.tempo, count, dice))
        rate = torch.where(_chance(0.5, count, dice) > 0, rate, speed)
        tempo = (rate / speed).clamp(1 / _STRETCH, _STRETCH)
        offset = _uniform(-_SHIFT_S, _SHIFT_S, count, dice) * SAMPLE_RATE_HZ
        heard = self.degrade(self._resample(sources, together * speed, offset * together), dice)
        return clean, self._stretch(self.log_power(heard, shift.long()), tempo)

    def degrade(self, signal: Tensor, dice: torch.Generator) -> Tensor:
        """Degrade (B, n) signals, each by its own draw; about one in eight is left as it is."""
        count = len(signal)
        some = _chance(0.88, count, dice)
        signal = _levelled(signal)
        signal = self._filtered(signal, _chance(0.35, count, dice) * some, dice, room=True)
        for bed, chance, quietest, loudest in (
            (self._beds.speech, 0.32, -10.0, 10.0),
            (self._beds.noise, 0.55, -8.0, 15.0),
            (self._beds.effects, 0.12, -5.0, 10.0),
            (self._beds.music, 0.14, -1.0, 12.0),
        ):
            ratio_db = _uniform(quietest, loudest, count, dice)
            gain = 10 ** (-ratio_db / 20) * _chance(chance, count, dice) * some
            signal = signal + gain[:, None] * _levelled(self._bed(bed, count, dice))
        signal = _levelled(self._filtered(signal, _chance(0.4, count, dice) * some, dice, room=False))
        signal = _compressed(signal, _chance(0.3, count, dice) * _uniform(0.2, 0.8, count, dice) * some)
        drive = 10 ** _uniform(-0.4, 0.7, count, dice)
        clipped = torch.tanh(signal * drive[:, None]) / drive[:, None]
        signal = torch.where((_chance(0.25, count, dice) * some)[:, None] > 0, clipped, signal)
        return self._faded(signal, dice, some)

    def log_power(self, signal: Tensor, shift: Tensor) -> Tensor:
        """Give (B, frames, bands) natural log of power: the same front end as the embedder's, in torch.

        `shift` (B,), -1, 0 or 1, is the reading of each.
        """
        framed = signal.unfold(-1, self._front_end.frame_samples, self._front_end.step_samples)
        spectrum = torch.view_as_real(torch.fft.rfft(framed * self._taper)).square().sum(-1)
        made = torch.log(spectrum @ self._filters + SMALLEST_POWER)
        numbers = self._numbers[shift + 1][:, None, :].expand(-1, made.shape[1], -1)
        return torch.gather(made, 2, numbers)

    def _resample(self, stretches: Tensor, speed: Tensor, shift: Tensor) -> Tensor:
        """Read each stretch at its own speed around its centre plus shift; four-point Hermite interpolation.

        What a faster reading would fold back from above the band is taken off first.
        """
        stretches = stretches.float() / 32768
        fast = (speed > 1.02).nonzero().flatten()
        if len(fast):
            spectrum = torch.fft.rfft(stretches[fast])
            share = torch.arange(spectrum.shape[1]) / spectrum.shape[1]
            spectrum = spectrum * (share < 1 / speed[fast][:, None])
            stretches = stretches.index_copy(0, fast, torch.fft.irfft(spectrum, stretches.shape[1]))
        steps = torch.arange(self._samples) - self._samples / 2
        position = stretches.shape[1] / 2 + shift[:, None] + speed[:, None] * steps
        whole = position.floor().long().clamp(1, stretches.shape[1] - 3)
        part = (position - whole).clamp(0, 1)
        before, here, after, beyond = (torch.gather(stretches, 1, whole + tap) for tap in (-1, 0, 1, 2))
        slope, bend = (after - before) / 2, before - 2.5 * here + 2 * after - beyond / 2
        curve = (beyond - before) / 2 + 1.5 * (here - after)
        return ((curve * part + bend) * part + slope) * part + here

    def _bed(self, bed: Tensor, count: int, dice: torch.Generator) -> Tensor:
        starts = torch.randint(0, len(bed) - self._samples, (count,), generator=dice)
        return torch.stack([bed[start : start + self._samples] for start in starts.tolist()])

    def _filtered(self, signal: Tensor, chosen: Tensor, dice: torch.Generator, *, room: bool) -> Tensor:
        """Equalise, limit the band, and (for what plays in the room) let a room answer, in one product of spectra."""
        rows = chosen.nonzero().flatten()
        count = len(rows)
        if not count:
            return signal
        curve_db = torch.zeros(count, len(self._octave))
        for _ in range(3):
            centre, width = _uniform(-3, 2, count, dice), _uniform(0.3, 2, count, dice)
            height = torch.randn(count, generator=dice) * 6
            curve_db += height[:, None] * torch.exp(-0.5 * ((self._octave - centre[:, None]) / width[:, None]) ** 2)
        low = torch.where(_chance(0.3, count, dice) > 0, _uniform(-2, -0.5, count, dice), -9.0)
        high = torch.where(_chance(0.3, count, dice) > 0, _uniform(0.8, 1.9, count, dice), 9.0)
        curve_db -= 24 * (low[:, None] - self._octave).clamp(min=0) + 24 * (self._octave - high[:, None]).clamp(min=0)
        response = 10 ** (curve_db.clamp(min=-60) / 20)
        spectrum = torch.fft.rfft(signal[rows]) * response
        if room:
            length = SAMPLE_RATE_HZ // 2
            decay = 10 ** _uniform(-1.5, -0.35, count, dice) * SAMPLE_RATE_HZ
            tail = torch.randn(count, length, generator=dice) * torch.exp(-6.9 * torch.arange(length) / decay[:, None])
            tail = tail / tail.norm(dim=1, keepdim=True) * 10 ** (_uniform(-15, 3, count, dice) / 20)[:, None]
            tail[:, 0] += 1
            spectrum = spectrum * torch.fft.rfft(tail, self._samples)
        return signal.index_copy(0, rows, torch.fft.irfft(spectrum, self._samples))

    def _faded(self, signal: Tensor, dice: torch.Generator, some: Tensor) -> Tensor:
        """Fade some windows in or out, drop some for up to a third of a second."""
        count, time = len(signal), torch.arange(self._samples) / self._samples
        slope_db = _chance(0.12, count, dice) * _uniform(-24, 24, count, dice) * some
        gain = 10 ** (slope_db[:, None] * (time - 0.5) / 20)
        start, length = _uniform(0, 1, count, dice), _uniform(0.02, 0.15, count, dice) * _chance(0.06, count, dice)
        dropped = (time >= start[:, None]) & (time < (start + length)[:, None])
        return signal * torch.where(dropped, 1e-4, gain)

    def _stretch(self, log_power: Tensor, tempo: Tensor) -> Tensor:
        """Read the frames at another tempo, linearly between them."""
        frames = self._front_end.frames
        middle = (log_power.shape[1] - 1) / 2
        position = middle + tempo[:, None] * (torch.arange(frames) - (frames - 1) / 2)
        whole = position.floor().long().clamp(0, log_power.shape[1] - 2)
        part = (position - whole)[:, :, None]
        index = whole[:, :, None].expand(-1, -1, log_power.shape[2])
        return torch.gather(log_power, 1, index) * (1 - part) + torch.gather(log_power, 1, index + 1) * part


def _uniform(low: float, high: float, count: int, dice: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=dice)


def _chance(probability: float, count: int, dice: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=dice) < probability).float()


def _levelled(signal: Tensor) -> Tensor:
    return signal / (signal.square().mean(dim=1, keepdim=True).sqrt() + 1e-5)


def _compressed(signal: Tensor, amount: Tensor) -> Tensor:
    """Divide by the envelope (of 64 ms, floor at -30 dB) to the power of `amount`."""
    squares = functional.pad(signal.square(), (257, 256)).cumsum(dim=1)
    envelope = (squares[:, 513:] - squares[:, :-513]).clamp(min=0) / 513
    return signal * (envelope + 0.001) ** (-amount[:, None] / 2)
