"""Synthesised instruments: each plays one note as float32 samples, from a pitch, a length and a loudness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.types import Samples

#: Everything that the demo composes and broadcasts is mono at this rate.
SAMPLE_RATE_HZ = 32_000
_NYQUIST_HZ = SAMPLE_RATE_HZ / 2

Generator = np.random.Generator
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stroke:
    """What a player decides about one note."""

    frequency_hz: float
    duration_s: float
    #: 0 to 1; louder notes are also brighter.
    velocity: float


Instrument = Callable[[Stroke, Generator], Samples]


def _axis(duration_s: float) -> Floats:
    return np.arange(max(64, round(duration_s * SAMPLE_RATE_HZ))) / SAMPLE_RATE_HZ


def _gate(time_s: Floats, attack_s: float, release_s: float) -> Floats:
    """Rise at the start and fall at the end, so that no note clicks."""
    remaining_s = time_s[-1] - time_s
    gate: Floats = np.minimum(1.0, time_s / attack_s) * np.minimum(1.0, remaining_s / release_s)
    return gate


def _soften(samples: Floats, cutoff_hz: float, order: float = 2.0) -> Floats:
    """Low-pass in the frequency domain, at a length whose transform is quick."""
    size = -(-len(samples) // 1024) * 1024
    spectrum = np.fft.rfft(samples, size)
    frequency_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(spectrum / (1 + (frequency_hz / cutoff_hz) ** (2 * order)) ** 0.5, size)[: len(samples)]


def plucked_string(stroke: Stroke, rng: Generator) -> Samples:
    """Karplus and Strong's string (1983): one period of noise, softened at every turn round the loop.

    The loop is run in the frequency domain, where its filter is a power, and read at the exact pitch afterwards.
    """
    time_s = _axis(min(stroke.duration_s + 0.6, 3.0))
    period = round(SAMPLE_RATE_HZ / stroke.frequency_hz)
    turns = int(np.ceil(len(time_s) / period)) + 1
    burst = np.fft.rfft(rng.uniform(-1, 1, period))
    bins = np.arange(len(burst))
    # Softer strokes use the flesh of the finger: less treble in the burst.
    burst = burst / (1 + bins / (4 + 40 * stroke.velocity))
    damping = 0.996 ** (220 / stroke.frequency_hz)
    turn = damping * np.cos(np.pi * bins / period)
    string = np.fft.irfft(burst[None, :] * turn[None, :] ** np.arange(turns)[:, None], period, axis=1).ravel()
    position = np.arange(len(time_s)) * (period * stroke.frequency_hz / SAMPLE_RATE_HZ)
    exact: Floats = np.interp(position, np.arange(len(string)), string)
    loudness = stroke.velocity / (float(np.max(np.abs(exact))) + 1e-9)
    return (exact * loudness * _gate(time_s, 0.001, 0.05)).astype(np.float32)


def electric_piano(stroke: Stroke, rng: Generator) -> Samples:
    """Frequency modulation (Chowning, 1973): a tine that rings at first and a body that stays."""
    time_s = _axis(min(stroke.duration_s + 0.4, 3.5))
    phase = 2 * np.pi * stroke.frequency_hz * (1 + rng.normal(0, 0.0007)) * time_s
    tine = np.sin(14 * phase) * np.exp(-time_s / 0.12) * 0.5 * stroke.velocity
    body = np.sin(phase) * np.exp(-time_s / 0.8) * 1.4 * stroke.velocity
    decay = np.exp(-time_s / (0.6 + 110 / stroke.frequency_hz))
    return (stroke.velocity * np.sin(phase + body + tine) * decay * _gate(time_s, 0.003, 0.08)).astype(np.float32)


def organ(stroke: Stroke, rng: Generator) -> Samples:
    """Nine drawbars, added, under the slow tremolo of a turning loudspeaker."""
    time_s = _axis(stroke.duration_s + 0.05)
    drawbars = {0.5: 0.7, 1: 1.0, 1.5: 0.45, 2: 0.8, 3: 0.5, 4: 0.4, 5: 0.15, 6: 0.2, 8: 0.25}
    tremolo = 1 + 0.1 * np.sin(2 * np.pi * 6.1 * time_s + rng.uniform(0, 6.28))
    total = np.zeros_like(time_s)
    for ratio, level in drawbars.items():
        if ratio * stroke.frequency_hz < _NYQUIST_HZ:
            total += level * np.sin(2 * np.pi * ratio * stroke.frequency_hz * time_s + rng.uniform(0, 6.28))
    return (0.3 * stroke.velocity * total * tremolo * _gate(time_s, 0.012, 0.06)).astype(np.float32)


def brass(stroke: Stroke, rng: Generator) -> Samples:
    """Frequency modulation at 1:1, whose brightness follows the loudness as a horn's does, with late vibrato."""
    time_s = _axis(stroke.duration_s + 0.08)
    swell = np.minimum(1, time_s / 0.07) * (0.75 + 0.25 * np.exp(-time_s / 0.15))
    vibrato = 0.004 * np.sin(2 * np.pi * rng.uniform(4.8, 5.8) * time_s) * np.minimum(1, time_s / 0.5)
    phase = 2 * np.pi * stroke.frequency_hz * np.cumsum(1 + vibrato) / SAMPLE_RATE_HZ
    tone = np.sin(phase + (1 + 4 * stroke.velocity) * swell * np.sin(phase))
    return (0.7 * stroke.velocity * tone * swell * _gate(time_s, 0.02, 0.08)).astype(np.float32)


