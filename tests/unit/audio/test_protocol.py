from __future__ import annotations

import pytest

from monitor.audio.egress import Egress
from monitor.audio.protocol import SourceOptions, input_address, input_options, refusal, scheme_of, secrets_of
from monitor.errors import StreamReason


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("http://h/x", "http"),
        ("HTTPS://h/x", "https"),
        ("device:USB Audio", "device"),
        ("/music/x.mp3", "file"),
        ("file:///music/x.mp3", "file"),
    ],
)
def test_schemes(url, scheme):
    assert scheme_of(url) == scheme


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp", "rtmp", "srt", "udp", "rtp"])
def test_what_a_server_decides_never_reaches_files(scheme):
    allowed = str(input_options(f"{scheme}://h/x", SourceOptions())["protocol_whitelist"]).split(",")
    assert scheme.removesuffix("s") in {name.removesuffix("s") for name in allowed}
    assert not {"file", "concat", "subfile", "pipe", "fd", "unix", "gopher", "ftp"} & set(allowed)


def test_a_file_reaches_nothing_else(tmp_path):
    path = tmp_path / "x.mp3"
    path.touch()
    assert input_options(str(path), SourceOptions()) == {"protocol_whitelist": "file"}
    assert input_options(str(path), SourceOptions(realtime=True)) == {"protocol_whitelist": "file", "re": None}
    assert input_address(f"file://{path}") == input_address(str(path)) == f"file:{path}"
    assert refusal(str(path), SourceOptions()) is None
    assert refusal(str(tmp_path / "y.mp3"), SourceOptions()) is StreamReason.NOT_FOUND
    assert refusal(str(tmp_path), SourceOptions()) is StreamReason.NOT_FOUND


def test_a_scheme_that_is_not_allowed_is_refused():
    assert refusal("gopher://h/x", SourceOptions()) is StreamReason.PROTOCOL_DENIED
    assert refusal("rtmp://h/x", SourceOptions(protocols=("http", "tcp"))) is StreamReason.PROTOCOL_DENIED
    assert refusal("http://h/x", SourceOptions(protocols=("http", "tcp"))) is None


def test_live_sources_are_never_slowed_down():
    assert "re" not in input_options("http://h/x", SourceOptions(realtime=True))


def test_ffmpeg_waits_longer_than_we_do():
    options = SourceOptions(stall_timeout_s=30, connect_timeout_s=15)
    assert input_options("http://h/x", options)["rw_timeout"] == 35_000_000
    assert input_options("rtsp://h/x", options)["timeout"] == 35_000_000


def test_tls_is_said_explicitly():
    assert input_options("rtsps://h/x", SourceOptions(ca_file="/ca.pem"))["tls_verify"] == 1
    assert input_options("rtsps://h/x", SourceOptions(ca_file="/ca.pem"))["ca_file"] == "/ca.pem"
    assert input_options("rtmps://h/x", SourceOptions())["ca_file"]
    assert input_options("rtmps://h/x", SourceOptions(tls_verify=False))["tls_verify"] == 0
    assert "tls_verify" not in input_options("rtsp://h/x", SourceOptions())


def test_to_the_web_ffmpeg_speaks_plain_http_with_the_relay_alone():
    options = SourceOptions(headers={"Authorization": "Bearer abc"}, user_agent="m/1")
    for scheme in ("http", "https"):
        told = input_options(f"{scheme}://h/x", options)
        assert told["protocol_whitelist"] == "http,tcp,crypto,data"
        assert not {"headers", "user_agent", "tls_verify", "ca_file"} & set(told)


def test_no_header_holds_a_line_break():
    with pytest.raises(ValueError, match="line break"):
        SourceOptions(headers={"X": "a\r\nY: b"})


def test_what_comes_from_others_opens_no_file_and_nothing_that_is_not_checked(tmp_path):
    path = tmp_path / "x.mp3"
    path.touch()
    strict = SourceOptions(egress=Egress())
    assert refusal(str(path), strict) is StreamReason.PROTOCOL_DENIED
    assert refusal("rtmpt://h/x", strict) is StreamReason.PROTOCOL_DENIED
    for scheme in ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp"):
        assert refusal(f"{scheme}://h/x", strict) is None


def test_secrets_of_an_address_and_its_headers():
    options = SourceOptions(headers={"Authorization": "Bearer tokentoken"})
    found = secrets_of("http://user:p%40ss@h/x?token=sesame", options)
    assert {"p%40ss", "p@ss", "sesame", "tokentoken", "Bearer tokentoken"} <= set(found)
    assert "tokentoken" not in repr(options)
