"""One attempt: a signed POST to one endpoint, and what its answer means."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from monitor import __version__
from monitor.alert import signature
from monitor.errors import ConfigError, DeliveryReason
from monitor.types import MatchState

#: So much of an answer's body is read, to be shown to whoever asks why a delivery failed.
_ANSWER_BYTES = 512
_LONGEST_WAIT_S = 86_400.0
_THROTTLING = frozenset({429, 503})
_REASONS: Mapping[int, DeliveryReason] = {
    408: DeliveryReason.TIMEOUT,
    410: DeliveryReason.GONE,
    429: DeliveryReason.RATE_LIMITED,
}
#: Trying again cannot mend these.
FINAL = frozenset({DeliveryReason.CLIENT_ERROR, DeliveryReason.GONE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A webhook: where to POST, what to sign with, and which states it wants to hear of."""

    name: str
    url: str = field(repr=False)
    #: One, or two while keys are changed: `whsec_` and base64, or plain text.
    secrets: tuple[str, ...] = field(repr=False)
    states: frozenset[MatchState] = frozenset(MatchState)
    #: For the whole attempt, from the name's resolution to the end of the answer.
    timeout_s: float = 15.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The signing keys; raises ConfigError when there is none, or one is unusable."""
        if not self.secrets:
            raise ConfigError(f"webhook {self.name} has no secret: deliveries are always signed, so give it one")
        return tuple(signature.signing_key(secret) for secret in self.secrets)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one attempt went; `reason` is None when the endpoint accepted it."""

    status_code: int | None
    reason: DeliveryReason | None
    detail: str = ""
    #: How long the endpoint asked to be left alone.
    retry_after_s: float | None = None
    #: The wait holds for everything sent to this endpoint, not for this delivery alone.
    throttled: bool = False


def open_client(endpoint: Endpoint) -> httpx.AsyncClient:
    """A client of the endpoint's own: no redirects, one connection, TLS verified (SSL_CERT_FILE adds authorities)."""
    return httpx.AsyncClient(
        follow_redirects=False,
        timeout=endpoint.timeout_s,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30),
    )


async def post(client: httpx.AsyncClient, endpoint: Endpoint, *, delivery_id: str, body: str, now_s: float) -> Outcome:
    """POST `body`, signed at `now_s` (Unix seconds), and say how it went; never raises for the network's sake."""
    content = body.encode()
    signed = signature.headers(delivery_id=delivery_id, timestamp_s=int(now_s), body=content, keys=endpoint.keys)
    named = {"content-type": "application/json", "user-agent": f"monitor/{__version__}"}
    headers = httpx.Headers(named)
    headers.update(endpoint.headers)
    headers.update(signed)
    try:
        async with (
            asyncio.timeout(endpoint.timeout_s),
            client.stream("POST", endpoint.url, content=content, headers=headers) as response,
        ):
            said = b"" if response.is_success else await _beginning(response)
            return _judge(response, said, now_s=now_s)
    except (TimeoutError, httpx.TimeoutException):
        detail = f"no complete answer within {endpoint.timeout_s:g} s"
        return Outcome(status_code=None, reason=DeliveryReason.TIMEOUT, detail=detail)
    except httpx.LocalProtocolError:
        # Its text would show the header, which may be a secret.
        detail = "the request cannot be sent: check the webhook's headers"
        return Outcome(status_code=None, reason=DeliveryReason.CLIENT_ERROR, detail=detail)
    except (httpx.TransportError, httpx.InvalidURL, OSError) as error:
        return Outcome(status_code=None, reason=_network_reason(error), detail=str(error) or type(error).__name__)


async def _beginning(response: httpx.Response) -> bytes:
    # Raw, so that a small compressed answer cannot unfold into a huge one.
    said = b""
    async for chunk in response.aiter_raw():
        said += chunk[: _ANSWER_BYTES - len(said)]
        if len(said) >= _ANSWER_BYTES:
            break
    return said


def _judge(response: httpx.Response, said: bytes, *, now_s: float) -> Outcome:
    code = response.status_code
    if response.is_success:
        return Outcome(status_code=code, reason=None)
    reason = _REASONS.get(code)
    if reason is None:
        reason = DeliveryReason.SERVER_ERROR if code >= 500 else DeliveryReason.CLIENT_ERROR
    text = "".join(letter if letter.isprintable() else " " for letter in said.decode("utf-8", "replace"))
    if response.is_redirect:
        text = "redirects are not followed: configure the new address"
    retry_after_s = _retry_after(response.headers.get("retry-after"), now_s=now_s)
    return Outcome(
        status_code=code,
        reason=reason,
        detail=" ".join(text.split())[:200],
        retry_after_s=retry_after_s,
        throttled=code in _THROTTLING and retry_after_s is not None,
    )


def _retry_after(value: str | None, *, now_s: float) -> float | None:
    """Seconds to wait, from a number of seconds or an HTTP date (RFC 9110, section 10.2.3); at most a day."""
    if value is None:
        return None
    if value.strip().isdecimal():
        wait_s = float(value)
    else:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        wait_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s
    return min(max(wait_s, 0.0), _LONGEST_WAIT_S)


def _network_reason(error: Exception) -> DeliveryReason:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return DeliveryReason.TLS
        if isinstance(cause, socket.gaierror):
            return DeliveryReason.DNS
    return DeliveryReason.UNREACHABLE


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
