"""What turns windows of sound into vectors, behind one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from monitor.errors import UsageError
from monitor.types import Samples, Vectors


class Embedder(Protocol):
    """Maps windows of sound to unit vectors whose inner product is their similarity.

    `model_id` names the weights (name, hyphen, first 12 hex digits of their SHA-256) and is stored with each catalog.
    Windows and hops are exact in samples; the seconds are derived. A reference's windows lie a whole fraction of a
    stream's hop apart, so that a stream, whose windows begin anywhere, is never far from one.
    """

    @property
    def model_id(self) -> str: ...  # noqa: D102
    @property
    def sample_rate_hz(self) -> int: ...  # noqa: D102
    @property
    def window_samples(self) -> int: ...  # noqa: D102
    @property
    def hop_samples(self) -> int: ...  # noqa: D102
    @property
    def window_s(self) -> float: ...  # noqa: D102
    @property
    def hop_s(self) -> float: ...  # noqa: D102
    @property
    def reference_hop_samples(self) -> int: ...  # noqa: D102
    @property
    def reference_hop_s(self) -> float: ...  # noqa: D102
    @property
    def dimension(self) -> int: ...  # noqa: D102
    @property
    def pitch_ratios(self) -> tuple[float, ...]:
        """The transpositions (ratios of frequencies) that the readings of a window undo; the first is 1."""
        ...

    def embed(self, windows: Samples) -> Vectors:
        """Give (B, dimension) float32 rows of norm 1 for (B, window_samples) float32 in [-1, 1]."""
        ...

    def embed_span(self, samples: Samples) -> Vectors:
        """Give a row for every whole window of a contiguous signal (n,): 1 + (n - window_samples) // hop_samples rows.

        Equals `embed` of the single windows; what overlapping windows share is computed once.
        """
        ...

    def embed_reference(self, samples: Samples) -> Vectors:
        """As `embed_span`, for windows that are a reference's hop apart."""
        ...

    def read(self, windows: Samples) -> Vectors:
        """As `embed`, every reading of each window: (B, len(pitch_ratios), dimension); the first is `embed`'s."""
        ...

    def read_span(self, samples: Samples) -> Vectors:
        """As `embed_span`, every reading of each window: (N, len(pitch_ratios), dimension)."""
        ...


def load(name: str, *, models_dir: Path, threads: int = 1) -> Embedder:
    """Load an embedder: "fingerprint", which ships with the package, or "panns", whose weights are in `models_dir`.

    Raises MissingPartError when a part is not installed or fetched, ConfigError when the weights are not those that
    their description names, UsageError for another name.
    """
    match name:
        case "fingerprint":
            from monitor.embed.fingerprint import load as load_fingerprint

            return load_fingerprint(threads=threads)
        case "panns":
            from monitor.embed.panns import load as load_panns

            return load_panns(models_dir, threads=threads)
        case _:
            raise UsageError(f"there is no embedder {name!r}; use fingerprint or panns")
