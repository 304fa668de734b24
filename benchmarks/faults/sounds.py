"""What the stations play: composed pieces, and the same sound in every form that a feed may take."""

from __future__ import annotations

import asyncio
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo.composer import compose
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.demo.programme import Recording
from monitor.errors import MonitorError
from monitor.types import Samples

#: Of the MP3 that feeds send, and of the PCM.
BYTES_PER_S = 6000
PCM_BYTES_PER_S = 2 * SAMPLE_RATE_HZ
SEGMENT_S = 2.0
_SEED = 4711
_PIECES = 4
_FROM_S = 12.0
_MP3 = ("-write_xing", "0", "-id3v2_version", "0", "-c:a", "libmp3lame")


#: What a feed airs, and for how long.
AIRED_S = 14.0
_BED_S = 20.0
#: Louder than digital silence, and too faint to be embedded.
_BED_DBFS = -75.0


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One sound in the forms in which feeds play it."""

    pcm: bytes
    mp3: bytes
    #: MPEG transport stream, `SEGMENT_S` each.
    segments: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Sounds:
    """The catalogued pieces; what feeds play of the first; and the bed on which they play it."""

    catalogued: tuple[Recording, ...]
    bed: Sound
    airing: Sound
    #: The airing too loud, with another sample rate, with two channels, by another codec.
    loud_pcm: bytes
    low_mp3: bytes
    stereo_mp3: bytes
    aac: bytes


async def compose_sounds(folder: Path, ffmpeg: FfmpegProgram) -> Sounds:
    """Write the pieces as WAV files, which the loader takes, into `folder/pieces`, and encode what feeds play."""
    (folder / "pieces").mkdir(exist_ok=True)
    recordings = []
    for number in range(_PIECES):
        path = folder / "pieces" / f"piece-{number}.wav"
        if not path.exists():
            piece = await asyncio.to_thread(compose, _SEED, number)
            write_wav(path, piece.samples)
        recordings.append(Recording(reference_id=path.stem, title=path.stem, samples=_read_wav(path)))
    # What feeds air is of the first piece; the others are the control's.
    start, count = round(_FROM_S * SAMPLE_RATE_HZ), round(AIRED_S * SAMPLE_RATE_HZ)
    aired = recordings[0].samples[start : start + count]
    encoder = _Encoder(folder, ffmpeg)
    return Sounds(
        catalogued=tuple(recordings),
        bed=await encoder.sound("bed", _bed()),
        airing=await encoder.sound("airing", aired),
        loud_pcm=pcm(aired * 12),
        low_mp3=await encoder.file("airing", "low.mp3", *_MP3, "-ar", "22050", "-ac", "1", "-b:a", "48k"),
        stereo_mp3=await encoder.file("airing", "stereo.mp3", *_MP3, "-ar", "44100", "-ac", "2", "-b:a", "48k"),
        aac=await encoder.file("airing", "other.aac", "-c:a", "aac", "-ar", "48000", "-ac", "1", "-b:a", "48k"),
    )


def _bed() -> Samples:
    """Noise where MP3 encoders keep the faintest."""
    count = round(_BED_S * SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(_SEED).standard_normal(count))
    frequencies_hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    spectrum[(frequencies_hz < 1000) | (frequencies_hz > 4000)] = 0
    noise = np.fft.irfft(spectrum, count)
    faint: Samples = (noise / np.sqrt(np.mean(noise**2)) * 10 ** (_BED_DBFS / 20)).astype(np.float32)
    return faint


class _Encoder:
    def __init__(self, folder: Path, ffmpeg: FfmpegProgram) -> None:
        self._folder, self._ffmpeg = folder, ffmpeg

    async def sound(self, name: str, samples: Samples) -> Sound:
        write_wav(self._folder / f"{name}.wav", samples)
        mp3 = await self.file(name, f"{name}.mp3", *_MP3, "-ar", "44100", "-ac", "1", "-b:a", "48k")
        form = ("-c:a", "aac", "-b:a", "64k", "-f", "segment", "-segment_format", "mpegts")
        whole = round(len(samples) / SAMPLE_RATE_HZ / SEGMENT_S)
        if not (self._folder / f"{name}-{whole - 1:03d}.ts").exists():
            await self._run(name, *form, "-segment_time", str(SEGMENT_S), f"{name}-%03d.ts")
        segments = tuple((self._folder / f"{name}-{number:03d}.ts").read_bytes() for number in range(whole))
        return Sound(pcm=pcm(samples), mp3=mp3, segments=segments)

    async def file(self, name: str, output: str, *options: str) -> bytes:
        path = self._folder / output
        if not path.exists():
            await self._run(name, *options, output)
        return path.read_bytes()

    async def _run(self, name: str, *options: str) -> None:
        words = (str(self._ffmpeg.path), "-nostdin", "-v", "error", "-y", "-i", f"{name}.wav", *options)
        process = await asyncio.create_subprocess_exec(*words, cwd=self._folder)
        if await process.wait():
            raise MonitorError(f"ffmpeg ended with status {process.returncode}: {' '.join(words)}")


def pcm(samples: Samples) -> bytes:
    """16 bits, little endian; what is too loud is clipped."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def wav_head() -> bytes:
    """Of a WAV stream without end."""
    rate = SAMPLE_RATE_HZ.to_bytes(4, "little")
    per_second = PCM_BYTES_PER_S.to_bytes(4, "little")
    form = b"fmt \x10\0\0\0\x01\0\x01\0" + rate + per_second + b"\x02\0\x10\0"
    return b"RIFF\xff\xff\xff\xffWAVE" + form + b"data\xff\xff\xff\xff"


def write_wav(path: Path, samples: Samples) -> None:
    """Mono at `SAMPLE_RATE_HZ`."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes(pcm(samples))


def _read_wav(path: Path) -> Samples:
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / np.float32(32768)
