"""How a daemon or a command uses the embedded servers: one connection to their keeper, held for as long as needed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.errors import MonitorError, StorageError, UnreachableError
from monitor.servers.directory import KEEPER_LOCK, prepare, socket_dir
from monitor.servers.keeper import MILVUS, POSTGRES, SOCKET, described

_POLL_S = 0.05
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
#: What the keeper sees of the environment of whoever happens to start it. Python's own settings are among them.
_KEPT_VARIABLES = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
_KEPT_PREFIXES = ("PYTHON", "COVERAGE_")
#: Finds the package also where it is not installed, and never in whatever directory a command happens to run in.
_PROGRAM = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from monitor.servers.keeper import main; sys.exit(main())"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where the servers of a data directory are; empty for a server that was not asked for.

    They follow from the directory's path: a restarted server, also one of another keeper, has the same.
    """

    postgres_dsn: str
    milvus_uri: str
    #: The keeper at the time of the first answer.
    keeper_pid: int


@asynccontextmanager
async def embedded(
    data_dir: Path,
    *,
    postgres: bool = True,
    milvus: bool = True,
    start_timeout_s: float = 60,
    linger_s: float = 10,
) -> AsyncIterator[Addresses]:
    """The servers of `data_dir` run, and go on running, for as long as the block lasts.

    Starts a keeper if there is none, and another one whenever the keeper dies meanwhile. A keeper that this call
    starts stops the servers `linger_s` after its last client has gone. Raises StorageError, ConfigError or
    UnreachableError when a server cannot be started.
    """
    directory = prepare(data_dir)
    wanted = [name for name, asked in ((POSTGRES, postgres), (MILVUS, milvus)) if asked]
    connection = _Connection(directory, wanted, linger_s=linger_s)
    addresses = await connection.open(start_timeout_s)
    user = asyncio.current_task()
    follower = asyncio.create_task(connection.follow(start_timeout_s), name="connection to the keeper")
    # It ends of itself only by a bug, which then must not stay unseen until the block ends.
    follower.add_done_callback(lambda ended: None if ended.cancelled() or user is None else user.cancel())
    try:
        yield addresses
    finally:
        follower.cancel()
        await asyncio.wait([follower])
        connection.close()
        if not follower.cancelled():
            follower.result()


class _Connection:
    """One client's connection to the keeper of a data directory, whichever process that is."""

    def __init__(self, data_dir: Path, wanted: Sequence[str], *, linger_s: float) -> None:
        self._data_dir = data_dir
        self._wanted = wanted
        self._linger_s = linger_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, timeout_s: float) -> Addresses:
        """Connect, after starting a keeper where none is, and wait for the servers."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    answer = await self._ask()
                    if answer:
                        break
                    await self._start_keeper()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self.close()
            raise UnreachableError(
                f"The servers of {self._data_dir} were not ready within {timeout_s:g} s; "
                f"see {self._data_dir / 'keeper.log'}."
            ) from None
        told = json.loads(answer)
        if error := described(told):
            self.close()
            raise error
        return Addresses(
            postgres_dsn=told.get(POSTGRES, ""), milvus_uri=told.get(MILVUS, ""), keeper_pid=told["keeper_pid"]
        )

    async def follow(self, timeout_s: float) -> None:
        """Whenever the keeper dies, start another one: the servers are back as soon as that can be done."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            if self._reader is not None:
                with suppress(ConnectionError):
                    await self._reader.read()
                self.close()
                log.warning("The keeper of %s ended; starting another.", self._data_dir)
            began = time.monotonic()
            try:
                await self.open(timeout_s)
            except MonitorError as error:
                log.error("%s", error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            else:
                log.warning("The servers of %s are back after %.1f s.", self._data_dir, time.monotonic() - began)
                backoff_s = _FIRST_BACKOFF_S

    def close(self) -> None:
        """Tell the keeper, by way of the kernel, that we don't use the servers any more."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _ask(self) -> bytes:
        """The keeper's answer; empty when there is no keeper or it ended under us."""
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(str(socket_dir(self._data_dir) / SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return b""
        except PermissionError as error:
            raise StorageError(f"The servers of {self._data_dir} belong to another user ({error.filename}).") from error
        try:
            self._writer.write(json.dumps(self._wanted).encode() + b"\n")
            answer = await self._reader.readline()
        except ConnectionError:
            answer = b""
        if not answer.endswith(b"\n"):
            self.close()
            return b""
        return answer

    async def _start_keeper(self) -> None:
        """Start a keeper unless one holds the lock, which then is about to listen or about to end.

        The lock is taken here and handed over, so that of any number of clients one starts a keeper.
        """
        path = self._data_dir / KEEPER_LOCK
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"The lock {path} cannot be opened: {error.strerror}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", _PROGRAM),
                *("--data-dir", str(self._data_dir), "--lock", str(lock), "--linger-s", str(self._linger_s)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
                pass_fds=(lock,),
                start_new_session=True,
            )
        except BlockingIOError:
            return
        except OSError as error:
            raise UnreachableError(f"The keeper of {self._data_dir} cannot be started: {error}.") from error
        finally:
            os.close(lock)
        _, said = await process.communicate()
        # A keeper that was killed says nothing about the next one.
        if process.returncode is not None and process.returncode > 0:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            with suppress(ValueError):
                if told := described(json.loads(last)):
                    raise told
            raise UnreachableError(f"The keeper of {self._data_dir} cannot be started: {last}")


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
