"""The shipped fingerprint: what the embedder protocol promises, on the real weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import embed
from monitor.embed import fingerprint
from monitor.errors import ConfigError, MissingPartError, UsageError
from monitor.types import Samples


@pytest.fixture(scope="module")
def embedder() -> fingerprint.Fingerprint:
    return fingerprint.load()


def tune(seed: int, samples: int) -> Samples:
    """Decaying notes of a seeded scale over faint noise: something that a fingerprint can tell apart."""
    dice = np.random.default_rng(seed)
    sound = 0.003 * dice.normal(size=samples)
    for start in range(0, samples, 1600):
        time_s = np.arange(min(6000, samples - start)) / 8000
        note_hz = 220 * 2 ** (dice.integers(0, 36) / 12)
        for harmonic in (1, 2, 3):
            level = 0.1 / harmonic * np.exp(-time_s * dice.uniform(3, 9))
            sound[start : start + len(time_s)] += level * np.sin(2 * np.pi * harmonic * note_hz * time_s)
    return sound.astype(np.float32)


def windows_of(embedder: fingerprint.Fingerprint, samples: Samples) -> Samples:
    starts = range(0, len(samples) - embedder.window_samples + 1, embedder.hop_samples)
    return np.stack([samples[start : start + embedder.window_samples] for start in starts])


def test_states_what_the_description_states(embedder: fingerprint.Fingerprint) -> None:
    stated = json.loads((fingerprint.MODELS / "fingerprint.json").read_text())
    assert embedder.model_id == f"fingerprint-{stated['weights_sha256'][:12]}"
    assert (embedder.window_s, embedder.hop_s, embedder.dimension) == (2.144, 0.512, 128)
    assert embedder.window_s == embedder.window_samples / embedder.sample_rate_hz == stated["window_s"]
    assert embedder.hop_s == embedder.hop_samples / embedder.sample_rate_hz == stated["hop_s"]


def test_calibration_is_of_these_weights(embedder: fingerprint.Fingerprint) -> None:
    calibration = json.loads((fingerprint.MODELS / "fingerprint.calibration.json").read_text())
    assert calibration["model_id"] == embedder.model_id
    assert calibration["hop_s"] == embedder.hop_s
    widths = np.diff(calibration["edges"])
    for name, density in [*calibration["same"].items(), ("other", calibration["other"])]:
        assert np.dot(density, widths) == pytest.approx(1, abs=1e-3), name
    middle = (np.array(calibration["edges"][1:]) + calibration["edges"][:-1]) / 2
    means = [np.dot(density, widths * middle) for density in (calibration["same"]["all"], calibration["other_best"])]
    assert means[0] > means[1] > np.dot(calibration["other"], widths * middle)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), extra=st.integers(0, 60_000))
def test_span_equals_single_windows(seed: int, extra: int) -> None:
    embedder = fingerprint.load()
    samples = tune(seed, embedder.window_samples + extra)
    vectors = embedder.embed_span(samples)
    assert vectors.shape == (1 + extra // embedder.hop_samples, embedder.dimension)
    np.testing.assert_allclose(vectors, embedder.embed(windows_of(embedder, samples)), atol=2e-5)


def test_a_reference_has_windows_between_those_of_a_span(embedder: fingerprint.Fingerprint) -> None:
    samples = tune(3, 60_000)
    vectors = embedder.embed_reference(samples)
    assert embedder.reference_hop_s == embedder.hop_s / 2
    np.testing.assert_allclose(vectors[::2], embedder.embed_span(samples), atol=2e-5)
    between = embedder.embed_span(samples[embedder.reference_hop_samples :])
    np.testing.assert_allclose(vectors[1::2], between, atol=2e-5)


def test_span_longer_than_one_batch(embedder: fingerprint.Fingerprint) -> None:
    samples = tune(3, embedder.window_samples + 300 * embedder.hop_samples)
    vectors = embedder.embed_span(samples)
    assert len(vectors) == 301
    last = samples[300 * embedder.hop_samples :]
    np.testing.assert_allclose(vectors[300], embedder.embed(last[None])[0], atol=2e-5)


def test_rows_have_norm_one_and_type_float32(embedder: fingerprint.Fingerprint) -> None:
    vectors = embedder.embed_span(tune(1, 60_000))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_row_depends_on_its_window_only(embedder: fingerprint.Fingerprint) -> None:
    windows = windows_of(embedder, tune(2, 60_000))
    together = embedder.embed(windows)
    alone = np.concatenate([embedder.embed(window[None]) for window in windows])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_array_equal(together, embedder.embed(windows))


@pytest.mark.parametrize("gain", [0.01, 0.3, 3.0])
def test_gain_does_not_matter(embedder: fingerprint.Fingerprint, gain: float) -> None:
    samples = tune(4, 40_000)
    same = np.einsum("wd,wd->w", embedder.embed_span(samples), embedder.embed_span(samples * np.float32(gain)))
    assert same.min() > 0.9999


def test_silence_is_a_unit_vector(embedder: fingerprint.Fingerprint) -> None:
    vectors = embedder.embed(np.zeros((2, embedder.window_samples), dtype=np.float32))
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_same_sound_through_noise_is_nearer_than_any_other(embedder: fingerprint.Fingerprint) -> None:
    clean = np.stack([tune(seed, embedder.window_samples) for seed in range(20)])
    noise = np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)
    noisy = clean + noise * clean.std(axis=1, keepdims=True) * np.float32(10 ** (-5 / 20))
    similarity = embedder.embed(noisy) @ embedder.embed(clean).T
    np.testing.assert_array_equal(similarity.argmax(axis=1), np.arange(20))


def test_too_little_sound_gives_no_rows(embedder: fingerprint.Fingerprint) -> None:
    short = np.zeros(embedder.window_samples - 1, dtype=np.float32)
    assert embedder.embed_span(short).shape == (0, embedder.dimension)
    assert embedder.embed(np.empty((0, embedder.window_samples), dtype=np.float32)).shape == (0, embedder.dimension)


def test_wrong_shapes_are_refused(embedder: fingerprint.Fingerprint) -> None:
    with pytest.raises(ValueError, match=r"windows are \(1, 5\), not \(B, 17152\)"):
        embedder.embed(np.zeros((1, 5), dtype=np.float32))
    with pytest.raises(ValueError, match=r"a span is \(n,\)"):
        embedder.embed_span(np.zeros((1, 20_000), dtype=np.float32))


def test_a_description_that_lacks_a_part_of_the_front_end_is_refused(tmp_path: Path) -> None:
    shutil.copy(fingerprint.MODELS / "fingerprint.onnx", tmp_path)
    stated = json.loads((fingerprint.MODELS / "fingerprint.json").read_text())
    del stated["front_end"]["reference_hop_frames"]
    (tmp_path / "fingerprint.json").write_text(json.dumps(stated))
    with pytest.raises(ConfigError, match=r"does not say the front end's reference_hop_frames: export the model again"):
        fingerprint.load(tmp_path)


def test_other_weights_than_described_are_refused(tmp_path: Path) -> None:
    for name in ("fingerprint.onnx", "fingerprint.json"):
        shutil.copy(fingerprint.MODELS / name, tmp_path)
    weights = tmp_path / "fingerprint.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ConfigError, match=r"fingerprint\.onnx has SHA-256 .* install monitor again") as refused:
        fingerprint.load(tmp_path)
    assert refused.value.exit_code == 78


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"fingerprint\.onnx is missing"):
        fingerprint.load(tmp_path)


def test_loads_by_name(tmp_path: Path) -> None:
    loaded = embed.load("fingerprint", models_dir=tmp_path, threads=2)
    assert loaded.model_id == fingerprint.load().model_id
    with pytest.raises(UsageError, match="there is no embedder 'chroma'; use fingerprint or panns"):
        embed.load("chroma", models_dir=tmp_path)
