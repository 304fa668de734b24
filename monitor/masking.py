"""What may be shown of an address: credentials, tokens and keys become `***` wherever a URL or a message is printed."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, quote, unquote, urlsplit

MASK = "***"

_SENSITIVE_NAME = re.compile(
    r"token|secret|passw|passphrase|pwd|key|auth|sign?ature|^sig$|session|^sid$|jwt|credential|cookie|hdne|hdnts|policy",
    re.IGNORECASE,
)
#: Query parameters that describe the sound and are worth reading in a message.
_OPEN_PARAMETERS = frozenset(
    {
        "bitrate",
        "channel",
        "channels",
        "codec",
        "format",
        "lang",
        "latency",
        "mode",
        "mount",
        "quality",
        "transport",
        "type",
    }
)
#: A path segment that nobody would choose as a name: long, letters and digits mixed, no file's suffix.
_TOKEN = re.compile(r"(?=[^/]*\d)(?=[^/]*[A-Za-z])[A-Za-z0-9_\-.~+=%]{20,}")
_FILE_NAME = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>`]*[^\s'\"<>`.,;:)\]}!?]")
_KEYWORD_PASSWORD = re.compile(r"(?i)\b(password|passphrase)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&;,]+)")
_CREDENTIAL_HEADER = re.compile(
    r"(?i)\b(authorization|proxy-authorization|cookie|set-cookie|x-api-key|x-auth-token)(['\"]?\s*[:=]\s*)[^\r\n]+"
)


def is_sensitive_name(name: str) -> bool:
    """True if a header or query parameter of this name usually carries a secret."""
    return bool(_SENSITIVE_NAME.search(name))


@functools.lru_cache(maxsize=4096)
def mask_url(url: str) -> str:
    """The URL with user information, query values and token-like path segments replaced by `***`.

    Query values that describe sound (`format`, `bitrate`, ...) stay readable. Anything without `scheme://` (a file's
    path, `device:NAME`) comes back unchanged.
    """
    if "://" not in url:
        return url
    parts = _split(url)
    if parts is None:
        return f"{url.partition('://')[0]}://{MASK}"
    host = _host(parts)
    path = "/".join(_mask_segment(segment) for segment in parts.path.split("/"))
    query = "&".join(_mask_parameter(parameter) for parameter in parts.query.split("&")) if parts.query else ""
    fragment = MASK if parts.fragment else ""
    shown = f"{parts.scheme}://{host}{path}"
    return shown + (f"?{query}" if query else "") + (f"#{fragment}" if fragment else "")


def mask_path(url: str) -> str:
    """The URL down to its host: for addresses such as webhooks, whose whole path is often the secret."""
    masked = mask_url(url)
    scheme, separator, rest = masked.partition("://")
    if not separator:
        return MASK
    host, *path = re.split(r"[/?#]", rest, maxsplit=1)
    return f"{scheme}://{host}" + (f"/{MASK}" if path and path[0] else "")


def mask_text(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with the given secrets, and whatever looks like a credential in a URL or a header, replaced by `***`."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    if "://" in text:
        text = _URL.sub(lambda found: mask_url(found.group()), text)
    text = _KEYWORD_PASSWORD.sub(rf"\1={MASK}", text)
    return _CREDENTIAL_HEADER.sub(rf"\1\2{MASK}", text)


def url_secrets(url: str) -> set[str]:
    """The parts of a URL that `mask_url` hides, as they stand and (un)quoted, to be looked for in foreign messages."""
    if "://" not in url:
        return set()
    parts = _split(url)
    if parts is None:
        return {url.partition("://")[2]}
    credentials = parts.netloc.rpartition("@")[0]
    found = {credentials, credentials.partition(":")[2]}
    found |= {segment for segment in parts.path.split("/") if _mask_segment(segment) == MASK}
    found |= {p.rpartition("=")[2] for p in parts.query.split("&") if _mask_parameter(p) != p}
    found |= {unquote(text) for text in found} | {quote(text, safe="") for text in found}
    return found - {""}


def _split(url: str) -> SplitResult | None:
    """The parts; None if a password with an unescaped slash or the like may have put the borders in wrong places."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    borders_are_doubtful = ":" in parts.netloc and "@" in parts.path + parts.query + parts.fragment
    return None if borders_are_doubtful else parts


def _host(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    return f"{MASK}@{host}" if at and user else host


def _mask_segment(segment: str) -> str:
    return MASK if _TOKEN.fullmatch(segment) and not _FILE_NAME.search(segment) else segment


def _mask_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if name.lower() in _OPEN_PARAMETERS or (equals and not value):
        return parameter
    return f"{name}={MASK}" if equals else _mask_segment(name)
