"""The conditions under which the model is measured: development audio, degraded by other code than trained it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from monitor.training.corpus import SAMPLE_RATE_HZ, ffmpeg_program
from monitor.training.degrade import Beds
from monitor.types import Samples

Degrade = Callable[[Samples, np.random.Generator], Samples]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What happens to (Q, n) query signals, and how many reference seconds then pass in a second of them."""

    name: str
    degrade: Degrade
    rate: float = 1.0
    #: The reading of the embedder at which such windows are compared.
    reading: int = 0
    #: Take the signals from copies that went through a codec.
    coded: bool = False
    #: Another piece of the catalog sounds too: to find it is no mistake, and says nothing about the others.
    two_pieces: bool = False


def conditions(beds: Beds) -> Iterator[Condition]:
    """Give every condition, in the order of the table."""
    yield Condition(name="clean", degrade=_as_it_is)
    yield Condition(name="codec", degrade=_as_it_is, coded=True)
    noise, speech, music = beds.noise.numpy(), beds.speech.numpy(), beds.music.numpy()
    for ratio_db in (10, 5, 0, -5):
        yield Condition(name=f"noise_{ratio_db}db", degrade=_over(noise, ratio_db))
    for ratio_db in (5, 0, -5):
        yield Condition(name=f"speech_{ratio_db}db", degrade=_over(speech, ratio_db))
    yield Condition(name="music_5db", degrade=_over(music, 5), two_pieces=True)
    yield Condition(name="room", degrade=_room)
    yield Condition(name="equaliser", degrade=_equalised)
    yield Condition(name="telephone", degrade=_telephone)
    yield Condition(name="limiter", degrade=_limited)
    for rate in (1.02, 0.95):
        yield Condition(name=f"speed_{rate}", degrade=_speed(rate), rate=rate)
    for rate in (1.04, 0.8, 1.22, 0.75, 1.34):
        yield Condition(name=f"tempo_{rate}", degrade=_tempo(rate), rate=rate)
    for ratio, reading in ((1.04, 0), (0.92, 1), (1.09, 2), (1.14, 2), (0.84, 3), (1.19, 4), (0.75, 5), (1.25, 6)):
        yield Condition(name=f"pitch_{ratio}", degrade=_pitch(ratio), reading=reading)
    for rate, reading in ((1.19, 4), (0.86, 3), (1.32, 6), (0.77, 5)):
        yield Condition(name=f"speed_{rate}", degrade=_speed(rate), rate=rate, reading=reading)


def _as_it_is(queries: Samples, _dice: np.random.Generator) -> Samples:
    return queries


def _float32(samples: NDArray[np.floating]) -> Samples:
    return np.asarray(samples, dtype=np.float32)


def _level(queries: Samples) -> Samples:
    return _float32(np.sqrt(np.mean(queries**2, axis=1, keepdims=True)) + 1e-6)


def _over(bed: NDArray[np.float32], ratio_db: float) -> Degrade:
    def degrade(queries: Samples, dice: np.random.Generator) -> Samples:
        length = queries.shape[1]
        laid = np.stack([bed[start : start + length] for start in dice.integers(0, len(bed) - length, len(queries))])
        return _float32(queries + laid / _level(laid) * _level(queries) * 10 ** (-ratio_db / 20))

    return degrade


def _room(queries: Samples, dice: np.random.Generator) -> Samples:
    """A room of 0.3 to 1 s (60 dB), its answer 3 dB under the direct sound."""
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    decay_s = dice.uniform(0.3, 1.0, (len(queries), 1))
    answer = dice.normal(size=(len(queries), SAMPLE_RATE_HZ)) * np.exp(-6.9 * time_s / decay_s)
    answer *= 10 ** (-3 / 20) / np.linalg.norm(answer, axis=1, keepdims=True)
    answer[:, 0] += 1
    return _float32(signal.fftconvolve(queries, answer, axes=1)[:, : queries.shape[1]])


def _equalised(queries: Samples, dice: np.random.Generator) -> Samples:
    """Gains drawn per octave with a deviation of 8 dB."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(queries.shape[1], 1 / SAMPLE_RATE_HZ), 30.0) / 125)
    gains_db = np.stack([np.interp(octaves, np.arange(6), dice.normal(0, 8, 6)) for _ in queries])
    return _float32(np.fft.irfft(np.fft.rfft(queries) * 10 ** (gains_db / 20), queries.shape[1]))


def _telephone(queries: Samples, _dice: np.random.Generator) -> Samples:
    band = signal.butter(4, (300, 3000), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return _float32(signal.sosfilt(band, queries, axis=1))


def _limited(queries: Samples, _dice: np.random.Generator) -> Samples:
    """20 dB too hot into a soft limiter."""
    return _float32(np.tanh(queries / _level(queries) * 3) / 4)


def _speed(rate: float) -> Degrade:
    def degrade(queries: Samples, _dice: np.random.Generator) -> Samples:
        return _float32(signal.resample(queries, round(queries.shape[1] / rate), axis=1))

    return degrade


def _tempo(rate: float) -> Degrade:
    def degrade(queries: Samples, _dice: np.random.Generator) -> Samples:
        """All queries in one run of ffmpeg's atempo (WSOLA), one after another."""
        command = [ffmpeg_program(), "-nostdin", "-v", "error", "-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1"]
        command += ["-i", "pipe:0", "-af", f"atempo={rate:.6f}", "-f", "f32le", "pipe:1"]
        done = subprocess.run(command, input=queries.astype("<f4").tobytes(), check=True, capture_output=True)
        made = np.frombuffer(done.stdout, "<f4")
        length = queries.shape[1] / rate
        made = np.pad(made, (0, int(length) + 1))
        return np.stack([made[round(row * length) :][: int(length)] for row in range(len(queries))])

    return degrade


def _pitch(ratio: float) -> Degrade:
    def degrade(queries: Samples, dice: np.random.Generator) -> Samples:
        return _tempo(1 / ratio)(_speed(ratio)(queries, dice), dice)

    return degrade
