from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.masking import mask_path, mask_text, mask_url, url_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:8000/live.mp3", "http://h:8000/live.mp3"),
        ("http://user:hush@h/live", "http://***@h/live"),
        ("http://user@h/live", "http://***@h/live"),
        ("rtsp://admin:hu@sh@[::1]:554/1", "rtsp://***@[::1]:554/1"),
        ("rtsp://admin:hu/sh@h/1", "rtsp://***"),
        ("rtsp://admin:1/sh@h/1", "rtsp://***"),
        ("http://h/@radio", "http://h/@radio"),
        ("https://h/a.m3u8?token=hush&format=aac&n", "https://h/a.m3u8?token=***&format=aac&n"),
        ("srt://h:9000?passphrase=hush&mode=caller", "srt://h:9000?passphrase=***&mode=caller"),
        ("https://h/live/eyJhbGciOiJIUzI1.eyJzdWIiOiIx.abcDEF12/x.m3u8", "https://h/live/***/x.m3u8"),
        ("http://h/the-radio-station-of-the-year-2024.mp3", "http://h/the-radio-station-of-the-year-2024.mp3"),
        ("https://h/#hush", "https://h/#***"),
        ("/srv/music/a?token=1.wav", "/srv/music/a?token=1.wav"),
        ("device:Mic", "device:Mic"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert mask_url(url) == shown
    assert mask_url(shown) == shown


def test_a_path_that_is_a_secret_is_hidden_whole() -> None:
    assert mask_path("https://hooks.example.com/services/T0/B0/x?y=z") == "https://hooks.example.com/***"
    assert mask_path("https://user:hush@hooks.example.com") == "https://***@hooks.example.com"
    assert mask_path("hush") == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("open 'http://u:hush@h/x': refused", "open 'http://***@h/x': refused"),
        ("see http://h/x.", "see http://h/x."),
        ("a http://u:hush@h/1, b rtsp://u:hush@h/2", "a http://***@h/1, b rtsp://***@h/2"),
        ("host=h password=hush dbname=d", "host=h password=*** dbname=d"),
        ("host=h password='hu sh' dbname=d", "host=h password=*** dbname=d"),
        ("Authorization: Bearer hush", "Authorization: ***"),
        ("the word is open-sesame", "the word is ***"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert mask_text(text, ["open-sesame"]) == shown


@given(
    user=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1),
    password=st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1),
)
def test_no_password_is_left(user: str, password: str) -> None:
    secret = f"<{password}>"  # characters that no other part of the address holds
    url = f"http://{user}:{secret}@host.example:80/x"
    assert secret not in mask_url(url)
    assert any(secret in found for found in url_secrets(url))
