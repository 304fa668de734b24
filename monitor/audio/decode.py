"""A whole file as mono samples, in bounded memory, with one clear sentence where that cannot be done."""

from __future__ import annotations

import asyncio
import codecs
import stat
import struct
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO

import ffmpeg as ffmpeg_command

from monitor.audio.ffmpeg import QUIET, FfmpegProgram, FfmpegRun, pcm_arguments, running
from monitor.audio.probe import AudioInfo, audio_info
from monitor.errors import InputError
from monitor.types import Samples

#: A file is cut off when it decodes to less than its container states by more than both of these.
_SHORT_S = 1.0
_SHORT_RATIO = 0.02
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]")
_MOOV_LIMIT_BYTES = 32 << 20


class TruncatedError(InputError):
    """The file ends before its audio does; all that could be decoded has been yielded."""

    def __init__(self, message: str, *, decoded_s: float, stated_s: float | None) -> None:
        super().__init__(message)
        self.decoded_s = decoded_s
        self.stated_s = stated_s


async def decode_file(
    path: Path,
    *,
    sample_rate_hz: int,
    ffmpeg: FfmpegProgram,
    block_s: float = 30.0,
    start_s: float = 0,
    max_duration_s: float | None = None,
) -> AsyncIterator[Samples]:
    """Blocks of `block_s` (the last may be shorter) of the first audio track, mono, as an async generator.

    Memory stays at a few blocks whatever the file's length. Only the file itself is read: playlists and anything that
    refers elsewhere are refused. Close the generator (`contextlib.aclosing`) if you leave it early.

    Raises InputError, whose one sentence names the file and what is wrong with it: missing, empty, no audio in it, no
    audio track, a playlist, copy-protected, undecodable. A file that is cut off yields what it has and then raises
    TruncatedError, where that can be known: its container states a duration, or its index is at the end (then nothing
    is decodable). Streams without either (MP3 of constant bit rate, Ogg, ADTS) simply end at the cut.
    """
    await asyncio.to_thread(_check, path)
    arguments = _arguments(path, sample_rate_hz, start_s, max_duration_s)
    samples = 0
    async with running(ffmpeg, arguments) as run:
        while (block := await run.read_block(round(block_s * sample_rate_hz))).size:
            samples += block.size
            yield block
        status = await run.wait()
        info = audio_info(run.opening)
        decoded_s = samples / sample_rate_hz
        if status != 0 or samples == 0:
            raise _failure(path, run, decoded_s=decoded_s, status=status, start_s=start_s)
        if max_duration_s is None:
            _check_whole(path, run, info, start_s + decoded_s)


def _arguments(path: Path, sample_rate_hz: int, start_s: float, max_duration_s: float | None) -> list[str]:
    options: dict[str, object] = {"protocol_whitelist": "file"}
    if start_s > 0:
        options["ss"] = f"{start_s:.6f}"
    outputs = pcm_arguments(sample_rate_hz)
    if max_duration_s is not None:
        outputs["t"] = f"{max_duration_s:.6f}"
    command = ffmpeg_command.input(f"file:{path.absolute()}", **options).output("pipe:1", **outputs)
    return [*QUIET, *command.get_args()]


def _check(path: Path) -> None:
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise InputError(f"{path} is not a regular file; name an audio file")
        if state.st_size == 0:
            raise InputError(f"{path} is empty (0 bytes); copy it again")
        with path.open("rb") as file:
            head = file.read(4096)
            protected = _protected(file, head)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; correct the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLISTS) or b"<MPD" in head:
        raise InputError(f"{path} is a playlist, not a recording; give the files that it names")
    if not any(head):
        with path.open("rb") as file:
            if not any(any(block) for block in iter(lambda: file.read(1 << 20), b"")):
                raise InputError(f"{path} holds only zero bytes, no audio; copy it again")
    if protected:
        raise InputError(f"{path} is copy-protected (DRM) and cannot be decoded; use an unprotected copy")
    if _is_text(head):
        raise InputError(f"{path} is text, not audio; give the recording itself")


def _is_text(head: bytes) -> bool:
    try:
        # The head may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t\f" for character in text.removeprefix("\ufeff"))


def _protected(file: BinaryIO, head: bytes) -> bool:
    # MP4: a protected track's sample entry is `enca` or `drms` (ISO/IEC 14496-12, 8.12; FairPlay) with a `sinf` box.
    # ffmpeg would decode the cipher text, some of which passes for audio.
    if head[4:8] != b"ftyp":
        return head.startswith(b"\x30\x26\xb2\x75") and b"D\x00R\x00M\x00" in head
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(16)
        if len(header) < 8:
            return False
        size, kind = struct.unpack(">I4s", header[:8])
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        if kind == b"moov":
            file.seek(offset)
            moov = file.read(min(size or _MOOV_LIMIT_BYTES, _MOOV_LIMIT_BYTES))
            return b"drms" in moov or (b"enca" in moov and b"sinf" in moov)
        if size < 8:
            return False
        offset += size


def _failure(path: Path, run: FfmpegRun, *, decoded_s: float, status: int, start_s: float) -> InputError:
    words = "\n".join((*run.opening, *run.last_words))
    if "matches no streams" in words:
        return InputError(f"{path} has no audio track; give a file with sound")
    if "moov atom not found" in words:
        return TruncatedError(
            f"{path} is cut off: its index (moov) is missing, so none of it can be decoded; copy it again",
            decoded_s=0.0,
            stated_s=None,
        )
    if "activation_bytes" in words or "DRM protected" in words:
        return InputError(f"{path} is copy-protected (DRM) and cannot be decoded; use an unprotected copy")
    if decoded_s > 0:
        return InputError(
            f"{path} stops being decodable after {start_s + decoded_s:.1f} s: {_error(reversed(run.last_words), path)}"
        )
    if start_s > 0 and status == 0:
        return InputError(f"{path} ends before {start_s:.1f} s; nothing is left to decode there")
    return InputError(f"{path} is not audio that ffmpeg can decode: {_error(run.opening, path)}")


def _check_whole(path: Path, run: FfmpegRun, info: AudioInfo | None, decoded_s: float) -> None:
    if info is None:
        return
    stated_s = None if info.duration_guessed else info.duration_s
    if stated_s is not None and stated_s - decoded_s > max(_SHORT_S, _SHORT_RATIO * stated_s):
        raise TruncatedError(
            f"{path} is cut off: {decoded_s:.1f} s of its {stated_s:.1f} s can be decoded; copy it again",
            decoded_s=decoded_s,
            stated_s=stated_s,
        )
    # A WAV that is shorter than its header says: ffmpeg guesses the duration and marks the last packet.
    if info.container == "wav" and any("corrupt input packet" in line for line in run.last_words):
        raise TruncatedError(
            f"{path} is cut off: its header states more than the {decoded_s:.1f} s that it holds; copy it again",
            decoded_s=decoded_s,
            stated_s=None,
        )


def _error(lines: Iterable[str], path: Path) -> str:
    for line in lines:
        if "[error]" in line or "[fatal]" in line:
            return line.rpartition("] ")[2].replace(f"file:{path.absolute()}", path.name).rstrip(".")
    return "ffmpeg gives no reason"
