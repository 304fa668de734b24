from __future__ import annotations

import struct

import pytest

from benchmarks.false_alarms import tunes
from benchmarks.false_alarms.tunes import Form, Part


def events(midi):
    """(tick, message) of a file of format 0, read as the standard says."""
    kind, size, form, tracks, _ticks = struct.unpack(">4sIHHH", midi[:14])
    assert (kind, size, form, tracks) == (b"MThd", 6, 0, 1)
    name, length = struct.unpack(">4sI", midi[14:22])
    assert name == b"MTrk" and length == len(midi) - 22
    place, tick = 22, 0
    while place < len(midi):
        delta = 0
        while True:
            byte = midi[place]
            place += 1
            delta = delta << 7 | byte & 0x7F
            if byte < 0x80:
                break
        tick += delta
        status = midi[place]
        size = 3 + midi[place + 2] if status == 0xFF else 2 if status >> 4 == 0xC else 3
        yield tick, midi[place : place + size]
        place += size


@pytest.mark.parametrize("number", range(len(Form)))
def test_each_form_is_a_file_whose_notes_all_end(number):
    tune = tunes.compose(3, number, part=Part.STRANGERS, length_s=30)
    assert list(Form)[number] == tune.form and 20 < tune.duration_s < 60
    sounding, strokes = set(), 0
    for _, message in events(tune.midi):
        key = (message[0] & 0x0F, message[1])
        if message[0] >> 4 == 9:
            sounding.add(key)
            strokes += 1
        elif message[0] >> 4 == 8:
            sounding.discard(key)
    assert not sounding and strokes > 10
    assert message == b"\xff\x2f\x00"


def test_the_numbers_decide_every_note():
    one = tunes.compose(3, 5, part=Part.STRANGERS, length_s=30)
    assert one == tunes.compose(3, 5, part=Part.STRANGERS, length_s=30)
    for other in ((4, 5, Part.STRANGERS), (3, 12, Part.STRANGERS), (3, 5, Part.CATALOG)):
        seed, number, part = other
        assert tunes.compose(seed, number, part=part, length_s=30).midi != one.midi


def test_no_two_parts_share_an_instrument():
    programs = {
        part: {
            message[1]
            for number in range(40)
            for _, message in events(tunes.compose(1, number, part=part, length_s=10).midi)
            if message[0] >> 4 == 0xC
        }
        for part in Part
    }
    for part, own in programs.items():
        assert len(own) > 10
        assert not own & set().union(*(others for other, others in programs.items() if other is not part))
