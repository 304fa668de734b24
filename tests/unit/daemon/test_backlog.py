"""A queue that spills to disk keeps order, bound and fairness, and outlives its process."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.daemon import backlog as waiting
from monitor.daemon.backlog import Backlog, Unheard, of_model
from monitor.types import BANDS, Embedded


def window(stream: str, number: int) -> Embedded:
    readings = None if number % 5 == 4 else np.full((1 + number % 2, 8), number, dtype=np.float32)
    levels = None if readings is None else np.full((3, BANDS), number % 94, dtype=np.uint8)
    return Embedded(stream=stream, start_s=float(number), window_s=2.0, readings=readings, levels=levels)


def numbers(items: list[Embedded | Unheard]) -> list[float]:
    return [item.start_s if isinstance(item, Embedded) else item.until_s for item in items]


def backlog(directory: Path, *, capacity: int = 1000, memory: int = 4, lost: list[str] | None = None) -> Backlog:
    drop = (lambda _stream: None) if lost is None else lost.append
    return Backlog(directory, capacity=capacity, on_drop=drop, memory_items=memory)


def test_what_it_is_given_comes_back_as_it_was(tmp_path: Path) -> None:
    queue = backlog(tmp_path / "b", memory=0)
    through = asyncio.Semaphore(0)
    given_items = [window("radio", 3), window("radio", 4), Unheard(stream="ünlike", until_s=7.5, through=through)]
    for item in given_items:
        queue.put(item.stream, item)
    assert queue.on_disk == 3
    first, silent, unheard = queue.take(10)
    assert isinstance(first, Embedded) and isinstance(silent, Embedded) and isinstance(unheard, Unheard)
    assert first.readings is not None and np.array_equal(first.readings, np.full((2, 8), 3, dtype=np.float32))
    assert first.levels is not None and np.array_equal(first.levels, np.full((3, BANDS), 3, dtype=np.uint8))
    assert silent.readings is None and silent.levels is None and silent.window_s == 2.0
    assert unheard.through is through and unheard.stream == "ünlike"


STEPS = st.lists(st.one_of(st.integers(1, 12), st.sampled_from(["take", "hold", "release", "reopen"])), max_size=60)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 6))
def test_every_item_comes_in_order_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str], memory: int
) -> None:
    directory = tmp_path_factory.mktemp("b") / "b"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "_SEGMENT_BYTES", 400)
        queue, put, away = backlog(directory, memory=memory), 0, False
        taken: list[float] = []
        last: list[float] = []
        for step in steps:
            if step == "take":
                last = numbers(queue.take(5))
                taken += last
            elif step == "hold":
                queue.hold()
                away = True
            elif step == "release":
                queue.release()
                away = False
            elif step == "reopen":
                if not away:
                    continue  # what is in memory ends with the process
                queue = backlog(directory, memory=memory)
                queue.hold()
                # The batch that was being searched comes again.
                taken = taken[: len(taken) - len(last)]
                last = []
            else:
                for _ in range(int(step)):
                    queue.put("radio", window("radio", put))
                    put += 1
            assert len(queue) == queue.held("radio") == put - len(taken)
            assert len(queue._memory) <= memory
        while found := numbers(queue.take(7)):
            taken += found
        assert taken == [float(number) for number in range(put)]
        queue.take(1)
        assert list(directory.glob("*.items")) == [] or queue.on_disk == 0


def test_when_full_the_stream_that_holds_most_loses_its_oldest(tmp_path: Path) -> None:
    lost: list[str] = []
    queue = backlog(tmp_path / "b", capacity=20, memory=3, lost=lost)
    for number in range(5):
        queue.put("quiet", window("quiet", number))
    for number in range(60):
        queue.put("loud", window("loud", number))
    assert len(queue) == 20 and Counter(lost) == {"loud": 45}
    rest = queue.take(100)
    assert numbers([item for item in rest if item.stream == "quiet"]) == [0, 1, 2, 3, 4]
    assert numbers([item for item in rest if item.stream == "loud"]) == [float(number) for number in range(45, 60)]


def test_dropping_gives_room_on_disk_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_SEGMENT_BYTES", 1000)
    queue = backlog(tmp_path / "b", capacity=50, memory=0)
    queue.put("quiet", window("quiet", 0))
    for number in range(3000):
        queue.put("loud", window("loud", number))
        if number % 100 == 0:
            queue.hold()
    size_bytes = sum(path.stat().st_size for path in (tmp_path / "b").glob("*.items"))
    assert size_bytes < 20_000
    assert len(queue) == 50


def test_a_damaged_file_loses_what_is_behind_the_damage_and_no_more(tmp_path: Path) -> None:
    queue = backlog(tmp_path / "b", memory=0)
    for number in range(10):
        queue.put("radio", window("radio", number))
    (path,) = (tmp_path / "b").glob("*.items")
    text = bytearray(path.read_bytes())
    text[len(text) // 2] ^= 0xFF
    path.write_bytes(text)
    again = backlog(tmp_path / "b", memory=0)
    assert 0 < len(again) < 10
    again.put("radio", window("radio", 10))
    found = numbers(again.take(20))
    assert found == [*map(float, range(len(found) - 1)), 10.0]
    lost: list[str] = []
    late = backlog(tmp_path / "c", memory=0, lost=lost)
    for number in range(4):
        late.put("radio", window("radio", number))
    (path,) = (tmp_path / "c").glob("*.items")
    path.write_bytes(path.read_bytes()[:-3])
    assert numbers(late.take(9)) == [0.0, 1.0, 2.0] and lost == ["radio"] and len(late) == 0


def test_what_another_model_left_goes(tmp_path: Path) -> None:
    queue = backlog(of_model(tmp_path, catalog="songs", model_id="old"), memory=0)
    queue.put("radio", window("radio", 1))
    assert len(backlog(of_model(tmp_path, catalog="songs", model_id="old"))) == 1
    assert len(backlog(of_model(tmp_path, catalog="songs", model_id="new"))) == 0
    assert not (tmp_path / "songs" / "old").exists()


async def test_whoever_waits_is_told_of_items_and_of_the_end(tmp_path: Path) -> None:
    queue = backlog(tmp_path / "b", memory=0)
    arrival = asyncio.create_task(queue.wait())
    await asyncio.sleep(0)
    queue.put("radio", window("radio", 1))
    assert await arrival
    queue.close()
    assert await queue.wait()
    queue.take(5)
    assert not await queue.wait()
