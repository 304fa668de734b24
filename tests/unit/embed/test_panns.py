"""PANNs on random weights in the published format: equal to panns-inference's own, and nothing of it runs unasked."""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor import embed
from monitor.cli import model
from monitor.embed import calibration, panns
from monitor.embed.checkpoint import PANNS
from monitor.errors import ConfigError, MissingPartError
from monitor.match.score import load_calibration
from monitor.types import Samples
from tests.integration.embed.random_weights import save_random_checkpoint

_ABSENT = [name for name in ("torch", "panns_inference") if importlib.util.find_spec(name) is None]
needs_torch = [
    pytest.mark.panns,
    pytest.mark.skipif(
        bool(_ABSENT) and os.environ.get("CI") != "true",
        reason=f"{' and '.join(_ABSENT)} not installed: pip install '.[panns]'",
    ),
]

HOP = panns.HOP_SAMPLES
WINDOW = panns.WINDOW_SAMPLES


def music(length: int, *, seed: int) -> Samples:
    """Notes with decays, chords and a little noise: spectra that differ between windows."""
    random = np.random.default_rng(seed)
    time = np.arange(16_000) / panns.SAMPLE_RATE_HZ
    sound = random.standard_normal(length).astype(np.float32) * np.float32(0.003)
    for start in range(0, length - len(time), len(time) // 2):
        pitch = 110 * 2 ** (random.integers(0, 48) / 12)
        tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
        sound[start : start + len(time)] += (0.1 * np.exp(-time * 6) * tone).astype(np.float32)
    return sound


def windows_of(samples: Samples) -> Samples:
    return np.stack([samples[start : start + WINDOW] for start in range(0, len(samples) - WINDOW + 1, HOP)])


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint like the published one: over 300 MB, with the sampler's numpy objects that training left in it."""
    directory = tmp_path_factory.mktemp("data") / "models"
    directory.mkdir()
    sounds = [music(64_000, seed=seed) for seed in (1, 2)]
    save_random_checkpoint(directory / PANNS.file_name, seed=431, sounds=sounds)
    assert (directory / PANNS.file_name).stat().st_size > 3e8
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def embedder(models_dir: Path) -> panns.Panns:
    return panns.load(models_dir, threads=2)


@pytest.fixture
def panns_inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package itself, imported as its users do, with its label file in a home directory made for it."""
    labels = tmp_path / "panns_data" / "class_labels_indices.csv"
    labels.parent.mkdir()
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("index", "mid", "display_name"), *((index, f"/m/{index}", f"class {index}") for index in range(527))]
        )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    yield importlib.import_module("panns_inference")
    for name in [name for name in sys.modules if name.split(".")[0] == "panns_inference"]:
        monkeypatch.delitem(sys.modules, name)


class TestWithTorch:
    pytestmark = needs_torch

    def test_embeddings_are_those_of_panns_inference(
        self, models_dir: Path, embedder: panns.Panns, panns_inference: Any
    ) -> None:
        import torch

        with torch.serialization.safe_globals(panns._numpy_globals()):
            tagging = panns_inference.AudioTagging(checkpoint_path=str(models_dir / PANNS.file_name), device="cpu")
        windows = windows_of(music(WINDOW + HOP, seed=3))
        probabilities, embeddings = tagging.inference(windows)
        ours = embedder.embed(windows)
        theirs = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        assert np.all((ours * theirs).sum(axis=1) > 0.99999)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert np.linalg.norm(ours[0] - ours[1]) > 1e-3
        tags = embedder.tags(windows[0])[0]
        np.testing.assert_allclose([tags.speech, tags.music, tags.silence], probabilities[0, [0, 137, 500]], atol=1e-6)

    def test_a_span_equals_its_single_windows(self, embedder: panns.Panns) -> None:
        span = music(WINDOW + 2 * HOP + 12_345, seed=5)
        vectors = embedder.embed_span(span)
        assert vectors.shape == (3, 2048)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        single = np.concatenate([embedder.embed(window[None]) for window in windows_of(span)])
        np.testing.assert_allclose(vectors, single, atol=1e-6)

    def test_a_window_has_the_same_log_mel_wherever_it_stands(self, embedder: panns.Panns) -> None:
        span = music(WINDOW + 5 * HOP + 1, seed=6)
        shared = list(embedder._log_mels(span))
        alone = [next(embedder._log_mels(window)) for window in windows_of(span)]
        assert len(shared) == len(alone) == 6
        for one, other in zip(shared, alone, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())

    def test_the_log_mel_is_that_of_the_network_s_own_front_end(self, embedder: panns.Panns) -> None:
        import torch

        network = panns.cnn14_class()(32000, 1024, 320, 64, 50, 14000, 527)
        window = music(WINDOW, seed=7)
        with torch.inference_mode():
            theirs = network.logmel_extractor(network.spectrogram_extractor(torch.tensor(window[None])))[0, 0]
            ours = next(embedder._log_mels(window))
        assert ours.shape == theirs.shape == (1001, 64)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-3)

    @pytest.mark.parametrize("length", [0, 1, WINDOW - 1])
    def test_less_than_a_window_gives_no_row(self, embedder: panns.Panns, length: int) -> None:
        assert embedder.embed_span(np.zeros(length, np.float32)).shape == (0, 2048)

    def test_silence_gives_a_unit_vector(self, embedder: panns.Panns) -> None:
        vectors = embedder.embed(np.zeros((1, WINDOW), np.float32))
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)

    @pytest.mark.parametrize("shape", [(WINDOW,), (1, WINDOW - 1), (1, 1, WINDOW)])
    def test_another_shape_is_refused(self, embedder: panns.Panns, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="not \\(B, 320000\\)"):
            embedder.embed(np.zeros(shape, np.float32))

    def test_it_runs_on_the_threads_it_was_given(self, models_dir: Path, embedder: panns.Panns) -> None:
        import torch

        torch.set_num_threads(1)
        embedder.embed_span(np.zeros(WINDOW, np.float32))
        assert torch.get_num_threads() == 2

    def test_the_common_part_is_taken_off_and_named_in_the_model_id(
        self, models_dir: Path, embedder: panns.Panns
    ) -> None:
        windows = np.stack([music(WINDOW, seed=11), music(WINDOW, seed=12)])
        raw = embedder.raw(windows)
        direction = np.zeros((1, 2048), np.float32)
        direction[0, :4] = 0.5
        common = np.concatenate([(0.9 * raw.mean(axis=0))[None], direction]).astype(np.float32)
        path = panns.common_path(models_dir, embedder.weights_id)
        np.save(path, common)
        try:
            freed = embed.load("panns", models_dir=models_dir)
            vectors = freed.embed(windows)
        finally:
            path.unlink()
        expected = raw - common[0]
        expected[:, :4] -= expected[:, :4].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
        assert embedder.model_id == embedder.weights_id
        assert freed.model_id.startswith(f"{embedder.model_id}-common-")
        plain = embedder.embed(windows)
        assert vectors[0] @ vectors[1] < plain[0] @ plain[1]

    def test_the_model_id_names_the_weights(self, models_dir: Path, embedder: panns.Panns) -> None:
        import hashlib

        with (models_dir / PANNS.file_name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        assert embedder.model_id == f"panns-{digest[:12]}"

    def test_weights_that_are_not_there_are_named_with_the_command(self, tmp_path: Path) -> None:
        with pytest.raises(MissingPartError, match="run `monitor model fetch panns`"):
            panns.load(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut"])
    def test_a_file_that_is_no_checkpoint_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / PANNS.file_name).write_bytes(content)
        with pytest.raises(ConfigError, match=r"cannot be read .*: `monitor model verify panns` says"):
            panns.load(tmp_path)

    @pytest.mark.parametrize("content", [{"model": {"fc1.bias": 1.0}}, {"model": 3}])
    def test_weights_of_another_network_are_refused(self, tmp_path: Path, content: dict[str, object]) -> None:
        import torch

        torch.save(content, tmp_path / PANNS.file_name)
        with pytest.raises(ConfigError, match="another network than Cnn14"):
            panns.load(tmp_path)

    def test_a_checkpoint_runs_no_code(self, tmp_path: Path) -> None:
        import torch

        torch.save({"model": _Wicked(tmp_path / "ran")}, tmp_path / PANNS.file_name)
        with pytest.raises(ConfigError, match="cannot be read"):
            panns.load(tmp_path)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "common",
        [
            np.zeros((1, 3), np.float32),
            np.zeros(2048, np.float32),
            np.full((1, 2048), np.nan, np.float32),
            np.zeros((1, 2048)),
            np.array([{}]),
        ],
    )
    def test_a_common_part_that_is_none_is_refused(self, tmp_path: Path, common: Any) -> None:
        np.save(panns.common_path(tmp_path, "panns-0"), common)
        with pytest.raises(ConfigError, match="the common part"):
            panns.read_common(tmp_path, "panns-0")

    async def test_calibration_on_recordings_is_written_and_used(
        self,
        models_dir: Path,
        embedder: panns.Panns,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(calibration, "LEAST_RECORDINGS", 3)
        for number in range(3):
            _write_wav(tmp_path / f"{number}.wav", music(round(15.5 * panns.SAMPLE_RATE_HZ), seed=100 + number))
        (tmp_path / "cover.txt").write_text("no sound")
        parser = argparse.ArgumentParser()
        model.add_parser(parser.add_subparsers())
        data_dir = str(models_dir.parent)
        args = parser.parse_args(
            ["model", "calibrate", "panns", "--audio", str(tmp_path), "--data-dir", data_dir, "--json"]
        )
        written = [panns.common_path(models_dir, embedder.weights_id), calibration.calibration_path(models_dir)]
        try:
            assert await args.command(args) == 65
            answer = json.loads(capsys.readouterr().out)
            common = panns.read_common(models_dir, embedder.weights_id)
            content = json.loads(written[1].read_text())
            assert load_calibration(written[1], model_id=answer["model_id"]).nats.max() > 0
        finally:
            for path in written:
                path.unlink(missing_ok=True)
        assert answer["unusable"] == [str(tmp_path / "cover.txt")]
        assert answer["recordings"] == 3
        assert common is not None
        assert answer["model_id"] == content["model_id"] == panns.model_id(embedder.weights_id, common)

    @pytest.mark.parametrize("labels", [None, "", "index,mid,display_name\n0,/m/09x0r,Speech\n"])
    def test_importing_touches_neither_the_home_directory_nor_a_shell(self, tmp_path: Path, labels: str | None) -> None:
        if labels is not None:
            (tmp_path / "panns_data").mkdir()
            (tmp_path / "panns_data" / "class_labels_indices.csv").write_text(labels)
        before = _tree(tmp_path)
        script = (
            "import sys\n"
            "def refuse(event, arguments):\n"
            "    if event in {'os.system', 'subprocess.Popen', 'os.posix_spawn', 'os.exec', 'socket.connect'}:\n"
            "        raise AssertionError(event)\n"
            "    if event == 'open' and 'panns_data' in str(arguments[0]):\n"
            "        raise AssertionError(arguments)\n"
            "sys.addaudithook(refuse)\n"
            "from monitor.embed import panns\n"
            "assert panns.cnn14_class().__name__ == 'Cnn14'\n"
            "assert 'panns_inference' not in sys.modules and 'matplotlib' not in sys.modules\n"
        )
        environment = {**os.environ, "HOME": str(tmp_path)}
        environment.pop("COVERAGE_PROCESS_START", None)
        done = subprocess.run(
            [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert _tree(tmp_path) == before


@pytest.mark.parametrize("absent", ["torch", "panns_inference", "torchlibrosa"])
def test_a_missing_part_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    if _ABSENT and absent not in _ABSENT:
        pytest.skip(f"{_ABSENT[0]} is missing already")
    panns.cnn14_class.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in {"panns_inference", "torchlibrosa"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingPartError) as missing:
        embed.load("panns", models_dir=tmp_path)
    assert str(missing.value) == (
        f"the panns embedder needs {absent.replace('_', '-')}, which is not installed: run pip install '.[panns]'"
    )
    assert missing.value.exit_code == 78


class _Wicked:
    """A pickle of this would make a file when read by a reader that trusts it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self._path,)  # type: ignore[return-value]


def _tree(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, panns.SAMPLE_RATE_HZ, len(samples), "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
