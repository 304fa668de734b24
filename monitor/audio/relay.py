"""The only way to the web for one run of ffmpeg: a forward proxy on loopback that checks whom it connects to.

ffmpeg speaks plain HTTP with the relay, whatever it opens: the address it was given, where that redirects to,
playlists, segments and keys. The relay resolves each host, refuses addresses that the stream may not reach, connects to
the very address that it checked, speaks TLS and verifies it, and adds the credentials. So they stand in no command
line, go to no other host than theirs, and every ffmpeg verifies alike. A password in ffmpeg's environment keeps others
from using it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import secrets
import urllib.request
from collections.abc import AsyncIterator
from urllib.parse import unquote, urlsplit

from monitor.audio import trust
from monitor.audio.egress import connect
from monitor.audio.message import Head, read_head, whole_body
from monitor.audio.protocol import SourceOptions, allowed_protocols
from monitor.errors import SourceError, StreamReason
from monitor.masking import is_sensitive_name

_MOST_CONNECTIONS = 32
_MOST_TLS_HOSTS = 1000
_MANIFEST_BYTES = 8 << 20
_CARRY_BYTES = 1 << 18
#: Live audio comes in drops: after a small one the relay rests, so that it wakes up a few times a second only.
_DROP_BYTES = 1 << 15
_REST_S = 0.1
_MANIFEST_TYPE = re.compile(rb"mpegurl|dash\+xml", re.IGNORECASE)
_MANIFEST_PATH = re.compile(r"\.(m3u8|mpd)$", re.IGNORECASE)
_SECURE = re.compile(rb"(?im)(^|[\s\"'>\[])https://([^/\s\"'<>?#\\\]]+)")
_SECURE_OR_SAME = re.compile(rb"(?im)(^|[\s\"'>\[])(?:https:)?//([^/\s\"'<>?#\\\]]+)")
#: What concerns one connection, and not the answer.
_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate"})

Origin = tuple[str, int]


class Relay:
    """See the module. `address` is what ffmpeg is to open, `environment` what it needs to be let in."""

    def __init__(self, url: str, options: SourceOptions) -> None:
        parts = urlsplit(url)
        self._allowed = allowed_protocols(url, options)
        self._options = options
        self._origin = _origin(parts.hostname or "", parts.port, tls=parts.scheme.lower() == "https")
        self._path, self._query = parts.path or "/", parts.query
        self._user = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        #: What the origin has asked for, once it has: `basic`, or the challenge of `digest`.
        self._challenge: str | None = None
        self._tls: set[Origin] = {self._origin} if parts.scheme.lower() == "https" else set()
        self._password = secrets.token_urlsafe(18)
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()
        #: The address without credentials and query.
        self.address = f"http://{_authority(self._origin)}{self._path}"
        #: The latest reason for which the relay itself could not answer a request.
        self.failure: SourceError | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for ffmpeg."""
        return {"http_proxy": f"http://monitor:{self._password}@127.0.0.1:{self._port}", "no_proxy": ""}

    def plain(self, text: str) -> str:
        """The text with addresses as they are outside of the relay."""
        for host, port in self._tls:
            text = text.replace(f"http://{_authority((host, port))}", f"https://{_shown((host, port), 443)}")
        return text.replace(f"http://{_authority(self._origin)}", f"http://{_shown(self._origin, 80)}")

    async def serve(self) -> asyncio.Server:
        """Listen on a loopback port of its own until the server is closed and `end` is called."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        return server

    async def end(self) -> None:
        """No connection is left."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _MOST_CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._answer(reader, writer), name=f"relay {self._port}")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of ffmpeg's, and whatever the server says to it."""
        try:
            request, _ = await read_head(reader)
            if request is None:
                return
            if request.get("proxy-authorization") != self._expected:
                writer.write(
                    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="relay"\r\n'
                )
                writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
                return
            try:
                await self._pass(request, writer)
            except SourceError as error:
                self.failure = error
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
        except OSError:  # either side hung up: ffmpeg tells what that means
            pass
        finally:
            writer.close()

    @property
    def _expected(self) -> str:
        return "Basic " + base64.b64encode(f"monitor:{self._password}".encode()).decode()

    async def _pass(self, request: Head, writer: asyncio.StreamWriter) -> None:
        method, target, _ = (*request.first.split(" "), "", "")[:3]
        try:
            parts = urlsplit(target)
            origin = _origin(parts.hostname or "", parts.port, tls=False)
        except ValueError as error:
            raise SourceError(StreamReason.UNDECODABLE, "an address in it has a port that cannot be") from error
        if method not in {"GET", "HEAD"} or parts.scheme.lower() != "http" or not origin[0]:
            raise SourceError(StreamReason.PROTOCOL_DENIED, f"{method} of something that is no web address")
        path = parts.path or "/"
        query = parts.query or (self._query if origin == self._origin and path == self._path else "")
        uri = f"{path}?{query}" if query else path
        head, rest, upstream, above = await self._ask(method, origin, uri, request)
        try:
            if head is None:  # no HTTP at all: ffmpeg may know it
                writer.write(rest)
            else:
                rest = await self._begin(head, rest, upstream, writer, origin=origin, path=path)
            await _carry(upstream, above, writer)
        finally:
            above.close()

    async def _ask(
        self, method: str, origin: Origin, uri: str, request: Head
    ) -> tuple[Head | None, bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """The server's head and what came with it; asked once more with credentials where it demands them."""
        for attempt in (1, 2):
            reader, writer = await self._connect(origin)
            try:
                writer.write(self._request(method, origin, uri, request))
                await writer.drain()
                head, rest = await read_head(reader)
                if attempt == 2 or not self._learns(head, origin):
                    return head, rest, reader, writer
            except BaseException:
                writer.close()
                raise
            writer.close()
        raise AssertionError

    async def _connect(self, origin: Origin) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = origin in self._tls
        if ("https" if tls else "http") not in self._allowed:
            raise SourceError(StreamReason.PROTOCOL_DENIED, f"{origin[0]} without TLS")
        return await connect(
            *origin,
            self._options.egress,
            timeout_s=self._options.connect_timeout_s,
            tls=trust.context(self._options.ca_file, verify=self._options.tls_verify) if tls else None,
        )

    def _request(self, method: str, origin: Origin, uri: str, request: Head) -> bytes:
        own = origin[0] == self._origin[0]
        given = {name: value for name, value in self._options.headers.items() if own or not is_sensitive_name(name)}
        if self._options.user_agent:
            given["User-Agent"] = self._options.user_agent
        if origin == self._origin and self._challenge is not None and self._user is not None:
            given["Authorization"] = _credentials(self._challenge, self._user, method, uri, origin)
        replaced = {name.lower() for name in given} | _HOP | {"host", "accept-encoding"}
        kept = [(name, value) for name, value in request.fields if name.lower() not in replaced]
        fields = [
            ("Host", _shown(origin, 443 if origin in self._tls else 80)),
            *kept,
            *given.items(),
            ("Connection", "close"),
        ]
        return Head(first=f"{method} {uri} HTTP/1.1", fields=fields).bytes

    def _learns(self, head: Head | None, origin: Origin) -> bool:
        """True if the answer says how credentials are to be given, and they were not given so."""
        if head is None or head.status != 401 or self._user is None or origin != self._origin:
            return False
        offers = [value for name, value in head.fields if name.lower() == "www-authenticate"]
        before, self._challenge = self._challenge, next((o for o in offers if o.lower().startswith("digest ")), "basic")
        return before != self._challenge

    async def _begin(
        self,
        head: Head,
        rest: bytes,
        upstream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        origin: Origin,
        path: str,
    ) -> bytes:
        """Send the head, and a playlist or manifest whole, with TLS addresses as ffmpeg is to ask for them."""
        tls = origin in self._tls
        fields = [(name, value) for name, value in head.fields if name.lower() not in _HOP]
        fields = [(name, self._led(value, tls) if name.lower() == "location" else value) for name, value in fields]
        if head.status == 200:
            if not rest:
                rest = await upstream.read(_DROP_BYTES)
            kind = (head.get("content-type") or "").encode("latin-1")
            named = _MANIFEST_TYPE.search(kind) or _MANIFEST_PATH.search(path)
            if named or b"#EXTM3U" in rest[:64] or b"<MPD" in rest[:2048]:
                body = await whole_body(head, rest, upstream, most=_MANIFEST_BYTES)
                rest = self._rewritten(body, tls)
                framing = {"content-length", "transfer-encoding"}
                fields = [(name, value) for name, value in fields if name.lower() not in framing]
                fields.append(("Content-Length", str(len(rest))))
        writer.write(Head(first=head.first, fields=[*fields, ("Connection", "close")]).bytes + rest)
        await writer.drain()
        return rest

    def _led(self, location: str, tls: bool) -> str:
        return self._rewritten(location.encode("latin-1"), tls).decode("latin-1")

    def _rewritten(self, text: bytes, tls: bool) -> bytes:
        """TLS addresses as plain ones with their port, by which the relay knows them again."""
        if "https" not in self._allowed:
            return text

        def plain(found: re.Match[bytes]) -> bytes:
            user, at, server = found[2].decode("latin-1").rpartition("@")
            try:
                parts = urlsplit(f"https://{server}")
                origin = _origin(parts.hostname or "", parts.port, tls=True)
            except ValueError:
                return found[0]
            if not origin[0] or (origin not in self._tls and len(self._tls) >= _MOST_TLS_HOSTS):
                return found[0]
            self._tls.add(origin)
            return found[1] + f"http://{user}{at}{_authority(origin)}".encode("latin-1")

        return (_SECURE_OR_SAME if tls else _SECURE).sub(plain, text)


@contextlib.asynccontextmanager
async def relaying(url: str, options: SourceOptions) -> AsyncIterator[Relay]:
    """A relay for `url`, which is http or https; on leaving it has no socket and no task."""
    relay = Relay(url, options)
    server = await relay.serve()
    try:
        yield relay
    finally:
        server.close()
        await relay.end()


async def _carry(reader: asyncio.StreamReader, above: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CARRY_BYTES):
        writer.write(data)
        await writer.drain()
        if len(data) < _DROP_BYTES:
            above.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(_REST_S)
            above.transport.resume_reading()  # type: ignore[attr-defined]


def _credentials(challenge: str, user: tuple[str, str], method: str, uri: str, origin: Origin) -> str:
    name, password = user
    if challenge == "basic":
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    # The standard library's answer (RFC 7616 with MD5 or SHA-1).
    url = f"http://{_authority(origin)}{uri}"
    offered = urllib.request.parse_http_list(challenge.partition(" ")[2])
    fields = urllib.request.parse_keqv_list([part for part in offered if part.partition("=")[2]])
    passwords = urllib.request.HTTPPasswordMgr()
    passwords.add_password(fields.get("realm", ""), url, name, password)
    request = urllib.request.Request(url, method=method)
    try:
        answer = urllib.request.AbstractDigestAuthHandler(passwords).get_authorization(request, fields)
    except (ValueError, KeyError) as error:
        raise SourceError(StreamReason.AUTH, f"a digest that is not known: {error}") from error
    if answer is None:
        raise SourceError(StreamReason.AUTH, "its challenge for a digest lacks what an answer needs")
    return f"Digest {answer}"


def _origin(host: str, port: int | None, *, tls: bool) -> Origin:
    return host.lower(), port or (443 if tls else 80)


def _authority(origin: Origin) -> str:
    host, port = origin
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown(origin: Origin, default_port: int) -> str:
    return _authority(origin).removesuffix(f":{default_port}")
