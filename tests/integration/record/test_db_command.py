from __future__ import annotations

import argparse
import json
from pathlib import Path

import psycopg
import pytest

from monitor.cli import db
from monitor.errors import UnreachableError
from monitor.record.migrations import migrations


async def command(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    db.add_parser(parser.add_subparsers())
    args = parser.parse_args(["db", *argv])
    return int(await args.command(args))


def configured(tmp_path: Path, dsn: str) -> str:
    path = tmp_path / "monitor.yaml"
    path.write_text(json.dumps({"data_dir": str(tmp_path / "data"), "postgres": {"dsn": dsn}}))
    return str(path)


async def test_migrating_and_asking(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    names = [migration.name for migration in migrations()]
    config = configured(tmp_path, database)

    async def said(*argv: str) -> str:
        assert await command(*argv, "-c", config) == 0
        return capsys.readouterr().out

    assert json.loads(await said("status", "--json")) == {
        "migrations": [{"name": name, "applied_at": None} for name in names]
    }
    assert "missing" in await said("status")
    assert json.loads(await said("migrate", "--json")) == {"applied": names}
    assert await said("migrate") == "nothing to apply\n"
    assert all(row["applied_at"] for row in json.loads(await said("status", "--json"))["migrations"])
    assert await said("status") == "".join(line + "\n" for line in (await said("status")).splitlines())
    assert "applied 20" in await said("status")


async def test_a_database_that_does_not_answer_is_said(tmp_path: Path) -> None:
    config = configured(tmp_path, "postgresql://monitor:pa55@127.0.0.1:1/monitor")
    with pytest.raises(UnreachableError, match="cannot read the database's migrations: ") as caught:
        await command("status", "-c", config)
    assert caught.value.exit_code == 69
    assert "pa55" not in str(caught.value)


async def test_the_embedded_database_is_migrated(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("migrate", "--json", "--data-dir", str(data_dir / "state")) == 0
    assert json.loads(capsys.readouterr().out) == {"applied": [migration.name for migration in migrations()]}
