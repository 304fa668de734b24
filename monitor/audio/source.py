"""Anything that ffmpeg can listen to, as chunks on one time axis, until it gives up and says why."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import ffmpeg as ffmpeg_command

from monitor.audio import failure
from monitor.audio.arrival import Arrival
from monitor.audio.device import DeviceSource
from monitor.audio.ffmpeg import QUIET, FfmpegProgram, FfmpegRun, pcm_arguments, running
from monitor.audio.protocol import (
    SourceOptions,
    input_address,
    input_options,
    refusal,
    scheme_of,
    secrets_of,
)
from monitor.audio.timeline import Timeline
from monitor.errors import SourceError, StreamReason
from monitor.masking import mask_text, mask_url
from monitor.types import Chunk

__all__ = ["FfmpegSource", "Source", "SourceOptions", "mask_url", "open_source"]

#: Length of the blocks that ffmpeg hands over.
_BLOCK_S = 0.5
#: Most that is taken from the pipe at once.
_READ_S = 1.0
#: ffmpeg's exit after its audio has ended.
_EXIT_S = 5.0


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

    async def listen(self) -> AsyncGenerator[Chunk, None]:
        """Chunks of one run of ffmpeg, none later than the wall clock.

        Raises SourceError when the source ends, fails, or says nothing for the time that the options allow. However it
        is left, ffmpeg's process group is dead and reaped afterwards.
        """
        self._check()
        timeline = Timeline(sample_rate_hz=self._rate)
        mask = functools.partial(mask_text, secrets=secrets_of(self._url, self._options))
        async with running(self._ffmpeg, self._arguments(), mask=mask, ca_file=self._options.ca_file) as run:
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
                raise await self._failure(run, arrival)
            finally:
                self.last_words = run.last_words
                self.reanchored_total += timeline.reanchored_total

    async def _failure(self, run: FfmpegRun, arrival: Arrival) -> SourceError:
        if arrival.silent_s is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.wait(), _EXIT_S)
        words = (*run.opening, *run.last_words)
        if arrival.heard and arrival.silent_s is not None:
            reason = StreamReason.STALLED
        else:
            reason = failure.reason_of(words, scheme=scheme_of(self._url), heard=arrival.heard)
        if arrival.silent_s is not None and reason in {StreamReason.NO_AUDIO, StreamReason.UNDECODABLE}:
            # Only what ffmpeg tries over and over (a playlist's missing segments) says more than that it took long.
            reason = StreamReason.TIMEOUT
        return SourceError(
            reason,
            failure.sentence(self.masked_url, reason, words, after_s=arrival.silent_s),
            last_words=run.last_words,
        )

    def _check(self) -> None:
        """Refuses what needs no ffmpeg to be refused."""
        reason = refusal(self._url, self._options)
        if reason is not None:
            raise SourceError(reason, failure.sentence(self.masked_url, reason, ()))

    def _arguments(self) -> list[str]:
        options = input_options(self._url, self._options)
        outputs = pcm_arguments(self._rate, block_s=_BLOCK_S)
        command = ffmpeg_command.input(input_address(self._url), **options).output("pipe:1", **outputs)
        return [*QUIET, *command.get_args()]
