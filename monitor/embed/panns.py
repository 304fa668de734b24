"""PANNs Cnn14: similar sound, and whether it is speech, music or silence. Needs torch and the published weights.

The network is the class of `panns_inference.models`, fed by its own front end; Kong et al., "PANNs: Large-Scale
Pretrained Audio Neural Networks for Audio Pattern Recognition" (IEEE/ACM TASLP 2020). It was trained to tag sound: that
it can tell two similar recordings apart is not a published property of it.

Raw embeddings have much in common, so that even unrelated sounds have a high cosine. `monitor model calibrate`
estimates that common part from the user's own audio: the mean, and a few directions in which all sound varies most (Mu
and Viswanath, "All-but-the-Top", ICLR 2018). Where its file stands beside the weights, it is taken off every embedding
before it is scaled to norm 1, and its digest is part of the `model_id`, because vectors with and without it, or with
two of them, can't be compared.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import itertools
import logging
import pickle
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.embed.checkpoint import PANNS
from monitor.errors import ConfigError, MissingPartError
from monitor.types import Samples, Vectors

_log = logging.getLogger(__name__)

SAMPLE_RATE_HZ = 32_000
WINDOW_SAMPLES = 320_000
#: 256 frames: a multiple of the frame step, so that overlapping windows stand on the same frames.
HOP_SAMPLES = 81_920
DIMENSION = 2048

#: AudioSet's order of classes (class_labels_indices.csv), of which three are used.
_CLASSES = 527
_SPEECH, _MUSIC, _SILENCE = 0, 137, 500

_FRAME_SAMPLES = 1024
_STEP_SAMPLES = 320
_HOP_FRAMES = HOP_SAMPLES // _STEP_SAMPLES
_WINDOW_FRAMES = 1 + WINDOW_SAMPLES // _STEP_SAMPLES
#: The front end centres its frames and reflects the signal at the window's ends: two frames at either end see that.
_EDGE_FRAMES = 2
_EDGE_SAMPLES = _FRAME_SAMPLES // 2 + (_EDGE_FRAMES - 1) * _STEP_SAMPLES
_FIRST_INNER_SAMPLE = _EDGE_FRAMES * _STEP_SAMPLES - _FRAME_SAMPLES // 2
_BLOCK_SAMPLES = (_HOP_FRAMES - 1) * _STEP_SAMPLES + _FRAME_SAMPLES
_INNER_FRAMES = _WINDOW_FRAMES - 2 * _EDGE_FRAMES
_WINDOW_BLOCKS = -(-_INNER_FRAMES // _HOP_FRAMES)
#: Windows that go through the network at once: more costs memory (about 100 MB each) and gains nothing.
_BATCH_WINDOWS = 4


@dataclass(frozen=True, kw_only=True)
class Tags:
    """How likely a window holds each kind of sound, in [0, 1]; the three are not exclusive and need not sum to 1."""

    speech: float
    music: float
    silence: float


class Panns:
    """An `Embedder` over Cnn14 weights, optionally with what all sound has in common taken off."""

    sample_rate_hz = SAMPLE_RATE_HZ
    window_samples = WINDOW_SAMPLES
    hop_samples = HOP_SAMPLES
    reference_hop_samples = HOP_SAMPLES
    window_s = WINDOW_SAMPLES / SAMPLE_RATE_HZ
    hop_s = reference_hop_s = HOP_SAMPLES / SAMPLE_RATE_HZ
    pitch_ratios = (1.0,)
    dimension = DIMENSION

    def __init__(self, *, network: Any, weights_id: str, common: Vectors | None = None, threads: int = 1) -> None:
        self.weights_id = weights_id
        self.common = common
        self.model_id = model_id(weights_id, common)
        self._threads = threads
        # The front end is taken out of the network, so that its own forward pass runs on shared frames.
        self._stft = network.spectrogram_extractor.stft
        self._mel = network.logmel_extractor
        network.spectrogram_extractor = network.logmel_extractor = _torch().nn.Identity()
        self._network = network.eval()

    def embed(self, windows: Samples) -> Vectors:
        """Give (B, 2048) rows of norm 1 for (B, 320000) in [-1, 1] at 32 kHz."""
        return normalise(self.raw(windows), common=self.common)

    def embed_span(self, samples: Samples) -> Vectors:
        """Give a row for every whole window of a contiguous signal (n,); none when it is shorter than a window."""
        return normalise(self.raw_span(samples), common=self.common)

    def embed_reference(self, samples: Samples) -> Vectors:
        """As `embed_span`: what sounds similar does so half a hop off too."""
        return self.embed_span(samples)

    def read(self, windows: Samples) -> Vectors:
        """As `embed`, (B, 1, dimension): similar sound is not sought at other pitches."""
        return self.embed(windows)[:, np.newaxis]

    def read_span(self, samples: Samples) -> Vectors:
        """As `embed_span`, (N, 1, dimension)."""
        return self.embed_span(samples)[:, np.newaxis]

    def raw(self, windows: Samples) -> Vectors:
        """The network's own embeddings, (B, 2048), neither centred nor scaled."""
        if windows.ndim != 2 or windows.shape[1] != WINDOW_SAMPLES:
            raise ValueError(f"windows are {windows.shape}, not (B, {WINDOW_SAMPLES})")
        return self._outputs(itertools.chain.from_iterable(map(self._log_mels, windows)))[0]

    def raw_span(self, samples: Samples) -> Vectors:
        """The network's own embeddings of every whole window of a contiguous signal (n,)."""
        return self._outputs(self._log_mels(samples))[0]

    def tags(self, samples: Samples) -> list[Tags]:
        """How likely each whole window of a contiguous signal (n,) holds speech, music or silence."""
        return [
            Tags(speech=float(row[_SPEECH]), music=float(row[_MUSIC]), silence=float(row[_SILENCE]))
            for row in self._outputs(self._log_mels(samples))[1]
        ]

    def _outputs(self, log_mels: Iterable[Any]) -> tuple[Vectors, NDArray[np.float32]]:
        """Embeddings (B, 2048) and class probabilities (B, 527) of windows given as log-mel (1001, 64)."""
        torch = _torch()
        # Said before each pass: a thread that has run no torch code yet starts with a count of its own.
        torch.set_num_threads(self._threads)
        embeddings = [np.empty((0, DIMENSION), dtype=np.float32)]
        probabilities = [np.empty((0, _CLASSES), dtype=np.float32)]
        log_mels = iter(log_mels)
        with torch.inference_mode():
            while batch := list(itertools.islice(log_mels, _BATCH_WINDOWS)):
                output = self._network(torch.stack(batch)[:, None])
                embeddings.append(output["embedding"].numpy())
                probabilities.append(output["clipwise_output"].numpy())
        return np.concatenate(embeddings), np.concatenate(probabilities)

    def _log_mels(self, samples: Samples) -> Iterator[Any]:
        """The log-mel (1001, 64) of every whole window of a contiguous signal.

        Frames inside a window are computed once, in blocks of one hop, and shared by the windows that overlap there;
        the two frames at either end, which see the reflected signal, belong to one window. Blocks have the same shape
        wherever they lie, so that a window's log-mel does not depend on its neighbours, to the last bit.
        """
        if samples.ndim != 1:
            raise ValueError(f"a span is (n,), not {samples.shape}")
        torch = _torch()
        signal = torch.tensor(np.asarray(samples, dtype=np.float32))
        blocks: list[Any] = []
        for start in range(0, len(samples) - WINDOW_SAMPLES + 1, HOP_SAMPLES):
            while len(blocks) < _WINDOW_BLOCKS:
                at = start + _FIRST_INNER_SAMPLE + len(blocks) * HOP_SAMPLES
                block = signal[at : at + _BLOCK_SAMPLES]
                blocks.append(self._log_mel(torch.nn.functional.pad(block, (0, _BLOCK_SAMPLES - len(block)))[None])[0])
            head, tail = self._edges(signal[start : start + WINDOW_SAMPLES])
            yield torch.cat([head, torch.cat(blocks)[:_INNER_FRAMES], tail])
            del blocks[0]

    def _edges(self, window: Any) -> Any:
        """The log-mel (2, 2, 64) of the frames at the window's two ends."""
        pad = _torch().nn.functional.pad
        reflected = _FRAME_SAMPLES // 2
        head = pad(window[None, :_EDGE_SAMPLES], (reflected, 0), mode="reflect")
        tail = pad(window[None, -_EDGE_SAMPLES:], (0, reflected), mode="reflect")
        return self._log_mel(_torch().cat([head, tail]))

    def _log_mel(self, signals: Any) -> Any:
        """The log-mel (B, frames, 64) of every whole frame of the signals (B, n), by the network's own front end."""
        real = self._stft.conv_real(signals[:, None])
        imaginary = self._stft.conv_imag(signals[:, None])
        return self._mel((real**2 + imaginary**2).transpose(1, 2))


