from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from monitor.daemon import tracker as tracker_module
from monitor.daemon.tracker import StretchCache, Tracker, joined
from monitor.errors import UnreachableError
from monitor.types import ABSENT, BANDS, MatchEvent, MatchState, Neighbour, Spectrogram
from tests.unit.match.simulation import (
    DIMENSION,
    REFERENCE_HOP_S,
    Airing,
    Catalog,
    Listener,
    Recording,
    rows,
    windows,
)


class Reader:
    """Reference windows each half second; the vector holds the window's number."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, float]] = []

    async def spectrogram(self, reference_id, start_s, end_s):
        return None

    async def stretch(self, reference_id, start_s, end_s):
        self.calls.append((reference_id, start_s, end_s))
        starts = np.arange(0.0, 1000.0, 0.5)
        inside = (starts >= start_s) & (starts < end_s)
        return starts[inside], np.stack([starts[inside]] * 4, axis=1).astype(np.float32)


async def test_a_stretch_across_pieces_is_whole_and_read_once():
    reader = Reader()
    cache = StretchCache(reader)
    for _ in range(2):
        starts, vectors = await cache.stretch("a", 230.0, 250.0)
        assert starts.tolist() == np.arange(230.0, 250.0, 0.5).tolist()
        assert vectors[:, 0].tolist() == starts.tolist()
    assert len(reader.calls) == 2


async def test_past_the_end_there_is_nothing():
    starts, vectors = await StretchCache(Reader()).stretch("a", 5000.0, 5030.0)
    assert len(starts) == 0 and len(vectors) == 0


async def test_the_least_recently_used_piece_makes_room(monkeypatch):
    monkeypatch.setattr(tracker_module, "_VECTORS_BYTES", 40_000)
    reader = Reader()
    cache = StretchCache(reader, share=0.5)
    for name in ("a", "b", "a", "c", "a", "b"):
        await cache.stretch(name, 0.0, 1.0)
    assert [name for name, _, _ in reader.calls] == ["a", "b", "c", "b"]


async def test_a_changed_catalog_is_read_again():
    reader = Reader()
    cache = StretchCache(reader)
    await cache.stretch("a", 0.0, 1.0)
    cache.clear()
    await cache.stretch("a", 0.0, 1.0)
    assert len(reader.calls) == 2


async def test_what_a_clock_set_back_ends_is_told_though_the_catalog_is_away_then():
    simulated = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(3)})
    away = False

    class Away:
        async def spectrogram(self, reference_id, start_s, end_s):
            return None

        async def stretch(self, reference_id, start_s, end_s):
            if away:
                raise UnreachableError("Milvus is away")
            starts = simulated.starts[reference_id]
            inside = (starts >= start_s) & (starts < end_s)
            return starts[inside], simulated.vectors[reference_id][inside]

    tracker = Tracker(
        aligner=Listener(simulated).aligner,
        stretches=StretchCache(Away(), share=1e-9),
        dimension=DIMENSION,
        reference_hop_s=REFERENCE_HOP_S,
    )
    stream = list(windows(simulated, [Airing("piece-1", 0.0, 0.0, 40.0)], until_s=30, noise=0.2, seed=1))
    events = []
    for start_s, vector in stream:
        events += await tracker.step(1000 + start_s, vector[np.newaxis], simulated.search(vector, 10))
    assert events[-1].match.state is MatchState.CONFIRMED
    away = True
    tracker._stretches.clear()
    start_s, vector = stream[0]
    strong = [Neighbour(reference_id="piece-2", reference_start_s=0.0, similarity=1.0)]
    tracker.aligner.options = dataclasses.replace(tracker.aligner.options, provisional_nats=1.0)
    with pytest.raises(UnreachableError):
        await tracker.step(start_s, vector[np.newaxis], strong)
    away = False
    events = await tracker.step(start_s, vector[np.newaxis], strong)
    assert events[0].match.state is MatchState.ENDED


def frames(first: int, count: int) -> np.ndarray:
    return np.repeat(np.arange(first, first + count, dtype=np.uint8)[:, np.newaxis], BANDS, axis=1)


def test_overlapping_parts_become_one_picture_and_what_nobody_heard_stays_absent():
    unheard = np.full((1, BANDS), ABSENT, dtype=np.uint8)
    parts = [(10.0, frames(0, 4)), (10.2, np.concatenate([frames(2, 3), unheard])), (10.8, frames(8, 2))]
    picture = joined(parts, 0.1)
    assert (picture.start_s, picture.step_s) == (10.0, 0.1)
    assert picture.levels[:, 0].tolist() == [0, 1, 2, 3, 4, ABSENT, ABSENT, ABSENT, 8, 9]


async def test_pictures_are_read_once_for_each_piece():
    class Pictures(Reader):
        async def spectrogram(self, reference_id, start_s, end_s):
            self.calls.append((reference_id, start_s, end_s))
            first = round(start_s)
            return Spectrogram(start_s=start_s, step_s=1.0, levels=frames(first % 200, 242)) if start_s < 480 else None

    reader = Pictures()
    cache = StretchCache(reader)
    for _ in range(2):
        picture = await cache.spectrogram("a", 230.0, 250.0)
        assert picture is not None and (picture.start_s, len(picture.levels)) == (0.0, 482)
    assert reader.calls == [("a", 0.0, 240.0), ("a", 240.0, 480.0)]
    assert await cache.spectrogram("a", 600.0, 610.0) is None
    cache.clear()
    await cache.spectrogram("a", 230.0, 250.0)
    assert len(reader.calls) == 5


async def test_the_aligner_gets_frames_of_what_it_doubts_and_an_airing_ends_where_they_say():
    """Sound by windows, a piece that stops in the middle of a window by frames."""
    simulated = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(3)})
    step_s, dice = 0.0625, np.random.default_rng(5)
    pieces = {name: dice.integers(20, 80, (960, BANDS), dtype=np.uint8) for name in simulated.recordings}

    class Simulated(Reader):
        async def stretch(self, reference_id, start_s, end_s):
            starts = simulated.starts[reference_id]
            inside = (starts >= start_s) & (starts < end_s)
            return starts[inside], simulated.vectors[reference_id][inside]

        async def spectrogram(self, reference_id, start_s, end_s):
            self.calls.append((reference_id, start_s, end_s))
            return Spectrogram(start_s=step_s, step_s=step_s, levels=pieces[reference_id]) if start_s < 60 else None

    reader, listener = Simulated(), Listener(simulated)
    aired = dice.integers(20, 80, (960, BANDS), dtype=np.uint8)
    aired[160:403] = pieces["piece-1"][80:323]  # 10 to 25.2 s, from its 5th second on
    tracker = Tracker(
        aligner=listener.aligner,
        stretches=StretchCache(reader),
        dimension=DIMENSION,
        reference_hop_s=REFERENCE_HOP_S,
    )
    airing = Airing("piece-1", start_s=10.0, reference_start_s=5.0, length_s=15.2)
    events = []
    for start_s, vector in windows(simulated, [airing], until_s=45.0, noise=0.5, seed=1):
        first = round(start_s / step_s)
        events += await tracker.step(
            start_s, vector[np.newaxis], simulated.search(vector, 10), aired[first : first + 31]
        )
    (last,) = rows(events)
    assert last.match.state is MatchState.ENDED
    assert (last.match.start_s, last.match.end_s) == (pytest.approx(10.0, abs=0.1), pytest.approx(25.2, abs=0.1))
    assert last.match.origin_s == pytest.approx(5.0, abs=0.02)
    assert {name for name, _, _ in reader.calls} <= {"piece-1"}


class Bed(Reader):
    """Three recordings whose frames rise and fall by chance, and a stream that plays one of them under somebody's talk:
    from 10 to 25 s, from its 5th second on.
    """

    STEP_S = 0.0625

    def __init__(self) -> None:
        super().__init__()
        self.simulated = Catalog({f"piece-{n}": Recording(seed=n, duration_s=60.0) for n in range(3)})
        dice = np.random.default_rng(5)
        self.pieces = {name: dice.integers(20, 80, (960, BANDS), dtype=np.uint8) for name in self.simulated.recordings}
        self.talk = dice.integers(20, 80, (960, BANDS), dtype=np.uint8)
        self.levels = self.talk.copy()
        self.levels[160:400] = np.maximum(self.talk[160:400], self.pieces["piece-1"][80:320])

    async def stretch(self, reference_id, start_s, end_s):
        starts = self.simulated.starts[reference_id]
        inside = (starts >= start_s) & (starts < end_s)
        return starts[inside], self.simulated.vectors[reference_id][inside]

    async def spectrogram(self, reference_id, start_s, end_s):
        levels = self.pieces[reference_id]
        return Spectrogram(start_s=self.STEP_S, step_s=self.STEP_S, levels=levels) if start_s < 60 else None

    async def heard(self, levels: np.ndarray | None, *gains: tuple[float, float, float]) -> list[MatchEvent]:
        """The last event of each match, where windows hear the airing from and to a second with such a gain."""
        listener = Listener(self.simulated, duration_s=lambda name: self.simulated.recordings[name].duration_s)
        tracker = Tracker(
            aligner=listener.aligner,
            stretches=StretchCache(self),
            dimension=DIMENSION,
            reference_hop_s=REFERENCE_HOP_S,
        )
        airings = [
            Airing("piece-1", start_s=from_s, reference_start_s=from_s - 5.0, length_s=to_s - from_s, gain=gain)
            for from_s, to_s, gain in gains or [(10.0, 25.0, 1.0)]
        ]
        events = []
        for start_s, vector in windows(self.simulated, airings, until_s=45.0, noise=4.0, seed=1):
            first = round(start_s / self.STEP_S)
            part = None if levels is None else levels[first : first + 31]
            events += await tracker.step(start_s, vector[np.newaxis], self.simulated.search(vector, 10), part)
        return rows(events)


async def test_an_airing_that_windows_hardly_know_is_found_by_frames_and_followed_to_its_end():
    bed = Bed()
    assert await bed.heard(None) == []
    assert await bed.heard(bed.talk) == []
    (last,) = await bed.heard(bed.levels)
    assert last.match.reference_id == "piece-1"
    assert last.match.state is MatchState.ENDED
    assert last.match.evidence_nats > 9.0
    assert (last.match.start_s, last.match.end_s) == (pytest.approx(10.0, abs=1.0), pytest.approx(25.0, abs=1.0))
    assert last.match.origin_s == pytest.approx(5.0, abs=0.05)


async def test_a_match_that_somebody_begins_to_talk_over_goes_on():
    bed = Bed()
    clear_until_18_s = (10.0, 18.0, 12.0), (18.0, 25.0, 1.0)
    (without,) = await bed.heard(None, *clear_until_18_s)
    assert without.match.end_s == pytest.approx(18.0, abs=1.5)
    (last,) = await bed.heard(bed.levels, *clear_until_18_s)
    assert (last.match.start_s, last.match.end_s) == (pytest.approx(10.0, abs=0.5), pytest.approx(25.0, abs=0.5))


@pytest.mark.parametrize("clear_until_s", [11.5, 12.5, 13.0])
async def test_a_young_match_that_somebody_talks_over_stays_one_row(clear_until_s):
    """Of a few clear windows the tempo is not known yet: frames know it."""
    bed = Bed()
    events = await bed.heard(bed.levels, (10.0, clear_until_s, 12.0), (clear_until_s, 25.0, 1.0))
    assert [event.match.state for event in events] == [MatchState.ENDED]
    assert events[0].match.end_s == pytest.approx(25.0, abs=1.0)
    assert events[0].match.tempo_ratio == pytest.approx(1.0, abs=0.005)


async def test_frames_are_kept_of_so_many_recordings_as_there_is_room_for(monkeypatch):
    bed = Bed()
    cache = StretchCache(bed)
    first = await cache.recording("piece-0", 60.0)
    assert await cache.recording("piece-0", 60.0) is first
    monkeypatch.setattr(tracker_module, "_RECORDINGS_BYTES", 2 * first.nbytes)
    for name in ("piece-1", "piece-2"):
        await cache.recording(name, 60.0)
    assert await cache.recording("piece-0", 60.0) is not first
    cache.clear()
    assert cache._recordings_bytes == 0
