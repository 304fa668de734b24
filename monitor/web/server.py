"""uvicorn inside the daemon's loop, with the signals left to the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from monitor.errors import UnreachableError


class _Server(uvicorn.Server):
    """uvicorn takes over SIGINT and SIGTERM by itself; the daemon's own stop must run instead."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves an application on one address from `run` until `stop`."""

    def __init__(self, app: FastAPI, *, host: str, port: int) -> None:
        self._socket = _bind(host, port)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3, server_header=False
        )
        self._server = _Server(config)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened to."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    async def run(self) -> None:
        """Serve until `stop`."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._socket.close()

    async def stop(self, task: asyncio.Task[None]) -> None:
        """Answer what is under way, then end `task`, which runs `run`."""
        self._server.should_exit = True
        await task


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named asyncio sends at once, rather than when what was sent before is acknowledged.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UnreachableError(
            f"the HTTP address {host}:{port} cannot be listened to ({error.strerror}); choose another http.port"
        ) from error
    return listening
