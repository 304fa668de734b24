"""Real servers for the tests: one of each kind per session, one empty database or directory per test.

Data directories made here lie right under the temporary directory and not under `tmp_path`, whose parents only root
may enter: the embedded PostgreSQL of a root session runs as another user.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from monitor.servers.milvus import Milvus
from monitor.servers.postgres import DATABASE, Postgres, unprivileged_user, wheel_programs
from monitor.servers.process import running
from tests.integration.servers.processes import command_line, end_all, living

if TYPE_CHECKING:
    from monitor.audio.ffmpeg import FfmpegProgram

#: Tests need no safety from power cuts.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
_numbers = count(1)

for _name in [name for name in os.environ if name.startswith(("MONITOR_", "PG"))]:
    del os.environ[_name]


#: How long an example takes says something about the machine; in CI each run tries the same examples.
settings.register_profile(
    "tests", deadline=None, derandomize=os.environ.get("CI") == "true", suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

#: Below what the kernel gives out by itself (ip_local_port_range), so that nobody else takes one meanwhile.
_ports = count(20_000 + os.getpid() % 100 * 100)


class ByDirectory(LoadScopeScheduling):
    """In several processes, a directory's tests stay in one: its servers start once, and what keeps real time has no
    rival of its own kind."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0].rpartition("/")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByDirectory:
    return ByDirectory(config, log)


def system_programs() -> Path | None:
    """The directory of an installed PostgreSQL's server programs, the newest if there are several."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if pg_config := shutil.which("pg_config"):
        said = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip()
        found += [Path(said)] if (Path(said) / "initdb").exists() else []
    return max(
        found, key=lambda path: (path.parent.name.isdecimal() and int(path.parent.name), str(path)), default=None
    )


def _short_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="monitor-test-"))
    if os.geteuid() == 0:
        directory.chmod(0o711)
    try:
        yield directory
    finally:
        _end_servers(directory)
        shutil.rmtree(directory)


def _end_servers(directory: Path) -> None:
    """What a test's commands have started there lingers for a while; after the test nobody needs it."""
    for keeper in living(directory, "monitor.servers.keeper"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
    deadline = time.monotonic() + 120
    while left := living(directory):
        if time.monotonic() > deadline:
            lines = [" ".join(command_line(pid)) for pid in left]
            end_all(directory)
            pytest.fail(f"left running: {lines}")
        time.sleep(0.05)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory with a short path that the embedded servers can use, also as root."""
    yield from _short_directory()


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """Like `data_dir`, for the whole session."""
    yield from _short_directory()


def _postgres(directory: Path, programs: Path) -> Iterator[str]:
    files = directory / "files"
    directory.mkdir(mode=0o711)
    server = Postgres(
        directory=files,
        socket_dir=directory / "socket",
        programs=programs,
        user=unprivileged_user(files),
        settings=_FAST,
    )
    with running(server, log=directory / "log") as dsn:
        yield dsn


@pytest.fixture(scope="session")
def wheel_postgres_server(session_dir: Path) -> Iterator[str]:
    """DSN of a server run with the wheel's programs."""
    yield from _postgres(session_dir / "wheel", wheel_programs())


@pytest.fixture(scope="session")
def system_postgres_server(session_dir: Path) -> Iterator[str]:
    """DSN of a server run with the system's programs."""
    programs = system_programs()
    if programs is None:
        pytest.skip("no system PostgreSQL is installed")
    yield from _postgres(session_dir / "system", programs)


@pytest.fixture(scope="session")
def postgres_server(wheel_postgres_server: str) -> str:
    """DSN of the session's server: the wheel's. Tests of the record run on the system's too, see their conftest.py."""
    return wheel_postgres_server


_templates: dict[str, str] = {}


def _named(server: str, database: str) -> str:
    return server.replace(f"/{DATABASE}?", f"/{database}?")


async def _template(server: str) -> str:
    """The name of the server's migrated database, made when first asked for."""
    from monitor.record.migrations import migrate

    if server not in _templates:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE DATABASE migrated")
        await migrate(_named(server, "migrated"))
        _templates[server] = "migrated"
    return _templates[server]


@pytest.fixture
async def database(postgres_server: str) -> AsyncIterator[str]:
    """DSN of an empty, migrated database of the test's own."""
    name = f"test_{next(_numbers)}"
    template = await _template(postgres_server)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield _named(postgres_server, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def milvus_lite(session_dir: Path) -> Iterator[str]:
    """URI of the session's Milvus Lite; each test uses collections of its own name."""
    directory = session_dir / "milvus"
    directory.mkdir()
    server = Milvus(directory=directory / "files", socket_dir=directory / "socket")
    with running(server, log=directory / "log") as uri:
        yield uri


@pytest.fixture(scope="session")
def ffmpeg() -> FfmpegProgram:
    """The ffmpeg that the product would use."""
    from monitor.audio.ffmpeg import find_ffmpeg

    return find_ffmpeg()


@pytest.fixture
def free_port() -> int:
    """A loopback port that was free a moment ago."""
    for port in _ports:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError
