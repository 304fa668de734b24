"""What the similarities of a model are worth on a user's own audio: its mean embedding, and two histograms.

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
from monitor.embed.panns import Panns, mean_path, model_id, normalise
from monitor.errors import InputError
from monitor.types import Samples, Vectors

#: With fewer, the mean is theirs rather than that of the audio, and centring tears them apart.
LEAST_RECORDINGS = 8
_QUERIES = 6
_NOISE_DB = 20.0
_SILENT_DBFS = -70.0
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


def mean_of(excerpts: Sequence[Excerpt]) -> Vectors:
    """The mean raw embedding (dimension,) over recordings, each counted once however long it is."""
    means = np.stack([one.references.mean(axis=0) for one in excerpts])
    return np.asarray(means.mean(axis=0), dtype=np.float32)


def histograms(excerpts: Sequence[Excerpt], *, mean: Vectors | None) -> dict[str, object]:
    """The densities of similarity: {"edges", "same": {"all", one per condition}, "other", "other_best", counts}.

    InputError with fewer than LEAST_RECORDINGS recordings.
    """
    if len(excerpts) < LEAST_RECORDINGS:
        raise InputError(
            f"{len(excerpts)} recordings could be used, calibration needs {LEAST_RECORDINGS} or more, of 16 s or longer"
        )
    references = [normalise(one.references, mean=mean) for one in excerpts]
    same: dict[str, list[float]] = {}
    other: list[NDArray[np.float32]] = []
    best: list[float] = []
    for index, one in enumerate(excerpts):
        queries = normalise(one.queries, mean=mean)
        for query, nearest, condition in zip(queries, one.nearest, one.conditions, strict=True):
            same.setdefault(condition, []).append(float(query @ references[index][nearest]))
        others = queries @ np.concatenate(references[:index] + references[index + 1 :]).T
        other.append(others.ravel())
        best.extend(others.max(axis=1).tolist())
    return {
        "edges": _EDGES.round(6).tolist(),
        "same": _densities({"all": [*itertools.chain(*same.values())], **same}),
        **_densities({"other": np.concatenate(other), "other_best": best}),
        "recordings": len(excerpts),
        "queries": len(best),
    }


def write(embedder: Panns, excerpts: Sequence[Excerpt], *, models_dir: Path, mean: Vectors | None) -> tuple[str, Path]:
    """The mean, if there is one, and the calibration made with it stand in `models_dir`; gives the model id and path.

    Each file is replaced in one step. InputError if there are too few recordings, StorageError if it can't be written.
    """
    made_for = model_id(embedder.weights_id, mean)
    content = {"model_id": made_for, "hop_s": embedder.hop_s, **histograms(excerpts, mean=mean)}
    if mean is not None:
        array = io.BytesIO()
        np.save(array, mean, allow_pickle=False)
        _replace(mean_path(models_dir, embedder.weights_id), array.getvalue())
    path = calibration_path(models_dir)
    _replace(path, json.dumps(content, indent=1).encode())
    return made_for, path


def calibration_path(models_dir: Path) -> Path:
    """Where the calibration of the model "panns" stands; its `model_id` says for which weights and mean it holds."""
    return models_dir / "panns.calibration.json"


def _densities(similarities: Mapping[str, Sequence[float] | NDArray[np.float32]]) -> dict[str, list[float]]:
    return {
        name: np.histogram(np.clip(values, -1.0, 1.0), bins=_EDGES, density=True)[0].round(6).tolist()
        for name, values in similarities.items()
    }


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with storing(path):
        fresh.write_bytes(content)
        fresh.replace(path)
