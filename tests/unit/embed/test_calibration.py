"""The calibration's arithmetic on embeddings whose similarities are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.embed import calibration
from monitor.embed.calibration import Excerpt
from monitor.errors import InputError
from monitor.match.score import load_calibration
from monitor.types import Vectors


def unit(values: Vectors) -> Vectors:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


def recordings(count: int, *, common: float = 0.0) -> list[Excerpt]:
    """Each with 4 windows; its 2 queries have cosine 0.8 with the window that they belong to."""
    random = np.random.default_rng(count)
    made = []
    for _ in range(count):
        references = unit(random.standard_normal((4, 512)).astype(np.float32))
        noise = random.standard_normal((2, 512)).astype(np.float32)
        noise = unit(noise - (noise * references[1:3]).sum(axis=1, keepdims=True) * references[1:3])
        queries = 0.8 * references[1:3] + 0.6 * noise
        shift = np.float32(common) * np.ones(512, np.float32)
        made.append(
            Excerpt(
                references=references + shift,
                queries=queries.astype(np.float32) + shift,
                nearest=np.array([1, 2]),
                conditions=("clean", "noise_30db"),
            )
        )
    return made


def mass_between(content: dict[str, object], density: list[float], low: float, high: float) -> float:
    edges = np.asarray(content["edges"])
    inside = (edges[:-1] >= low - 1e-9) & (edges[1:] <= high + 1e-9)
    return float((np.asarray(density) * np.diff(edges))[inside].sum())


def test_the_histograms_hold_what_was_put_in() -> None:
    content = calibration.histograms(recordings(10), common=None)
    same = content["same"]
    assert isinstance(same, dict)
    assert set(same) == {"all", "clean", "noise_30db"}
    for density in same.values():
        assert mass_between(content, density, 0.76, 0.84) == pytest.approx(1.0, abs=1e-4)
    other, best = content["other"], content["other_best"]
    assert isinstance(other, list)
    assert isinstance(best, list)
    assert mass_between(content, other, -0.3, 0.3) == pytest.approx(1.0, abs=1e-4)
    assert mass_between(content, best, 0.0, 0.3) == pytest.approx(1.0, abs=1e-4)
    assert content["recordings"] == 10
    assert content["queries"] == 20


def test_what_all_recordings_share_is_taken_off() -> None:
    shared = recordings(20, common=1.0)
    raw = calibration.histograms(shared, common=None)
    common = calibration.common_part(shared)
    freed = calibration.histograms(shared, common=common)
    np.testing.assert_allclose(common[1:] @ common[1:].T, np.eye(len(common) - 1), atol=1e-5)
    assert mass_between(raw, raw["other"], 0.9, 1.0) == pytest.approx(1.0, abs=1e-4)  # type: ignore[arg-type]
    assert mass_between(freed, freed["other"], -0.4, 0.4) == pytest.approx(1.0, abs=1e-4)  # type: ignore[arg-type]


def test_a_direction_in_which_everything_varies_is_taken_off() -> None:
    direction = unit(np.random.default_rng(9).standard_normal((1, 512)).astype(np.float32))
    loudness = np.random.default_rng(10)

    def louder(vectors: Vectors) -> Vectors:
        return vectors + 20 * loudness.standard_normal((len(vectors), 1)).astype(np.float32) * direction

    excerpts = [replace(one, references=louder(one.references), queries=louder(one.queries)) for one in recordings(20)]
    common = calibration.common_part(excerpts)
    assert len(common) >= 2
    assert abs(float((common[1:2] @ direction.T).item())) > 0.99
    same = calibration.histograms(excerpts, common=common)
    assert mass_between(same, same["same"]["all"], 0.7, 0.9) == pytest.approx(1.0, abs=1e-4)  # type: ignore[index]


def test_the_matcher_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "panns.calibration.json"
    path.write_text(json.dumps({"model_id": "panns-x"} | calibration.histograms(recordings(10), common=None)))
    nats = load_calibration(path, model_id="panns-x").log_likelihood_ratio(np.array([0.1, 0.8]))
    assert nats[0] < 0 < nats[1]


def test_too_few_recordings_are_refused() -> None:
    with pytest.raises(InputError, match="7 recordings could be used, calibration needs 8 or more, of 16 s or longer"):
        calibration.histograms(recordings(7), common=None)
