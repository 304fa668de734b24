"""`monitor devices`: the sound cards that a stream can listen to."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from monitor import cli
from monitor.audio.device import input_devices

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """`monitor devices` understands its options."""
    parser = subparsers.add_parser("devices", help="list the sound cards that a stream can listen to (device:NAME)")
    cli.common_options(parser)
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    parser.set_defaults(command=_devices)


async def _devices(args: argparse.Namespace) -> int:
    devices = await asyncio.to_thread(input_devices)
    if args.json:
        print(json.dumps({"devices": [dataclasses.asdict(device) for device in devices]}))
        return 0
    for device in devices:
        mark = "*" if device.default else " "
        sound = f"{device.channels} channels, {device.sample_rate_hz} Hz"
        print(f"{mark} {device.index:3}  {device.name}  ({device.interface}, {sound})")
    if not devices:
        print("no sound device can be listened to", file=sys.stderr)
    return 0
