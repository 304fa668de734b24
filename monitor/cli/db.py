"""`monitor db migrate | status`: the database's schema, and what is missing of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from monitor import cli
from monitor.record import migrations
from monitor.servers.client import embedded
from monitor.servers.directory import default_data_dir, prepare

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """`monitor db` understands its actions."""
    parser = subparsers.add_parser("db", help="migrate the database, or say which migrations it has")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    migrate = actions.add_parser("migrate", help="apply what is missing, all or nothing (every start does so too)")
    migrate.set_defaults(command=_migrate)

    status = actions.add_parser("status", help="list the migrations and when each was applied; changes nothing")
    status.set_defaults(command=_status)

    for action in (migrate, status):
        cli.common_options(action)
        action.add_argument("--json", action="store_true", help="one JSON object on standard output")


async def _migrate(args: argparse.Namespace) -> int:
    async with _database(args) as dsn:
        applied = await migrations.migrate(dsn)
    if args.json:
        print(json.dumps({"applied": applied}))
    else:
        print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")
    return 0


async def _status(args: argparse.Namespace) -> int:
    async with _database(args) as dsn:
        known = await migrations.status(dsn)
    if args.json:
        said = [
            {"name": row.name, "applied_at": row.applied_at and row.applied_at.isoformat(timespec="seconds")}
            for row in known
        ]
        print(json.dumps({"migrations": said}))
    else:
        for row in known:
            print(f"{row.name:<40} {f'applied {row.applied_at:%Y-%m-%d %H:%M:%S %Z}' if row.applied_at else 'missing'}")
    return 0


@asynccontextmanager
async def _database(args: argparse.Namespace) -> AsyncIterator[str]:
    """The DSN of the configured database, or of the embedded one, which answers for as long as the block lasts."""
    config = cli.load_config(args)
    if config.postgres and config.postgres.dsn:
        yield config.postgres.dsn.get_secret_value()
        return
    async with embedded(prepare(config.data_dir or default_data_dir()), milvus=False) as addresses:
        yield addresses.postgres_dsn
