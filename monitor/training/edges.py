"""How a window's similarity falls as an airing slides out of it: the slope by which edges are placed.

Pieces are cut against other music, speech, noise and silence, some of it through noise or speech, and each window's
similarity to what it would hold without the cut is put over that of the windows inside.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.embed import fingerprint
from monitor.embed.fingerprint import Fingerprint
from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus
from monitor.training.degrade import beds
from monitor.types import Samples

_SHARES = np.arange(-0.4, 1.81, 0.1)
_INSIDE_S, _OUTSIDE_S = 10, 6
_LEVEL = 0.1
#: Over one cut in three lies noise, over one in three speech, so much quieter.
_UNDER_DB = 5.0
#: Where the airing is hardly heard at all its edges say nothing.
_LEAST_INSIDE = 0.3
_QUIET = 1e-4


def measure_edges(
    corpus: Corpus, models: Path, *, seed: int, threads: int, say: Callable[[str], None], cuts: int = 1200
) -> None:
    """Add "slope" to `fingerprint.calibration.json` in `models`, from pieces that the network was trained on."""
    embedder = fingerprint.load(models, threads=threads)
    dice = np.random.default_rng([seed, 77])
    laid = beds(corpus, development=False, seed=seed + 4)
    pieces = [item for item in corpus.select(kind="music", development=False) if item.samples > 20 * SAMPLE_RATE_HZ]
    shares: list[NDArray[np.float64]] = []
    ratios: list[NDArray[np.float64]] = []
    for number in range(cuts):
        piece = _stretch(dice, corpus.floats(pieces[dice.integers(len(pieces))]), _INSIDE_S + _OUTSIDE_S)
        outside = (
            _stretch(dice, corpus.floats(pieces[dice.integers(len(pieces))]), _OUTSIDE_S),
            _stretch(dice, laid.speech.numpy(), _OUTSIDE_S),
            _stretch(dice, laid.noise.numpy(), _OUTSIDE_S),
            np.zeros(_OUTSIDE_S * SAMPLE_RATE_HZ, dtype=np.float32),
        )[number % 4]
        over = (None, laid.noise.numpy(), laid.speech.numpy())[number // 4 % 3]
        share, ratio = _cut(embedder, dice, piece, outside, over)
        shares.append(share)
        ratios.append(ratio)
    share, ratio = np.concatenate(shares), np.clip(np.concatenate(ratios), -1.5, 1.5)
    rows = []
    for centre in _SHARES:
        near = ratio[np.abs(share - centre) < 0.05]
        rows.append((float(centre), float(near.mean()), float(near.std())))
        say(f"{centre:5.1f} of a window covered: {near.mean():.3f} of the similarity, deviation {near.std():.3f}")
    path = models / "fingerprint.calibration.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["slope"] = {
        "shares": [round(centre, 2) for centre, _, _ in rows],
        "ratios": [round(float(mean), 3) for mean in np.maximum.accumulate([mean for _, mean, _ in rows])],
        "deviations": [round(deviation, 3) for _, _, deviation in rows],
    }
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _cut(
    embedder: Fingerprint,
    dice: np.random.Generator,
    piece: Samples,
    outside: Samples,
    over: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares covered and ratios of similarity of the windows around an end, at any phase between edge and hop."""
    end = _INSIDE_S * SAMPLE_RATE_HZ - int(dice.integers(embedder.hop_samples))
    heard = np.concatenate([piece[:end], outside])
    if over is not None:
        heard = heard + _stretch(dice, over, _INSIDE_S + _OUTSIDE_S)[: len(heard)] * np.float32(10 ** (-_UNDER_DB / 20))
    there, here = embedder.embed_span(piece[: len(heard)]), embedder.embed_span(heard)
    similarities = np.einsum("wd,wd->w", there, here).astype(np.float64)
    covered = (end - np.arange(len(here)) * embedder.hop_samples) / embedder.window_samples
    level = float(np.median(similarities[(covered >= 1.0) & (covered < 3.0)]))
    if level < _LEAST_INSIDE:
        return covered[:0], similarities[:0]
    return covered, similarities / level


def _stretch(dice: np.random.Generator, samples: Samples, length_s: int) -> Samples:
    """Any so many seconds, at one level."""
    length = length_s * SAMPLE_RATE_HZ
    start = int(dice.integers(0, len(samples) - length))
    stretch = samples[start : start + length]
    return np.asarray(stretch * np.float32(_LEVEL / max(float(np.sqrt(np.mean(stretch**2))), _QUIET)))
