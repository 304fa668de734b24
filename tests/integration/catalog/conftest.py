"""The index's contract is tested on Milvus Lite and on a full Milvus server alike."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from monitor.catalog.index import VectorIndex
from monitor.types import Vectors

_numbers = count(1)


@pytest.fixture(scope="session")
def full_milvus(session_dir: Path) -> Iterator[str]:
    """URI of a full Milvus server, alone in a network namespace."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("full Milvus: the package `milvus` is not installed (Linux on x86-64 only)")
    unshare = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("full Milvus: `unshare --net` is not allowed here")
    directory, path = session_dir / "full-milvus", session_dir / "full-milvus.socket"
    program = Path(__file__).with_name("full_milvus.py")
    with (
        (session_dir / "full-milvus.log").open("wb") as log,
        subprocess.Popen(
            [*unshare, sys.executable, str(program), str(directory), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == b"ready\n", (session_dir / "full-milvus.log").read_text(errors="replace")[-2000:]
        yield f"unix:{path}"
        process.stdin.close()
        process.wait(60)


@pytest.fixture(params=["lite", "full"])
def milvus_uri(request: pytest.FixtureRequest) -> str:
    """URI of each kind of Milvus in turn."""
    uri: str = request.getfixturevalue({"lite": "milvus_lite", "full": "full_milvus"}[request.param])
    return uri


@pytest.fixture
def make_index(milvus_uri: str) -> Iterator[Callable[..., VectorIndex]]:
    """Opens indexes; their collections are dropped after the test."""
    made: dict[str, VectorIndex] = {}

    def make(*, dimension: int = 16, collection: str | None = None) -> VectorIndex:
        index = VectorIndex(
            uri=milvus_uri, token=None, collection=collection or f"test_{next(_numbers)}", dimension=dimension
        )
        made.setdefault(index.collection, index)
        return index

    yield make
    for index in made.values():
        index.drop()
        index.close()


def unit_vectors(count: int, *, dimension: int = 16, seed: int = 0) -> Vectors:
    """Random unit vectors (count, dimension)."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
