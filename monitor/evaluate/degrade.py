"""What broadcast does to a recording, at several strengths; independent of the code that degrades for training."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo import voice
from monitor.demo.instruments import SAMPLE_RATE_HZ, Generator
from monitor.errors import InputError
from monitor.types import Samples

#: Sound, ffmpeg, generator: the degraded sound.
Change = Callable[[Samples, FfmpegProgram, Generator], Samples]

#: Encoder arguments and container of what stations send.
_CODECS: Mapping[str, tuple[str, ...]] = {
    "MP3 24 kb/s": ("-c:a", "libmp3lame", "-b:a", "24k", "-ar", "22050", "-f", "mp3"),
    "MP3 48 kb/s": ("-c:a", "libmp3lame", "-b:a", "48k", "-ar", "32000", "-f", "mp3"),
    "AAC 32 kb/s": ("-c:a", "aac", "-b:a", "32k", "-ar", "22050", "-f", "adts"),
    "Opus 24 kb/s": ("-c:a", "libopus", "-b:a", "24k", "-ar", "48000", "-f", "ogg"),
}
_PCM = ("-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1")
_COVER_FRAME = 4096
_COVER_NOTES = np.arange(36, 97)


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One way to be changed, at one strength."""

    family: str
    label: str
    change: Change
    #: Reference seconds per broadcast second.
    tempo_ratio: float = 1.0
    #: Level of the recording over what sounds with it, for the plots; None where nothing does.
    snr_db: float | None = None
    #: False where what is played is no longer the recording: that it is found is neither right nor wrong.
    claimed: bool = True


def degradations() -> tuple[Degradation, ...]:
    """All of them, in the order of the table."""
    made = [Degradation(family="clean", label="clean", change=_as_it_is)]
    made += [
        Degradation(family="noise", label=f"noise, {_decibels(snr)}", change=partial(_noise, snr), snr_db=snr)
        for snr in (10, 5, 0, -5)
    ]
    made += [
        Degradation(family="speech", label=f"under speech, {_decibels(snr)}", change=partial(_speech, snr), snr_db=snr)
        for snr in (5, 0, -5, -10)
    ]
    made += [Degradation(family="codec", label=name, change=partial(_coded, words)) for name, words in _CODECS.items()]
    made += [
        Degradation(family="filter", label=label, change=partial(_shaped, low, high, bumps))
        for label, low, high, bumps in (
            ("telephone", 300.0, 3400.0, 0.0),
            ("AM radio", 80.0, 4500.0, 0.0),
            ("equaliser 6 dB", 20.0, 16000.0, 6.0),
            ("equaliser 12 dB", 20.0, 16000.0, 12.0),
        )
    ]
    made += [
        Degradation(family="room", label=f"room, {decay_s:g} s", change=partial(_room, decay_s))
        for decay_s in (0.4, 1.2)
    ]
    made += [
        Degradation(family="loudness", label=f"limiter, {drive_db} dB", change=partial(_limited, drive_db))
        for drive_db in (6, 12)
    ]
    for family, change, most in (("speed", _speed, 30), ("pitch", _pitch, 30), ("tempo", _tempo, 35)):
        for percent in (2, -2, 5, -5, 10, -10, 20, -20, most, -25):
            ratio = 1 + percent / 100
            made.append(
                Degradation(
                    family=family,
                    label=f"{family} {percent:+d} %",
                    change=partial(change, ratio),
                    tempo_ratio=1.0 if family == "pitch" else ratio,
                )
            )
    made.append(Degradation(family="cover", label="played anew", change=_played_anew, claimed=False))
    return tuple(made)


def _decibels(level_db: int) -> str:
    return f"{level_db:+d} dB" if level_db else "0 dB"


def levelled(samples: Samples, dbfs: float = -20.0) -> Samples:
    """At that root mean square, but never above full scale."""
    loud = samples * (10 ** (dbfs / 20) / _level(samples))
    return (loud / max(1.0, float(np.max(np.abs(loud), initial=0.0)) / 0.98)).astype(np.float32)


def _level(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) + 1e-9


def _as_it_is(sound: Samples, _ffmpeg: FfmpegProgram, _rng: Generator) -> Samples:
    return sound


def _over(sound: Samples, other: Samples, snr_db: float) -> Samples:
    bed = other[: len(sound)] * (_level(sound) / _level(other) / 10 ** (snr_db / 20))
    return (sound + bed).astype(np.float32)


def _noise(snr_db: float, sound: Samples, _ffmpeg: FfmpegProgram, rng: Generator) -> Samples:
    return _over(sound, voice.noise(rng, len(sound) / SAMPLE_RATE_HZ + 0.1), snr_db)


def _speech(snr_db: float, sound: Samples, _ffmpeg: FfmpegProgram, rng: Generator) -> Samples:
    return _over(sound, voice.babble(rng, len(sound) / SAMPLE_RATE_HZ + 0.1), snr_db)


def _coded(encoder: Sequence[str], sound: Samples, ffmpeg: FfmpegProgram, _rng: Generator) -> Samples:
    coded = _piped(ffmpeg, [*_PCM, "-i", "pipe:0", *encoder, "pipe:1"], sound.astype("<f4").tobytes())
    decoded = _piped(ffmpeg, ["-i", "pipe:0", *_PCM, "pipe:1"], coded)
    return _exactly(np.frombuffer(decoded, dtype="<f4"), len(sound))


