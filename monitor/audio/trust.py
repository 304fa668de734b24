"""Whose certificates are believed."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

from monitor.audio.ffmpeg import default_ca_file
from monitor.errors import SourceError, StreamReason


def context(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    """TLS that trusts the authorities of `ca_file` (PEM), else the machine's; any server at all without `verify`.

    Raises SourceError `tls` if the file cannot be used.
    """
    if not verify:
        return _context(None, 0)
    path = ca_file or default_ca_file()
    try:
        return _context(path, Path(path).stat().st_mtime_ns)
    except OSError as error:  # ssl.SSLError too
        raise SourceError(StreamReason.TLS, f"ca_file {path} cannot be used: {error.strerror or error}") from error


@functools.lru_cache(maxsize=16)
def _context(path: str | None, changed_ns: int) -> ssl.SSLContext:  # noqa: ARG001  (a file that changes is read again)
    made = ssl.create_default_context(cafile=path)
    if path is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
