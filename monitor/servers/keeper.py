"""The keeper of one data directory: runs its servers while anyone is connected to it.

Every daemon and command holds one connection to the keeper's Unix socket; the kernel closes it at any death. A client
says which servers it wants, and is told their addresses once they are ready. The servers are stopped `linger_s` after
the last connection closes. A server that dies is started again, with back-off. If the keeper dies, the kernel ends its
servers, and the next client starts another keeper.

Nothing here trusts a process id: the keeper holds `keeper.lock`, which it inherits from the client that starts it, and
all processes of a server hold that server's lock, so that a successor waits until the last of them is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import fcntl
import json
import logging
import logging.handlers
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from monitor.errors import (
    ConfigError,
    MissingPartError,
    MonitorError,
    ServerReason,
    StorageError,
    UnreachableError,
)
from monitor.servers.directory import make_socket_dir, socket_dir
from monitor.servers.milvus import Milvus
from monitor.servers.postgres import Postgres, unprivileged_user, wheel_programs
from monitor.servers.process import Server, start

SOCKET = "keeper.sock"
POSTGRES = "postgres"
MILVUS = "milvus"
_LOG_BYTES = 1_000_000
_KEPT_LINES = 100
_LINE_BYTES = 65_536
_POLL_S = 0.03
_STOP_TIMEOUT_S = 30.0
_FIRST_CLIENT_S = 10.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
_FORGIVEN_AFTER_S = 60.0

log = logging.getLogger("monitor.keeper")


class Supervised:
    """One server's life: started, watched, and started again with back-off until the task is cancelled."""

    def __init__(self, server: Server, *, data_dir: Path, key: str) -> None:
        self.server = server
        self._lock_path = data_dir / f"{key}.lock"
        self._log = _output_logger(key, data_dir / f"{key}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()
        self._asked = asyncio.Event()
        self._attempt: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ready(self) -> str:
        """Wait for the server and return its address; raises why the attempt to start it failed."""
        if self._attempt.done() and self._attempt.exception() is not None:
            self._attempt = asyncio.get_running_loop().create_future()
            self._asked.set()
        await asyncio.shield(self._attempt)
        return self.server.address

    def reap(self) -> None:
        """Notice whether the process has ended; called when some child did."""
        if self._process is not None and self._process.poll() is not None:
            self._exited.set()

    async def run(self) -> None:
        """Keep the server running; stops it when cancelled."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            try:
                await self._run_once()
            except MonitorError as error:
                log.error("%s", error)
                if not self._attempt.done():
                    self._attempt.set_exception(error)
                    self._attempt.exception()  # it is in the log; nobody need wait for it
            if time.monotonic() - began > _FORGIVEN_AFTER_S:
                backoff_s = _FIRST_BACKOFF_S
            log.warning("%s starts again in %g s, or when a client asks for it.", self.server.name, backoff_s)
            self._asked.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)

    async def _run_once(self) -> None:
        """From lock to end; raises when the server could not be started, returns when it ended after it was ready."""
        lock = await self._take_lock()
        output, write_end = await self._open_output()
        try:
            self.server.prepare(inherited=(lock,))
            self._exited.clear()
            self._process = start(self.server, output=write_end, inherited=(lock,))
        except MonitorError:
            output.close()
            raise
        finally:
            # From here on the lock and the pipe are held by the server's own processes alone.
            os.close(lock)
            os.close(write_end)
        process = self._process
        try:
            while not self._exited.is_set() and not self.server.is_ready(process.pid):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
            if not self._exited.is_set():
                log.info("%s is ready (process %d).", self.server.name, process.pid)
                if not self._attempt.done():
                    self._attempt.set_result(None)
                await self._exited.wait()
                self._attempt = asyncio.get_running_loop().create_future()
                log.error("%s died with status %d.", self.server.name, process.returncode)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(output.ended.wait(), 1)  # its descendants may hold the pipe longer
            raise self.server.explain(output.last_lines)
        finally:
            await self._stop(process)
            output.close()

    async def _stop(self, process: subprocess.Popen[bytes]) -> None:
        for request in (self.server.stop_signal, signal.SIGKILL):
            if self._exited.is_set():
                return
            process.send_signal(request)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), _STOP_TIMEOUT_S)

    async def _take_lock(self) -> int:
        try:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"The lock {self._lock_path} cannot be opened: {error.strerror}.") from error
        try:
            waiting = False
            while not _locked(lock):
                if not waiting:
                    log.warning("Waiting for the last processes of an earlier %s to end.", self.server.name)
                waiting = True
                await asyncio.sleep(_POLL_S)
        except asyncio.CancelledError:
            os.close(lock)
            raise
        return lock

    async def _open_output(self) -> tuple[_Output, int]:
        read_end, write_end = os.pipe()
        _, output = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _Output(self._log), os.fdopen(read_end, "rb", buffering=0)
        )
        return output, write_end


class _Output(asyncio.Protocol):
    """Copies what a server writes into its log and keeps the last lines."""

    def __init__(self, destination: logging.Logger) -> None:
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self.ended = asyncio.Event()
        self._destination = destination
        self._unfinished = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, unfinished = (self._unfinished + data).split(b"\n")
        self._unfinished = unfinished[-_LINE_BYTES:]
        for line in lines:
            text = line.decode(errors="replace")
            self.last_lines.append(text)
            self._destination.info("%s", text)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.ended.set()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Keeper:
    """All servers of one data directory, and the clients that use them."""

    def __init__(self, *, data_dir: Path, linger_s: float) -> None:
        sockets = socket_dir(data_dir)
        files = data_dir / "postgres"
        self._data_dir = data_dir
        self._linger_s = linger_s
        self._makers: dict[str, Callable[[], Server]] = {
            MILVUS: lambda: Milvus(directory=data_dir / "milvus", socket_dir=sockets / "milvus"),
            POSTGRES: lambda: Postgres(
                directory=files,
                socket_dir=sockets / "postgres",
                programs=wheel_programs(),
                user=unprivileged_user(files),
            ),
        }
        self._servers: dict[str, Supervised] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._clients = 0
        self._used = False
        self._changed = asyncio.Event()
        self._terminations = 0

    async def run(self, listener: socket.socket) -> None:
        """Serve until nobody has been connected for `linger_s`; then stop the servers."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for request in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(request, self._terminate)
        async with asyncio.TaskGroup() as self._group:
            connections = await asyncio.start_unix_server(self._serve, sock=listener)
            log.info("Keeper of %s began (process %d).", self._data_dir, os.getpid())
            await self._until_unused()
            # First no new clients: whoever comes now finds no socket and waits for the lock.
            (socket_dir(self._data_dir) / SOCKET).unlink(missing_ok=True)
            connections.close()
            for task in self._tasks.values():
                task.cancel()
        # The lock is still ours, so nobody else's sockets can be there.
        sockets = socket_dir(self._data_dir)
        if not sockets.is_relative_to(self._data_dir):
            shutil.rmtree(sockets, ignore_errors=True)
        log.info("Keeper of %s ended.", self._data_dir)

    async def _until_unused(self) -> None:
        while self._terminations < 2:
            self._changed.clear()
            # Whoever started it has yet to connect: to end before that would make it start another, and so on.
            least_s = 0.0 if self._used else _FIRST_CLIENT_S
            idle_s = 0.0 if self._terminations else max(self._linger_s, least_s)
            try:
                await asyncio.wait_for(self._changed.wait(), None if self._clients else idle_s)
            except TimeoutError:
                return

    def _terminate(self) -> None:
        """The first SIGTERM ends the keeper once nobody is connected, the second at once."""
        self._terminations += 1
        self._changed.set()

    def _reap(self) -> None:
        for server in self._servers.values():
            server.reap()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        self._used = True
        self._changed.set()
        tasks: list[asyncio.Task[None]] = []
        try:
            wanted = json.loads(await reader.readline() or b"[]")
            tasks = [
                asyncio.create_task(self._answer(wanted, writer), name="answer"),
                asyncio.create_task(_until_closed(reader), name="wait for the client's end"),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await tasks[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            self._clients -= 1
            self._changed.set()

    async def _answer(self, wanted: Sequence[str], writer: asyncio.StreamWriter) -> None:
        """Tell the client the addresses of the servers it wants once they are ready, or why they are not."""
        for name in self._makers:  # all are started before any is waited for
            if name in wanted and name not in self._servers:
                server = Supervised(self._makers[name](), data_dir=self._data_dir, key=name)
                self._servers[name] = server
                self._tasks[name] = self._group.create_task(server.run(), name=name)
        answer: dict[str, object] = {"keeper_pid": os.getpid()}
        try:
            for name in wanted:
                answer[name] = await self._servers[name].ready()
        except MonitorError as error:
            answer = describe(error)
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()


def describe(error: MonitorError) -> dict[str, object]:
    """The error as one JSON object; `described` is its inverse."""
    return {"error": type(error).__name__, "message": str(error), "reason": getattr(error, "reason", None)}


def described(answer: Mapping[str, object]) -> MonitorError | None:
    """The error that an answer tells, if it tells one."""
    kinds = {kind.__name__: kind for kind in (ConfigError, MissingPartError, StorageError)}
    kind, message = str(answer.get("error", "")), str(answer.get("message", ""))
    if kind == UnreachableError.__name__:
        return UnreachableError(message, reason=ServerReason(str(answer["reason"])))
    return kinds.get(kind, MonitorError)(message) if kind else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the keeper: returns 0 in the first process as soon as clients can connect, and serves in a second.

    An error before that is one JSON object on standard error.
    """
    parser = argparse.ArgumentParser(prog="monitor keeper")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--lock", type=int, required=True, help="inherited descriptor of the locked keeper.lock")
    parser.add_argument("--linger-s", type=float, required=True)
    options = parser.parse_args(arguments)
    os.set_inheritable(options.lock, False)
    os.umask(0o077)
    os.chdir("/")
    try:
        listener = _listen(make_socket_dir(options.data_dir) / SOCKET)
    except MonitorError as error:
        print(json.dumps(describe(error)), file=sys.stderr)
        return error.exit_code
    if os.fork() > 0:
        os._exit(0)
    _leave_terminal()
    logging.raiseExceptions = False  # a full disk must not end the keeper
    _log_to(options.data_dir / "keeper.log")
    asyncio.run(Keeper(data_dir=options.data_dir, linger_s=options.linger_s).run(listener))
    return 0


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)  # we hold the lock: nobody listens on it
        listener.bind(str(path))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise StorageError(f"The socket {path} cannot be made: {error.strerror}.") from error
    return listener


def _leave_terminal() -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)


def _log_to(path: Path) -> None:
    handler = _file(path, "%(asctime)s %(levelname)s %(message)s")
    for logger in (log, logging.getLogger("asyncio")):
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("The keeper crashed.", exc_info=(kind, error, trace))

    sys.excepthook = log_crash


def _file(path: Path, form: str) -> logging.Handler:
    """A log of bounded size: at most two files of `_LOG_BYTES`."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, delay=True)
    handler.setFormatter(logging.Formatter(form))
    return handler


def _output_logger(name: str, path: Path) -> logging.Logger:
    logger = logging.getLogger(f"monitor.keeper.{name}")
    logger.addHandler(_file(path, "%(message)s"))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(4096):
            pass
