"""`monitor token add | list | revoke`: who may use the API, and for what."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from monitor.cli import common_options, load_config
from monitor.deployment import deploy
from monitor.errors import InputError, UsageError
from monitor.record.rows import iso
from monitor.record.tokens import Scope, Tokens

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def add_parser(subparsers: Any) -> None:
    """Add the command with its actions."""
    parser = subparsers.add_parser("token", help="who may use the API: add, list and revoke tokens")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    add = actions.add_parser("add", help="make a token; it is printed once, and only its digest is kept")
    add.add_argument("name", metavar="NAME", help="who it is for: letters, digits, '.', '_' and '-'")
    add.add_argument(
        "--scope",
        choices=[scope.value for scope in Scope],
        default=Scope.READ.value,
        help="read (the default); write: streams and references too; admin: reload too",
    )
    add.set_defaults(command=_add)

    listing = actions.add_parser("list", help="list the tokens' names")
    listing.set_defaults(command=_list)

    revoke = actions.add_parser("revoke", help="refuse a token from now on")
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(command=_revoke)

    for action in (add, listing, revoke):
        common_options(action)
        action.add_argument("--json", action="store_true", help="one JSON object on standard output")


async def _add(args: argparse.Namespace) -> int:
    if not _NAME.fullmatch(args.name):
        raise UsageError(f"{args.name!r} is no name for a token: letters, digits, '.', '_' and '-', 63 at most")
    async with deploy(load_config(args), milvus=False) as deployment:
        token = await Tokens(deployment.pool).add(args.name, Scope(args.scope))
    print(json.dumps({"name": args.name, "scope": args.scope, "token": token}) if args.json else token)
    if not args.json:
        print("it is shown only now: put it where it is needed", file=sys.stderr)
    return 0


async def _list(args: argparse.Namespace) -> int:
    async with deploy(load_config(args), milvus=False) as deployment:
        tokens = await Tokens(deployment.pool).list()
    if args.json:
        rows = [{"name": row.name, "scope": row.scope.value, "created_at": iso(row.created_s)} for row in tokens]
        print(json.dumps({"tokens": rows}))
        return 0
    for row in tokens:
        print(f"{row.name}  {row.scope}  since {iso(row.created_s)}")
    if not tokens:
        print("there are no tokens: without any, only this machine may change anything", file=sys.stderr)
    return 0


async def _revoke(args: argparse.Namespace) -> int:
    async with deploy(load_config(args), milvus=False) as deployment:
        found = await Tokens(deployment.pool).revoke(args.name)
    if not found:
        raise InputError(f"there is no token {args.name}; `monitor token list` shows those that there are")
    print(json.dumps({"name": args.name, "revoked": True}) if args.json else f"{args.name} is revoked")
    return 0
