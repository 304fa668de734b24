"""What waits in the journal survives: other processes' deaths, torn ends, flipped bits, a full disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.errors import StorageError
from monitor.record.journal import Heard, Journal
from monitor.types import Gap, StreamState, StreamStatus
from tests.integration.record.events import make_event

STATUS = StreamStatus(
    stream="radio", state=StreamState.STALLED, reason="stalled", detail='"quoted"\nand ünlike \0 bytes', since_s=1.5
)


def heard(number: int) -> Heard:
    return Heard(stream="radio", until_s=float(number))


def numbers(journal: Journal, most: int = 1000) -> list[float]:
    return [line.entry.until_s for line in journal.read(most) if isinstance(line.entry, Heard)]


def test_every_kind_of_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    entries = [make_event(hits_s=(1.25, 2.5), changed=False), STATUS, heard(1)]
    entries.append(Gap(stream="radio", start_s=0.1, end_s=0.30000000000000004, reason="dns"))
    for epoch, entry in enumerate(entries):
        journal.append(entry, epoch=epoch)
    assert [line.entry for line in journal.read(10)] == entries
    assert [line.epoch for line in journal.read(10)] == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 9), st.just("reopen"), st.just("take")), max_size=40))
def test_each_entry_is_read_in_order_and_once_however_often_the_journal_is_taken_up(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]
) -> None:
    directory = tmp_path_factory.mktemp("j") / "journal"
    journal, put, taken = Journal(directory), 0, []
    for step in steps:
        if step == "reopen":
            journal.close()
            journal = Journal(directory)
        elif step == "take":
            lines = journal.read(5)
            taken += [line.entry.until_s for line in lines if isinstance(line.entry, Heard)]
            journal.advance(lines)
        else:
            for _ in range(int(step)):
                journal.append(heard(put), epoch=1)
                put += 1
        assert len(journal) == put - len(taken)
    taken += numbers(journal)
    assert taken == list(range(put))
    journal.close()


def test_an_empty_journal_gives_its_room_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.record.journal._CUT_BYTES", 1000)
    journal = Journal(tmp_path / "journal")
    for number in range(50):
        journal.append(heard(number), epoch=1)
    lines = journal.read(49)
    journal.advance(lines)
    assert len(journal) == 1
    journal.advance(journal.read(9))
    assert (len(journal), journal.size_bytes) == (0, 0)
    assert (tmp_path / "journal" / "events.log").stat().st_size == 0
    journal.append(heard(50), epoch=1)
    assert numbers(Journal(tmp_path / "journal")) == [50]


def test_a_process_that_died_while_it_gave_room_back_leaves_an_empty_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(heard(1), epoch=1)
    journal.advance(journal.read(1))
    os.truncate(tmp_path / "journal" / "events.log", 0)
    again = Journal(tmp_path / "journal")
    assert len(again) == 0
    again.append(heard(2), epoch=1)
    assert numbers(again) == [2]


@pytest.mark.parametrize("kept_bytes", [1, 20, 60])
def test_a_torn_last_line_is_damaged_and_takes_no_other_along(tmp_path: Path, kept_bytes: int) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(heard(1), epoch=1)
    whole = journal.size_bytes
    journal.append(heard(2), epoch=1)
    os.truncate(tmp_path / "journal" / "events.log", whole + kept_bytes)
    again = Journal(tmp_path / "journal")
    again.append(heard(3), epoch=1)
    lines = again.read(10)
    assert [line.entry for line in lines] == [heard(1), None, heard(3)]
    again.advance(lines)
    assert len(again) == 0 and again.read(10) == []


@given(st.integers(min_value=0), st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_flipped_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    directory = tmp_path_factory.mktemp("j") / "journal"
    journal = Journal(directory)
    for number in range(3):
        journal.append(heard(number), epoch=1)
    journal.close()
    text = bytearray((directory / "events.log").read_bytes())
    before = bytes(text)
    text[at % len(text)] = byte
    (directory / "events.log").write_bytes(text)
    again = Journal(directory)
    entries = [line.entry for line in again.read(10)]
    assert set(entries) <= {heard(0), heard(1), heard(2), None}
    assert bytes(text) == before or entries != [heard(0), heard(1), heard(2)]
    again.advance(again.read(10))
    assert len(again) == 0
    again.close()


def test_a_full_journal_says_so_and_stays_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", capacity_bytes=200)
    journal.append(heard(1), epoch=1)
    journal.append(heard(2), epoch=1)
    with pytest.raises(StorageError, match="full"):
        journal.append(STATUS, epoch=1)
    journal.advance(journal.read(1))
    journal.append(heard(3), epoch=1)
    assert numbers(journal) == [2, 3]


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(heard(1), epoch=1)
    real = os.pwrite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.record.journal.os.pwrite", lambda file, data, at: real(file, data[: len(data) // 2], at))
        with pytest.raises(StorageError, match="disk"):
            journal.append(heard(2), epoch=1)
    journal.append(heard(3), epoch=1)
    assert numbers(journal) == [1, 3]
