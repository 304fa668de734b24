"""`monitor config check | show | schema`: what is wrong with a configuration, what is in force, what there is."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from monitor import cli, config

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """`monitor config` understands its actions."""
    parser = subparsers.add_parser("config", help="check a configuration, show what is in force, print its schema")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    check = actions.add_parser("check", help="say everything that is wrong; exit 0 or 78")
    check.set_defaults(command=_check)

    show = actions.add_parser("show", help="print what is in force, as YAML, without secrets")
    show.set_defaults(command=_show)

    schema = actions.add_parser("schema", help="print the JSON Schema, for editors")
    schema.set_defaults(command=_schema)

    for action in (check, show, schema):
        cli.common_options(action)
        action.add_argument("--json", action="store_true", help="one JSON object on standard output")


async def _check(args: argparse.Namespace) -> int:
    try:
        settings = _load(args)
    except config.InvalidConfigError as error:
        if args.json:
            print(json.dumps({"valid": False, "problems": [problem.as_json() for problem in error.problems]}))
        raise
    if args.json:
        print(json.dumps({"valid": True, "problems": []}))
    else:
        counts = ((settings.streams, "stream"), (settings.catalogs, "catalog"), (settings.webhooks, "webhook"))
        said = ", ".join(f"{len(entries)} {word}{'' if len(entries) == 1 else 's'}" for entries, word in counts)
        print(f"{args.config or 'the configuration'} is valid: {said}")
    return 0


async def _show(args: argparse.Namespace) -> int:
    settings = _load(args)
    print(json.dumps(config.show(settings)) if args.json else config.show_yaml(settings), end="\n" if args.json else "")
    return 0


async def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(config.json_schema(), indent=None if args.json else 2))
    return 0


def _load(args: argparse.Namespace) -> config.Config:
    return config.load(args.config, environ=os.environ, data_dir=args.data_dir)
