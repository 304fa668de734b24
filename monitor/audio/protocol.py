"""What ffmpeg is told about an address: which protocols it may use, how long it may wait, whom it trusts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from monitor.audio.egress import ANYWHERE, Egress
from monitor.audio.ffmpeg import default_ca_file
from monitor.errors import StreamReason
from monitor.masking import url_secrets

_HTTP = ("http", "https", "httpproxy", "tcp", "tls", "crypto", "data")
_RTMP = ("rtmp", "rtmps", "rtmpt", "rtmpts", "rtmpe", "rtmpte", "ffrtmpcrypt", "ffrtmphttp", "tcp", "tls")
_RTSP = ("rtsp", "rtsps", "tcp", "tls", "udp", "rtp", "srtp")
#: What each scheme needs, and no more: above all no `file` where a server decides what is opened next.
PROTOCOLS: Mapping[str, tuple[str, ...]] = {
    "http": _HTTP,
    "https": _HTTP,
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    **dict.fromkeys(("rtmp", "rtmps", "rtmpt", "rtmpts", "rtmpe", "rtmpte"), _RTMP),
    "srt": ("srt",),
    "udp": ("udp",),
    "rtp": ("rtp", "udp"),
    "file": ("file",),
}
_WEB = frozenset({"http", "https"})
_VERIFIED = frozenset({"rtsps", "rtmps"})
#: Where it can be checked whom ffmpeg connects to; not so files, nor RTMP in HTTP requests of its own.
_CHECKED = frozenset({"http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp"})
#: ffmpeg gives up by itself this long after we would have: it then also dies where nobody is left to end it.
_GRACE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How to listen to one address."""

    #: Request headers; their values never appear in a message.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    user_agent: str | None = None
    #: Seconds without audio after which a source that had some is given up.
    stall_timeout_s: float = 20.0
    #: Seconds to the first audio.
    connect_timeout_s: float = 15.0
    #: ffmpeg's protocols that may be used; None for what the address's scheme needs.
    protocols: tuple[str, ...] | None = None
    tls_verify: bool = True
    #: Certificate authorities (PEM) that are trusted; None for the machine's.
    ca_file: str | None = None
    #: A plain file plays at the speed of its sound. Sources that are live by themselves are never slowed down.
    realtime: bool = False
    #: What may be reached. What the operator has named may be anywhere; for what comes from others say so here.
    egress: Egress = ANYWHERE

    def __post_init__(self) -> None:
        for text in (*self.headers, *self.headers.values(), self.user_agent or ""):
            if re.search(r"[\r\n\0]", text):
                raise ValueError("a request header or user agent holds a line break")


def scheme_of(url: str) -> str:
    """`http`, `rtsp`, `device`, ... in lower case; `file` for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):", url)
    return match.group(1).lower() if match else "file"


def path_of(url: str) -> str:
    """The path that a `file` address names."""
    return re.sub(r"^file:(//)?", "", url, flags=re.IGNORECASE)


def allowed_protocols(url: str, options: SourceOptions) -> tuple[str, ...]:
    """ffmpeg's protocols that may be used for `url`; none if its scheme may not be opened at all."""
    scheme = scheme_of(url)
    allowed = PROTOCOLS.get(scheme, ()) if options.protocols is None else options.protocols
    return allowed if scheme in allowed else ()


def refusal(url: str, options: SourceOptions) -> StreamReason | None:
    """Why `url` needs no ffmpeg to be refused: its scheme may not be opened, or there is no such file."""
    if not allowed_protocols(url, options):
        return StreamReason.PROTOCOL_DENIED
    if not options.egress.allow_private and scheme_of(url) not in _CHECKED:
        return StreamReason.PROTOCOL_DENIED
    if scheme_of(url) == "file" and not Path(path_of(url)).is_file():
        return StreamReason.NOT_FOUND
    return None


def secrets_of(url: str, options: SourceOptions) -> tuple[str, ...]:
    """What no message about this source may hold, longest first."""
    found = url_secrets(url)
    for value in options.headers.values():
        found |= {value, *value.split()[1:]}
    return tuple(sorted((secret for secret in found if len(secret) > 2), key=len, reverse=True))


def input_options(url: str, options: SourceOptions) -> dict[str, object]:
    """ffmpeg's input options for `url`, as ffmpeg-python takes them; each exists in ffmpeg 5.1 and in 9.0.

    http and https addresses are opened through a relay, which speaks TLS and adds headers and credentials.
    """
    scheme = scheme_of(url)
    wait_us = round((max(options.connect_timeout_s, options.stall_timeout_s) + _GRACE_S) * 1e6)
    allowed = allowed_protocols(url, options)
    if scheme in _WEB:
        allowed = ("http", "tcp", *(name for name in allowed if name in {"crypto", "data"}))
    chosen: dict[str, object] = {"protocol_whitelist": ",".join(allowed)}
    if scheme == "file":
        return {**chosen, "re": None} if options.realtime else chosen
    if scheme in {"rtsp", "rtsps"}:
        # UDP through a firewall is silence; and RTSP calls the time to wait for a socket `timeout`.
        chosen |= {"rtsp_transport": "tcp", "allowed_media_types": "audio", "timeout": wait_us}
        if options.user_agent:
            chosen["user_agent"] = options.user_agent
    else:
        chosen["rw_timeout"] = wait_us
    if scheme not in _WEB:
        # These wait for tracks that may yet come: 5 s, where a sound track shows at once.
        chosen["analyzeduration"] = 2_000_000
    if scheme.startswith("rtmp"):
        chosen["rtmp_live"] = "live"
    if scheme == "srt":
        chosen["connect_timeout"] = round(options.connect_timeout_s * 1e3)
    if scheme in _WEB and urlsplit(url).path.endswith(".mpd"):
        # At the live edge of a DASH manifest ffmpeg asks for segments that are not there yet, skips them and comes
        # back: at the speed of the sound it stays the few segments behind where it began.
        chosen["re"] = None
    if scheme in _VERIFIED:
        # ffmpeg before 8 verifies only when told to.
        chosen["tls_verify"] = int(options.tls_verify)
        if options.tls_verify:
            chosen["ca_file"] = options.ca_file or default_ca_file()
    return chosen


def input_address(url: str) -> str:
    """`url` as ffmpeg takes it: a path can never be read as an option or as another protocol."""
    return f"file:{path_of(url)}" if scheme_of(url) == "file" else url
