"""The command `monitor`: one file per group of commands, errors as one sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys

if sys.argv[1:2] == ["run"]:
    # Told to stop while it still loads: nothing has begun. Told to reload: what follows reads the configuration anyway.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
# numpy's matrix products here are small: more threads would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import monitor
from monitor import config as configuration
from monitor import log
from monitor.config import Config
from monitor.errors import MonitorError


def common_options(parser: argparse.ArgumentParser) -> None:
    """Options that every command has."""
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration file (YAML)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where state lives")


def load_config(args: argparse.Namespace) -> Config:
    """The configuration that the arguments and the environment name, with the log set up by it."""
    config = configuration.load(args.config, environ=os.environ, data_dir=args.data_dir)
    log.configure(config.log.level, config.log.format, secrets=config.secrets)
    return config


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(asyncio.run(args.command(args)))
    except MonitorError as error:
        print(f"monitor: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; what was to be done is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    from monitor.cli import catalog, config, db, deliveries, demo, devices, evaluate, match, model, run, search, token

    parser = argparse.ArgumentParser(prog="monitor", description=monitor.__doc__)
    parser.add_argument("--version", action="version", version=f"monitor {monitor.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (run, demo, catalog, match, evaluate, search, devices, model, config, db, deliveries, token):
        module.add_parser(commands)
    return parser
