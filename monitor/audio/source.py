"""Anything that ffmpeg can listen to, as chunks on one time axis, until it gives up and says why."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from monitor.audio.arrival import Arrival
from monitor.audio.connection import connected
from monitor.audio.device import DeviceSource
from monitor.audio.ffmpeg import FfmpegProgram, pcm_arguments
from monitor.audio.protocol import SourceOptions, scheme_of
from monitor.audio.timeline import Timeline
from monitor.masking import mask_url
from monitor.types import Chunk

__all__ = ["FfmpegSource", "Source", "SourceOptions", "mask_url", "open_source"]

#: Length of the blocks that ffmpeg hands over.
_BLOCK_S = 0.5
#: Most that is taken from the pipe at once.
_READ_S = 1.0


class Source(Protocol):
    """Something that can be listened to, again and again."""

    masked_url: str
    last_words: tuple[str, ...]
    reanchored_total: int

    def listen(self) -> AsyncGenerator[Chunk, None]:
        """Chunks from now on; ends only by raising SourceError, or by being closed, which frees all it held."""


def open_source(
    url: str,
    *,
    sample_rate_hz: int,
    ffmpeg: FfmpegProgram,
    options: SourceOptions,
    now: Callable[[], float] = time.time,
) -> Source:
    """A sound card for `device:NAME` and `device:INDEX`, ffmpeg for everything else. Nothing is opened yet."""
    if scheme_of(url) == "device":
        return DeviceSource(url=url, sample_rate_hz=sample_rate_hz, options=options, now=now)
    return FfmpegSource(url=url, sample_rate_hz=sample_rate_hz, ffmpeg=ffmpeg, options=options, now=now)


class FfmpegSource:
    """Icecast, Shoutcast, HLS, DASH, RTSP, RTMP, SRT, UDP, RTP or a file, through a child process."""

    def __init__(
        self,
        *,
        url: str,
        sample_rate_hz: int,
        ffmpeg: FfmpegProgram,
        options: SourceOptions,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._rate = sample_rate_hz
        self._ffmpeg = ffmpeg
        self._options = options
        self._now = now
        self.masked_url = mask_url(url)
        #: The last 100 lines that ffmpeg said in the latest run, without secrets.
        self.last_words: tuple[str, ...] = ()
        #: How often the time axis drifted from the wall clock and was anchored anew, over all runs.
        self.reanchored_total = 0
        #: What it said of its input when it opened it in the latest run; for `probe.audio_info`.
        self.opening: tuple[str, ...] = ()

    async def listen(self) -> AsyncGenerator[Chunk, None]:
        """Chunks of one run of ffmpeg, none later than the wall clock.

        Raises SourceError when the source ends, fails, or says nothing for the time that the options allow. However it
        is left, ffmpeg's process group is dead and reaped afterwards.
        """
        timeline = Timeline(sample_rate_hz=self._rate)
        outputs = pcm_arguments(self._rate, block_s=_BLOCK_S)
        async with connected(self._url, ffmpeg=self._ffmpeg, options=self._options, outputs=outputs) as connection:
            run = connection.run
            arrival = Arrival(
                read=functools.partial(run.read, round(_READ_S * self._rate)),
                timeline=timeline,
                now=self._now,
                connect_timeout_s=self._options.connect_timeout_s,
                stall_timeout_s=self._options.stall_timeout_s,
            )
            try:
                async with contextlib.aclosing(arrival.chunks()) as chunks:
                    async for chunk in chunks:
                        yield chunk
                raise await connection.error(heard=arrival.heard, silent_s=arrival.silent_s)
            finally:
                self.last_words, self.opening = run.last_words, tuple(run.opening)
                self.reanchored_total += timeline.reanchored_total
