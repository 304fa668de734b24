"""Certificates of a server on loopback, one right and some wrong; made by openssl, the expired one by faketime."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from monitor.errors import MissingPartError


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A self-signed certificate with its key."""

    certificate: Path
    key: Path

    def present(self, context: ssl.SSLContext) -> None:
        """The server shows this one from the next handshake on."""
        context.load_cert_chain(self.certificate, self.key)


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """All of them."""

    good: Certificate
    #: Nobody trusts it.
    unknown: Certificate
    expired: Certificate
    #: Of another host.
    elsewhere: Certificate
    #: Authorities for the daemon: all but the unknown one, so that each of the others is wrong in one way alone.
    authorities: Path


def make(folder: Path) -> Certificates:
    """Raises MissingPartError where a program is missing."""
    for program in ("openssl", "faketime"):
        if shutil.which(program) is None:
            raise MissingPartError(f"this needs {program}; install it (Debian: apt-get install {program})")

    def made(name: str, *, host: str = "IP:127.0.0.1", at: str = "now") -> Certificate:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        subprocess.run(
            [
                "faketime", at, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                "-subj", f"/CN={name}.example", "-addext", f"subjectAltName={host}",
                "-keyout", str(key), "-out", str(certificate),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        return Certificate(certificate=certificate, key=key)

    good, expired, elsewhere = made("good"), made("expired", at="30 days ago"), made("other", host="DNS:other.example")
    authorities = folder / "authorities.pem"
    authorities.write_bytes(b"".join(one.certificate.read_bytes() for one in (good, expired, elsewhere)))
    return Certificates(
        good=good, unknown=made("unknown"), expired=expired, elsewhere=elsewhere, authorities=authorities
    )


def context(certificate: Certificate) -> ssl.SSLContext:
    """Of a server that presents it, until it presents another."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A session that is resumed would be one without a certificate.
    made.num_tickets = 0
    made.options |= ssl.OP_NO_TICKET
    certificate.present(made)
    return made
