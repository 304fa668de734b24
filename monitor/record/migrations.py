"""Numbered migrations: the files of `record/sql`, applied in order, once each, by one process at a time."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

import psycopg

from monitor.errors import ConfigError
from monitor.record.border import database_errors

#: Key of the advisory lock under which migrations run: "migrate" in ASCII.
_LOCK = int.from_bytes(b"migrate", "big")
_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """One file of `record/sql`."""

    number: int
    #: The file's name without its suffix.
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the file's text, stored when it is applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class MigrationStatus:
    """One migration and when it was applied; `applied_at` is None while it waits."""

    number: int
    name: str
    applied_at: datetime | None


def migrations() -> list[Migration]:
    """All migrations that this version brings, in the order of their numbers."""
    found = []
    for file in resources.files("monitor.record").joinpath("sql").iterdir():
        if matched := _FILE_NAME.fullmatch(file.name):
            number = int(matched["number"])
            found.append(Migration(number=number, name=file.name[: -len(".sql")], sql=file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing, all or nothing, and return the names of what was applied.

    Raises ConfigError when the database was written by a newer or an altered version, UnreachableError when
    PostgreSQL does not answer.
    """
    with database_errors("migrate the database"):
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
                " sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            waiting = [migration for migration, at in await _compare(connection) if at is None]
            for migration in waiting:
                await connection.execute(migration.sql.encode())
                await connection.execute(
                    "INSERT INTO schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
                    [migration.number, migration.name, migration.sha256],
                )
            return [migration.name for migration in waiting]


async def status(dsn: str) -> list[MigrationStatus]:
    """Say of each migration whether and when it was applied, changing nothing. Errors as in `migrate`."""
    with database_errors("read the database's migrations"):
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            return [
                MigrationStatus(number=migration.number, name=migration.name, applied_at=at)
                for migration, at in await _compare(connection)
            ]


async def _compare(connection: psycopg.AsyncConnection) -> list[tuple[Migration, datetime | None]]:
    cursor = await connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
    applied: dict[int, tuple[str, str, datetime]] = {}
    if await cursor.fetchone() == (True,):
        cursor = await connection.execute("SELECT number, name, sha256, applied_at FROM schema_migrations")
        applied = {number: (name, sha256, at) async for number, name, sha256, at in cursor}
    known = migrations()
    if unknown := sorted(applied.keys() - {migration.number for migration in known}):
        raise ConfigError(
            f"the database has migration {applied[unknown[0]][0]}, which this version of monitor does not know:"
            " it was written by a newer version; install that one, or name another database"
        )
    compared: list[tuple[Migration, datetime | None]] = []
    for migration in known:
        name, sha256, at = applied.get(migration.number, (migration.name, migration.sha256, None))
        if (name, sha256) != (migration.name, migration.sha256):
            raise ConfigError(
                f"the database has migration {name}, but with other content than this version's {migration.name}:"
                " install the version that wrote the database, or name another database"
            )
        compared.append((migration, at))
    return compared
