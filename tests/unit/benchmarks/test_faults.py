"""The parts that the table of faults is made of: what feeds play, how trouble comes and goes, what the verdict says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.faults import deck as decks
from benchmarks.faults import table
from benchmarks.faults.control import _AIRING_S, _BETWEEN_S, Programme
from benchmarks.faults.deck import Deck
from benchmarks.faults.fault import Control, Fault, Kind, Outcome
from benchmarks.faults.feeds import Playlist
from benchmarks.faults.mount import Mount, Trouble
from benchmarks.faults.rig import Watch
from benchmarks.faults.signs import backs_off, bears_it
from benchmarks.faults.sounds import SEGMENT_S, Sound
from benchmarks.faults.station import Request, Station
from benchmarks.faults.table import SCENES
from monitor.errors import StreamReason
from monitor.types import StreamState, StreamStatus

FAULT = Fault(name="mute", kind=Kind.STREAM, what="says nothing")
WELL = Outcome(fault=FAULT, expected="backing_off: timeout", noticed_s=5.0, recovered_s=2.0)
CONTROL = Control(scene="on the air", airings=3, lost=0)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now_s))


def test_an_airing_takes_the_place_of_the_bed_for_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, decks)
    deck = Deck(b"abcdefgh", bytes_per_s=4, airing=b"12345678")
    clock.now_s += 1
    deck.air()
    clock.now_s += 9
    assert deck._part(0, 20) == b"abcd" + b"12345678" + b"efghabcd"
    assert deck._part(6, 10) == b"3456"


def sound(name: bytes, segments: int) -> Sound:
    return Sound(pcm=b"", mp3=b"", segments=tuple(name + bytes([number]) for number in range(segments)))


async def test_a_playlist_names_the_newest_segments_and_numbers_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.faults import feeds

    clock = Clock(monkeypatch, feeds)
    sounds: Any = SimpleNamespace(bed=sound(b"bed", 5), airing=sound(b"air", 2))
    playlist = Playlist(sounds, Station(), "radio")
    playlist.air()
    clock.now_s += 3 * SEGMENT_S
    answered: list[bytes] = []

    async def answer(_status: str, _headers: dict[str, str], body: bytes) -> None:
        answered.append(body)

    await playlist.answer(SimpleNamespace(answer=answer))  # type: ignore[arg-type]
    text = answered[0].decode()
    assert "#EXT-X-MEDIA-SEQUENCE:4\n" in text
    assert [line for line in text.splitlines() if line.endswith(".ts")] == [
        "bed-4.ts", "airing-0.ts", "airing-1.ts", "bed-2.ts",
    ]  # fmt: skip


class Listener:
    """Somebody who listens to a mount; `heard` is what each behaviour said when it began."""

    def __init__(self, mount: Mount) -> None:
        self.heard: list[str] = []
        self.task = asyncio.ensure_future(mount(self))  # type: ignore[arg-type]

    async def hears(self, *words: str) -> bool:
        async with asyncio.timeout(60):
            while self.heard != list(words):  # noqa: ASYNC110
                await asyncio.sleep(0)
        return True


def says(word: str, *, ends: bool = False) -> Any:
    async def behave(request: Request) -> None:
        request.heard.append(word)  # type: ignore[attr-defined]
        if not ends:
            await asyncio.Event().wait()

    return behave


async def test_a_line_goes_bad_and_is_good_again() -> None:
    mount = Mount(says("answer"), says("line"))
    listener = Listener(mount)
    assert await listener.hears("answer")
    async with mount.suffering(Trouble(line=says("noise"))):
        assert await listener.hears("answer", "noise")
    assert await listener.hears("answer", "noise", "line")
    mount.hang_up()
    await asyncio.wait_for(listener.task, 60)


async def test_who_listens_is_cut_off_and_who_comes_is_turned_away() -> None:
    mount = Mount(says("answer"), says("line"))
    before = Listener(mount)
    assert await before.hears("answer")
    async with mount.suffering(Trouble(answer=says("404", ends=True))):
        await asyncio.wait_for(before.task, 60)
        meanwhile = Listener(mount)
        await asyncio.wait_for(meanwhile.task, 60)
        assert meanwhile.heard == ["404"]
    assert await Listener(mount).hears("answer")


async def test_who_waits_in_vain_is_let_go_when_the_trouble_is_over() -> None:
    mount = Mount(says("answer"), says("line"))
    async with mount.suffering(Trouble(answer=says("nothing"))):
        listener = Listener(mount)
        assert await listener.hears("nothing")
    await asyncio.wait_for(listener.task, 60)
    assert listener.heard == ["nothing"]


def watch() -> Watch:
    return Watch(rig=None, daemon=None, log=None, began_s=0.0)  # type: ignore[arg-type]


def test_a_sign_wants_the_state_the_reason_and_the_time() -> None:
    seen, sign = watch(), backs_off(StreamReason.TIMEOUT)

    def status(reason: StreamReason, since_s: float) -> StreamStatus:
        return StreamStatus(stream="mute", state=StreamState.BACKING_OFF, reason=reason, detail="", since_s=since_s)

    seen.states["mute"] = [status(StreamReason.TIMEOUT, 1.0), status(StreamReason.ENDED, 12.0)]
    assert sign.seen(seen, "mute", 10.0) is None
    seen.states["mute"].append(status(StreamReason.TIMEOUT, 13.0))
    assert sign.seen(seen, "mute", 10.0) == 13.0
    assert sign.seen(seen, "other", 10.0) is None


def test_what_is_borne_was_recognised_meanwhile() -> None:
    seen: Any = watch()
    seen.found["rate"] = [SimpleNamespace(end_s=12.0)]
    assert bears_it().seen(seen, "rate", 10.0) is None
    seen.found["rate"] = [SimpleNamespace(end_s=18.0)]
    assert bears_it().seen(seen, "rate", 10.0) == 10.0


def test_the_healthy_stream_airs_its_pieces_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [SimpleNamespace(reference_id=name, title=name) for name in ("first", "a", "b")]
    rig: Any = SimpleNamespace(ffmpeg=None, sounds=SimpleNamespace(catalogued=pieces))
    programme = Programme(rig, "control")
    assert programme.airings(1e9) == []
    programme._on_air_s = 100.0
    airings = programme.airings(100.0 + 2 * (_AIRING_S + _BETWEEN_S) + _AIRING_S)
    assert [airing.reference_id for airing in airings] == ["a", "b", "a"]
    assert airings[1].start_s == _AIRING_S + _BETWEEN_S


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(WELL, noticed_s=None),
        replace(WELL, recovered_s=None),
        replace(WELL, lost=1),
        replace(WELL, problems=("mute: the log says nothing",)),
    ],
)
def test_the_verdict_is_spoilt_by_each_thing(spoilt: Outcome) -> None:
    assert table.problems([WELL], [CONTROL]) == []
    assert not spoilt.survived
    assert len(table.problems([WELL, spoilt], [CONTROL])) == 1
    assert table.as_json([WELL, spoilt], [CONTROL])["passed"] is False
    assert "FAILED" in table.text([WELL, spoilt], [CONTROL])
    assert "2 faults injected, 1 survived" in table.summary([WELL, spoilt], [CONTROL])


def test_a_healthy_stream_that_lost_something_spoils_it_too() -> None:
    assert table.problems([WELL], [replace(CONTROL, lost=1)])
    assert table.problems([WELL], [replace(CONTROL, airings=0, problems=("nothing was aired",))])


def test_the_table_is_long_and_its_names_are_its_own() -> None:
    sounds: Any = SimpleNamespace(
        bed=sound(b"", 1), airing=sound(b"", 1), loud_pcm=b"", low_mp3=b"", stereo_mp3=b"", aac=b""
    )
    names = [fault.name for scene in SCENES for fault in scene.faults(sounds)]
    assert len(names) == len(set(names)) >= 60
