"""What a file or an address holds, read from what ffmpeg says when it opens it (the wheel has no ffprobe)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_INPUT = re.compile(r"\[info\] Input #0, (\S+), from ")
_DURATION = re.compile(r"\[info\]\s+Duration: (\d{1,9}):(\d\d):(\d\d(?:\.\d+)?)")
_AUDIO = re.compile(r"\[info\]\s+Stream #0:\d+\S*: Audio: (\w+)(.*)")
_RATE = re.compile(r"\b(\d{1,9}) Hz(?:, ([^,]+))?")
_BITRATE = re.compile(r"\b(\d{1,9}) kb/s")
_CHANNELS = {"mono": 1, "stereo": 2, "downmix": 2, "quad": 4, "hexagonal": 6, "octagonal": 8}
_GUESSED = "Estimating duration from bitrate"


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """The first audio track of an input, as its container describes it."""

    #: ffmpeg's name of the container or playlist: `mp3`, `ogg`, `hls`, `mov,mp4,m4a,3gp,3g2,mj2`, ...
    container: str
    #: None where there is no audio track.
    codec: str | None
    sample_rate_hz: int | None
    channels: int | None
    bitrate_kbps: int | None
    #: None where the input does not end or does not say.
    duration_s: float | None
    #: The duration was computed from size and bit rate and may be wrong.
    duration_guessed: bool


def audio_info(lines: Iterable[str]) -> AudioInfo | None:
    """What ffmpeg's opening lines (at `-loglevel level+info`) say about input 0; None if it never opened."""
    container = codec = None
    sample_rate_hz = channels = bitrate_kbps = None
    duration_s = None
    guessed = False
    for line in lines:
        guessed = guessed or _GUESSED in line
        if match := _INPUT.match(line):
            container = match.group(1)
        elif container is None:
            continue
        elif "] Output #0" in line or "] Stream mapping:" in line:
            break
        elif match := _DURATION.match(line):
            hours, minutes, seconds = match.groups()
            duration_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        elif codec is None and (match := _AUDIO.match(line)):
            codec = match.group(1)
            if rate := _RATE.search(match.group(2)):
                sample_rate_hz = int(rate.group(1))
                channels = _channels(rate.group(2) or "")
            if bitrate := _BITRATE.search(match.group(2)):
                bitrate_kbps = int(bitrate.group(1))
    if container is None:
        return None
    return AudioInfo(
        container=container.rstrip(","),
        codec=codec,
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        bitrate_kbps=bitrate_kbps,
        duration_s=duration_s,
        duration_guessed=guessed,
    )


def _channels(layout: str) -> int | None:
    if layout in _CHANNELS:
        return _CHANNELS[layout]
    if match := re.match(r"(\d{1,9}) channels", layout):
        return int(match.group(1))
    if match := re.match(r"(\d)\.(\d)(?:\.(\d))?", layout):
        return sum(int(part) for part in match.groups() if part)
    return None
