"""Addresses of sources, and how they look to anyone but ffmpeg: without their secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "***"

# A path segment that nobody would choose as a name: long, and of letters and digits mixed.
_TOKEN_SEGMENT = re.compile(r"^(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-=.~]{20,}$")
_OPEN_NAMES = frozenset(
    {"format", "type", "quality", "bitrate", "channel", "codec", "mount", "lang", "mode", "transport"}
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>]+")


def scheme(url: str) -> str:
    """`http`, `rtsp`, `device`, ...; `file` for a plain path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):", url)
    return match.group(1).lower() if match else "file"


def _secret_segment(segment: str) -> bool:
    return bool(_TOKEN_SEGMENT.match(unquote(segment))) and segment.count(".") <= 1


def mask_url(url: str) -> str:
    """`url` with credentials, query values and token-like path segments as `***`; local paths and devices unchanged.

    Values of query names that describe audio (`format`, `bitrate`, ...) stay readable.
    """
    if scheme(url) in {"file", "device"}:
        return url
    try:
        parts = urlsplit(url)
        authority = parts.netloc.rpartition("@")
    except ValueError:
        return f"{scheme(url)}://{MASK}"
    netloc = f"{MASK}@{authority[2]}" if authority[1] else authority[2]
    path = "/".join(MASK if _secret_segment(segment) else segment for segment in parts.path.split("/"))
    masked = f"{parts.scheme}://{netloc}{path}"
    if parts.query:
        masked += "?" + "&".join(_mask_pair(pair) for pair in parts.query.split("&"))
    return masked


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if name.lower() in _OPEN_NAMES:
        return pair
    return f"{name}={MASK}" if equals else MASK


def secrets_of(url: str, headers: Iterable[str] = ()) -> tuple[str, ...]:
    """What must not appear in any message about `url`: its secret parts and the headers' values, longest first."""
    found = set()
    if scheme(url) not in {"file", "device"}:
        try:
            parts = urlsplit(url)
            credentials = parts.netloc.rpartition("@")[0]
            found.update({credentials, *credentials.split(":", 1)})
            found.update(value for name, value in parse_qsl(parts.query) if name.lower() not in _OPEN_NAMES)
            found.update(segment for segment in parts.path.split("/") if _secret_segment(segment))
        except ValueError:
            found.add(url)
    for value in headers:
        found.update({value, *value.split()[1:]})
    found.update({unquote(each) for each in found} | {quote(each, safe="") for each in found})
    return tuple(sorted((each for each in found if len(each) > 3), key=len, reverse=True))


def mask_text(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with every URL in it masked and every one of `secrets` replaced by `***`."""
    text = _URL.sub(lambda match: mask_url(match.group()), text)
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
