"""Measures the exported model on development packages, against a catalog of all music of the corpus.

Gives the model card's table, and the calibration that the aligner reads: how alike windows of the same recording are
under each condition, with the stream's phase off by up to half a hop, and how alike the best of all others is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.embed import fingerprint
from monitor.embed.fingerprint import Fingerprint
from monitor.match.line import Floats, between
from monitor.training.conditions import conditions
from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus, Item
from monitor.training.degrade import beds
from monitor.types import Samples, Vectors

_QUERIES = 400
_CUT_S = 8.0
_SEQUENCES_S = (3.0, 5.0)
_QUIETEST = 0.003
_EDGES = np.linspace(-1.0, 1.0, 101)
#: Peak of the normalised cross-correlation above which two pieces hold the same sound: near copies of each other.
_COPY = 0.6
_BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All windows of all pieces: `vectors` (R, dimension), and of each row its piece and its window's number."""

    pieces: tuple[Item, ...]
    vectors: Vectors
    piece: NDArray[np.int64]
    #: The row of each piece's first window, and how many it has.
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    #: So many of them are one hop of a stream.
    per_hop: int


@dataclass(frozen=True, kw_only=True)
class Queries:
    """(Q, n) samples with the piece and the sample of it at which each begins."""

    signals: Samples
    piece: NDArray[np.int64]
    start_samples: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best sequence of windows in the catalog for each query, and the best outside the query's own piece."""

    row: NDArray[np.int64]
    other_row: NDArray[np.int64]
    other_score: NDArray[np.float32]


