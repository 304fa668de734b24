"""`monitor model` against a real HTTP server and real directories."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.cli import model
from monitor.errors import InputError, MissingPartError, StorageError, UsageError
from tests.integration.embed.weights_server import CONTENT, Server, checkpoint_of


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the weights that this test calls the published ones."""
    with contextlib.closing(Server()) as server:
        monkeypatch.setattr(model, "PANNS", checkpoint_of(CONTENT, server.url))
        yield server


async def monitor(*words: str) -> int:
    parser = argparse.ArgumentParser()
    model.add_parser(parser.add_subparsers())
    args = parser.parse_args(["model", *words])
    status: int = await args.command(args)
    return status


async def test_fetch_then_list_and_verify(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = str(tmp_path / "data")
    assert await monitor("list", "--data-dir", data_dir) == 0
    assert "panns        not here: run `monitor model fetch panns`" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()

    assert await monitor("fetch", "panns", "--data-dir", data_dir, "--json") == 0
    printed = capsys.readouterr()
    path = tmp_path / "data" / "models" / "small.pth"
    assert json.loads(printed.out)["path"] == str(path)
    assert "small.pth 100% of 700,001 bytes" in printed.err
    assert path.read_bytes() == CONTENT

    assert await monitor("verify", "panns", "--data-dir", data_dir, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert row["condition"] == "published"
    assert row["model_id"] == f"panns-{model.PANNS.sha256[:12]}"


async def test_fetch_from_a_file_needs_no_network(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "stick"
    source.write_bytes(CONTENT)
    assert await monitor("fetch", "panns", "--from", str(source), "--data-dir", str(tmp_path / "data")) == 0
    assert server.requests == []
    assert "small.pth is there: 700,001 bytes, digests as published" in capsys.readouterr().out


async def test_a_mirror_is_held_to_the_published_digest(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match="gave another file than the published"):
        await monitor("fetch", "panns", "--url", server.url, "--data-dir", str(tmp_path / "data"))


async def test_verify_says_what_is_missing_and_what_differs(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = tmp_path / "data"
    with pytest.raises(MissingPartError, match="run `monitor model fetch panns`"):
        await monitor("verify", "panns", "--data-dir", str(data_dir))
    (data_dir / "models").mkdir(parents=True)
    (data_dir / "models" / "small.pth").write_bytes(b"mine")
    assert await monitor("verify", "panns", "--data-dir", str(data_dir)) == 65
    assert "panns        other weights than the published ones" in capsys.readouterr().out


async def test_a_data_directory_that_cannot_be_one_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        await monitor("fetch", "panns", "--data-dir", str(tmp_path / "file"))


@pytest.mark.parametrize(
    "words", [["fetch"], ["fetch", "vggish"], ["fetch", "panns", "--url", "http://a", "--from", "b"], ["verify", "x"]]
)
async def test_wrong_words_are_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        await monitor(*words)
    assert left.value.code == 2


async def test_too_short_an_excerpt_is_refused(tmp_path: Path) -> None:
    words = ["calibrate", "panns", "--audio", str(tmp_path), "--seconds", "5", "--data-dir", str(tmp_path / "data")]
    with pytest.raises(UsageError, match="--seconds must be 16 or more"):
        await monitor(*words)