def _filtered(graph: str, sound: Samples, ffmpeg: FfmpegProgram) -> Samples:
    pcm = _piped(ffmpeg, [*_PCM, "-i", "pipe:0", "-af", graph, *_PCM, "pipe:1"], sound.astype("<f4").tobytes())
    return np.frombuffer(pcm, dtype="<f4").astype(np.float32)


def _speed(ratio: float, sound: Samples, _ffmpeg: FfmpegProgram, _rng: Generator) -> Samples:
    position = np.arange(int(len(sound) / ratio)) * ratio
    return np.asarray(np.interp(position, np.arange(len(sound)), sound), dtype=np.float32)


def _tempo(ratio: float, sound: Samples, ffmpeg: FfmpegProgram, _rng: Generator) -> Samples:
    return _exactly(_filtered(f"atempo={ratio}", sound, ffmpeg), int(len(sound) / ratio))


def _pitch(ratio: float, sound: Samples, ffmpeg: FfmpegProgram, rng: Generator) -> Samples:
    """Played faster, then stretched back to its length."""
    faster = _speed(ratio, sound, ffmpeg, rng)
    return _exactly(_filtered(f"atempo={1 / ratio}", faster, ffmpeg), len(sound))


def _shaped(
    low_hz: float, high_hz: float, bumps_db: float, sound: Samples, _ffmpeg: FfmpegProgram, rng: Generator
) -> Samples:
    """Three random bumps or dips, and nothing outside the band (24 dB an octave)."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ), 1.0))
    gain_db = -24 * (np.maximum(0, np.log2(low_hz) - octaves) + np.maximum(0, octaves - np.log2(high_hz)))
    for _ in range(3):
        centre, width = np.log2(rng.uniform(150, 5000)), rng.uniform(0.4, 1.5)
        gain_db += bumps_db * rng.choice((-1, 1)) * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (gain_db / 20), len(sound)).astype(np.float32)


def _room(decay_s: float, sound: Samples, _ffmpeg: FfmpegProgram, rng: Generator) -> Samples:
    """A diffuse tail that falls by 60 dB in `decay_s`, 6 dB below the direct sound."""
    length = round(decay_s * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail *= 0.5 / np.sqrt(np.sum(tail**2))
    tail[0] += 1
    size = len(sound) + length
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: len(sound)].astype(np.float32)


def _limited(drive_db: float, sound: Samples, _ffmpeg: FfmpegProgram, _rng: Generator) -> Samples:
    peak = float(np.percentile(np.abs(sound), 99.9)) + 1e-9
    return np.asarray(np.tanh(sound / peak * 10 ** (drive_db / 20)), dtype=np.float32)


def _played_anew(sound: Samples, _ffmpeg: FfmpegProgram, rng: Generator) -> Samples:
    """The same notes on another instrument in another's time: a stand-in for a cover, which is another recording.

    The loudness of each semitone drives a tone of its own; the tempo sways by a few percent.
    """
    hop = _COVER_FRAME // 4
    padded = np.pad(sound, (0, _COVER_FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _COVER_FRAME)[::hop] * np.hanning(_COVER_FRAME)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    bins = np.fft.rfftfreq(_COVER_FRAME, 1 / SAMPLE_RATE_HZ)
    notes_hz = 440 * 2 ** ((_COVER_NOTES - 69) / 12)
    near = np.exp(-0.5 * (12 * np.log2(np.maximum(bins, 1.0)[:, None] / notes_hz) / 0.35) ** 2)
    loudness = np.sqrt(power @ near)
    loudness[loudness < 0.25 * loudness.max(axis=1, keepdims=True)] = 0.0
    sway = np.cumsum(1 + 0.04 * np.interp(np.arange(len(loudness)), *_knots(len(loudness), rng)))
    time = np.arange(len(sound)) / hop
    played = np.zeros(len(sound))
    for note_hz, level in zip(notes_hz * 2 ** (rng.uniform(-0.3, 0.3) / 12), loudness.T, strict=True):
        if not level.any():
            continue
        envelope = np.interp(time, sway - sway[0], level)
        phase = 2 * np.pi * note_hz * np.arange(len(sound)) / SAMPLE_RATE_HZ + rng.uniform(0, 6)
        played += envelope * sum(np.sin(part * phase) / part**1.5 for part in (1, 2, 3, 4) if part * note_hz < 9000)
    return levelled(played.astype(np.float32))


def _knots(count: int, rng: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places = np.linspace(0, count, max(2, count // 40))
    return places, rng.uniform(-1, 1, len(places))


def _exactly(sound: Samples, length: int) -> Samples:
    return np.pad(sound[:length], (0, max(0, length - len(sound)))).astype(np.float32)


def _piped(ffmpeg: FfmpegProgram, arguments: Sequence[str], data: bytes) -> bytes:
    command = [ffmpeg.path, "-hide_banner", "-loglevel", "error", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        raise InputError(
            f"ffmpeg cannot make a degraded broadcast: {done.stderr.decode(errors='replace').strip()[-300:]};"
            " use an ffmpeg with MP3 and Opus encoders"
        )
    return done.stdout