def measure(
    corpus: Corpus, models: Path, *, seed: int, threads: int, say: Callable[[str], None], queries: int = _QUERIES
) -> None:
    """Print the table and write `fingerprint.calibration.json` into `models`."""
    embedder = fingerprint.load(models, threads=threads)
    catalog = make_catalog(corpus, embedder)
    say(f"{embedder.model_id}: {len(catalog.pieces)} pieces, {len(catalog.vectors)} windows")
    laid = beds(corpus, development=True, seed=seed + 2)
    plain = draw(corpus, catalog, coded=False, count=queries, seed=seed)
    alike = copies(corpus, catalog, embedder, plain, say)
    same: dict[str, Floats] = {}
    others: list[Floats] = []
    impostors: list[str] = []
    bests: list[NDArray[np.float32]] = []
    sequence_best = dict.fromkeys(_SEQUENCES_S, -1.0)
    say("| condition | window | 3 s | 5 s | 5 s, place | same p05 | same p50 | 5 s p05 |")
    say("|---|---|---|---|---|---|---|---|")
    for number, condition in enumerate(conditions(laid)):
        dice = np.random.default_rng([seed, number])
        asked = draw(corpus, catalog, coded=True, count=queries, seed=seed) if condition.coded else plain
        heard = condition.degrade(asked.signals, dice)[:, : round(max(_SEQUENCES_S) * SAMPLE_RATE_HZ)]
        vectors = embedded(embedder, heard, condition.reading)
        truth = _true_rows(embedder, catalog, asked, condition.rate, vectors.shape[1])
        numbers = true_numbers(embedder, asked, condition.rate, vectors.shape[1])
        same[condition.name] = on_line(catalog, asked.piece, numbers, vectors)
        anyone = dice.choice(len(catalog.pieces), len(vectors), p=catalog.count / catalog.count.sum())
        anywhere = dice.uniform(0, np.maximum(catalog.count[anyone] - 1, 0)[:, None], numbers.shape)
        others.append(on_line(catalog, anyone, anywhere, vectors))
        window = _search(catalog, vectors[:, :1], alike, asked.piece)
        if not condition.two_pieces:
            bests.append(window.other_score)
        shares = [_right(catalog, window.row, asked.piece, alike)]
        for length_s in _SEQUENCES_S:
            count = _windows(embedder, length_s)
            found = _search(catalog, vectors[:, :count], alike, asked.piece, condition.rate)
            shares.append(_right(catalog, found.row, asked.piece, alike))
            if not condition.two_pieces:
                sequence_best[length_s] = max(sequence_best[length_s], float(found.other_score.max()))
        if condition.name == "clean":
            impostors = _impostors(catalog, asked, found)
        placed = float(np.mean(np.abs(found.row - truth[:, 0]) <= catalog.per_hop))
        low, middle = np.quantile(same[condition.name], (0.05, 0.5))
        sequence_low = np.quantile(same[condition.name].mean(axis=1), 0.05)
        cells = [f"{100 * share:.1f}" for share in (*shares, placed)]
        cells += [f"{similarity:.2f}" for similarity in (low, middle, sequence_low)]
        say(f"| {condition.name} | {' | '.join(cells)} |")
    # What no catalog holds is the other half of what a stream plays: speech, noise and effects by themselves.
    for bed in (laid.speech, laid.noise, laid.effects):
        windows = bed.numpy()[: len(bed) // embedder.window_samples * embedder.window_samples]
        vectors = embedder.embed(windows.reshape(-1, embedder.window_samples)[:queries] / 10)
        nobody = np.full(len(vectors), -1)
        bests.append(_search(catalog, vectors[:, None], alike, nobody).other_score)
    best = np.concatenate(bests)
    middle, high = np.quantile(best, (0.5, 0.99))
    say(f"best of the others, one window: p50 {middle:.2f}, p99 {high:.2f}, max {best.max():.2f}")
    for length_s, highest in sequence_best.items():
        say(f"best of the others, mean over {length_s:.0f} s: max {highest:.2f}")
    for line in impostors:
        say(line)
    pooled = np.concatenate([values.ravel() for values in same.values()])
    calibration = {
        "model_id": embedder.model_id,
        "hop_s": embedder.hop_s,
        "edges": [round(float(edge), 4) for edge in _EDGES],
        "same": {name: density(values, _EDGES) for name, values in [("all", pooled), *same.items()]},
        "other": density(np.concatenate([values.ravel() for values in others]), _EDGES),
        "other_best": density(best, _EDGES),
    }
    (models / "fingerprint.calibration.json").write_text(json.dumps(calibration) + "\n")


def draw(corpus: Corpus, catalog: Catalog, *, coded: bool, count: int, seed: int) -> Queries:
    """Draw audible stretches of development music, anywhere in their pieces: a window's phase is uniform in a hop."""
    dice = np.random.default_rng([seed, coded])
    length = round(_CUT_S * SAMPLE_RATE_HZ)
    number = {item.path: index for index, item in enumerate(catalog.pieces)}
    items = [
        item
        for item in corpus.select(kind="music", development=True, coded=coded)
        if item.samples > length and item.path in number
    ]
    weights = np.array([item.samples for item in items], dtype=np.float64)
    signals: list[Samples] = []
    pieces: list[int] = []
    starts: list[int] = []
    while len(signals) < count:
        item = items[dice.choice(len(items), p=weights / weights.sum())]
        start = int(dice.integers(0, item.samples - length))
        cut = corpus.floats(item)[start : start + length]
        blocks = cut.reshape(16, -1)
        if np.sqrt(np.mean(blocks**2, axis=1)).min() < _QUIETEST:
            continue
        signals.append(cut)
        pieces.append(number[item.path])
        starts.append(start + item.codec_start_samples)
    return Queries(signals=np.stack(signals), piece=np.array(pieces), start_samples=np.array(starts))


def make_catalog(corpus: Corpus, embedder: Fingerprint) -> Catalog:
    """All music of the corpus, embedded."""
    pieces = [*corpus.select(kind="music", development=True), *corpus.select(kind="music", development=False)]
    made = [embedder.embed_reference(corpus.floats(item)) for item in pieces]
    count = np.array([len(vectors) for vectors in made])
    return Catalog(
        pieces=tuple(pieces),
        vectors=np.concatenate(made),
        piece=np.repeat(np.arange(len(pieces)), count),
        first=np.concatenate([[0], np.cumsum(count)[:-1]]),
        count=count,
        per_hop=embedder.hop_samples // embedder.reference_hop_samples,
    )


def _windows(embedder: Fingerprint, length_s: float) -> int:
    return 1 + (round(length_s * SAMPLE_RATE_HZ) - embedder.window_samples) // embedder.hop_samples


def embedded(embedder: Fingerprint, signals: Samples, reading: int = 0) -> Vectors:
    """Vectors (Q, W, d) of equally long signals (Q, n), read at one pitch."""
    return np.stack([embedder.read_span(signal)[:, reading] for signal in signals])


def true_numbers(embedder: Fingerprint, queries: Queries, rate: float, windows: int) -> NDArray[np.float64]:
    """Which window of its piece each query window is, centre to centre, in fractions of them: (Q, windows)."""
    half = embedder.window_samples / 2
    centre = queries.start_samples[:, None] + rate * (np.arange(windows) * embedder.hop_samples + half)
    return np.asarray((centre - half) / embedder.reference_hop_samples)


def _true_rows(
    embedder: Fingerprint, catalog: Catalog, queries: Queries, rate: float, windows: int
) -> NDArray[np.int64]:
    """Give the catalog's row nearest in time to each query window: (Q, windows)."""
    number = np.rint(true_numbers(embedder, queries, rate, windows)).astype(np.int64)
    return catalog.first[queries.piece][:, None] + np.clip(number, 0, catalog.count[queries.piece][:, None] - 1)


def on_line(catalog: Catalog, piece: NDArray[np.int64], numbers: NDArray[np.float64], vectors: Vectors) -> Floats:
    """Similarity of windows (Q, W, d) with a second of their pieces (Q,), as the aligner takes it: (Q, W).

    `numbers` (Q, W) are the windows of the pieces, in fractions of them.
    """
    first, most = catalog.first[piece][:, None], np.maximum(catalog.count[piece][:, None] - 2, 0)
    number = np.clip(numbers, 0, most + 1)
    whole = np.minimum(number.astype(np.int64), most)
    lower, upper = catalog.vectors[first + whole], catalog.vectors[first + whole + 1]
    alike, to_lower, to_upper = (
        np.einsum("qwd,qwd->qw", one, other) for one, other in ((lower, upper), (vectors, lower), (vectors, upper))
    )
    return between(to_lower, to_upper, number - whole, alike)


def _search(
    catalog: Catalog, vectors: Vectors, alike: NDArray[np.bool_], own: NDArray[np.int64], rate: float = 1.0
) -> Found:
    """Find the rows, a run at `rate`, whose mean similarity to (Q, windows, dimension) is highest; own -1 is none."""
    windows = vectors.shape[1]
    steps = [round(rate * number * catalog.per_hop) for number in range(windows)]
    last = len(catalog.vectors) - steps[-1]
    whole = catalog.piece[:last] == catalog.piece[steps[-1] :]
    rows, other_rows, other_scores = [], [], []
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        score = sum(catalog.vectors[step : step + last] @ block[:, at].T for at, step in enumerate(steps)) / windows
        score = np.where(whole[:, None], score, -1.0).T
        rows.append(score.argmax(axis=1))
        for line, piece in zip(score, own[start : start + _BLOCK], strict=True):
            if piece >= 0:
                line[alike[piece][catalog.piece[:last]]] = -1.0
            other_rows.append(int(line.argmax()))
            other_scores.append(float(line.max()))
    return Found(
        row=np.concatenate(rows), other_row=np.array(other_rows), other_score=np.array(other_scores, dtype=np.float32)
    )


def _right(catalog: Catalog, row: NDArray[np.int64], piece: NDArray[np.int64], alike: NDArray[np.bool_]) -> float:
    return float(np.mean(alike[piece, catalog.piece[row]]))


def _impostors(catalog: Catalog, queries: Queries, found: Found, most: int = 10) -> list[str]:
    """Name the pairs of pieces that are most alike without being copies: to be judged by ear."""
    pairs: dict[tuple[int, int], float] = {}
    for piece, row, score in zip(queries.piece, found.other_row, found.other_score, strict=True):
        pair = int(piece), int(catalog.piece[row])
        pairs[pair] = max(pairs.get(pair, -1.0), float(score))
    worst = sorted(pairs.items(), key=lambda entry: -entry[1])[:most]
    name = [item.path for item in catalog.pieces]
    return [f"alike over 5 s: {score:.2f} {name[mine]} and {name[other]}" for (mine, other), score in worst]


def copies(
    corpus: Corpus, catalog: Catalog, embedder: Fingerprint, queries: Queries, say: Callable[[str], None]
) -> NDArray[np.bool_]:
    """Tell which pieces hold the same sound: candidates by the model, decided by their samples' cross-correlation."""
    alike = np.eye(len(catalog.pieces), dtype=bool)
    length = round(5.0 * SAMPLE_RATE_HZ)
    vectors = embedded(embedder, queries.signals[:, :length])
    for _ in range(4):
        found = _search(catalog, vectors, alike, queries.piece)
        news = 0
        for query, row in enumerate(found.other_row):
            mine, other = int(queries.piece[query]), int(catalog.piece[row])
            if alike[mine, other]:
                continue
            start = int(row - catalog.first[other]) * embedder.reference_hop_samples
            spare = embedder.hop_samples
            there = corpus.of(catalog.pieces[other])[max(0, start - spare) : start + length + spare].astype(np.float32)
            if _correlation(queries.signals[query, :length], there) > _COPY:
                alike[mine, other] = alike[other, mine] = True
                news += 1
                say(f"near copies: {catalog.pieces[mine].path} and {catalog.pieces[other].path}")
        if not news:
            break
    return alike


def _correlation(cut: Samples, there: Samples) -> float:
    """Give the peak of the normalised cross-correlation of `cut` within the longer `there`."""
    size = len(cut) + len(there)
    product = np.fft.irfft(np.fft.rfft(there, size) * np.conj(np.fft.rfft(cut, size)), size)
    product = product[: len(there) - len(cut) + 1]
    energy = np.concatenate([[0.0], np.cumsum(there.astype(np.float64) ** 2)])
    local = energy[len(cut) :] - energy[: len(there) - len(cut) + 1]
    return float(np.max(np.abs(product) / np.sqrt(np.maximum(local, 1.0) * np.sum(cut**2)), initial=0.0))


def density(values: NDArray[np.floating], edges: NDArray[np.float64]) -> list[float]:
    """Of what is not NaN, in the bins between `edges`; zeros where that is nothing."""
    counts, _ = np.histogram(values[~np.isnan(values)], edges)
    return [round(float(share), 6) for share in counts / np.diff(edges) / max(counts.sum(), 1)]
