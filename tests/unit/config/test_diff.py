from __future__ import annotations

from pathlib import Path

import pytest

from monitor.config import Config, Diff, diff, load

OLD = """
streams:
  - {name: a, url: 'http://h/a'}
  - {name: b, url: 'http://h/b'}
  - {name: c, url: 'http://h/c'}
webhooks:
  - {name: w, url: 'https://h/', secret: sixteen-letters-or-more}
"""


@pytest.fixture
def old(tmp_path: Path) -> Config:
    return read(tmp_path, OLD)


def read(directory: Path, text: str) -> Config:
    path = directory / "monitor.yaml"
    path.write_text(text)
    return load(path, environ={})


def test_nothing_differs(old: Config, tmp_path: Path) -> None:
    assert diff(old, read(tmp_path, OLD)).is_empty


def test_streams_webhooks_and_match_rules_change_live(old: Config, tmp_path: Path) -> None:
    new = read(
        tmp_path,
        "match: {max_gap_s: 5, top_k: 3}\n"
        "streams:\n"
        "  - {name: d, url: 'http://h/d'}\n"
        "  - {name: c, url: 'http://h/c', headers: {X: y}}\n"
        "  - {name: a, url: 'http://h/a'}\n"
        "webhooks:\n"
        "  - {name: w, url: 'https://h/', secret: other-sixteen-letters}\n"
        "  - {name: v, url: 'https://h/', secret: sixteen-letters-or-more}\n",
    )
    assert diff(old, new) == Diff(
        streams_added=("d",),
        streams_removed=("b",),
        streams_changed=("c",),
        webhooks_added=("v",),
        webhooks_changed=("w",),
        match_changed=("match.top_k", "match.max_gap_s"),
    )


def test_everything_else_is_refused_by_its_dotted_name(old: Config, tmp_path: Path) -> None:
    new = read(
        tmp_path,
        OLD
        + "data_dir: /elsewhere\nhttp: {port: 1, host: '::'}\npostgres: {dsn: host=h}\n"
        + "catalogs: [{name: x}]\nlog: {level: debug}\n",
    )
    assert diff(old, new) == Diff(refused=("data_dir", "log.level", "postgres", "http.host", "http.port", "catalogs"))
