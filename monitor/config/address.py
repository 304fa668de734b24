"""Whether an address of a stream, a webhook or a server can be used: each check answers with a sentence, or None."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import psycopg.conninfo

from monitor.masking import mask_url

STREAM_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp")
WEBHOOK_SCHEMES = ("http", "https")
MILVUS_SCHEMES = ("http", "https", "tcp")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")


def check_stream(address: str) -> str | None:
    """For a network address, `device:NAME`, or a file's absolute path (see `is_path`)."""
    if is_path(address):
        return None
    if address.startswith("device:"):
        return None if address.removeprefix("device:").strip() else "names no device: give device:NAME or device:INDEX"
    return _check_url(address, STREAM_SCHEMES, also="device:NAME or the path of a file")


def check_webhook(address: str) -> str | None:
    """For the address of a webhook."""
    return _check_url(address, WEBHOOK_SCHEMES)


def check_milvus(address: str) -> str | None:
    """For the address of a Milvus server."""
    if not _SCHEME.match(address):
        return "is not the address of a server, such as http://host:19530; leave the section out for an embedded Milvus"
    return _check_url(address, MILVUS_SCHEMES)


def check_postgres(dsn: str) -> str | None:
    """For a libpq connection string, as URL or as keywords."""
    try:
        psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:  # its message quotes the string, password and all
        return "is not a connection string such as postgresql://host/database"
    return None


def postgres_password(dsn: str) -> str:
    """The password within a connection string; empty if there is none."""
    return str(psycopg.conninfo.conninfo_to_dict(dsn).get("password", ""))


def is_path(address: str) -> bool:
    """True if the address names a file: it has no scheme."""
    return not _SCHEME.match(address)


def check_file(given: str, path: Path) -> str | None:
    """For a stream that is a file: one that is missing is refused where a forgotten scheme is the likelier reason."""
    if Path(given).is_absolute() or path.exists():
        return None
    return f"is neither a file ({path}) nor an address with a scheme, such as http://{mask_url(given)}"


def _check_url(address: str, schemes: tuple[str, ...], also: str = "") -> str | None:
    found = _SCHEME.match(address)
    scheme = found[1].lower() if found else ""
    if scheme not in schemes:
        known = ", ".join(schemes) + (f", {also}" if also else "")
        return f"has the scheme {scheme!r}; known are {known}" if scheme else f"has no scheme; known are {known}"
    if any(character.isspace() or not character.isprintable() for character in address):
        return "holds a space or a control character; write it as %20"
    try:
        parts = urlsplit(address)
        if not parts.hostname:
            return f"names no host: write {scheme}://HOST/..."
        _ = parts.port
    except ValueError:
        return "has a port or a host that cannot be; write '/', '@' and ':' in a password as %2F, %40 and %3A"
    return None
