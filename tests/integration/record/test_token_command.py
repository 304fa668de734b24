"""`monitor token add | list | revoke`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable

import pytest
from psycopg_pool import AsyncConnectionPool

from monitor.cli import token
from monitor.errors import InputError, UsageError
from monitor.record.tokens import Scope, Tokens, digest

Command = Callable[..., Awaitable[str]]


@pytest.fixture
def command(database, tmp_path, capsys) -> Command:
    """Runs `monitor token ...` and returns what it said on standard output."""
    path = tmp_path / "monitor.yaml"
    path.write_text(json.dumps({"data_dir": str(tmp_path / "data"), "postgres": {"dsn": database}}))

    async def run(*argv: str) -> str:
        parser = argparse.ArgumentParser()
        token.add_parser(parser.add_subparsers())
        args = parser.parse_args(["token", *argv, "-c", str(path)])
        assert await args.command(args) == 0
        return capsys.readouterr().out

    return run


async def test_a_token_is_shown_once_and_kept_as_a_digest(command, database):
    shown = (await command("add", "desk", "--scope", "write")).strip()
    other = json.loads(await command("add", "wall", "--json"))
    assert shown.startswith("monitor_") and len(shown) > 40 and other["scope"] == "read"
    async with AsyncConnectionPool(database, min_size=1, open=False) as pool:
        assert await Tokens(pool).scopes() == {digest(shown): Scope.WRITE, digest(other["token"]): Scope.READ}
        async with pool.connection() as connection:
            rows = await (await connection.execute("SELECT t::text FROM tokens AS t")).fetchall()
    assert len(rows) == 2 and not any(shown in row[0] or other["token"] in row[0] for row in rows)
    listed = await command("list")
    assert [line.split("  ")[:2] for line in listed.splitlines()] == [["desk", "write"], ["wall", "read"]]
    assert [row["name"] for row in json.loads(await command("list", "--json"))["tokens"]] == ["desk", "wall"]
    assert shown not in listed


async def test_a_revoked_token_is_gone_and_its_name_is_free(command, database):
    await command("add", "desk")
    with pytest.raises(InputError, match="there is a token desk already"):
        await command("add", "desk")
    assert await command("revoke", "desk") == "desk is revoked\n"
    assert json.loads(await command("list", "--json")) == {"tokens": []}
    async with AsyncConnectionPool(database, min_size=1, open=False) as pool:
        assert await Tokens(pool).scopes() == {}
    with pytest.raises(InputError, match="there is no token desk"):
        await command("revoke", "desk")
    assert json.loads(await command("add", "desk", "--scope", "admin", "--json"))["scope"] == "admin"
    assert json.loads(await command("revoke", "desk", "--json")) == {"name": "desk", "revoked": True}


async def test_names_and_scopes_are_checked(command):
    for name in ("", "a b", "-", "x" * 64, "a/b"):
        with pytest.raises(UsageError, match="is no name for a token"):
            await command("add", name)
    with pytest.raises(SystemExit):
        await command("add", "desk", "--scope", "everything")
