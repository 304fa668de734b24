"""`monitor deliveries list | replay | endpoints | enable`: what waits, what was given up and why, sending it again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

from monitor import cli
from monitor.deployment import deploy
from monitor.errors import InputError, UsageError
from monitor.record.endpoints import Endpoints
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
    replay.add_argument("--all-dead", action="store_true", help="all that were given up, to any endpoint")
    replay.set_defaults(command=_replay)

    endpoints = actions.add_parser("endpoints", help="how each webhook fares: accepting, held, tripped or disabled")
    endpoints.set_defaults(command=_endpoints)

    enable = actions.add_parser(
        "enable", help="send to a webhook again that was disabled, or is left alone for a while"
    )
    enable.add_argument("names", nargs="+", metavar="NAME", help="the webhook's name")
    enable.set_defaults(command=_enable)

    for action in (listing, replay):
        action.add_argument("--endpoint", metavar="NAME", help="only those to this webhook")
    for action in (listing, replay, endpoints, enable):
        cli.common_options(action)
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
    if not (args.ids or args.endpoint or args.all_dead):
        raise UsageError("say which deliveries to send again: their ids, --endpoint NAME, or --all-dead")
    if args.ids and args.all_dead:
        raise UsageError("--all-dead is all that were given up: leave it out, or the ids")
    ids = set(args.ids)
    async with deploy(cli.load_config(args), milvus=False) as deployment:
        outbox = Outbox(deployment.pool)
        count = await outbox.replay(now_s=time.time(), delivery_ids=ids or None, endpoint=args.endpoint)
    print(json.dumps({"replayed": count}) if args.json else f"{count} deliveries are due again")
    if ids and count < len(ids):
        raise InputError(f"{len(ids) - count} of {len(ids)} ids name no delivery that was accepted or given up")
    return 0


async def _endpoints(args: argparse.Namespace) -> int:
    config, now_s = cli.load_config(args), time.time()
    async with deploy(config, milvus=False) as deployment:
        outbox, standings = Outbox(deployment.pool), Endpoints(deployment.pool)
        waiting, dead = await outbox.pending(), await outbox.dead()
        fares = {
            webhook.name: await standings.standing(webhook.name, url=webhook.url.get_secret_value())
            for webhook in config.webhooks
        }
    rows: list[dict[str, Any]] = []
    for name in sorted(fares.keys() | waiting.keys() | dead.keys()):
        row: dict[str, Any] = {"endpoint": name, "configured": name in fares}
        if (standing := fares.get(name)) is not None:
            row |= {"state": standing.state(now_s).value} | asdict(standing)
            for time_name in ("held_until", "disabled", "accepted", "failed"):
                at_s = row[f"{time_name}_s"]
                row[f"{time_name}_at"] = None if at_s is None else iso(at_s)
        rows.append(row | {"pending": waiting.get(name, 0), "dead": dead.get(name, 0)})
    if args.json:
        print(json.dumps({"endpoints": rows}))
        return 0
    for row in rows:
        print(_standing_line(row, now_s))
    if not rows:
        print("no webhooks are configured", file=sys.stderr)
    return 0


async def _enable(args: argparse.Namespace) -> int:
    config = cli.load_config(args)
    known = {webhook.name for webhook in config.webhooks}
    if unknown := sorted(set(args.names) - known):
        said = f"the configuration names {', '.join(sorted(known))}" if known else "the configuration names none"
        raise InputError(f"there is no webhook {unknown[0]}: {said}")
    async with deploy(config, milvus=False) as deployment:
        standings = Endpoints(deployment.pool)
        enabled = [name for name in dict.fromkeys(args.names) if await standings.enable(name)]
        dead = await Outbox(deployment.pool).dead()
    if args.json:
        print(json.dumps({"enabled": enabled}))
        return 0
    for name in dict.fromkeys(args.names):
        left = f"; {dead[name]} were given up: monitor deliveries replay --endpoint {name}" if name in dead else ""
        print(f"{name} {'is sent to again' if name in enabled else 'was not held up'}{left}")
    return 0


def _standing_line(row: dict[str, Any], now_s: float) -> str:
    said = [row["endpoint"], row.get("state", "not configured"), f"{row['pending']} wait", f"{row['dead']} given up"]
    if row.get("disabled_at"):
        said.append(f"since {row['disabled_at']}")
    elif (row.get("held_until_s") or 0.0) > now_s:
        said.append(f"until {row['held_until_at']}")
    if row.get("accepted_at"):
        said.append(f"accepted {row['accepted_at']}")
    if row.get("failed_at"):
        code = "" if row["status_code"] is None else str(row["status_code"])
        said.append(" ".join(filter(None, (f"failed {row['failed_at']}", row["reason"], code, row["detail"]))))
    return "  ".join(said)


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
