from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import subprocess
from email.utils import formatdate
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from benchmarks.faults.receiver import (
    Answer,
    Receiver,
    flood,
    garbage,
    hang,
    hang_up,
    receiving,
    status,
    trickle,
)
from monitor.alert.attempt import Endpoint
from monitor.alert.delivery import Deliverer
from monitor.errors import ConfigError, DeliveryReason, UnreachableError
from monitor.record.outbox import Outbox
from monitor.record.rows import Delivery, DeliveryState
from tests.integration.alert.conftest import SCHEDULE_S, Clock, Counts, Record, Run, deliverer_tasks, eventually

KEY = b"0123456789abcdef01234567"
OLD_KEY = b"the key before this one"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def endpoint(url: str, *, name: str = "desk", timeout_s: float = 60.0, **given: Any) -> Endpoint:
    return Endpoint(name=name, url=url, secrets=given.pop("secrets", (SECRET,)), timeout_s=timeout_s, **given)


async def only(outbox: Outbox) -> Delivery:
    (delivery,) = await outbox.deliveries()
    return delivery


async def settled(outbox: Outbox) -> Delivery:
    """The one delivery, once its first attempt is over."""

    async def over() -> bool:
        delivery = await only(outbox)
        return delivery.state is not DeliveryState.PENDING or delivery.reason is not None

    await eventually(over)
    return await only(outbox)


async def test_a_delivery_is_a_signed_post_of_the_recorded_body(
    receiver: Receiver, outbox: Outbox, record: Record, run: Run, counts: Counts, clock: Clock
) -> None:
    desk = endpoint(
        f"{receiver.url}/hook?token=t0p",
        secrets=("a new secret in plain text", OLD_KEY.decode()),
        headers={"X-Team": "rights", "Webhook-Id": "forged", "Content-Type": "application/json; charset=utf-8"},
    )
    await record(1, desk)
    run(desk)
    await eventually(lambda: counts.accepted["desk"] == 1)

    delivery = await only(outbox)
    assert (delivery.state, delivery.attempts, delivery.status_code) == (DeliveryState.DELIVERED, 1, 204)
    assert delivery.finished_s == clock.now_s
    (request,) = receiver.at("/hook?token=t0p")
    assert request.body == delivery.body.encode()
    assert json.loads(request.body)["type"] == "match.provisional"
    assert request.headers["webhook-id"] == str(delivery.delivery_id)
    assert request.headers["webhook-timestamp"] == str(int(clock.now_s))
    assert request.headers["x-team"] == "rights"
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.is_signed_with(b"a new secret in plain text")
    assert request.is_signed_with(OLD_KEY)
    assert not request.is_signed_with(KEY)


