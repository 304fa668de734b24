"""Draws training pairs: which recording, which window of it, and which degraded window shall be its equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus, Item

#: Pairs in a batch, and how many of them come from one piece: its other bars are the hardest negatives there are.
PAIRS = 256
PER_PIECE = 4
#: Windows of one piece nearer than this to each other are neither the same nor different.
NEAR_S = 0.8
_CODED_SHARE = 0.35
_OTHER_SHARE = 0.10
_LONGEST_WEIGHT_S = 240.0
_QUIETEST = 0.001
#: Batches whose music is of one package: its style, instruments and tempi are what impostors are made of.
_ONE_PACKAGE_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`PAIRS` stretches of int16 around window centres: of the files, and of what the degraded copies start from."""

    #: (PAIRS, stretch_samples); the window's centre is the stretch's centre.
    anchors: NDArray[np.int16]
    #: The same instants, from a coded copy where there is one.
    sources: NDArray[np.int16]
    #: The number of the piece and the second of it that each pair comes from.
    pieces: NDArray[np.int64]
    times_s: NDArray[np.float64]


class Pairs:
    """An endless, seeded source of batches. The draw of step n depends on the seed and n only, so that it resumes."""

    def __init__(self, corpus: Corpus, *, development: bool, stretch_samples: int, seed: int) -> None:
        self._corpus = corpus
        self._stretch = stretch_samples
        self._seed = seed
        shortest = int(2.5 * SAMPLE_RATE_HZ)
        self._music = corpus.select(kind="music", development=development)
        others = corpus.select(kind="voice", development=development)
        others += corpus.select(kind="effect", development=development)
        self._others = [item for item in others if item.samples >= shortest]
        by_path = {item.path: number for number, item in enumerate(self._music)}
        coded = corpus.select(kind="music", development=development, coded=True)
        self._coded = [(by_path[item.path], item) for item in coded]
        lengths = np.array([item.samples / SAMPLE_RATE_HZ for item in self._music])
        self._weights = np.sqrt(np.minimum(lengths, _LONGEST_WEIGHT_S))
        self._packages = np.array([item.package for item in self._music])

    def batch(self, step: int) -> Batch:
        """Draw the batch of one step."""
        dice = np.random.default_rng([self._seed, step])
        anchors, sources, pieces, times = [], [], [], []
        weights = self._weights / self._weights.sum()
        alone = dice.random() < _ONE_PACKAGE_SHARE
        if alone:
            package = self._packages[dice.choice(len(weights), p=weights)]
            weights = np.where(self._packages == package, self._weights, 0.0)
            weights /= weights.sum()
        for _ in range(PAIRS // PER_PIECE):
            number, item, coded = self._piece(dice, weights, alone=alone)
            shift = coded.codec_start_samples if coded else 0
            for time in self._times(dice, coded or item):
                anchor = self._cut(item, time + shift)
                sources.append(self._cut(coded, time) if coded else anchor)
                anchors.append(anchor)
                pieces.append(number)
                times.append((time + shift) / SAMPLE_RATE_HZ)
        return Batch(
            anchors=np.stack(anchors), sources=np.stack(sources), pieces=np.array(pieces), times_s=np.array(times)
        )

    def _piece(
        self, dice: np.random.Generator, weights: NDArray[np.float64], *, alone: bool
    ) -> tuple[int, Item, Item | None]:
        if dice.random() < _CODED_SHARE:
            coded = [(number, item) for number, item in self._coded if weights[number] > 0] if alone else self._coded
            if coded:
                number, copy = coded[dice.integers(len(coded))]
                return number, self._music[number], copy
        if dice.random() < _OTHER_SHARE and self._others:
            number = int(dice.integers(len(self._others)))
            return len(self._music) + number, self._others[number], None
        number = int(dice.choice(len(self._music), p=weights))
        return number, self._music[number], None

    def _times(self, dice: np.random.Generator, item: Item) -> list[int]:
        """Choose window centres: one anywhere, one a second or so from it, one some bars on, one anywhere."""
        low, high = SAMPLE_RATE_HZ, max(SAMPLE_RATE_HZ + 1, item.samples - SAMPLE_RATE_HZ)
        chosen: list[int] = []
        for kind in range(PER_PIECE):
            for _ in range(8):
                if kind in (1, 2) and chosen:
                    reach = (1.0, 3.0) if kind == 1 else (2.0, 16.0)
                    time = chosen[0] + int(dice.choice((-1, 1)) * dice.uniform(*reach) * SAMPLE_RATE_HZ)
                else:
                    time = int(dice.integers(low, high))
                if not low <= time < high:
                    continue
                heard = self._corpus.of(item)[max(0, time - SAMPLE_RATE_HZ) : time + SAMPLE_RATE_HZ]
                if np.sqrt(np.mean((heard / 32768.0) ** 2)) >= _QUIETEST:
                    break
            else:
                time = int(dice.integers(low, high))
            chosen.append(time)
        return chosen

    def _cut(self, item: Item, centre: int) -> NDArray[np.int16]:
        start = centre - self._stretch // 2
        samples = self._corpus.of(item)
        cut = samples[max(0, start) : max(0, start + self._stretch)]
        before = max(0, -start)
        return np.pad(cut, (before, self._stretch - before - len(cut)))
