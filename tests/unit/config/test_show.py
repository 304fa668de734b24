from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from monitor.config import Config, load, show, show_yaml

TEXT = """
postgres: {dsn: 'host=h password=hush-1 user=u'}
milvus: {uri: 'http://user:hush-2@m:19530', token: hush-3}
http: {token: hush-4-and-sixteen}
streams:
  - name: a
    urls: ['rtsp://user:hush-5@h/x?key=hush-6&format=aac', /srv/a.wav]
    headers: {Authorization: Bearer hush-7, Accept: hush-8}
webhooks:
  - name: w
    url: https://hooks.example.com/services/hush-9
    secret: whsec_aHVzaC1odXNoLWh1c2gtaHVzaC1odXNo
    previous_secret: hush-10-and-sixteen
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "monitor.yaml"
    path.write_text(TEXT)
    return load(path, environ={})


def test_no_secret_is_shown(config: Config) -> None:
    text = show_yaml(config)
    assert "hush" not in text
    assert "aHVzaC" not in text
    shown = yaml.safe_load(text)
    assert shown == show(config)
    assert shown["postgres"]["dsn"] == "host=h password=*** user=u"
    assert shown["milvus"] == {"uri": "http://***@m:19530", "token": "***", "token_file": None}
    assert shown["streams"][0]["urls"] == ["rtsp://***@h/x?key=***&format=aac", "/srv/a.wav"]
    assert shown["webhooks"][0]["url"] == "https://hooks.example.com/***"


def test_no_secret_stands_in_what_the_record_prints(config: Config) -> None:
    assert "hush" not in repr(config)
    assert "hush" not in str(config)


def test_what_is_shown_without_secrets_is_a_configuration_again(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text("streams: [{name: a, url: 'http://h/'}]\nmatch: {max_gap_s: 12}\n")
    config = load(path, environ={})
    path.write_text(show_yaml(config).replace("  urls: []\n", ""))
    assert load(path, environ={}) == config


def test_secrets_are_known_to_the_mask_of_the_log(config: Config) -> None:
    for number in (1, 2, 3, 5, 6, 7):
        assert any(f"hush-{number}" in secret for secret in config.secrets), number
    assert {"hush-1", "hush-2", "hush-5", "hush-6", "hush-7", "hush-4-and-sixteen"} <= config.secrets
    assert "hush-8" not in config.secrets