async def test_a_failure_is_tried_again_on_schedule_with_the_same_id_and_body_until_it_is_dead(
    receiver: Receiver,
    outbox: Outbox,
    record: Record,
    run: Run,
    counts: Counts,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.answers["/"] = [status(500, b"out of\x07\n order")]
    desk = endpoint(receiver.url + "/")
    await record(1, desk)
    with caplog.at_level(logging.WARNING, "monitor"):
        deliverer = run(desk)
        for attempt, wait_s in enumerate(SCHEDULE_S, start=1):
            await eventually(lambda: len(receiver.received) >= attempt)  # noqa: B023  (awaited before the next round)
            assert await deliverer.drain(5)
            delivery = await only(outbox)
            assert (delivery.state, delivery.attempts, delivery.status_code) == (DeliveryState.PENDING, attempt, 500)
            assert (delivery.reason, delivery.detail) == ("server_error", "out of order")
            assert 0.9 * wait_s <= delivery.next_attempt_s - clock.now_s <= 1.1 * wait_s
            clock.now_s = delivery.next_attempt_s - 0.001
            assert await deliverer.drain(5)
            assert len(receiver.received) == attempt
            clock.now_s += 0.002
        await eventually(lambda: counts.refused["desk", DeliveryReason.SERVER_ERROR] == 3)
        assert await deliverer.drain(5)

    delivery = await only(outbox)
    assert (delivery.state, delivery.attempts) == (DeliveryState.DEAD, 3)
    assert delivery.finished_s == pytest.approx(clock.now_s, abs=1e-6, rel=0)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len({request.body for request in receiver.received}) == 1
    assert len({request.headers["webhook-timestamp"] for request in receiver.received}) == 3
    assert all(request.is_signed_with(KEY) for request in receiver.received)
    # The same trouble is logged once, and the end of the delivery.
    actions = [record.action for record in caplog.records if record.name.startswith("monitor.alert")]  # type: ignore[attr-defined]
    assert actions == ["delivery_failed", "delivery_dead"]


@pytest.mark.parametrize(
    ("answer", "state", "reason", "code"),
    [
        (status(200), DeliveryState.DELIVERED, None, 200),
        (flood(200), DeliveryState.DELIVERED, None, 200),
        (status(408), DeliveryState.PENDING, DeliveryReason.TIMEOUT, 408),
        (status(429), DeliveryState.PENDING, DeliveryReason.RATE_LIMITED, 429),
        (status(503), DeliveryState.PENDING, DeliveryReason.SERVER_ERROR, 503),
        (flood(500), DeliveryState.PENDING, DeliveryReason.SERVER_ERROR, 500),
        (hang, DeliveryState.PENDING, DeliveryReason.TIMEOUT, None),
        (trickle, DeliveryState.PENDING, DeliveryReason.SERVER_ERROR, 500),
        (garbage, DeliveryState.PENDING, DeliveryReason.PROTOCOL, None),
        (hang_up, DeliveryState.PENDING, DeliveryReason.UNREACHABLE, None),
        (status(301, location="/elsewhere"), DeliveryState.PENDING, DeliveryReason.REDIRECT, 301),
        (status(307, location="/elsewhere"), DeliveryState.PENDING, DeliveryReason.REDIRECT, 307),
        (status(400), DeliveryState.DEAD, DeliveryReason.CLIENT_ERROR, 400),
        (status(401), DeliveryState.DEAD, DeliveryReason.CLIENT_ERROR, 401),
        (status(404), DeliveryState.DEAD, DeliveryReason.CLIENT_ERROR, 404),
        (status(410), DeliveryState.DEAD, DeliveryReason.GONE, 410),
    ],
)
async def test_what_an_answer_means(
    receiver: Receiver,
    outbox: Outbox,
    record: Record,
    run: Run,
    counts: Counts,
    answer: Answer,
    state: DeliveryState,
    reason: DeliveryReason | None,
    code: int | None,
) -> None:
    receiver.answers["/"] = [answer]
    desk = endpoint(receiver.url + "/", timeout_s=0.5 if reason is DeliveryReason.TIMEOUT and code is None else 60)
    await record(1, desk)
    run(desk)

    delivery = await settled(outbox)

    assert (delivery.state, delivery.reason, delivery.status_code) == (state, reason, code)
    assert len(delivery.detail) <= 200
    assert sum(counts.refused.values()) == (0 if reason is None else 1)
    assert not receiver.at("/elsewhere")
    # The connection of an answer that does not end was not read to the end.
    if answer in (trickle,) or answer.__qualname__.startswith("flood"):
        await eventually(lambda: receiver.abandoned == 1)


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:{free_port}/", DeliveryReason.REFUSED), ("http://none.invalid/", DeliveryReason.DNS)],
)
async def test_trouble_on_the_way_is_tried_again(
    outbox: Outbox, record: Record, run: Run, free_port: int, url: str, reason: DeliveryReason
) -> None:
    desk = endpoint(url.format(free_port=free_port))
    await record(1, desk)
    run(desk)
    delivery = await settled(outbox)
    assert (delivery.state, delivery.reason, delivery.status_code) == (DeliveryState.PENDING, reason, None)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and the certificate that it signed for 127.0.0.1, in one file."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", path, "-out", f"{path}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.mark.parametrize("trusted", [False, True])
