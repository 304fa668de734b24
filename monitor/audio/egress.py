"""Which addresses a source may reach: names are resolved here, checked, and connected to as they were checked."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from monitor.errors import SourceError, StreamReason

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
#: Look-ups of names at the same time; a name server that does not answer holds each for many seconds.
_LOOKUPS = threading.BoundedSemaphore(16)


@dataclass(frozen=True, kw_only=True)
class Egress:
    """What a source may reach: the public internet always, everything else only as this says."""

    #: Loopback, private, link-local, multicast and reserved addresses too, and files of this machine.
    allow_private: bool = False
    #: Networks that may be reached though they are not public.
    networks: tuple[IpNetwork, ...] = ()

    def allows(self, address: IpAddress) -> bool:
        """True if `address` may be connected to; an IPv4 address within an IPv6 one counts as what it leads to."""
        inner = _inner(address)
        if self.allow_private or any(
            inner.version == network.version and inner in network for network in self.networks
        ):
            return True
        return inner.is_global and not inner.is_multicast and not getattr(inner, "is_site_local", False)


#: For what the operator of this machine has named.
ANYWHERE = Egress(allow_private=True)


def _inner(address: IpAddress) -> IpAddress:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


async def resolve(host: str, port: int, egress: Egress) -> list[IpAddress]:
    """The addresses of `host` that may be reached, in the order in which to try.

    Raises SourceError: `dns` if there is no such name, `address_denied` if none of its addresses may be reached.
    """
    try:
        found = await _look_up(host, port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise SourceError(StreamReason.DNS, f"{host}: {reason}") from error
    allowed = [address for address in found if egress.allows(address)]
    if not allowed:
        raise SourceError(StreamReason.ADDRESS_DENIED, f"{host} is {', '.join(map(str, found[:3]))}")
    return allowed


async def connect(
    host: str, port: int, egress: Egress, *, timeout_s: float, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to `host`, with TLS for that name if `tls` is given, through an address that was checked.

    Raises SourceError with the reason: `dns`, `address_denied`, `refused`, `unreachable`, `timeout` or `tls`.
    """
    error: SourceError | None = None
    try:
        async with asyncio.timeout(timeout_s):
            for address in await resolve(host, port, egress):
                try:
                    return await asyncio.open_connection(
                        str(address), port, ssl=tls, server_hostname=host if tls else None
                    )
                except (OSError, ssl.CertificateError) as failure:
                    error = _explained(failure, f"{host} port {port}")
    except TimeoutError:
        error = SourceError(StreamReason.TIMEOUT, f"{host} port {port}: no connection within {timeout_s:g} s")
    assert error is not None  # noqa: S101
    raise error


def _explained(error: OSError | ssl.CertificateError, where: str) -> SourceError:
    match error:
        case ssl.SSLCertVerificationError():
            return SourceError(StreamReason.TLS, f"{where}: {error.verify_message}")
        case ssl.SSLError() | ConnectionResetError():
            return SourceError(StreamReason.TLS, f"{where}: {error.strerror or error}")
        case ConnectionRefusedError():
            return SourceError(StreamReason.REFUSED, f"{where}: connection refused")
        case TimeoutError():
            return SourceError(StreamReason.UNREACHABLE, f"{where}: connection timed out")
        case _:
            return SourceError(StreamReason.UNREACHABLE, f"{where}: {error.strerror or error}")


async def _look_up(host: str, port: int) -> list[IpAddress]:
    """As getaddrinfo says, in a thread of its own: a dead name server must not fill the threads that others need."""
    with contextlib.suppress(ValueError):
        return [ipaddress.ip_address(host)]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[IpAddress]] = loop.create_future()

    def settle(found: list[IpAddress] | None, error: Exception | None) -> None:
        if not answer.done():
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found or [])

    def look_up() -> None:
        found, error = None, None
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in rows))
        except (OSError, UnicodeError) as failure:
            error = failure
        finally:
            _LOOKUPS.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, error)

    while not _LOOKUPS.acquire(blocking=False):  # noqa: ASYNC110  (given back by threads)
        await asyncio.sleep(0.05)
    threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    return await answer
