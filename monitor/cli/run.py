"""`monitor run`: the daemon."""

from __future__ import annotations

import argparse
from typing import Any

from monitor import app
from monitor.cli import common_options, load_config


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("run", help="listen to the configured streams until SIGTERM")
    common_options(parser)
    parser.set_defaults(command=_run)


async def _run(args: argparse.Namespace) -> int:
    await app.run(load_config(args), config_path=args.config)
    return 0