def normalise(raw: Vectors, *, common: Vectors | None) -> Vectors:
    """Rows of norm 1 of `raw` (B, 2048), after what is common is taken off.

    `common` is (1 + D, 2048): the mean, then D orthonormal directions that are projected out.
    """
    rest = raw
    if common is not None:
        rest = raw - common[0]
        rest = rest - (rest @ common[1:].T) @ common[1:]
    norms = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.asarray(rest / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def weights_id(sha256: str) -> str:
    """The name of weights whose file has this SHA-256."""
    return f"{PANNS.name}-{sha256[:12]}"


def model_id(weights_id: str, common: Vectors | None) -> str:
    """The name of vectors made with these weights and this common part: another of either, another name."""
    if common is None:
        return weights_id
    return f"{weights_id}-common-{hashlib.sha256(np.ascontiguousarray(common).tobytes()).hexdigest()[:8]}"


def common_path(models_dir: Path, weights_id: str) -> Path:
    """Where the common part of these weights' embeddings stands: that of other weights is never found by mistake."""
    return models_dir / f"{weights_id}.common.npy"


def read_common(models_dir: Path, weights_id: str) -> Vectors | None:
    """The common part (1 + D, 2048) of these weights' embeddings, None if there is none; ConfigError if damaged."""
    path = common_path(models_dir, weights_id)
    try:
        common = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"the common part {path} cannot be read: {_first_line(error)}") from error
    shaped = common.ndim == 2 and common.shape[0] >= 1 and common.shape[1] == DIMENSION
    if not shaped or common.dtype != np.float32 or not np.isfinite(common).all():
        raise ConfigError(f"the common part {path} is not rows of {DIMENSION} finite float32 numbers: calibrate again")
    return np.asarray(common, dtype=np.float32)


