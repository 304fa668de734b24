"""Sound cards without one: a real PortAudio on ALSA, whose `file` plugin reads what the test plays into a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from monitor import cli
from monitor.audio import device as devices
from monitor.audio.decode import decode_file
from monitor.audio.ffmpeg import find_ffmpeg
from monitor.audio.source import SourceOptions, open_source
from monitor.errors import MissingPartError, SourceError, StreamReason
from tests.integration.audio.conftest import missing

pytestmark = pytest.mark.mic

RATE = 8000
CARD_RATE = 44100
CARD_BLOCK = 22050


@pytest.fixture
def card(monkeypatch, tmp_path, music) -> Iterator[threading.Event]:
    """A sound card named `tape`, mono at 44.1 kHz, that hears `music` in real time; set the event to unplug it."""
    try:
        import sounddevice
    except (ImportError, OSError):
        missing("no PortAudio (pip install '.[mic]'; apt install libportaudio2)")
    base = Path("/usr/share/alsa/alsa.conf")
    if sys.platform != "linux" or not base.exists():
        missing("no ALSA configuration (apt install libasound2-data)")
    pipe = tmp_path / "tape.raw"
    os.mkfifo(pipe)
    own = tmp_path / "asound.conf"
    own.write_text(
        textwrap.dedent(f"""\
            pcm.tape {{
                type file
                slave.pcm "null"
                file /dev/null
                infile "{pipe}"
                format raw
                hint {{ show on  description "a tape" }}
            }}
            """)
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", f"{base}:{own}")
    stop = threading.Event()
    player = threading.Thread(target=_play, args=(pipe, _pcm(music), stop))
    player.start()
    try:
        yield stop
    finally:
        stop.set()
        player.join()
        monkeypatch.undo()
        sounddevice._terminate()
        sounddevice._initialize()


def _pcm(music: Path) -> bytes:
    async def samples() -> np.ndarray:
        blocks = decode_file(music, sample_rate_hz=CARD_RATE, ffmpeg=find_ffmpeg(), max_duration_s=20)
        return np.concatenate([block async for block in blocks])

    with asyncio.Runner() as runner:
        return (runner.run(samples()) * 32767).astype("<i2").tobytes()


def _play(pipe: Path, pcm: bytes, stop: threading.Event) -> None:
    # Opened for both, so that opening does not wait for the card. The card reads a block at once, and takes what a
    # shorter read leaves out for sound: each write is a whole block.
    descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    started, sent = time.monotonic(), 0
    try:
        while not stop.wait(0.01):
            if (time.monotonic() - started) * CARD_RATE * 2 >= sent + CARD_BLOCK:
                with contextlib.suppress(BlockingIOError):
                    sent += os.write(descriptor, pcm[sent : sent + CARD_BLOCK].ljust(CARD_BLOCK, b"\0"))
    finally:
        os.close(descriptor)


def source(name: str, **options):
    return open_source(f"device:{name}", sample_rate_hz=RATE, ffmpeg=find_ffmpeg(), options=SourceOptions(**options))


@pytest.mark.parametrize("name", ["TAPE", "0"])
async def test_a_card_by_name_and_by_number(card, music, name):
    chunks = []
    async with contextlib.aclosing(source(name).listen()) as heard:
        async for chunk in heard:
            chunks.append((time.time(), chunk))
            if sum(each.samples.size for _, each in chunks) > 5 * RATE:
                break
    assert [chunk.discontinuity for _, chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    for at_s, chunk in chunks:
        assert chunk.sample_rate_hz == RATE
        assert chunk.start_s + chunk.samples.size / RATE <= at_s + 1e-3
    samples = np.concatenate([chunk.samples for _, chunk in chunks])
    original = np.concatenate(
        [b async for b in decode_file(music, sample_rate_hz=RATE, ffmpeg=find_ffmpeg(), max_duration_s=20)]
    )
    piece = samples[RATE : 4 * RATE]
    at = int(np.argmax(np.correlate(original, piece, mode="valid")))
    assert np.corrcoef(original[at : at + piece.size], piece)[0, 1] > 0.9


async def test_a_card_that_is_not_there_names_those_that_are(card):
    with pytest.raises(SourceError) as caught:
        await anext(source("Scarlett").listen())
    assert caught.value.reason is StreamReason.DEVICE_MISSING
    assert str(caught.value) == "device:Scarlett: there is no such sound device; use one of 0: tape"


def test_the_command_lists_it(card, capsys):
    assert cli.main(["devices", "--json"]) == 0
    (device,) = json.loads(capsys.readouterr().out)["devices"]
    assert (device["index"], device["name"], device["interface"]) == (0, "tape", "ALSA")
    assert cli.main(["devices"]) == 0
    assert "0  tape  (ALSA, " in capsys.readouterr().out


async def test_without_portaudio_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingPartError, match=r"pip install '\.\[mic\]'"):
        devices.input_devices()