async def test_tls_is_verified(
    outbox: Outbox, record: Record, run: Run, certificate: Path, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with receiving(tls=context) as receiver:
        desk = endpoint(receiver.url + "/")
        await record(1, desk)
        run(desk)
        delivery = await settled(outbox)
    if trusted:
        assert (delivery.state, len(receiver.received)) == (DeliveryState.DELIVERED, 1)
    else:
        assert (delivery.state, delivery.reason, receiver.received) == (DeliveryState.PENDING, DeliveryReason.TLS, [])


@pytest.mark.parametrize(
    ("asked", "waited_s"),
    [
        ("500", 500.0),
        ("0", 10.0),
        ("999999", 86_400.0),
        ("soon", 10.0),
        ("date", 600.0),
        ("date without zone", 600.0),
    ],
)
async def test_retry_after_lengthens_the_wait(
    receiver: Receiver, outbox: Outbox, record: Record, run: Run, clock: Clock, asked: str, waited_s: float
) -> None:
    if asked.startswith("date"):
        asked = formatdate(clock.now_s + 600, usegmt="zone" not in asked)
    receiver.answers["/"] = [status(503, retry_after=asked)]
    desk = endpoint(receiver.url + "/")
    await record(1, desk)
    run(desk)
    delivery = await settled(outbox)
    assert delivery.next_attempt_s - clock.now_s == pytest.approx(waited_s, rel=0.1)


async def test_a_rate_limited_endpoint_is_left_alone_altogether(
    receiver: Receiver, outbox: Outbox, record: Record, run: Run, counts: Counts, clock: Clock
) -> None:
    receiver.answers["/"] = [status(429, retry_after="60"), status(204)]
    desk = endpoint(receiver.url + "/")
    await record(3, desk)
    deliverer = run(desk)
    await eventually(lambda: counts.refused["desk", DeliveryReason.RATE_LIMITED] == 1)
    clock.now_s += 59
    assert await deliverer.drain(5)
    assert len(receiver.received) == 1

    clock.now_s += 10
    await eventually(lambda: counts.accepted["desk"] == 3)

    assert await deliverer.drain(5)
    assert counts.waiting == {"desk": 0}


async def test_gone_disables_the_endpoint_until_a_replay(
    receiver: Receiver,
    outbox: Outbox,
    record: Record,
    run: Run,
    clock: Clock,
    counts: Counts,
    pool: AsyncConnectionPool[Any],
) -> None:
    receiver.answers["/"] = [status(410), status(204)]
    desk, archive = endpoint(receiver.url + "/"), endpoint(receiver.url + "/archive", name="archive")
    await record(3, desk, archive)

    async def dead(number: int) -> bool:
        return len(await outbox.deliveries(states=[DeliveryState.DEAD], endpoint="desk")) == number

    first = run(desk, archive)
    await eventually(lambda: dead(3))
    await eventually(lambda: counts.accepted["archive"] == 3)
    deliverer_tasks[first].cancel()

    # A restart remembers, and what comes meanwhile is kept as dead letters.
    second = run(desk, archive)
    await record(1, desk)
    await eventually(lambda: dead(4))
    assert await second.drain(5)
    assert len(receiver.at("/")) == 1

    assert await outbox.replay(now_s=clock.now_s, endpoint="desk") == 4
    await eventually(lambda: counts.accepted["desk"] == 4)
    assert len({request.headers["webhook-id"] for request in receiver.at("/")}) == 4


async def test_a_gone_endpoint_is_enabled_by_a_new_url(
    receiver: Receiver, record: Record, run: Run, counts: Counts, outbox: Outbox
) -> None:
    receiver.answers["/old"] = [status(410)]
    old, new = endpoint(receiver.url + "/old"), endpoint(receiver.url + "/new")
    await record(1, old)
    deliverer = run(old)
    await eventually(lambda: counts.refused["desk", DeliveryReason.GONE] == 1)

    deliverer.replace([new])
    await record(1, new)
    await eventually(lambda: counts.accepted["desk"] == 1)

    assert len(receiver.at("/new")) == 1


async def test_an_endpoint_that_hangs_delays_no_other(
    receiver: Receiver, record: Record, run: Run, counts: Counts
) -> None:
    receiver.answers["/hang"] = [hang]
    slow, fast = endpoint(receiver.url + "/hang", name="slow", timeout_s=600), endpoint(receiver.url + "/")
    await record(5, slow, fast)
    run(slow, fast)
    await eventually(lambda: counts.accepted["desk"] == 5)
    assert len(receiver.at("/hang")) == 1
    assert counts.refused == {}


async def test_a_delivery_cut_off_on_its_way_is_sent_again_with_the_same_id(
    receiver: Receiver, record: Record, run: Run, counts: Counts, clock: Clock
) -> None:
    receiver.answers["/"] = [hang, status(204)]
    desk = endpoint(receiver.url + "/", timeout_s=20)
    await record(1, desk)
    first = run(desk)
    await eventually(lambda: len(receiver.received) == 1)
    deliverer_tasks[first].cancel()

    # Nobody else sends it while the first may still be at it.
    second = run(desk)
    clock.now_s += 20
    assert await second.drain(5)
    assert len(receiver.received) == 1
    clock.now_s += 11
    await eventually(lambda: counts.accepted["desk"] == 1)

    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len({request.body for request in receiver.received}) == 1


async def test_two_daemons_share_the_deliveries(receiver: Receiver, record: Record, run: Run, counts: Counts) -> None:
    desk = endpoint(receiver.url + "/")
    await record(20, desk)
    run(desk)
    run(desk)
    await eventually(lambda: counts.accepted["desk"] == 20)
    assert len(receiver.received) == 20


async def test_deliveries_go_on_after_the_database_was_away(
    receiver: Receiver,
    record: Record,
    run: Run,
    counts: Counts,
    database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = endpoint(receiver.url + "/")
    await record(1, desk)
    run(desk)
    await eventually(lambda: counts.accepted["desk"] == 1)
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    admin = psycopg.conninfo.make_conninfo(database, dbname="template1")
    with caplog.at_level(logging.WARNING, "monitor"):
        async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            await eventually(lambda: any(record.name == "monitor.alert.delivery" for record in caplog.records))
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    async def recorded() -> bool:
        try:
            await record(1, desk)
        except UnreachableError:
            return False
        return True

    await eventually(recorded)
    await eventually(lambda: counts.accepted["desk"] >= 2)
    actions = [record.action for record in caplog.records if record.name == "monitor.alert.delivery"]  # type: ignore[attr-defined]
    assert actions == ["deliveries_wait"]


async def test_endpoints_are_replaced_while_it_runs(
    receiver: Receiver, record: Record, run: Run, counts: Counts, outbox: Outbox
) -> None:
    receiver.answers["/hang"] = [hang]
    stays, goes = endpoint(receiver.url + "/hang", name="stays"), endpoint(receiver.url + "/goes", name="goes")
    comes = endpoint(receiver.url + "/comes", name="comes")
    await record(1, stays)
    deliverer = run(stays, goes)
    await eventually(lambda: len(receiver.at("/hang")) == 1)

    with pytest.raises(ConfigError, match="not base64"):
        deliverer.replace([endpoint(receiver.url, name="bad", secrets=("whsec_?",))])
    assert deliverer.endpoints == (stays, goes)
    deliverer.replace([stays, comes])
    assert deliverer.endpoints == (stays, comes)
    await record(1, comes, goes)
    await eventually(lambda: counts.accepted["comes"] == 1)

    # What did not change was not disturbed, and what waits for an endpoint that went stays.
    assert len(receiver.at("/hang")) == 1
    assert receiver.at("/goes") == []
    assert await outbox.pending() == {"goes": 1, "stays": 1}


async def test_draining_delivers_what_is_due_and_gives_up_in_time(
    receiver: Receiver, record: Record, run: Run, counts: Counts
) -> None:
    receiver.answers["/hang"] = [hang]
    desk = endpoint(receiver.url + "/")
    deliverer = run(desk, poll_s=60)
    await record(10, desk)
    assert await deliverer.drain(30)
    assert counts.accepted["desk"] == 10

    stuck = endpoint(receiver.url + "/hang", name="stuck")
    deliverer.replace([desk, stuck])
    await record(1, stuck)
    assert not await deliverer.drain(0.2)


async def test_waking_saves_waiting_for_the_next_look(
    receiver: Receiver, record: Record, run: Run, counts: Counts
) -> None:
    desk = endpoint(receiver.url + "/")
    deliverer = run(desk, poll_s=3600)
    await eventually(lambda: counts.waiting == {"desk": 0})
    await record(1, desk)
    deliverer.wake()
    await eventually(lambda: counts.accepted["desk"] == 1)


def test_a_webhook_without_a_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="webhook desk has no secret"):
        _ = endpoint("http://127.0.0.1/", secrets=()).keys


def test_an_endpoint_is_printed_without_its_secrets() -> None:
    desk = endpoint("https://hooks.example/t0ken", headers={"Authorization": "Bearer pa55"})
    assert not any(secret in repr(desk) for secret in ("t0ken", SECRET, "pa55"))


async def test_headers_that_cannot_be_sent_are_not_shown(
    receiver: Receiver, record: Record, run: Run, outbox: Outbox
) -> None:
    desk = endpoint(receiver.url, headers={"Authorization": "Bearer pa55\r\nx"})
    await record(1, desk)
    run(desk)
    delivery = await settled(outbox)
    assert (delivery.state, delivery.reason) == (DeliveryState.DEAD, DeliveryReason.UNSENDABLE)
    assert "pa55" not in delivery.detail
    assert "headers" in delivery.detail


async def test_nothing_is_left_running(receiver: Receiver, record: Record, run: Run, counts: Counts) -> None:
    desk = endpoint(receiver.url + "/")
    await record(1, desk)
    deliverer: Deliverer = run(desk)
    await eventually(lambda: counts.accepted["desk"] == 1)
    deliverer_tasks[deliverer].cancel()
    await asyncio.wait([deliverer_tasks[deliverer]])
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("deliver")]