def load(models_dir: Path, *, threads: int = 1) -> Panns:
    """Load Cnn14 with the checkpoint in `models_dir`, and the common part of its embeddings if there is one.

    MissingPartError when torch, panns-inference or the checkpoint is missing; ConfigError when a file can't be read or
    holds something else. Weights other than the published ones are taken, under their own `model_id`, and logged.
    """
    _torch()
    network_class = cnn14_class()
    path = models_dir / PANNS.file_name
    if not path.is_file():
        raise MissingPartError(f"there are no PANNs weights at {path}: run `monitor model fetch panns`")
    state, digest = _read_checkpoint(path)
    if digest != PANNS.sha256:
        _log.warning(
            "%s holds other weights than the published ones",
            path,
            extra={"action": "model_unpublished", "sha256": digest},
        )
    network = network_class(
        sample_rate=SAMPLE_RATE_HZ,
        window_size=_FRAME_SAMPLES,
        hop_size=_STEP_SAMPLES,
        mel_bins=64,
        fmin=50,
        fmax=14_000,
        classes_num=_CLASSES,
    )
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{path} holds the weights of another network than Cnn14 at 32 kHz: {_first_line(error)}"
        ) from error
    name = weights_id(digest)
    return Panns(network=network, weights_id=name, common=read_common(models_dir, name), threads=threads)


@functools.cache
def cnn14_class() -> Any:
    """`panns_inference.models.Cnn14`, without what importing its package does. MissingPartError if it isn't installed.

    The package's `__init__` reads ~/panns_data/class_labels_indices.csv and, where there is none, runs `wget` through
    the shell, which without internet leaves an empty file that breaks every later import. The label names matter only
    to its `AudioTagging`. So `models` is imported under a bare package that runs no `__init__`, and neither a file in
    the home directory nor the network is touched, be there a good label file, an empty one or none. `models` also
    imports matplotlib, for nothing: an empty stand-in spares the font cache that it writes into the home directory.
    """
    spec = importlib.util.find_spec("panns_inference")
    if spec is None:
        raise _missing("panns_inference")
    stand_ins = {
        "panns_inference": importlib.util.module_from_spec(spec),
        "matplotlib": ModuleType("matplotlib"),
        "matplotlib.pyplot": ModuleType("matplotlib.pyplot"),
    }
    placed = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(placed)
    try:
        return importlib.import_module("panns_inference.models").Cnn14
    except ImportError as error:
        raise _missing(error.name or "panns_inference") from error
    finally:
        for name in placed:
            sys.modules.pop(name, None)


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise _missing(error.name or "torch") from error


def _missing(module: str) -> MissingPartError:
    part = module.partition(".")[0].replace("_", "-")
    return MissingPartError(f"the panns embedder needs {part}, which is not installed: run pip install '.[panns]'")


def _read_checkpoint(path: Path) -> tuple[Any, str]:
    """The state dictionary in a checkpoint {'iteration', 'model', maybe 'sampler'}, and the file's SHA-256."""
    torch = _torch()
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)["model"], digest
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"the PANNs weights {path} cannot be read ({_first_line(error)}): `monitor model verify panns` says "
            f"whether they are the published file; move it away and run `monitor model fetch panns`"
        ) from error


def _numpy_globals() -> list[Any]:
    """What a checkpoint may name besides tensors: the numpy arrays and numbers of the training's sampler state.

    Both the present and the former name of numpy's own module occur, by the numpy that wrote the file.
    """
    multiarray = importlib.import_module("numpy._core.multiarray")
    named = [
        (getattr(multiarray, name), f"{package}.multiarray.{name}")
        for name in ("_reconstruct", "scalar")
        for package in ("numpy._core", "numpy.core")
    ]
    return [*named, np.ndarray, np.dtype, *(type(np.dtype(code)) for code in ("i8", "i4", "f4", "f8", "?", "u4", "u1"))]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(":")
