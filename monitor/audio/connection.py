"""ffmpeg listening to one address, by the way that the address wants: a relay, a tunnel, a checked host, or a file."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import ffmpeg as ffmpeg_command

from monitor.audio import failure, trust
from monitor.audio.egress import resolve
from monitor.audio.ffmpeg import QUIET, FfmpegProgram, FfmpegRun, running
from monitor.audio.protocol import SourceOptions, input_address, input_options, refusal, scheme_of, secrets_of
from monitor.audio.relay import relaying
from monitor.audio.tunnel import tunnelling
from monitor.errors import SourceError, StreamReason
from monitor.masking import mask_text, mask_url

#: ffmpeg's exit after its audio has ended.
_EXIT_S = 5.0
_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}


class _Failing(Protocol):
    failure: SourceError | None


@dataclass(frozen=True, kw_only=True)
class _Way:
    """What ffmpeg is told so that it reaches an address."""

    address: str
    options: Mapping[str, object]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: What may know better than ffmpeg why nothing came.
    carrier: _Failing | None = None


class Connection:
    """One run of ffmpeg on one address."""

    def __init__(self, *, run: FfmpegRun, url: str, carrier: _Failing | None) -> None:
        self.run = run
        self._url = url
        self._carrier = carrier

    async def error(self, *, heard: bool, silent_s: float | None) -> SourceError:
        """Why it is over: `heard` if any audio came, `silent_s` if that long nothing did and it still runs."""
        if silent_s is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.run.wait(), _EXIT_S)
        words = (*self.run.opening, *self.run.last_words)
        own = None if self._carrier is None or heard else self._carrier.failure
        if heard and silent_s is not None:
            reason = StreamReason.STALLED
        elif own is not None:
            reason = own.reason
        else:
            reason = failure.reason_of(words, scheme=scheme_of(self._url), heard=heard)
        if silent_s is not None and reason in {StreamReason.NO_AUDIO, StreamReason.UNDECODABLE}:
            # Only what ffmpeg tries over and over (a playlist's missing segments) says more than that it took long.
            reason = StreamReason.TIMEOUT
        detail = None if own is None else str(own)
        return SourceError(
            reason,
            failure.sentence(mask_url(self._url), reason, words, after_s=silent_s, detail=detail),
            last_words=self.run.last_words,
        )


@contextlib.asynccontextmanager
async def connected(
    url: str, *, ffmpeg: FfmpegProgram, options: SourceOptions, outputs: Mapping[str, object]
) -> AsyncIterator[Connection]:
    """ffmpeg opening `url` and writing `outputs` to its standard output; on leaving nothing of it is left.

    Raises SourceError for what needs no ffmpeg to be refused.
    """
    reason = refusal(url, options)
    if reason is not None:
        raise SourceError(reason, failure.sentence(mask_url(url), reason, ()))
    secrets = secrets_of(url, options)
    async with contextlib.AsyncExitStack() as stack:
        try:
            way = await _way(url, options, stack)
        except SourceError as error:
            words = failure.sentence(mask_url(url), error.reason, (), detail=str(error))
            raise SourceError(error.reason, words) from error
        plain = getattr(way.carrier, "plain", str)
        command = ffmpeg_command.input(way.address, **way.options).output("pipe:1", **outputs)
        run = await stack.enter_async_context(
            running(
                ffmpeg,
                [*QUIET, *command.get_args()],
                mask=lambda text: mask_text(plain(text), secrets=secrets),
                environment=way.environment,
                ca_file=options.ca_file,
            )
        )
        yield Connection(run=run, url=url, carrier=way.carrier)


async def _way(url: str, options: SourceOptions, stack: contextlib.AsyncExitStack) -> _Way:
    scheme, told = scheme_of(url), input_options(url, options)
    if scheme in {"http", "https"}:
        relay = await stack.enter_async_context(relaying(url, options))
        return _Way(address=relay.address, options=told, environment=relay.environment, carrier=relay)
    if scheme == "file" or options.egress.allow_private:
        return _Way(address=input_address(url), options=told)
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        port = parts.port or _PORTS.get(scheme, 0)
    except ValueError as error:
        raise SourceError(StreamReason.UNREACHABLE, f"{host}: no such port") from error
    if scheme not in _PORTS:
        (address, *_) = await resolve(host, port, options.egress)
        host = f"[{address}]" if address.version == 6 else str(address)
        return _Way(address=_at(parts, scheme, host, port), options=told)
    await resolve(host, port, options.egress)
    tls = trust.context(options.ca_file, verify=options.tls_verify) if scheme.endswith("s") else None
    open_tunnel = functools.partial(tunnelling, egress=options.egress, timeout_s=options.connect_timeout_s, tls=tls)
    tunnel = await stack.enter_async_context(open_tunnel(host, port))
    scheme = scheme.removesuffix("s")
    told = {name: value for name, value in told.items() if name not in {"tls_verify", "ca_file"}}
    if scheme == "rtmp":  # servers look at the host that the client believes it speaks to
        application = "/".join(parts.path.strip("/").split("/")[:-1])
        told["rtmp_tcurl"] = f"rtmp://{parts.hostname}:{port}/{application}"
    return _Way(address=_at(parts, scheme, "127.0.0.1", tunnel.port), options=told, carrier=tunnel)


def _at(parts: SplitResult, scheme: str, host: str, port: int) -> str:
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(scheme=scheme, netloc=f"{user}{at}{host}" + (f":{port}" if port else "")).geturl()
