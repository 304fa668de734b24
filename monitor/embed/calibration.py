"""What the similarities of PANNs are worth on a user's own audio: what all of it has in common, and two histograms.

"Same" is a window of a recording against the window of the catalog nearest to it in time, as a live stream sees it: off
by up to half a hop, half of them under light noise. "Other" is that window against every window of other recordings,
"other_best" the best of those, which is what a search would have brought. Few recordings make the best of the others
look harmless: use as many as can be had, best those of the catalog.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.audio.window import level_dbfs
from monitor.embed.checkpoint import storing
from monitor.embed.panns import Panns, common_path, model_id, normalise
from monitor.errors import InputError
from monitor.types import Samples, Vectors

#: With fewer, what they have in common is theirs alone, and taking it off tears them apart.
LEAST_RECORDINGS = 8
_QUERIES = 6
_NOISE_DB = 30.0
_SILENT_DBFS = -70.0
#: Directions that may be taken off besides the mean; the number that tells best apart is used.
_DIRECTIONS = (0, 1, 2, 4)
_EDGES = np.linspace(-1.0, 1.0, 101)


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A recording as the catalog and as a stream would hold it, in raw embeddings."""

    #: (R, dimension), a row per hop.
    references: Vectors
    #: (Q, dimension), and for each the reference row nearest in time and what was done to it.
    queries: Vectors
    nearest: NDArray[np.int64]
    conditions: tuple[str, ...]


def excerpt(embedder: Panns, samples: Samples, *, seed: int) -> Excerpt | None:
    """What a recording (n,) gives to the calibration; None if it is too short or silent. Deterministic by `seed`."""
    random = np.random.default_rng(seed)
    hop, window = embedder.hop_samples, embedder.window_samples
    starts = [
        start
        for start in range(hop, len(samples) - window - hop + 1, hop)
        if level_dbfs(samples[start : start + window]) > _SILENT_DBFS
    ]
    if not starts:
        return None
    chosen = random.choice(starts, size=min(_QUERIES, len(starts)), replace=False)
    conditions = tuple("clean" if index % 2 == 0 else f"noise_{_NOISE_DB:.0f}db" for index in range(len(chosen)))
    queries = np.empty((len(chosen), window), dtype=np.float32)
    for query, start, condition in zip(queries, chosen, conditions, strict=True):
        begin = int(start) + int(random.integers(-(hop // 2), hop // 2, endpoint=True))
        query[:] = samples[begin : begin + window]
        if condition != "clean":
            amplitude = np.float32(10 ** ((level_dbfs(query) - _NOISE_DB) / 20))
            query[:] += random.standard_normal(window, dtype=np.float32) * amplitude
    return Excerpt(
        references=embedder.raw_span(samples),
        queries=embedder.raw(queries),
        nearest=np.asarray(chosen // hop, dtype=np.int64),
        conditions=conditions,
    )


def common_part(excerpts: Sequence[Excerpt]) -> Vectors:
    """What the recordings have in common, (1 + D, dimension) as `normalise` takes it.

    The mean of their raw embeddings and the D directions in which these vary most. Of a few D the one is taken that
    tells "same" from "other_best" best, by the distance of their means in standard deviations. InputError with fewer
    than LEAST_RECORDINGS recordings.
    """
    _check(excerpts)
    raw = np.concatenate([one.references for one in excerpts]).astype(np.float64)
    mean = raw.mean(axis=0)
    directions = np.linalg.svd(raw - mean, full_matrices=False)[2]
    candidates = [np.concatenate([mean[None], directions[:count]]).astype(np.float32) for count in _DIRECTIONS]
    return max(candidates, key=lambda common: _distance(_similarities(excerpts, common)))


def histograms(excerpts: Sequence[Excerpt], *, common: Vectors | None) -> dict[str, object]:
    """The densities of similarity: {"edges", "same": {"all", one per condition}, "other", "other_best", counts}.

    InputError with fewer than LEAST_RECORDINGS recordings.
    """
    _check(excerpts)
    found = _similarities(excerpts, common)
    return {
        "edges": _EDGES.round(6).tolist(),
        "same": {name: _density(values) for name, values in {"all": found.all_same, **found.same}.items()},
        "other": _density(found.other),
        "other_best": _density(found.other_best),
        "recordings": len(excerpts),
        "queries": len(found.other_best),
    }


def write(
    embedder: Panns, excerpts: Sequence[Excerpt], *, models_dir: Path, common: Vectors | None
) -> tuple[str, Path]:
    """The common part, if any, and the calibration made with it stand in `models_dir`; gives the model id and its path.

    Each file is replaced in one step. InputError if there are too few recordings, StorageError if it can't be written.
    """
    made_for = model_id(embedder.weights_id, common)
    content = {"model_id": made_for, "hop_s": embedder.hop_s, **histograms(excerpts, common=common)}
    if common is not None:
        array = io.BytesIO()
        np.save(array, common, allow_pickle=False)
        _replace(common_path(models_dir, embedder.weights_id), array.getvalue())
    path = calibration_path(models_dir)
    _replace(path, json.dumps(content, indent=1).encode())
    return made_for, path


def calibration_path(models_dir: Path) -> Path:
    """Where the calibration of the model "panns" stands; its `model_id` says for which weights and mean it holds."""
    return models_dir / "panns.calibration.json"


@dataclass(frozen=True, kw_only=True)
class _Similarities:
    same: Mapping[str, list[float]]
    other: NDArray[np.float32]
    other_best: NDArray[np.float32]

    @property
    def all_same(self) -> list[float]:
        return [*itertools.chain(*self.same.values())]


def _similarities(excerpts: Sequence[Excerpt], common: Vectors | None) -> _Similarities:
    references = [normalise(one.references, common=common) for one in excerpts]
    same: dict[str, list[float]] = {}
    other: list[NDArray[np.float32]] = []
    for index, one in enumerate(excerpts):
        queries = normalise(one.queries, common=common)
        for query, nearest, condition in zip(queries, one.nearest, one.conditions, strict=True):
            same.setdefault(condition, []).append(float(query @ references[index][nearest]))
        other.append(queries @ np.concatenate(references[:index] + references[index + 1 :]).T)
    return _Similarities(
        same=same,
        other=np.concatenate([block.ravel() for block in other]),
        other_best=np.concatenate([block.max(axis=1) for block in other]),
    )


def _distance(found: _Similarities) -> float:
    """The sensitivity index d' of signal detection (Green and Swets, 1966)."""
    same, best = np.asarray(found.all_same), found.other_best
    return float((same.mean() - best.mean()) / np.sqrt((same.var() + best.var()) / 2 + 1e-9))


def _check(excerpts: Sequence[Excerpt]) -> None:
    if len(excerpts) < LEAST_RECORDINGS:
        raise InputError(
            f"{len(excerpts)} recordings could be used, calibration needs {LEAST_RECORDINGS} or more, of 16 s or longer"
        )


def _density(similarities: Sequence[float] | NDArray[np.float32]) -> list[float]:
    density = np.histogram(np.clip(similarities, -1.0, 1.0), bins=_EDGES, density=True)[0]
    return [float(value) for value in density.round(6)]


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with storing(path):
        fresh.write_bytes(content)
        fresh.replace(path)