def bowed_strings(stroke: Stroke, rng: Generator) -> Samples:
    """A desk of three players: saw waves with their own vibrato, softened by the wood."""
    time_s = _axis(stroke.duration_s + 0.25)
    total = np.zeros_like(time_s)
    for _ in range(3):
        vibrato = 0.005 * np.sin(2 * np.pi * rng.uniform(4.6, 6.2) * time_s + rng.uniform(0, 6.28))
        cycles = np.cumsum(1 + vibrato) * stroke.frequency_hz * (1 + rng.normal(0, 0.002)) / SAMPLE_RATE_HZ
        cycles += rng.uniform()
        total += 2 * (cycles - np.floor(cycles)) - 1
    softened = _soften(total, 900 + 3500 * stroke.velocity)
    return (0.3 * stroke.velocity * softened * _gate(time_s, 0.12, 0.2)).astype(np.float32)


def pad(stroke: Stroke, rng: Generator) -> Samples:
    """Four detuned saw waves behind a filter that opens and closes slowly."""
    time_s = _axis(stroke.duration_s + 0.8)
    total = np.zeros_like(time_s)
    for _ in range(4):
        cycles = stroke.frequency_hz * (1 + rng.normal(0, 0.004)) * time_s + rng.uniform()
        total += 2 * (cycles - np.floor(cycles)) - 1
    dark, bright = _soften(total, 500), _soften(total, 2600)
    opening = 0.5 - 0.5 * np.cos(2 * np.pi * time_s / max(2.0, stroke.duration_s) + rng.uniform(0, 1))
    return (0.2 * stroke.velocity * (dark + opening * (bright - dark)) * _gate(time_s, 0.4, 0.7)).astype(np.float32)


def flute(stroke: Stroke, rng: Generator) -> Samples:
    """Few harmonics, breath, and vibrato that arrives late."""
    time_s = _axis(stroke.duration_s + 0.06)
    vibrato = 0.005 * np.sin(2 * np.pi * rng.uniform(4.5, 5.5) * time_s) * np.minimum(1, time_s / 0.4)
    phase = 2 * np.pi * stroke.frequency_hz * np.cumsum(1 + vibrato) / SAMPLE_RATE_HZ
    tone = np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.12 * stroke.velocity * np.sin(3 * phase)
    breath = _soften(rng.normal(0, 1, len(time_s)), 5000, 1) * (0.05 + 0.25 * np.exp(-time_s / 0.05))
    return (0.6 * stroke.velocity * (tone + breath) * _gate(time_s, 0.04, 0.06)).astype(np.float32)


def mallets(stroke: Stroke, rng: Generator) -> Samples:
    """A struck bar: inharmonic partials, the higher the sooner gone."""
    time_s = _axis(min(stroke.duration_s + 0.8, 2.0))
    total = np.zeros_like(time_s)
    for ratio, level, decay_s in ((1, 1.0, 0.5), (3.93, 0.4, 0.15), (9.54, 0.2, 0.06)):
        if ratio * stroke.frequency_hz < _NYQUIST_HZ:
            exact = ratio * (1 + rng.normal(0, 0.001))
            fall = np.exp(-time_s / (decay_s * (440 / stroke.frequency_hz) ** 0.4))
            tone = np.sin(2 * np.pi * exact * stroke.frequency_hz * time_s)
            total += level * stroke.velocity ** (ratio / 4) * tone * fall
    return (0.7 * stroke.velocity * total * _gate(time_s, 0.001, 0.05)).astype(np.float32)


