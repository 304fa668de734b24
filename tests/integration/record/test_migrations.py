from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from monitor.errors import ConfigError, ServerReason, UnreachableError
from monitor.record.migrations import migrate, migrations, status

CATALOG = (
    "INSERT INTO catalogs (name, embedder, model_id, dimension, window_s, hop_s, collection)"
    " VALUES (%s, 'fingerprint', 'fingerprint-1', 128, 1, 0.5, %s)"
)


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[str]:
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE unmigrated")
        try:
            yield make_conninfo(postgres_server, dbname="unmigrated")
        finally:
            connection.execute("DROP DATABASE unmigrated WITH (FORCE)")


async def test_processes_that_migrate_at_once_apply_each_migration_once(empty_database: str) -> None:
    names = [migration.name for migration in migrations()]
    assert [(row.name, row.applied_at) for row in await status(empty_database)] == [(name, None) for name in names]

    applied = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))

    assert sorted(applied) == [[], [], [], names]
    assert await migrate(empty_database) == []
    assert all(row.applied_at is not None for row in await status(empty_database))


async def test_a_migration_that_fails_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from monitor.record import migrations as module

    broken = module.Migration(number=9999, name="9999_broken", sql="CREATE TABLE half (); SELECT no_such_column")
    monkeypatch.setattr(module, "migrations", lambda: [*migrations(), broken])

    with pytest.raises(UnreachableError, match=r"cannot migrate the database: .*no_such_column") as caught:
        await migrate(empty_database)

    assert caught.value.reason is ServerReason.REJECTED
    with psycopg.connect(empty_database) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


async def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future', '', now())")

    with pytest.raises(ConfigError, match="9999_future, which this version of monitor does not know"):
        await migrate(database)


async def test_a_database_of_an_altered_version_is_refused(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE schema_migrations SET sha256 = 'other' WHERE number = 1")

    with pytest.raises(ConfigError, match="0001_initial, but with other content"):
        await status(database)


async def test_an_unreachable_server_is_named_as_such() -> None:
    with pytest.raises(UnreachableError, match=r"cannot migrate the database: .*check that PostgreSQL runs") as caught:
        await migrate("postgresql://nobody@/nothing?host=/nonexistent")
    assert caught.value.reason is ServerReason.UNREACHABLE


async def test_every_change_of_a_catalogs_references_raises_its_version_alone(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:

        async def versions() -> list[int]:
            cursor = await connection.execute("SELECT version FROM catalogs ORDER BY name")
            return [row[0] for row in await cursor.fetchall()]

        await connection.execute(CATALOG, ["a", "vectors_a"])
        await connection.execute(CATALOG, ["b", "vectors_b"])
        assert await versions() == [0, 0]
        await connection.execute(
            "INSERT INTO catalog_references (catalog, reference_id, state, path) VALUES ('a', 'one', 'loading', '/x')"
        )
        assert await versions() == [1, 0]
        await connection.execute("UPDATE catalog_references SET state = 'ready'")
        assert await versions() == [2, 0]
        await connection.execute("UPDATE catalog_references SET state = 'ready' WHERE reference_id = 'none'")
        assert await versions() == [2, 0]
        await connection.execute("DELETE FROM catalog_references")
        assert await versions() == [3, 0]
