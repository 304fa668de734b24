"""Why ffmpeg gave up, told from its last words: the same reasons for ffmpeg 5.1 and 9.0. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from monitor.errors import StreamReason

_R = StreamReason
#: In order: the first pattern that any line matches decides. Read off real failures of both versions.
_PATTERNS: tuple[tuple[re.Pattern[str], StreamReason], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"not on whitelist|Protocol not found", _R.PROTOCOL_DENIED),
        (r"Failed to resolve hostname", _R.DNS),
        (r"HTTP error 40[137]|failed: 40[137] |Server returned 40[13] |BADSECRET|wrong password", _R.AUTH),
        (r"HTTP error 4(04|10)|failed: 4(04|51) |Server returned 404|StreamNotFound|No such file", _R.NOT_FOUND),
        (r"HTTP error \d|failed: [45]\d\d |Server returned [45]", _R.HTTP_ERROR),
        # The socket under TLS may fail too; that is not TLS.
        (r"\[tls @ \w+\] \[error\] (?!IO error|Error in the pull|Error in the push)", _R.TLS),
        (r"Connection refused", _R.REFUSED),
        (r"Connection to \S+ failed: |Network is unreachable|No route to host|Host is down", _R.UNREACHABLE),
        (r"Connection timed out|Operation timed out", _R.TIMEOUT),
        (r"matches no streams", _R.NO_AUDIO),
        (r"Invalid data found|Could not find codec|consecutive MPEG audio frames|Header missing", _R.UNDECODABLE),
        (r"Decoder \(codec|[Ee]rror while decoding|Decoding error|Error submitting packet", _R.UNDECODABLE),
        (r"ends prematurely|End of file|Connection reset|Broken pipe", _R.NO_AUDIO),
    )
)
#: What ffmpeg says of an HTTP server that redirects for ever, or (5.1) to where it may not go: the bare error, alone.
_BARE = (
    (re.compile(r"Input/output error"), _R.REDIRECT_LOOP),
    (re.compile(r"Invalid argument"), _R.PROTOCOL_DENIED),
)
_MATTERS = re.compile(r"\[(error|fatal|warning|panic)\]|matches no streams")
_OWN_WORDS = re.compile(r"^(?:\[[^\]]*\] )*")
_SENTENCES = {
    _R.UNREACHABLE: "the server cannot be reached; check the address and the network",
    _R.REFUSED: "the server refuses connections on this port; check the port, and that it runs",
    _R.DNS: "the host name is not known; check its spelling and the name server",
    _R.TLS: "the server's certificate is not trusted, or it does not speak TLS; check it, or its authority",
    _R.AUTH: "the server demands other credentials or forbids access; check user, password, token and headers",
    _R.NOT_FOUND: "there is nothing at this address; check its path",
    _R.HTTP_ERROR: "the server answers with an error",
    _R.REDIRECT_LOOP: "the server redirects without end; use the address that it should lead to",
    _R.TIMEOUT: "the server accepts the connection and sends no audio",
    _R.STALLED: "the audio stopped while the connection stayed open",
    _R.NO_AUDIO: "it has no audio track, or ends before any audio",
    _R.UNDECODABLE: "what it sends is not audio that ffmpeg can decode",
    _R.PROTOCOL_DENIED: "it needs a protocol that is not allowed here; see the stream's `protocols`",
    _R.ADDRESS_DENIED: "it leads to an address that this stream may not reach; see `http.stream_networks`",
    _R.ENDED: "the audio ended",
    _R.DEVICE_MISSING: "there is no such sound device; `monitor devices` lists them",
}
_PLAYLIST = re.compile(r"\.(m3u|pls|xspf|asx)($|\?)", re.IGNORECASE)


def reason_of(lines: Sequence[str], *, scheme: str, heard: bool) -> StreamReason:
    """Why the source whose ffmpeg left these last words has ended; `heard` if it gave any audio before.

    After audio an end is an end, however ffmpeg puts it, except where it was the one to lose patience.
    """
    matter = [line for line in lines if _MATTERS.search(line)]
    if heard:
        timed_out = any(re.search(r"(Connection|Operation) timed out", line) for line in matter[-5:])
        return StreamReason.STALLED if timed_out else StreamReason.ENDED
    for pattern, reason in _PATTERNS:
        if any(pattern.search(line) for line in matter):
            return reason
    if scheme in {"http", "https"}:
        for pattern, reason in _BARE:
            if any(pattern.search(line) for line in matter):
                return reason
    return StreamReason.UNDECODABLE if matter else StreamReason.NO_AUDIO


def sentence(
    masked_url: str,
    reason: StreamReason,
    lines: Sequence[str],
    *,
    after_s: float | None = None,
    detail: str | None = None,
) -> str:
    """One sentence for the person who can mend it: where, what, what to do, and `detail` or ffmpeg's decisive words."""
    text = f"{masked_url}: {_SENTENCES.get(reason, reason.value)}"
    if after_s is not None:
        text += f" (nothing for {after_s:g} s)"
    if reason is StreamReason.UNDECODABLE and _PLAYLIST.search(masked_url):
        text += "; this seems to be a playlist: give the address that stands in it"
    if detail:
        return f"{text} ({detail})"
    words = _decisive(lines, reason)
    return f"{text} (ffmpeg: {words})" if words else text


def _decisive(lines: Sequence[str], reason: StreamReason) -> str:
    matter = [line for line in lines if _MATTERS.search(line)]
    for pattern, meaning in _PATTERNS:
        if meaning is reason:
            for line in matter:
                if pattern.search(line):
                    return _plain(line)
    errors = [line for line in matter if "[warning]" not in line]
    return _plain(errors[0] if reason is not StreamReason.ENDED else errors[-1]) if errors else ""


def _plain(line: str) -> str:
    """ffmpeg's words without its own marks, and without what no line of text holds."""
    printable = "".join(letter if letter.isprintable() else " " for letter in _OWN_WORDS.sub("", line))
    return printable.rstrip(". ")