def bass_guitar(stroke: Stroke, rng: Generator) -> Samples:
    """A thick string with a pick's click."""
    time_s = _axis(stroke.duration_s + 0.05)
    phase = 2 * np.pi * stroke.frequency_hz * (1 + rng.normal(0, 0.001)) * time_s
    tone = np.sin(phase) + 0.5 * np.sin(2 * phase) * np.exp(-time_s / 0.4)
    tone += 0.3 * np.sin(3 * phase) * np.exp(-time_s / 0.2)
    click = rng.normal(0, 1, len(time_s)) * np.exp(-time_s / 0.004) * 0.3
    envelope = np.exp(-time_s / 1.2) * _gate(time_s, 0.004, 0.05)
    return (0.7 * stroke.velocity * (tone + click) * envelope).astype(np.float32)


def synth_bass(stroke: Stroke, rng: Generator) -> Samples:
    """A square wave through a filter that snaps shut."""
    time_s = _axis(stroke.duration_s + 0.03)
    square = np.sign(np.sin(2 * np.pi * stroke.frequency_hz * time_s + rng.uniform(0, 6.28)))
    dark, bright = _soften(square, 250), _soften(square, 1800)
    snap = stroke.velocity * np.exp(-time_s / 0.12)
    return (0.5 * stroke.velocity * (dark + snap * (bright - dark)) * _gate(time_s, 0.005, 0.03)).astype(np.float32)


def kick(stroke: Stroke, rng: Generator) -> Samples:
    """A skin whose pitch falls from `4 * frequency_hz` to `frequency_hz`."""
    time_s = _axis(0.35)
    frequency_hz = stroke.frequency_hz * (1 + 3 * np.exp(-time_s / 0.025))
    tone = np.sin(2 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE_HZ) * np.exp(-time_s / 0.11)
    click = rng.normal(0, 1, len(time_s)) * np.exp(-time_s / 0.003) * 0.3
    return (stroke.velocity * (tone + click) * _gate(time_s, 0.001, 0.05)).astype(np.float32)


def snare(stroke: Stroke, rng: Generator) -> Samples:
    """A short tone and a rattle."""
    time_s = _axis(0.28)
    tone = np.sin(2 * np.pi * stroke.frequency_hz * time_s) * np.exp(-time_s / 0.05)
    rattle = rng.normal(0, 0.6, len(time_s))
    rattle = rattle - 0.7 * _soften(rattle, 1200)
    drum = 0.5 * tone + rattle * np.exp(-time_s / 0.07)
    return (stroke.velocity * drum * _gate(time_s, 0.001, 0.05)).astype(np.float32)


def hat(stroke: Stroke, rng: Generator) -> Samples:
    """A cymbal that rings as long as it is left open."""
    time_s = _axis(min(0.5, stroke.duration_s + 0.05))
    hiss = np.diff(rng.normal(0, 1, len(time_s) + 2), n=2)
    envelope = np.exp(-time_s / (0.02 + 0.3 * stroke.duration_s)) * _gate(time_s, 0.001, 0.01)
    return (0.14 * stroke.velocity * hiss * envelope).astype(np.float32)


def shaker(stroke: Stroke, rng: Generator) -> Samples:
    """Grains that swell and stop."""
    time_s = _axis(0.11)
    grains = np.diff(rng.normal(0, 1, len(time_s) + 1))
    swell: Floats = np.sin(np.pi * time_s / float(time_s[-1])) ** 2
    return (0.22 * stroke.velocity * grains * swell).astype(np.float32)


def tom(stroke: Stroke, rng: Generator) -> Samples:
    """A tuned drum."""
    time_s = _axis(0.45)
    frequency_hz = stroke.frequency_hz * (1 + 0.5 * np.exp(-time_s / 0.05))
    tone = np.sin(2 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE_HZ) * np.exp(-time_s / 0.16)
    stick = rng.normal(0, 0.2, len(time_s)) * np.exp(-time_s / 0.01)
    return (stroke.velocity * (tone + stick) * _gate(time_s, 0.001, 0.05)).astype(np.float32)


def clap(stroke: Stroke, rng: Generator) -> Samples:
    """Several hands, not quite together."""
    time_s = _axis(0.22)
    total = np.zeros_like(time_s)
    for delay_s in np.sort(rng.uniform(0, 0.03, 4)):
        late_s = np.maximum(0, time_s - delay_s)
        total += np.exp(-late_s / 0.02) * (time_s >= delay_s)
    noise = rng.normal(0, 0.3, len(time_s))
    return (stroke.velocity * total * (noise - _soften(noise, 700)) * _gate(time_s, 0.001, 0.05)).astype(np.float32)
