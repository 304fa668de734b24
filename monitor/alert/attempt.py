"""One attempt: a signed POST to one endpoint, and what its answer means."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from monitor import __version__, masking
from monitor.alert import signature
from monitor.errors import ConfigError, DeliveryError, DeliveryReason
from monitor.types import MatchState

#: So much of an answer's body is read, to be shown to whoever asks why a delivery failed, and for at most so long.
_ANSWER_BYTES = 512
_ANSWER_S = 1.0
_SHOWN_CHARACTERS = 200
#: Shorter ones would be found in any text.
_SECRET_CHARACTERS = 4
_LONGEST_WAIT_S = 86_400.0
#: Of an attempt's time, for the connection, and again for its TLS handshake.
_CONNECT_SHARE = 0.45
_REASONS: Mapping[int, DeliveryReason] = {
    408: DeliveryReason.TIMEOUT,
    410: DeliveryReason.GONE,
    429: DeliveryReason.RATE_LIMITED,
}
_BY_HUNDRED: Mapping[int, DeliveryReason] = {
    3: DeliveryReason.REDIRECT,
    4: DeliveryReason.CLIENT_ERROR,
    5: DeliveryReason.SERVER_ERROR,
}
#: Trying again cannot mend these.
FINAL = frozenset({DeliveryReason.CLIENT_ERROR, DeliveryReason.GONE, DeliveryReason.UNSENDABLE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A webhook: where to POST, what to sign with, and which states it wants to hear of."""

    name: str
    url: str = field(repr=False)
    #: One, or two while keys are changed: `whsec_` and base64, or plain text.
    secrets: tuple[str, ...] = field(repr=False)
    states: frozenset[MatchState] = frozenset(MatchState)
    #: From the name's resolution to the answer's head.
    timeout_s: float = 15.0
    #: Most requests a second, on average.
    rate_per_s: float = 10.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The signing keys; raises ConfigError when there is none, or one is unusable."""
        if not self.secrets:
            raise ConfigError(f"webhook {self.name} has no secret: deliveries are always signed, so give it one")
        return tuple(signature.signing_key(secret) for secret in self.secrets)

    @property
    def longest_attempt_s(self) -> float:
        """An attempt has ended after that."""
        return self.timeout_s + _ANSWER_S

    def shown(self, said: str) -> str:
        """What somebody said in one line, bounded, without this endpoint's secrets."""
        values = (value for name, value in self.headers.items() if masking.is_sensitive_name(name))
        secrets = {*self.secrets, *masking.url_secrets(self.url), *values}
        printable = "".join(letter if letter.isprintable() else " " for letter in said)
        long = {secret for secret in secrets if len(secret) >= _SECRET_CHARACTERS}
        return " ".join(masking.mask_text(printable, long).split())[:_SHOWN_CHARACTERS]


def open_client(endpoint: Endpoint) -> httpx.AsyncClient:
    """A client of the endpoint's own: no redirects, one connection, TLS verified (SSL_CERT_FILE adds authorities).

    Raises ConfigError when the authorities cannot be read.
    """
    try:
        return httpx.AsyncClient(
            follow_redirects=False,
            # Both end before the attempt is cancelled: a handshake that is cancelled leaves its socket open.
            timeout=httpx.Timeout(endpoint.timeout_s, connect=_CONNECT_SHARE * endpoint.timeout_s),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30),
        )
    except OSError as error:
        raise ConfigError(f"the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error}") from error


async def post(client: httpx.AsyncClient, endpoint: Endpoint, *, delivery_id: str, body: str, now_s: float) -> int:
    """POST `body`, signed at `now_s` (Unix seconds); the status code, 2xx, with which it was accepted.

    Raises DeliveryError with the reason for anything else. Ends within `endpoint.longest_attempt_s`.
    """
    content = body.encode()
    signed = signature.headers(delivery_id=delivery_id, timestamp_s=int(now_s), body=content, keys=endpoint.keys)
    headers = httpx.Headers({"content-type": "application/json", "user-agent": f"monitor/{__version__}"})
    headers.update(endpoint.headers)
    headers.update(signed)
    try:
        request = client.build_request("POST", endpoint.url, content=content, headers=headers)
        async with asyncio.timeout(endpoint.timeout_s):
            response = await client.send(request, stream=True)
    except httpx.ConnectTimeout as error:
        said = f"no connection within {_CONNECT_SHARE * endpoint.timeout_s:g} s"
        raise DeliveryError(DeliveryReason.TIMEOUT, said) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise DeliveryError(DeliveryReason.TIMEOUT, f"no answer within {endpoint.timeout_s:g} s") from error
    except (httpx.LocalProtocolError, httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
        # Its text would show the header or the address, which may be a secret.
        said = "the request cannot be sent: check the webhook's url and headers"
        raise DeliveryError(DeliveryReason.UNSENDABLE, said) from None
    except (httpx.TransportError, OSError) as error:
        reason, said = _network_trouble(error)
        raise DeliveryError(reason, endpoint.shown(said)) from error
    said = await _beginning(response)
    if response.is_success:
        return response.status_code
    raise _refusal(response, endpoint.shown(said), now_s=now_s)


async def _beginning(response: httpx.Response) -> str:
    """The first bytes of the body, as many as come in a second; the connection is given back, or cut if more comes."""
    # Raw, so that a small compressed answer cannot unfold into a huge one.
    said = b""
    try:
        with suppress(TimeoutError, httpx.TransportError, OSError):
            async with asyncio.timeout(_ANSWER_S):
                async for chunk in response.aiter_raw():
                    said += chunk[: _ANSWER_BYTES - len(said)]
                    if len(said) >= _ANSWER_BYTES:
                        break
    finally:
        with suppress(httpx.TransportError, OSError):
            await response.aclose()
    return said.decode("utf-8", "replace")


def _refusal(response: httpx.Response, said: str, *, now_s: float) -> DeliveryError:
    code = response.status_code
    reason = _REASONS.get(code) or _BY_HUNDRED.get(code // 100, DeliveryReason.PROTOCOL)
    if reason is DeliveryReason.REDIRECT:
        said = "redirects are not followed: configure the new address"
    return DeliveryError(
        reason, said, status_code=code, retry_after_s=retry_after_s(response.headers.get("retry-after"), now_s=now_s)
    )


def retry_after_s(value: str | None, *, now_s: float) -> float | None:
    """Seconds to wait, from a number of seconds or an HTTP date (RFC 9110, section 10.2.3); 0 to 86400.

    None for what is neither.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        wait_s = float(value)
    else:
        try:
            date = parsedate_to_datetime(value)
            wait_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    return min(max(wait_s, 0.0), _LONGEST_WAIT_S)


def _network_trouble(error: Exception) -> tuple[DeliveryReason, str]:
    said = str(error) or type(error).__name__
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return DeliveryReason.TLS, f"the certificate is not accepted: {cause.verify_message}"
            case ssl.SSLError():
                return DeliveryReason.TLS, f"no TLS connection: {cause.reason or cause}"
            case socket.gaierror():
                return DeliveryReason.DNS, f"the name is not resolved: {cause.strerror}"
            case ConnectionRefusedError():
                return DeliveryReason.REFUSED, "the connection is refused"
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in said:
        return DeliveryReason.PROTOCOL, f"the answer is not HTTP: {said}"
    return DeliveryReason.UNREACHABLE, said


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
