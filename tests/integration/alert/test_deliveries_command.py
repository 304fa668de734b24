from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from monitor.alert.attempt import Endpoint
from monitor.cli import deliveries
from monitor.errors import DeliveryError, DeliveryReason, InputError, UsageError
from monitor.record.endpoints import Endpoints, Standing
from monitor.record.outbox import Outbox
from tests.integration.alert.conftest import Clock, Record

DESK, ARCHIVE = (Endpoint(name=name, url="http://127.0.0.1:1/", secrets=("a secret",)) for name in ("desk", "archive"))

Command = Callable[..., Awaitable[str]]


@pytest.fixture
def command(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `monitor deliveries ...` and returns what it said on standard output."""
    path = tmp_path / "monitor.yaml"
    webhooks = [{"name": hook.name, "url": hook.url, "secret": "x" * 24} for hook in (DESK, ARCHIVE)]
    given = {"data_dir": str(tmp_path / "data"), "postgres": {"dsn": database}, "webhooks": webhooks}
    path.write_text(json.dumps(given))

    async def run(*argv: str) -> str:
        parser = argparse.ArgumentParser()
        deliveries.add_parser(parser.add_subparsers())
        args = parser.parse_args(["deliveries", *argv, "-c", str(path)])
        assert await args.command(args) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
async def three(record: Record, outbox: Outbox, clock: Clock) -> dict[str, str]:
    """One delivery to "desk" in each state, by state, and one to "archive" that waits."""
    await record(3, DESK)
    await record(1, ARCHIVE)
    accepted, refused = [await outbox.claim("desk", now_s=clock.now_s, lease_s=1) for _ in range(2)]
    assert accepted is not None
    assert refused is not None
    await outbox.delivered(accepted.delivery_id, now_s=clock.now_s, status_code=204)
    failure = DeliveryError(DeliveryReason.CLIENT_ERROR, "no such page", status_code=404)
    await outbox.give_up(refused.delivery_id, failure, now_s=clock.now_s)
    return {"delivered": str(accepted.delivery_id), "dead": str(refused.delivery_id)}


async def states(command: Command, *argv: str) -> list[tuple[str, str]]:
    said = json.loads(await command("list", "--json", *argv))
    return sorted((row["endpoint"], row["state"]) for row in said["deliveries"])


async def test_what_waits_or_was_given_up_is_listed(command: Command, three: dict[str, str]) -> None:
    assert await states(command) == [("archive", "pending"), ("desk", "dead"), ("desk", "pending")]
    assert await states(command, "--endpoint", "archive") == [("archive", "pending")]
    assert await states(command, "--state", "delivered") == [("desk", "delivered")]
    assert len(await states(command, "--limit", "2")) == 2
    (dead,) = json.loads(await command("list", "--json", "--state", "dead"))["deliveries"]
    assert (dead["delivery_id"], dead["reason"], dead["status_code"]) == (three["dead"], "client_error", 404)
    assert dead["body"]["type"] == "match.provisional"
    assert dead["finished_at"] == "2026-03-02T00:00:50.000000Z"


async def test_a_line_says_what_happened_to_a_delivery(command: Command, three: dict[str, str]) -> None:
    assert await command("list", "--state", "dead") == (
        f"{three['dead']}  dead  desk  match.provisional  1 attempt  2026-03-02T00:00:50.000000Z"
        "  client_error 404 no such page\n"
    )


async def test_the_dead_are_sent_again(command: Command, three: dict[str, str]) -> None:
    assert await command("replay", "--endpoint", "archive") == "0 deliveries are due again\n"
    assert json.loads(await command("replay", "--all-dead", "--json")) == {"replayed": 1}
    assert await states(command) == [("archive", "pending"), ("desk", "pending"), ("desk", "pending")]


async def test_one_is_sent_again_by_its_id(command: Command, three: dict[str, str]) -> None:
    assert await command("replay", three["delivered"]) == "1 deliveries are due again\n"
    with pytest.raises(InputError, match="2 of 2 ids name no delivery that was accepted or given up"):
        await command("replay", three["delivered"], str(uuid4()))


async def test_replay_wants_to_know_which(command: Command) -> None:
    with pytest.raises(UsageError, match="--endpoint NAME, or --all-dead"):
        await command("replay")
    with pytest.raises(UsageError, match="leave it out, or the ids"):
        await command("replay", str(uuid4()), "--all-dead")


@pytest.fixture
async def standings(pool: AsyncConnectionPool[Any], clock: Clock) -> Endpoints:
    """ "desk" was gone, and "archive" has failed six times."""
    standings = Endpoints(pool)
    how: dict[str, Any] = {"now_s": clock.now_s}
    gone = DeliveryError(DeliveryReason.GONE, "moved to the moon", status_code=410)
    await standings.accepted("desk", url=DESK.url, **how)
    await standings.failed("desk", gone, url=DESK.url, failures=0, held_until_s=None, disabled=True, **how)
    refused = DeliveryError(DeliveryReason.REFUSED, "the connection is refused")
    held_s = 4_000_000_000.0
    await standings.failed("archive", refused, url=ARCHIVE.url, failures=6, held_until_s=held_s, disabled=False, **how)
    return standings


async def test_endpoints_are_listed_with_how_they_fare(
    command: Command, three: dict[str, str], standings: Endpoints
) -> None:
    said = json.loads(await command("endpoints", "--json"))["endpoints"]
    assert [(row["endpoint"], row["state"], row["pending"], row["dead"]) for row in said] == [
        ("archive", "tripped", 1, 0),
        ("desk", "disabled", 1, 1),
    ]
    assert said[0]["failures"] == 6
    assert (said[1]["reason"], said[1]["status_code"], said[1]["detail"]) == ("gone", 410, "moved to the moon")
    assert await command("endpoints") == (
        "archive  tripped  1 wait  0 given up  until 2096-10-02T07:06:40.000000Z"
        "  failed 2026-03-02T00:00:50.000000Z refused the connection is refused\n"
        "desk  disabled  1 wait  1 given up  since 2026-03-02T00:00:50.000000Z"
        "  accepted 2026-03-02T00:00:50.000000Z  failed 2026-03-02T00:00:50.000000Z gone 410 moved to the moon\n"
    )


async def test_endpoints_that_are_configured_no_longer_are_listed_while_something_is_left(
    command: Command, record: Record
) -> None:
    await record(2, Endpoint(name="former", url="http://127.0.0.1:1/", secrets=("a secret",)))
    assert await command("endpoints") == (
        "archive  accepting  0 wait  0 given up\ndesk  accepting  0 wait  0 given up\n"
        "former  not configured  2 wait  0 given up\n"
    )


async def test_endpoints_are_enabled_by_name(command: Command, three: dict[str, str], standings: Endpoints) -> None:
    assert await command("enable", "desk", "archive") == (
        "desk is sent to again; 1 were given up: monitor deliveries replay --endpoint desk\narchive is sent to again\n"
    )
    assert json.loads(await command("enable", "archive", "--json")) == {"enabled": []}
    rows = json.loads(await command("endpoints", "--json"))["endpoints"]
    assert [row["state"] for row in rows] == ["accepting", "accepting"]
    with pytest.raises(InputError, match="there is no webhook dek: the configuration names archive, desk"):
        await command("enable", "dek")


async def test_a_replay_enables_the_endpoint(command: Command, three: dict[str, str], standings: Endpoints) -> None:
    assert await command("replay", three["dead"]) == "1 deliveries are due again\n"
    rows = json.loads(await command("endpoints", "--json"))["endpoints"]
    assert [row["state"] for row in rows] == ["tripped", "accepting"]


async def test_another_url_begins_anew(standings: Endpoints) -> None:
    assert (await standings.standing("desk", url=DESK.url)).disabled_s is not None
    assert await standings.standing("desk", url=DESK.url + "new") == Standing()
