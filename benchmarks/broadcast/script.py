"""The programmes: minutes of airings by seed, each from a random middle, with what broadcasting does to them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.broadcast.corpus import Piece, decode
from monitor.audio.ffmpeg import FfmpegProgram
from monitor.demo.instruments import Generator
from monitor.demo.programme import Condition, Programme, Recording, Talk, Tape
from monitor.errors import InputError

SHORTEST_AIRING_S = 8.0
#: What is played how often.
_SHARES = {
    Condition.PLAIN: 0.32,
    Condition.UNDER_SPEECH: 0.17,
    Condition.TEMPO: 0.17,
    Condition.CROSSING: 0.12,
    Condition.UNCATALOGUED: 0.1,
    Condition.SPEECH: 0.04,
    Condition.NOISE: 0.04,
    Condition.SILENCE: 0.04,
}
#: Level of the music over speech that is talked on it.
MUSIC_OVER_SPEECH_DB = (0.0, 8.0)


class Shelf:
    """Pieces in a random order, decoded when they are taken; goes round, never the same twice in succession."""

    def __init__(self, pieces: Sequence[Piece], *, catalogued: bool, ffmpeg: FfmpegProgram, rng: Generator) -> None:
        self._pieces = list(pieces)
        self._catalogued = catalogued
        self._ffmpeg = ffmpeg
        self._rng = rng
        self._waiting: list[Piece] = []
        self._last: Piece | None = None

    def take(self) -> Recording:
        """The next piece."""
        while True:
            if not self._waiting:
                self._waiting = [self._pieces[index] for index in self._rng.permutation(len(self._pieces))]
            piece = self._waiting.pop()
            if piece is not self._last or len(self._pieces) == 1:
                break
        self._last = piece
        return Recording(
            reference_id=piece.reference_id if self._catalogued else None,
            title=piece.reference_id,
            samples=decode(piece.path, self._ffmpeg),
        )


def write(
    station: str,
    *,
    minutes: float,
    catalogued: Sequence[Piece],
    held_out: Sequence[Piece],
    talk: Talk,
    ffmpeg: FfmpegProgram,
    rng: Generator,
) -> Programme:
    """A programme of at least so many minutes. Pieces without a stretch that is loud enough are passed over."""
    known = Shelf(catalogued, catalogued=True, ffmpeg=ffmpeg, rng=rng)
    strange = Shelf(held_out, catalogued=False, ffmpeg=ffmpeg, rng=rng)
    tape = Tape(station, ffmpeg=ffmpeg, rng=rng, talk=talk)
    conditions, shares = list(_SHARES), np.array(list(_SHARES.values()))
    while tape.length_s < 60 * minutes:
        match conditions[int(rng.choice(len(conditions), p=shares / shares.sum()))]:
            case Condition.CROSSING:
                _until_done(lambda: tape.cross(known.take(), known.take(), rng.uniform(SHORTEST_AIRING_S + 1, 15)))
            case Condition.UNCATALOGUED:
                _until_done(lambda: tape.play(strange.take(), rng.uniform(10, 25)))
            case Condition.SPEECH:
                tape.speak(rng.uniform(5, 12))
            case Condition.NOISE:
                tape.rustle(rng.uniform(4, 8))
            case Condition.SILENCE:
                tape.rest(rng.uniform(3, 8))
            case condition:
                length_s = min(SHORTEST_AIRING_S + rng.gamma(2.0, 4.0), 28.0)
                music_db = rng.uniform(*MUSIC_OVER_SPEECH_DB)
                play = functools.partial(tape.play, length_s=length_s, condition=condition, music_db=music_db)
                _until_done(functools.partial(_play_next, play, known))
    return tape.programme()


def _play_next(play: Callable[[Recording], None], shelf: Shelf) -> None:
    play(shelf.take())


def _until_done(record: Callable[[], None]) -> None:
    for _ in range(20):
        try:
            return record()
        except InputError:
            continue
    raise InputError("twenty pieces in a row have no stretch that is loud enough; use another folder")
