"""Sound cards, through PortAudio: listed, found by name or number, and listened to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.audio import failure
from monitor.audio.arrival import Arrival
from monitor.audio.ffmpeg import pcm_samples
from monitor.audio.protocol import SourceOptions
from monitor.audio.resample import Resampler
from monitor.audio.timeline import Timeline
from monitor.errors import MissingPartError, SourceError, StreamReason
from monitor.types import Chunk, Samples

_BLOCK_S = 0.25
#: Blocks that wait for the event loop; beyond, the oldest is dropped: fresh beats complete.
_WAITING_BLOCKS = 40

_lock = threading.Lock()
_open_streams = 0


@dataclass(frozen=True, kw_only=True)
class InputDevice:
    """One device that can be listened to."""

    #: Its number, which may change when devices come and go.
    index: int
    name: str
    #: What it belongs to: ALSA, Core Audio, ...
    interface: str
    channels: int
    sample_rate_hz: int
    default: bool


def portaudio() -> Any:
    """The sounddevice module with a working PortAudio; MissingPartError says what to install."""
    try:
        import sounddevice
    except ImportError as error:
        raise MissingPartError("sound cards need sounddevice: pip install '.[mic]'") from error
    except OSError as error:
        raise MissingPartError(
            "sound cards need the PortAudio library: apt install libportaudio2, or brew install portaudio"
        ) from error
    return sounddevice


def input_devices() -> list[InputDevice]:
    """The devices that can be listened to now. Raises MissingPartError without PortAudio. Blocks for a moment."""
    sounddevice = portaudio()
    with _lock:
        if _open_streams == 0:
            # PortAudio looks for devices once, when it starts: what was plugged in since needs another start.
            sounddevice._terminate()
            sounddevice._initialize()
    default = sounddevice.default.device[0]
    interfaces = sounddevice.query_hostapis()
    return [
        InputDevice(
            index=index,
            name=device["name"],
            interface=interfaces[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            sample_rate_hz=round(device["default_samplerate"]),
            default=index == default,
        )
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def find_device(wanted: str) -> InputDevice:
    """The device with that number or name, or the only one whose name holds it; SourceError says what there is."""
    devices = input_devices()
    name = wanted.strip().casefold()
    found = [device for device in devices if name.isdecimal() and device.index == int(name)]
    found = found or [device for device in devices if device.name.casefold() == name][:1]
    found = found or [device for device in devices if name and name in device.name.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        problem = "several sound devices have this in their names"
    elif devices:
        problem = "there is no such sound device"
    else:
        problem = "there is no sound device that can be listened to"
    choice = "; ".join(f"{device.index}: {device.name}" for device in found or devices)
    raise SourceError(
        StreamReason.DEVICE_MISSING,
        f"device:{wanted}: {problem}" + (f"; use one of {choice}" if choice else "; plug one in"),
    )


class DeviceSource:
    """A sound card as a source, at its own rate and resampled here."""

    def __init__(
        self, *, url: str, sample_rate_hz: int, options: SourceOptions, now: Callable[[], float] = time.time
    ) -> None:
        self._wanted = url.partition(":")[2]
        self._rate = sample_rate_hz
        self._options = options
        self._now = now
        self.masked_url = url
        self.last_words: tuple[str, ...] = ()
        #: How often the time axis drifted from the wall clock and was anchored anew, over all runs.
        self.reanchored_total = 0

    async def listen(self) -> AsyncGenerator[Chunk, None]:
        """Chunks as the device records them, until it falls silent or goes away (SourceError).

        Raises MissingPartError without PortAudio, SourceError (`device_missing`) where there is no such device, or
        none that can be opened.
        """
        device = await asyncio.to_thread(find_device, self._wanted)
        recording = _Recording(device, sample_rate_hz=self._rate)
        timeline = Timeline(sample_rate_hz=self._rate)
        arrival = Arrival(
            read=recording.read,
            timeline=timeline,
            now=self._now,
            connect_timeout_s=self._options.connect_timeout_s,
            stall_timeout_s=self._options.stall_timeout_s,
        )
        try:
            try:
                await asyncio.to_thread(recording.start)
                async with contextlib.aclosing(arrival.chunks()) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                self.reanchored_total += timeline.reanchored_total
                # Also after a start that was cancelled half way: PortAudio's calls come one after another.
                await asyncio.shield(asyncio.to_thread(recording.close))
        except portaudio().PortAudioError as error:
            raise SourceError(
                StreamReason.DEVICE_MISSING, f"{self.masked_url}: {device.name} cannot be opened: {error.args[0]}"
            ) from error
        if arrival.silent_s is None:
            raise SourceError(StreamReason.DEVICE_MISSING, f"{self.masked_url}: {device.name} has gone; plug it in")
        reason = StreamReason.STALLED if arrival.heard else StreamReason.TIMEOUT
        raise SourceError(reason, failure.sentence(self.masked_url, reason, (), after_s=arrival.silent_s))


class _Recording:
    """An open device: PortAudio's thread leaves blocks here, the event loop takes them."""

    def __init__(self, device: InputDevice, *, sample_rate_hz: int) -> None:
        self._device = device
        self._rate = sample_rate_hz
        self._loop = asyncio.get_running_loop()
        self._blocks: deque[bytes] = deque(maxlen=_WAITING_BLOCKS)
        self._arrived = asyncio.Event()
        self._finished = False
        self._stream: Any = None
        self._channels = 1
        self._resampler: Resampler | None = None
        self._calls = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Opens and starts the device; blocks."""
        sounddevice = portaudio()
        with self._calls, _counted() as keep:
            if self._closed:
                return
            self._channels, rate_hz = self._settings(sounddevice)
            if rate_hz != self._rate:
                self._resampler = Resampler(from_hz=rate_hz, to_hz=self._rate)
            self._stream = sounddevice.RawInputStream(
                device=self._device.index,
                channels=self._channels,
                samplerate=rate_hz,
                dtype="int16",
                blocksize=round(_BLOCK_S * rate_hz),
                callback=self._leave,
                finished_callback=self._finish,
            )
            try:
                self._stream.start()
            except sounddevice.PortAudioError:
                self._stream.close()
                self._stream = None
                raise
            keep()

    def close(self) -> None:
        """Afterwards the device is free, and no callback comes any more; blocks."""
        global _open_streams  # noqa: PLW0603
        with self._calls:
            self._closed = True
            if self._stream is None:
                return
            self._stream.abort()
            self._stream.close()
            self._stream = None
            with _lock:
                _open_streams -= 1

    async def read(self) -> Samples:
        """The next block, mono, at the rate that was asked for; none when the device has stopped."""
        while True:
            while not self._blocks:
                if self._finished:
                    return np.empty(0, dtype=np.float32)
                self._arrived.clear()
                if not self._blocks and not self._finished:
                    await self._arrived.wait()
            samples = pcm_samples(self._blocks.popleft())
            if self._channels > 1:
                samples = samples.reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
            if self._resampler is not None:
                samples = self._resampler.push(samples)
            if samples.size:
                return samples

    def _settings(self, sounddevice: Any) -> tuple[int, int]:
        # The device's own rate first: what an operating system converts is often converted badly.
        problem: Exception | None = None
        for rate_hz in (self._device.sample_rate_hz, self._rate):
            for channels in (1, 2):
                try:
                    sounddevice.check_input_settings(
                        device=self._device.index, channels=channels, dtype="int16", samplerate=rate_hz
                    )
                except sounddevice.PortAudioError as error:
                    problem = problem or error
                else:
                    return channels, rate_hz
        assert problem is not None  # noqa: S101
        raise problem

    def _leave(self, data: Any, frames: int, times: Any, status: Any) -> None:  # noqa: ARG002
        self._blocks.append(bytes(data))
        self._wake()

    def _finish(self) -> None:
        self._finished = True
        self._wake()

    def _wake(self) -> None:
        # The loop may be gone while the device is being closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._arrived.set)


@contextlib.contextmanager
def _counted() -> Iterator[Callable[[], None]]:
    """Counts a stream as open while it is being opened, and on if it is kept."""
    global _open_streams  # noqa: PLW0603
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    with _lock:
        _open_streams += 1
    try:
        yield keep
    finally:
        if not kept:
            with _lock:
                _open_streams -= 1
