from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from monitor.errors import (
    ConfigError,
    MissingPartError,
    MonitorError,
    ServerReason,
    StorageError,
    UnreachableError,
)
from monitor.servers import keeper
from monitor.servers.milvus import Milvus
from monitor.servers.postgres import Postgres


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a"),
        MissingPartError("b"),
        StorageError("c"),
        UnreachableError("d", reason=ServerReason.CORRUPT),
        MonitorError("e"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_on_the_other_side_of_the_socket(error: MonitorError) -> None:
    told = keeper.described(json.loads(json.dumps(keeper.describe(error))))
    assert type(told) is type(error)
    assert str(told) == str(error)
    assert getattr(told, "reason", None) == getattr(error, "reason", None)


def test_addresses_are_no_error() -> None:
    assert keeper.described({"keeper_pid": 1, "postgres": "dsn"}) is None


def test_a_servers_log_never_outgrows_two_files(tmp_path: Path) -> None:
    logger = keeper._output_logger("bound", tmp_path / "server.log")
    for _ in range(40_000):
        logger.info("x" * 99)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"server.log", "server.log.1"}
    assert max(sizes.values()) <= 1_000_000
    assert logging.getLogger("monitor.keeper.bound").propagate is False


def test_last_words_become_one_sentence(tmp_path: Path) -> None:
    postgres = Postgres(directory=tmp_path / "p", socket_dir=tmp_path / "s", programs=tmp_path)
    full = postgres.explain(["LOG: starting", 'FATAL: could not write "x": No space left on device', "LOG: end"])
    assert isinstance(full, StorageError)
    assert str(tmp_path / "p") in str(full)
    broken = postgres.explain(["LOG: starting", "FATAL:  could not open file", "LOG:  shut down"])
    assert isinstance(broken, UnreachableError)
    assert str(broken).endswith("it says: FATAL:  could not open file")
    milvus = Milvus(directory=tmp_path / "m", socket_dir=tmp_path / "s")
    assert isinstance(milvus.explain(["OSError: [Errno 28] No space left on device"]), StorageError)
    assert str(milvus.explain([])).endswith("it says: nothing")
