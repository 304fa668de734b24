from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from monitor.alert.attempt import Endpoint
from monitor.cli import deliveries
from monitor.errors import DeliveryError, DeliveryReason, InputError, UsageError
from monitor.record.outbox import Outbox
from tests.integration.alert.conftest import Clock, Record

DESK, ARCHIVE = (Endpoint(name=name, url="http://127.0.0.1:1/", secrets=("a secret",)) for name in ("desk", "archive"))

Command = Callable[..., Awaitable[str]]


@pytest.fixture
def command(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `monitor deliveries ...` and returns what it said on standard output."""
    path = tmp_path / "monitor.yaml"
    path.write_text(json.dumps({"data_dir": str(tmp_path / "data"), "postgres": {"dsn": database}}))

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
    assert json.loads(await command("replay", "--all", "--json")) == {"replayed": 1}
    assert await states(command) == [("archive", "pending"), ("desk", "pending"), ("desk", "pending")]


async def test_one_is_sent_again_by_its_id(command: Command, three: dict[str, str]) -> None:
    assert await command("replay", three["delivered"]) == "1 deliveries are due again\n"
    with pytest.raises(InputError, match="2 of 2 ids name no delivery that was accepted or given up"):
        await command("replay", three["delivered"], str(uuid4()))


async def test_replay_wants_to_know_which(command: Command) -> None:
    with pytest.raises(UsageError, match="--endpoint NAME, or --all"):
        await command("replay")
