from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.servers.processes import end_all, nobody_left


@pytest.fixture
async def served_dir(data_dir: Path) -> AsyncIterator[Path]:
    """A data directory of which no process may be left when the test ends."""
    try:
        yield data_dir
        assert await nobody_left(data_dir), "servers or their keeper were left running"
    finally:
        end_all(data_dir)
