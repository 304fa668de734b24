"""`monitor deliveries list | replay`: which webhooks wait, which were given up and why, and sending them again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING
from uuid import UUID

from monitor import cli
from monitor.deployment import deploy
from monitor.errors import InputError, UsageError
from monitor.record.outbox import Outbox
from monitor.record.rows import Delivery, DeliveryState, delivery_as_json, iso

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """`monitor deliveries` understands its actions."""
    parser = subparsers.add_parser("deliveries", help="list webhooks that wait or were given up; send them again")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="the newest first; without --state those that wait or were given up")
    listing.add_argument(
        "--state", action="append", choices=[state.value for state in DeliveryState], help="may be given several times"
    )
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="most rows (100)")
    listing.set_defaults(command=_list)

    replay = actions.add_parser(
        "replay",
        help="send again, under the old webhook-id: by ID, or every one that was given up; enables the endpoint",
    )
    replay.add_argument("ids", nargs="*", type=UUID, metavar="ID", help="deliveries that were accepted or given up")
    replay.add_argument("--all", action="store_true", help="all that were given up, to any endpoint")
    replay.set_defaults(command=_replay)

    for action in (listing, replay):
        cli.common_options(action)
        action.add_argument("--endpoint", metavar="NAME", help="only those to this webhook")
        action.add_argument("--json", action="store_true", help="one JSON object on standard output")


async def _list(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise UsageError("--limit must be 1 or more")
    states = [DeliveryState(state) for state in args.state or (DeliveryState.PENDING, DeliveryState.DEAD)]
    async with deploy(cli.load_config(args), milvus=False) as deployment:
        found = await Outbox(deployment.pool).deliveries(states=states, endpoint=args.endpoint, limit=args.limit)
    if args.json:
        print(json.dumps({"deliveries": [delivery_as_json(delivery) for delivery in found]}))
        return 0
    for delivery in found:
        print(_line(delivery))
    if len(found) == args.limit:
        print(f"these are the newest {args.limit}; --limit shows more", file=sys.stderr)
    elif not found:
        print("no such deliveries", file=sys.stderr)
    return 0


async def _replay(args: argparse.Namespace) -> int:
    if not (args.ids or args.endpoint or args.all):
        raise UsageError("say which deliveries to send again: their ids, --endpoint NAME, or --all")
    ids = set(args.ids)
    async with deploy(cli.load_config(args), milvus=False) as deployment:
        outbox = Outbox(deployment.pool)
        count = await outbox.replay(now_s=time.time(), delivery_ids=ids or None, endpoint=args.endpoint)
    print(json.dumps({"replayed": count}) if args.json else f"{count} deliveries are due again")
    if ids and count < len(ids):
        raise InputError(f"{len(ids) - count} of {len(ids)} ids name no delivery that was accepted or given up")
    return 0


def _line(delivery: Delivery) -> str:
    if delivery.state is DeliveryState.PENDING:
        until = f"next attempt {iso(delivery.next_attempt_s)}"
    else:
        until = iso(delivery.finished_s or delivery.created_s)
    code = "" if delivery.status_code is None else str(delivery.status_code)
    why = " ".join(word for word in (delivery.reason, code, delivery.detail) if word)
    kind = json.loads(delivery.body)["type"]
    attempts = f"{delivery.attempts} attempt{'' if delivery.attempts == 1 else 's'}"
    said = [str(delivery.delivery_id), delivery.state.value, delivery.endpoint, kind, attempts, until, why]
    return "  ".join(filter(None, said))
