from __future__ import annotations

import pytest

from monitor.audio.failure import reason_of, sentence
from monitor.errors import StreamReason

URL = "rtsp://host/x"

# What cannot be met on loopback by the integration tests: lines as ffmpeg 5.1 and 9.0 write them.
SAID = [
    ("[tcp @ 0x1] [error] Connection to tcp://10.0.0.1:80 failed: Connection timed out", StreamReason.UNREACHABLE),
    ("[tcp @ 0x1] [error] Connection to tcp://[::1]:80 failed: No route to host", StreamReason.UNREACHABLE),
    ("[rtsp @ 0x1] [error] method DESCRIBE failed: 401 Unauthorized", StreamReason.AUTH),
    ("[rtsp @ 0x1] [error] method DESCRIBE failed: 404 Not Found", StreamReason.NOT_FOUND),
    ("[rtsp @ 0x1] [error] method SETUP failed: 503 Service Unavailable", StreamReason.HTTP_ERROR),
    ("[rtmp @ 0x1] [error] Server error: NetStream.Play.StreamNotFound", StreamReason.NOT_FOUND),
    ("[tls @ 0x1] [error] error:0A000086:SSL routines::certificate verify failed", StreamReason.TLS),
    ("[tls @ 0x1] [error] Peer certificate failed verification", StreamReason.TLS),
    ("[tls @ 0x1] [error] The certificate's owner does not match hostname example.org", StreamReason.TLS),
    ("[tls @ 0x1] [error] IO error: Connection timed out", StreamReason.TIMEOUT),
    ("[http @ 0x1] [error] Stream ends prematurely at 0, should be 5", StreamReason.NO_AUDIO),
    ("[warning] something new", StreamReason.UNDECODABLE),
    ("[info] nothing wrong", StreamReason.NO_AUDIO),
]


@pytest.mark.parametrize(("line", "reason"), SAID)
def test_what_ffmpeg_says_before_any_audio(line, reason):
    assert reason_of([line], scheme="rtsp", heard=False) is reason


def test_the_cause_counts_and_not_what_follows_from_it():
    lines = [
        "[tcp @ 0x1] [error] Failed to resolve hostname nowhere.invalid: Name or service not known",
        "[in#0 @ 0x2] [error] Error opening input: Input/output error",
    ]
    assert reason_of(lines, scheme="http", heard=False) is StreamReason.DNS
    assert reason_of(lines[1:], scheme="http", heard=False) is StreamReason.REDIRECT_LOOP
    assert reason_of(lines[1:], scheme="srt", heard=False) is StreamReason.UNDECODABLE


def test_after_audio_an_end_is_an_end():
    late = ["[http @ 0x1] [warning] HTTP error 404 Not Found", "[error] http://h/x: Connection reset by peer"]
    assert reason_of(late, scheme="http", heard=True) is StreamReason.ENDED
    assert reason_of([*late, "[error] http://h/x: Connection timed out"], scheme="http", heard=True) is (
        StreamReason.STALLED
    )


def test_the_sentence_says_where_what_and_what_to_do():
    lines = ["[http @ 0x1] [warning] HTTP error 404 Not Found", "[error] http://h/x: Server returned 404 Not Found"]
    assert sentence("http://h/x", StreamReason.NOT_FOUND, lines) == (
        "http://h/x: there is nothing at this address; check its path (ffmpeg: HTTP error 404 Not Found)"
    )
    assert sentence("http://h/x", StreamReason.STALLED, [], after_s=20.0) == (
        "http://h/x: the audio stopped while the connection stayed open (nothing for 20 s)"
    )
    assert "give the address that stands in it" in sentence("http://h/x.pls", StreamReason.UNDECODABLE, [])
