"""A small file of weights, and a real HTTP server for it that can be told to misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from monitor.embed.checkpoint import Checkpoint

CONTENT = bytes(hashlib.shake_256(b"weights").digest(700_001))


def checkpoint_of(content: bytes, url: str = "http://127.0.0.1:1/none") -> Checkpoint:
    return Checkpoint(
        name="panns",
        file_name="small.pth",
        url=url,
        size_bytes=len(content),
        md5=hashlib.md5(content).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="none",
    )


class Server:
    """Serves `content` with ranges; `script` holds what to do with the next requests, then it behaves well."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.script: list[Callable[[Reply], None]] = []
        self.requests: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append({"path": self.path, **dict(self.headers)})
                reply = Reply(server, self)
                (server.script.pop(0) if server.script else Reply.well)(reply)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/small.pth"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def ranges(self) -> list[str | None]:
        return [request.get("Range") for request in self.requests]


class Reply:
    """One answer of the server."""

    def __init__(self, server: Server, handler: BaseHTTPRequestHandler) -> None:
        self._server = server
        self._handler = handler

    def well(self) -> None:
        self._send(len(self._server.content))

    def cut_after(self, length: int) -> None:
        self._send(length)

    def ignore_range(self, length: int | None = None) -> None:
        self._respond(200, self._server.content, length)

    def lie(self, content_range: str, start: int) -> None:
        self._respond(206, self._server.content[start:], None, {"Content-Range": content_range})

    def status(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._respond(status, b"no", None, headers)

    def _send(self, length: int) -> None:
        headers = self._handler.headers
        match = re.fullmatch(r"bytes=(\d+)-", headers.get("Range", ""))
        content = self._server.content
        if match is None or headers.get("If-Range", self._server.etag) != self._server.etag:
            self._respond(200, content, length)
        elif (start := int(match[1])) >= len(content):
            self._respond(416, b"", None, {"Content-Range": f"bytes */{len(content)}"})
        else:
            content_range = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._respond(206, content[start:], length, {"Content-Range": content_range})

    def _respond(self, status: int, body: bytes, length: int | None, headers: dict[str, str] | None = None) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Length", str(len(body)))
        # Otherwise a client may send its next request into a connection that is being closed.
        self._handler.send_header("Connection", "close")
        if self._server.etag is not None:
            self._handler.send_header("ETag", self._server.etag)
        for name, value in (headers or {}).items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._handler.wfile.write(body[:length])
        self._handler.close_connection = True
