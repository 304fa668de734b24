"""What a killed process has heard is evidence for the next one."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import numpy as np
import pytest

from monitor.daemon.lookback import LookBack, Past, sweep
from monitor.daemon.tracker import StretchCache, Tracker
from monitor.types import BANDS, MatchState, Neighbour
from tests.unit.match.simulation import (
    DIMENSION,
    REFERENCE_HOP_S,
    WINDOW_S,
    Airing,
    Catalog,
    Listener,
    Recording,
    windows,
)

OVER = {"piece-4": 90.25}


def past(number: int) -> Past:
    readings = np.random.default_rng(number).standard_normal((3, 8)).astype(np.float16).astype(np.float32)
    near = tuple(
        Neighbour(
            reference_id=f"piece {number}", reference_start_s=0.0, similarity=0.5 + number / 1000, reading=reading
        )
        for reading in range(3)
    )
    levels = np.random.default_rng(number).integers(0, 94, (4, BANDS), dtype=np.uint8)
    return Past(start_s=100.0 + number / 2, readings=readings, levels=levels, neighbours=near, over_s=OVER)


def same(one: Past, other: Past) -> bool:
    bare = [dataclasses.replace(past, readings=None, levels=None) for past in (one, other)]
    alike = np.array_equal(one.readings, other.readings) and np.array_equal(one.levels, other.levels)
    return bare[0] == bare[1] and alike


@pytest.fixture
def kept(tmp_path):
    """Opens the file anew, as the next process does."""
    return lambda most_windows=10: LookBack(tmp_path / "lookback", "radio/one", most_windows=most_windows)


def test_what_was_kept_is_recalled_as_far_as_it_reaches(kept):
    writer = kept()
    for number in range(37):
        writer.keep(past(number))
    recalled = kept().recall(length_s=4.0)
    assert len(recalled) == 9
    assert all(same(one, past(number)) for one, number in zip(recalled, range(28, 37), strict=True))


def test_the_files_stay_small(kept, tmp_path):
    writer = kept()
    for number in range(500):
        writer.keep(past(number))
    assert sum(path.read_bytes().count(b"start_s") for path in tmp_path.rglob("*.windows*")) <= 20


def test_what_nobody_has_added_to_for_a_day_is_swept(kept, tmp_path):
    writer = kept()
    for number in range(15):
        writer.keep(past(number))
    files = list(tmp_path.rglob("*.windows*"))
    written_s = max(path.stat().st_mtime for path in files)
    assert sweep(tmp_path, now_s=written_s + 3600) == 0
    assert sweep(tmp_path, now_s=written_s + 90_000) == len(files) == 2
    assert not kept().recall(length_s=60.0)
    assert sweep(tmp_path / "never", now_s=written_s) == 0


def test_silence_is_recalled_as_silence(kept):
    kept().keep(Past(start_s=1.0, readings=None))
    assert kept().recall(length_s=30.0) == [Past(start_s=1.0, readings=None)]


def test_several_lives_one_after_the_other_are_all_recalled(kept):
    for number in range(9):
        life = kept()
        life.recall(length_s=30.0)
        life.keep(past(number))
    assert [each.start_s for each in kept().recall(length_s=30.0)] == [100.0 + number / 2 for number in range(9)]


@pytest.mark.parametrize("cut", [1, 7, 8, 30, 200])
def test_a_record_that_was_cut_off_says_nothing_and_costs_no_other(kept, tmp_path, cut):
    writer = kept()
    for number in range(3):
        writer.keep(past(number))
    (file,) = tmp_path.rglob("*.windows")
    file.write_bytes(file.read_bytes()[:-cut])
    next_life = kept()
    assert len(next_life.recall(length_s=30.0)) == 2
    next_life.keep(past(3))
    assert [each.start_s for each in kept().recall(length_s=30.0)] == [100.0, 100.5, 101.5]


def test_garbage_says_nothing(kept, tmp_path):
    kept().keep(past(0))
    (file,) = tmp_path.rglob("*.windows")
    whole = file.read_bytes()
    for place in range(0, len(whole), 37):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        assert kept().recall(length_s=30.0) == []


def test_what_another_version_wrote_says_nothing(kept, tmp_path):
    writer = kept()
    writer.keep(past(0))
    (file,) = tmp_path.rglob("*.windows")
    for body in (
        b"",
        b'{"start_s": null, "shape": null, "near": [], "over_s": {}}\n',
        b'{"start_s": 1, "shape": null, "near": [], "over_s": [1]}\n',
        b"{}\n",
        b"[1]\n",
        b"\x00",
        b'{"start_s": 1, "shape": [3, 8], "near": [], "over_s": {}}\nshort',
    ):
        file.write_bytes(struct.pack("<II", len(body), zlib.crc32(body)) + body)
        assert kept().recall(length_s=30.0) == []


def test_numbers_of_numpy_are_kept_as_numbers(kept):
    near = Neighbour(reference_id="a", reference_start_s=0.0, similarity=np.float32(0.5))
    kept().keep(Past(start_s=np.float64(1.0), readings=None, neighbours=(near,), over_s={"a": np.float64(2.0)}))
    assert kept().recall(length_s=30.0)[0].neighbours[0].similarity == 0.5


def test_what_is_forgotten_is_not_there(kept, tmp_path):
    writer = kept()
    for number in range(15):
        writer.keep(past(number))
    writer.forget()
    assert kept().recall(length_s=30.0) == [] and not list(tmp_path.rglob("*.windows*"))
    writer.keep(past(20))
    assert len(kept().recall(length_s=30.0)) == 1


def test_a_disk_that_refuses_is_told_once_and_tried_again(kept, tmp_path, caplog):
    (tmp_path / "lookback").write_text("not a directory")
    writer = kept()
    writer.keep(past(0))
    writer.keep(past(1))
    assert caplog.text.count("the latest windows are not kept") == 1
    (tmp_path / "lookback").unlink()
    writer.keep(past(2))
    assert len(kept().recall(length_s=30.0)) == 1


# -- what it is for ----------------------------------------------------------------------------------------------------


class Reader:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def spectrogram(self, reference_id, start_s, end_s):
        return None

    async def stretch(self, reference_id, start_s, end_s):
        starts = self._catalog.starts[reference_id]
        inside = (starts >= start_s) & (starts < end_s)
        return starts[inside], self._catalog.vectors[reference_id][inside]


class Life:
    """One process that hears the stream; its end is a kill."""

    def __init__(self, catalog: Catalog, kept: LookBack | None, now_s: float | None = None) -> None:
        self._catalog = catalog
        self.tracker = Tracker(
            aligner=Listener(catalog).aligner,
            stretches=StretchCache(Reader(catalog)),
            dimension=DIMENSION,
            reference_hop_s=REFERENCE_HOP_S,
            kept=kept,
            now_s=now_s,
        )

    async def hear(self, stream, since_s, until_s):
        events = []
        for start_s, vector in stream:
            if since_s <= start_s < until_s:
                near = self._catalog.search(vector, 10)
                events += await self.tracker.step(1000 + start_s, vector[np.newaxis], near)
        return events


def told(events):
    return [
        (event.match.reference_id, event.match.state, event.match.start_s, round(event.match.evidence_nats, 1))
        for event in events
    ]


@pytest.mark.parametrize("away_s", [5.0, 9.0, 13.0])
async def test_a_life_after_a_kill_tells_what_one_that_went_on_would(kept, away_s):
    part_s = 4.5
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(6)})
    in_parts, found = 0, {"went on": 0, "recalled": 0, "forgot": 0}
    for seed in range(10):
        airing = Airing(f"piece-{seed % 6}", 10.0, 7.0, 2 * part_s + away_s)
        stream = list(windows(catalog, [airing], until_s=25.0 + away_s, noise=1.35, seed=seed))
        book = kept(60)
        book.forget()
        first = Life(catalog, book)
        if await first.hear(stream, 0.0, 10.0 + part_s - WINDOW_S + 0.01):
            continue  # told of at once: its row goes on as it always did
        in_parts += 1
        lives = {"recalled": Life(catalog, kept(60)), "forgot": Life(catalog, None), "went on": first}
        events = {name: await life.hear(stream, 10.0 + part_s + away_s, np.inf) for name, life in lives.items()}
        assert told(events["recalled"]) == told(events["went on"])
        for name, said in events.items():
            assert {event.match.reference_id for event in said} <= {airing.reference_id}
            found[name] += bool(said)
    assert in_parts >= 5
    assert found["recalled"] > 1.5 * found["forgot"]


@pytest.mark.parametrize("after_s", [10.5, 11.0])
async def test_what_an_airing_before_the_kill_has_told_is_no_evidence_of_another(kept, after_s):
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=120.0) for n in range(12)})
    # After the airing has ended more of it sounds for a moment, on the same line.
    airings = [
        Airing("piece-7", 5.0, 20.0, 15.0),
        Airing("piece-7", 20.0 + after_s, 35.0 + after_s, 1.2, gain=0.8),
    ]
    stream = list(windows(catalog, airings, until_s=45.0, noise=0.5, seed=22))
    book = kept(60)
    book.forget()
    first = await Life(catalog, book).hear(stream, 0.0, 30.1)
    assert first[-1].match.state is MatchState.ENDED
    assert kept(60).recall(length_s=30.0)[-1].over_s == {"piece-7": pytest.approx(1000 + 19.0, abs=1.0)}
    assert told(await Life(catalog, kept(60)).hear(stream, 30.4, np.inf)) == []


@pytest.mark.parametrize("back_s", [60.0, 130.0, 3600.0])
async def test_a_clock_set_back_between_two_lives_leaves_the_next_one_hearing(kept, back_s):
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(4)})
    before = list(windows(catalog, [], until_s=40.0, noise=1.0, seed=3))
    await Life(catalog, kept(60)).hear([(start_s + 5000.0, vector) for start_s, vector in before], 0.0, np.inf)
    now_s = 1000.0 + 5045.0 - back_s
    life = Life(catalog, kept(60), now_s=now_s)
    stream = windows(catalog, [Airing("piece-2", 2.0, 10.0, 30.0)], until_s=30.0, noise=0.6, seed=4)
    events = await life.hear([(start_s + now_s - 1000.0, vector) for start_s, vector in stream], 0.0, np.inf)
    assert any(event.match.state is MatchState.CONFIRMED for event in events)


async def test_what_is_told_again_to_the_next_life_ends_nothing(kept):
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=400.0) for n in range(4)})
    stream = list(windows(catalog, [Airing("piece-1", 4.0, 0.0, 230.0)], until_s=232.0, noise=0.6, seed=5))
    first = await Life(catalog, kept(60)).hear(stream, 0.0, 220.0)
    life = Life(catalog, kept(60))
    life.tracker.aligner.restore([first[-1].match])
    again = await life.hear(stream, 60.0, np.inf)
    assert {event.match.match_id for event in first + again} == {first[0].match.match_id}
    assert all(event.match.state is MatchState.CONFIRMED for event in again)


async def test_a_row_that_a_stop_has_ended_is_no_evidence_of_another(kept):
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=120.0) for n in range(12)})
    airings = [Airing("piece-7", 5.0, 20.0, 15.0), Airing("piece-7", 31.5, 46.5, 1.2, gain=0.8)]
    stream = list(windows(catalog, airings, until_s=45.0, noise=0.5, seed=22))
    first = Life(catalog, kept(60))
    await first.hear(stream, 0.0, 19.0)
    (ended,) = first.tracker.aligner.flush(interrupted=True)
    life = Life(catalog, kept(60))
    life.tracker.aligner.restore([ended.match])
    assert told(await life.hear(stream, 20.0, np.inf)) == []


async def test_a_match_that_ends_while_nothing_is_heard_is_no_evidence_after_a_death_in_that_gap(kept):
    catalog = Catalog({f"piece-{n}": Recording(seed=n, duration_s=120.0) for n in range(12)})
    airings = [Airing("piece-7", 5.0, 20.0, 15.0), Airing("piece-7", 27.0, 42.0, 1.2, gain=0.8)]
    stream = list(windows(catalog, airings, until_s=45.0, noise=0.5, seed=22))

    def life():
        life = Life(catalog, kept(60))
        life.tracker.aligner.options = dataclasses.replace(life.tracker.aligner.options, max_gap_s=5.0)
        return life

    first = life()
    await first.hear(stream, 0.0, 19.0)
    (ended,) = first.tracker.unheard(1000.0 + 26.0)
    assert ended.match.state is MatchState.ENDED
    assert kept(60).recall(length_s=30.0)[-1].over_s == {"piece-7": pytest.approx(1000 + 19.0, abs=1.0)}
    assert told(await life().hear(stream, 26.0, np.inf)) == []


async def test_nothing_is_kept_of_a_stream_that_nobody_goes_on_with(kept):
    catalog = Catalog({"piece": Recording(seed=1, duration_s=60.0)})
    stream = list(windows(catalog, [], until_s=5.0, noise=1.0, seed=1))
    life = Life(catalog, kept(60))
    await life.hear(stream, 0.0, np.inf)
    assert kept(60).recall(length_s=30.0)
    life.tracker.forget()
    assert kept(60).recall(length_s=30.0) == []
