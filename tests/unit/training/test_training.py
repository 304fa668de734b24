"""The training, on a corpus of minutes: what it draws and degrades, and a tiny run from audio to a loaded model."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install '.[train]'")
pytest.importorskip("onnx", reason="training needs onnx: pip install '.[train]'")
pytest.importorskip("scipy", reason="training needs scipy: pip install '.[train]'")

from monitor.embed import fingerprint  # noqa: E402
from monitor.embed.fingerprint import FrontEnd  # noqa: E402
from monitor.errors import InputError  # noqa: E402
from monitor.training import corpus, export, measure, train  # noqa: E402
from monitor.training.degrade import Degrader, beds  # noqa: E402
from monitor.training.pairs import NEAR_S, PER_PIECE, Pairs  # noqa: E402

RATE_HZ = corpus.SAMPLE_RATE_HZ


def sound(seed: int, seconds: float) -> np.ndarray:
    """Seeded notes over noise, int16."""
    dice = np.random.default_rng(seed)
    made = 0.02 * dice.normal(size=round(seconds * RATE_HZ))
    for start in range(0, len(made) - 4000, 2000):
        time_s = np.arange(4000) / RATE_HZ
        made[start : start + 4000] += 0.2 * np.exp(-5 * time_s) * np.sin(2 * np.pi * dice.uniform(250, 2500) * time_s)
    return (made * 32767).astype("<i2")


@pytest.fixture(scope="module")
def small() -> corpus.Corpus:
    parts, items, offset = [], [], 0
    for package in ("one", "two", corpus.DEVELOPMENT[0]):
        for number, (kind, seconds) in enumerate((("music", 25.0), ("music", 22.0), ("voice", 9.0), ("effect", 6.0))):
            parts.append(sound(len(parts), seconds))
            item = corpus.Item(
                package=package,
                path=f"{package}/{number}",
                kind=kind,
                offset_samples=offset,
                samples=len(parts[-1]),
            )
            items.append(item)
            if number == 0:
                coded = {"codec": "mp3-24", "codec_start_samples": RATE_HZ, "offset_samples": offset + RATE_HZ}
                items.append(corpus.Item(**{**vars(item), **coded, "samples": item.samples - RATE_HZ}))
            offset += len(parts[-1])
    return corpus.Corpus(audio=np.concatenate(parts), items=tuple(items))


@pytest.fixture(scope="module")
def degrader(small: corpus.Corpus) -> Degrader:
    return Degrader(FrontEnd(), beds(small, development=False, seed=1))


def test_no_package_is_on_both_sides_of_the_split(small: corpus.Corpus) -> None:
    sides = [
        {item.package for kind in ("music", "voice", "effect") for item in small.select(kind=kind, development=side)}
        for side in (False, True)
    ]
    assert sides == [{"one", "two"}, {corpus.DEVELOPMENT[0]}]


def test_batches_depend_on_seed_and_step_only(small: corpus.Corpus) -> None:
    pairs, again, other = (Pairs(small, development=False, stretch_samples=20_000, seed=seed) for seed in (1, 1, 2))
    pairs.batch(0)
    np.testing.assert_array_equal(pairs.batch(7).anchors, again.batch(7).anchors)
    assert not np.array_equal(pairs.batch(7).anchors, other.batch(7).anchors)


def test_a_piece_gives_several_windows_and_a_coded_copy_the_same_instants(small: corpus.Corpus) -> None:
    batch = Pairs(small, development=False, stretch_samples=20_000, seed=1).batch(0)
    assert (batch.pieces.reshape(-1, PER_PIECE).min(axis=1) == batch.pieces.reshape(-1, PER_PIECE).max(axis=1)).all()
    # The copy here is a slice of the piece itself: equal instants are equal samples, but for the missing first second.
    inside = np.abs(batch.times_s - 12) < 8
    np.testing.assert_array_equal(batch.anchors[inside], batch.sources[inside])


def test_training_and_embedder_have_one_front_end(degrader: Degrader) -> None:
    samples = sound(5, 2.144).astype(np.float32)[None] / 32768
    front_end = FrontEnd()
    for shift in (-1, 0, 1):
        ours = degrader.log_power(torch.from_numpy(samples), torch.tensor([shift])).numpy()
        theirs = front_end.log_power(samples)[..., front_end.band_numbers(shift * 4)]
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_transposed_signal_read_back_is_the_signal(degrader: Degrader) -> None:
    front_end = FrontEnd()
    ratio = front_end.pitch_ratio(4)
    time_s = np.arange(front_end.window_samples) / 8000
    chord = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (400, 700, 1100)).astype(np.float32)
    higher = sum(np.sin(2 * np.pi * ratio * hertz * time_s) for hertz in (400, 700, 1100)).astype(np.float32)
    clean = front_end.log_power(chord)[..., front_end.band_numbers(0)]
    read_back = front_end.log_power(higher)[..., front_end.band_numbers(4)]
    as_it_is = front_end.log_power(higher)[..., front_end.band_numbers(0)]
    assert (
        np.corrcoef(clean.ravel(), read_back.ravel())[0, 1]
        > 0.9
        > 0.6
        > np.corrcoef(clean.ravel(), as_it_is.ravel())[0, 1]
    )


def test_pairs_are_finite_windows_and_some_are_degraded(small: corpus.Corpus, degrader: Degrader) -> None:
    batch = Pairs(small, development=False, stretch_samples=degrader.stretch_samples, seed=1).batch(0)
    arguments = torch.from_numpy(batch.anchors[:32]), torch.from_numpy(batch.sources[:32]), PER_PIECE
    clean, heard = degrader.pairs(*arguments, torch.Generator().manual_seed(1))
    assert clean.shape == heard.shape == (32, 64, 64)
    assert torch.isfinite(clean).all() and torch.isfinite(heard).all()
    again, _ = degrader.pairs(*arguments, torch.Generator().manual_seed(1))
    assert torch.equal(clean, again)
    assert (clean - heard).abs().mean() > 0.1


def test_nt_xent_is_low_for_equal_partners_and_leaves_out_what_is_alike() -> None:
    vectors = torch.eye(4).repeat(2, 1)
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    low, right = train.nt_xent(vectors, nothing)
    assert float(low) == pytest.approx(0, abs=1e-6)
    assert right == 1
    twins = torch.tensor([[1.0, 0], [1, 0]]).repeat(2, 1)
    both, _ = train.nt_xent(twins, torch.zeros(2, 2, dtype=torch.bool))
    assert float(both) == pytest.approx(np.log(3), rel=0.01)
    apart, _ = train.nt_xent(twins, torch.tensor([[False, True], [True, False]]))
    assert float(apart) == pytest.approx(0, abs=1e-6)


def test_windows_near_in_time_are_no_negatives(small: corpus.Corpus) -> None:
    batch = Pairs(small, development=False, stretch_samples=20_000, seed=1).batch(0)
    alike = train.alike(batch, torch.randn(len(batch.pieces), 64, 64))
    for one in range(0, len(batch.pieces), 17):
        for two in range(0, len(batch.pieces), 13):
            near = batch.pieces[one] == batch.pieces[two] and abs(batch.times_s[one] - batch.times_s[two]) < NEAR_S
            assert bool(alike[one, two]) == near or one == two


def test_a_budget_is_spent_by_steps_or_minutes() -> None:
    assert train.Budget(steps=10, minutes=None).share(5, 99.0) == 0.5
    assert train.Budget(steps=None, minutes=4.0).share(5, 1.0) == 0.25
    assert train.Budget(steps=10, minutes=4.0).share(20, 1.0) == 1.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tiny_run_resumes_and_gives_a_model_that_loads_and_measures(small: corpus.Corpus, tmp_path: Path) -> None:
    said: list[str] = []
    place, models = tmp_path / "work", tmp_path / "models"
    for steps in (1, 2):
        run = train.train(
            small, place, budget=train.Budget(steps=steps, minutes=None), seed=1, threads=1, say=said.append
        )
    assert said[0] == "goes on from step 1"
    assert run.step == 2
    digest = export.export(run.average, models, steps=run.step)
    embedder = fingerprint.load(models)
    assert embedder.model_id == f"fingerprint-{digest[:12]}"
    samples = sound(9, 2.144).astype(np.float32)[None, : embedder.window_samples] / 32768
    with torch.no_grad():
        log_power = torch.from_numpy(FrontEnd().log_power(samples))
        bands = [FrontEnd().band_numbers(shift) for shift in (0, -2, 2, -4, 4, -6, 6, -8, 8)]
        readings = [run.average(log_power[..., numbers]).numpy() for numbers in bands]
    np.testing.assert_allclose(embedder.embed(samples), readings[0], atol=1e-4)
    np.testing.assert_allclose(embedder.read(samples), np.stack(readings, axis=1), atol=1e-4)
    measure.measure(small, models, seed=1, threads=1, say=said.append, queries=4)
    calibration = json.loads((models / "fingerprint.calibration.json").read_text())
    assert calibration["model_id"] == embedder.model_id
    assert {"all", "clean", "codec", "noise_0db", "speech_0db"} <= set(calibration["same"])
    clean = next(line for line in said if line.startswith("| clean |"))
    assert clean.split(" | ")[3] == "100.0", clean


def write_wav(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(samples.tobytes())


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="speech for the corpus needs espeak-ng")
def test_a_corpus_is_decoded_coded_and_spoken_once(tmp_path: Path) -> None:
    audio, cache = tmp_path / "audio", tmp_path / "cache"
    write_wav(audio / "one" / "tune.wav", sound(1, 21.0))
    write_wav(audio / "one" / "voices" / "hello.wav", sound(2, 1.0))
    write_wav(audio / "torcs-data" / "click.wav", sound(3, 0.1))
    built = corpus.build(audio, cache, seed=1, speeches=4, say=lambda _line: None)
    kinds = {item.path: item.kind for item in built.items if item.package == "one"}
    assert kinds == {"one/tune.wav": "music", "one/voices/hello.wav": "voice"}
    tune, coded = (built.select(kind="music", development=False, coded=coded)[0] for coded in (False, True))
    np.testing.assert_array_equal(built.of(tune), sound(1, 21.0))
    heard, there = built.floats(coded)[:80_000], built.floats(tune)[coded.codec_start_samples :][:80_000]
    lag = np.argmax(np.fft.irfft(np.fft.rfft(there, 1 << 18) * np.conj(np.fft.rfft(heard, 1 << 18))))
    assert min(lag, (1 << 18) - lag) <= 80
    assert built.select(kind="voice", development=True), "some speakers are kept for development"
    assert corpus.build(audio / "nothing", cache, seed=1).items == built.items
    with pytest.raises(InputError, match="holds no audio; fetch it with"):
        corpus.build(audio / "nothing", tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="holds no decoded corpus"):
        corpus.load(tmp_path)
