"""What is fuzzed: each target takes bytes as if they came from outside, and raises nothing but a MonitorError."""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np

from monitor import config
from monitor.audio import failure, probe
from monitor.catalog.listing import listed
from monitor.daemon.backlog import Backlog, Unheard
from monitor.errors import MonitorError
from monitor.evaluate import truth
from monitor.record.journal import Entry, Heard, Journal
from monitor.types import BANDS, Embedded, Gap, Match, MatchEvent, MatchState, StreamState, StreamStatus

_EXAMPLE = Path(__file__).parents[2] / "config" / "monitor.example.yaml"
_MOST_ROUNDS = 5000
_WORDS = (
    b"""[info] Input #0, mp3, from 'http://radio.example/live':
[info]   Duration: 00:01:02.50, start: 0.000000, bitrate: 128 kb/s
[info]   Stream #0:0: Audio: mp3, 44100 Hz, stereo, fltp, 128 kb/s
[info] Output #0, s16le, to 'pipe:1':
""",
    b"""[http @ 0x1] [error] HTTP error 404 Not Found
[info]     StreamTitle     : A - B
[error] Connection timed out
""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Something that reads what others wrote."""

    name: str
    seeds: tuple[bytes, ...]
    #: Takes the bytes and an empty directory to lay them into.
    read: Callable[[bytes, Path], None]


class UnclearError(AssertionError):
    """An error of ours does not say in a sentence what is wrong."""


def check_sentence(message: str) -> None:
    """Raises UnclearError unless the message is words for a person, each line of it."""
    for line in message.splitlines() or [""]:
        if len(line.split()) < 3 or "Traceback" in line or " object at 0x" in line or "\0" in line:
            raise UnclearError(f"not a clear sentence: {message!r}")


def _manifest(suffix: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, directory: Path) -> None:
        path = directory / f"manifest{suffix}"
        path.write_bytes(data)
        _check_items(listed([], manifests=[path]))

    return read


def _playlist(data: bytes, directory: Path) -> None:
    path = directory / "list.m3u8"
    path.write_bytes(data)
    _check_items(listed([path]))


def _check_items(items: Iterable[object]) -> None:
    for item in items:
        problem = getattr(item, "problem", None)
        if problem is not None:
            check_sentence(problem.reason)


def _truth(data: bytes, directory: Path) -> None:
    (directory / "a.wav").touch()
    path = directory / "truth.csv"
    path.write_bytes(data)
    truth.read(path)


def _config(data: bytes, directory: Path) -> None:
    path = directory / "monitor.yaml"
    path.write_bytes(data)
    config.load(path, environ={})


def _words(data: bytes, directory: Path) -> None:  # noqa: ARG001
    lines = data.decode("utf-8", "replace").splitlines()
    probe.audio_info(lines)
    for heard in (False, True):
        reason = failure.reason_of(lines, scheme="http", heard=heard)
        check_sentence(failure.sentence("http://radio.example/live.m3u", reason, lines))


def _journal(data: bytes, directory: Path, *, sealed: bool = False) -> None:
    """The file after the place up to which it has been read; with `sealed` every line's checksum is right."""
    place, text = data[:8], data[8:]
    if sealed:
        text = b"\n".join(b"%08x %s" % (zlib.crc32(line), line) for line in text.split(b"\n"))
    (directory / "events.position").write_bytes(place)
    (directory / "events.log").write_bytes(text)
    journal = Journal(directory)
    try:
        journal.append(Heard(stream="radio", until_s=1.0), epoch=2)
        last = None
        for _ in range(_MOST_ROUNDS):
            if not (lines := journal.read(7)):
                break
            last = lines[-1]
            journal.advance(lines)
        else:
            raise AssertionError("the journal has no end")
        if last is None or last.entry != Heard(stream="radio", until_s=1.0):
            raise AssertionError("what was appended to a damaged journal is lost")
    finally:
        journal.close()


def _sealed_journal(data: bytes, directory: Path) -> None:
    _journal(data, directory, sealed=True)


_HEAD = struct.Struct("<II")


def _forget(stream: str) -> None:
    """What is dropped is no concern here."""


def _backlog(data: bytes, directory: Path, *, sealed: bool = False) -> None:
    """Segments after the place up to which they have been read; with `sealed` every item's head is right."""
    place, text = data[:16], data[16:]
    if sealed:
        bodies = text.split(b"\n--\n")
        text = b"".join(_HEAD.pack(len(body), zlib.crc32(body)) + body for body in bodies)
    (directory / "position").write_bytes(place)
    (directory / "1000.items").write_bytes(text)
    (directory / "2000.items").write_bytes(text[: len(text) // 2])
    for _ in range(2):  # as it was left, and as this process leaves it
        backlog = Backlog(directory, capacity=20, on_drop=_forget, memory_items=4)
        for number in range(6):
            backlog.put("radio", Unheard(stream="radio", until_s=float(number)))
        backlog.take(3)
        backlog.hold()
        backlog.put("radio", Unheard(stream="radio", until_s=7.0))
        backlog.take(2)
    backlog.release()
    backlog.put("radio", Unheard(stream="radio", until_s=8.0))
    for _ in range(_MOST_ROUNDS):
        if not backlog.take(5) and not len(backlog):
            return
    raise AssertionError("the backlog has no end")


def _sealed_backlog(data: bytes, directory: Path) -> None:
    _backlog(data, directory, sealed=True)


def _journal_seeds() -> list[bytes]:
    """Lines as the journal writes them, without their checksums."""
    match = Match(
        match_id=UUID(int=7),
        stream="radio",
        catalog="default",
        reference_id="piece-1",
        state=MatchState.CONFIRMED,
        start_s=1.0,
        end_s=9.0,
        reference_start_s=0.0,
        reference_end_s=8.0,
        origin_s=1.0,
        tempo_ratio=1.0,
        evidence_nats=30.0,
        score=0.8,
        last_hit_s=9.0,
        model_id="fingerprint-1",
    )
    entries: list[Entry] = [
        Heard(stream="radio", until_s=5.0),
        Gap(stream="radio", start_s=5.0, end_s=9.0, reason="ended"),
        StreamStatus(stream="radio", state=StreamState.SILENT, reason=None, detail="", since_s=5.0),
        MatchEvent(sequence=1, match=match, decided_s=9.0),
    ]
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name))
        for entry in entries:
            journal.append(entry, epoch=3)
        journal.close()
        text = (Path(name) / "events.log").read_bytes()
    return text.splitlines()


def _backlog_seeds() -> list[bytes]:
    """A segment's bodies as the backlog writes them."""
    readings, levels = np.ones((3, 4), dtype=np.float32), np.ones((2, BANDS), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        backlog = Backlog(Path(name), capacity=100, on_drop=_forget)
        backlog.hold()
        backlog.put("radio", Embedded(stream="radio", start_s=5.0, window_s=2.0, readings=readings, levels=levels))
        backlog.put("radio", Embedded(stream="radio", start_s=6.0, window_s=2.0, readings=None))
        backlog.put("other", Unheard(stream="other", until_s=9.0))
        (segment,) = Path(name).glob("*.items")
        text = segment.read_bytes()
    bodies = []
    while text:
        size, _ = _HEAD.unpack_from(text)
        bodies.append(text[_HEAD.size : _HEAD.size + size])
        text = text[_HEAD.size + size :]
    return bodies


def _csv_seeds() -> Sequence[bytes]:
    return (
        b'id,path,title,artist,isrc,mood\n1,a.wav,One,Somebody,XX0000000001,calm\n2,sub/b.flac,"Two, or three",,,\n',
        b'path;title\r\na.wav;One\r\n\r\nb.wav;"Two\r\nlines"\r\n',
        b"\xef\xbb\xbfpath\tid\na.wav\t1\nb.wav\t1\n",
    )


def plain_targets() -> list[Target]:
    """Those that need neither sockets nor programs: thousands of cases a second."""
    journal, bodies = _journal_seeds(), _backlog_seeds()
    whole = b"\0" * 8 + b"".join(line + b"\n" for line in journal)
    unsealed = b"\0" * 8 + b"\n".join(line.partition(b" ")[2] for line in journal) + b"\n"
    segment = b"".join(_HEAD.pack(len(body), zlib.crc32(body)) + body for body in bodies)
    rows = [{"path": "a.wav", "id": "1", "title": "One", "year": 1999}, {"path": "b.wav", "artist": None, "x": [1, {}]}]
    return [
        Target(name="manifest-csv", seeds=tuple(_csv_seeds()), read=_manifest(".csv")),
        Target(
            name="manifest-jsonl",
            seeds=("\n".join(map(json.dumps, rows)).encode(), b'{"path": "\\u00e4.wav"}\n'),
            read=_manifest(".jsonl"),
        ),
        Target(
            name="playlist",
            seeds=(
                b"#EXTM3U\n#EXTINF:123,Somebody - One\na.wav\n#EXTINF:-1,Two\nsub/b.wav\nfile:///music/c%20d.wav\n",
                b"\xef\xbb\xbf#EXTM3U\r\nhttp://user:secret@radio.example/live\r\nM\xfcsik.mp3\r\n",
                b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\nsegment-1.ts\n",
            ),
            read=_playlist,
        ),
        Target(
            name="truth",
            seeds=(b"query,reference_id,start_s,end_s,snr_db\na.wav,piece-1,0,10.5,\na.wav,,12,20,3\na.wav,,,,\n",),
            read=_truth,
        ),
        Target(
            name="config",
            seeds=(
                _EXAMPLE.read_bytes(),
                b"streams:\n  - {name: a, url: http://h/}\n  - &b {name: b, urls: [http://h/, srt://h:1]}\n",
                b"webhooks:\n  - name: desk\n    url: https://h/\n    secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
            ),
            read=_config,
        ),
        Target(name="journal", seeds=(whole, whole[:-10]), read=_journal),
        Target(name="journal-sealed", seeds=(unsealed,), read=_sealed_journal),
        Target(name="backlog", seeds=(b"\0" * 16 + segment,), read=_backlog),
        Target(name="backlog-sealed", seeds=(b"\0" * 16 + b"\n--\n".join(bodies),), read=_sealed_backlog),
        Target(
            name="ffmpeg-words",
            seeds=_WORDS,
            read=_words,
        ),
    ]


def outcome(target: Target, data: bytes, directory: Path) -> MonitorError | None:
    """None, or the error of ours that the bytes earned. Raises whatever else comes of them."""
    try:
        target.read(data, directory)
    except MonitorError as error:
        check_sentence(str(error))
        return error
    return None
