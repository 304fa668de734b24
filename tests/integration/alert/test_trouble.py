"""Endpoints in trouble: left alone, told apart, never in another's way; and the order of a match's events meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import signal
import ssl
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from benchmarks.faults.receiver import (
    Receiver,
    Request,
    endless_head,
    flood,
    hang,
    hang_up,
    interim,
    receiving,
    status,
    trickle,
)
from monitor.alert.attempt import Endpoint
from monitor.alert.delivery import Deliverer
from monitor.errors import ConfigError, DeliveryError, DeliveryReason
from monitor.record.endpoints import Endpoints
from monitor.record.outbox import Outbox
from monitor.record.rows import DeliveryState
from monitor.record.store import Store
from monitor.types import EndpointState, MatchState
from tests.integration.alert.conftest import Clock, Counts, Record, Run, deliverer_tasks, eventually
from tests.integration.record.events import life, make_match

LIFE = (MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED)


def endpoint(url: str, *, name: str = "desk", **given: Any) -> Endpoint:
    return Endpoint(name=name, url=url, secrets=("a secret of the desk",), **({"rate_per_s": 1000.0} | given))


@pytest.fixture
def postgres_server(wheel_postgres_server: str) -> str:
    """One server suffices here: what is asked of it is tested on both elsewhere."""
    return wheel_postgres_server


@pytest.fixture
async def tell(pool: AsyncConnectionPool[Any]) -> Record:
    """Records as many matches from provisional to their end, to be told to the endpoints."""
    store = Store(pool)
    epoch = await store.begin_listening("radio")

    async def matches(number: int, *endpoints: Endpoint) -> None:
        events = [event for _ in range(number) for event in life(make_match(), *LIFE)]
        await store.record_events(events, epochs={"radio": epoch}, webhooks=endpoints)

    return matches


def assert_in_order(requests: Iterable[Request]) -> None:
    """No event of a match came after a later one had come."""
    newest: dict[str, int] = defaultdict(int)
    for request in requests:
        data = json.loads(request.body)["data"]
        assert data["sequence"] >= newest[data["match_id"]], f"{data['sequence']} after {newest[data['match_id']]}"
        newest[data["match_id"]] = data["sequence"]


async def test_a_match_is_told_in_order_to_each_endpoint_whatever_they_answer(
    receiver: Receiver, tell: Record, run: Run, outbox: Outbox, clock: Clock
) -> None:
    chance = random.Random(5)
    answers = [status(204), status(204), status(500), status(503, retry_after="20"), status(429), hang_up]
    for path in ("/desk", "/archive"):
        receiver.answers[path] = [chance.choice(answers) for _ in range(400)]
    pair = [endpoint(f"{receiver.url}/{name}", name=name) for name in ("desk", "archive")]
    await tell(8, *pair)
    deliverer = run(*pair)
    while await outbox.pending():
        assert await deliverer.drain(30)
        clock.now_s += 30

    rows = await outbox.deliveries(limit=200)
    assert len(rows) == 2 * 8 * len(LIFE)
    for path in ("/desk", "/archive"):
        assert_in_order(receiver.at(path))
        assert len({request.headers["webhook-id"] for request in receiver.at(path)}) == 8 * len(LIFE)


async def test_an_endpoint_that_fails_is_left_alone_and_tried_with_one_delivery(
    receiver: Receiver,
    record: Record,
    run: Run,
    outbox: Outbox,
    counts: Counts,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.answers["/"] = [status(500)]
    desk = endpoint(receiver.url + "/")
    await record(20, desk)
    with caplog.at_level(logging.INFO, "monitor"):
        first = run(desk)
        await eventually(lambda: EndpointState.TRIPPED in counts.states.get("desk", []))
        assert await first.drain(30)
        assert len(receiver.received) == 5

        # A restart remembers.
        deliverer_tasks[first].cancel()
        second = run(desk)
        assert await second.drain(30)
        clock.now_s += 8.9
        assert await second.drain(30)
        assert len(receiver.received) == 5

        clock.now_s += 2.2
        await eventually(lambda: len(receiver.received) == 6)
        assert await second.drain(30)
        clock.now_s += 17.9
        assert await second.drain(30)
        assert len(receiver.received) == 6

        receiver.answers["/"] = [status(204)]
        clock.now_s += 100
        await eventually(lambda: counts.accepted["desk"] == 20)
    assert counts.states["desk"] == [EndpointState.ACCEPTING, EndpointState.TRIPPED, EndpointState.ACCEPTING]
    assert counts.refused == {("desk", DeliveryReason.SERVER_ERROR): 6}
    assert counts.dead == {}
    said = [(line.action, getattr(line, "reason", None)) for line in caplog.records if "monitor.alert" in line.name]  # type: ignore[attr-defined]
    assert said == [
        ("delivery_failed", "server_error"),
        ("endpoint_tripped", "server_error"),
        ("endpoint_tripped", None),
        ("delivery_failed", "server_error"),
        ("deliveries_accepted", None),
    ]


async def test_answers_to_single_deliveries_do_not_trip_an_endpoint(
    receiver: Receiver, record: Record, run: Run, counts: Counts
) -> None:
    receiver.answers["/"] = [status(400)]
    desk = endpoint(receiver.url + "/")
    await record(12, desk)
    run(desk)
    await eventually(lambda: counts.dead["desk", DeliveryReason.CLIENT_ERROR] == 12)
    assert counts.states == {"desk": [EndpointState.ACCEPTING]}


async def test_an_endpoint_that_asks_for_rest_gets_it_over_a_restart(
    receiver: Receiver, record: Record, run: Run, counts: Counts, clock: Clock, pool: AsyncConnectionPool[Any]
) -> None:
    receiver.answers["/"] = [status(503, retry_after="3600"), status(204)]
    desk = endpoint(receiver.url + "/")
    await record(2, desk)
    first = run(desk)
    await eventually(lambda: counts.states.get("desk", [])[-1:] == [EndpointState.HELD])
    deliverer_tasks[first].cancel()
    second = run(desk)
    clock.now_s += 3599
    assert await second.drain(30)
    assert len(receiver.received) == 1

    # Who mends the endpoint need not wait.
    assert await Endpoints(pool).enable("desk")
    assert not await Endpoints(pool).enable("desk")
    await eventually(lambda: counts.accepted["desk"] == 1)


async def test_gone_is_seen_in_the_metrics_and_the_log(
    receiver: Receiver,
    record: Record,
    run: Run,
    counts: Counts,
    outbox: Outbox,
    pool: AsyncConnectionPool[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.answers["/"] = [status(410), status(204)]
    desk = endpoint(receiver.url + "/")
    await record(3, desk)
    with caplog.at_level(logging.INFO, "monitor"):
        run(desk)
        await eventually(lambda: counts.dead["desk", DeliveryReason.GONE] == 3)
    assert counts.states["desk"] == [EndpointState.ACCEPTING, EndpointState.DISABLED]
    (line,) = [line for line in caplog.records if line.action == "endpoint_disabled"]  # type: ignore[attr-defined]
    assert (line.levelno, line.reason, line.endpoint) == (logging.ERROR, "gone", "desk")  # type: ignore[attr-defined]

    # Enabling sends what comes from now on; the dead wait for a replay.
    assert await Endpoints(pool).enable("desk")
    await record(1, desk)
    await eventually(lambda: counts.accepted["desk"] == 1)
    assert await outbox.dead() == {"desk": 3}


async def test_a_rate_is_kept(receiver: Receiver, record: Record, run: Run, counts: Counts) -> None:
    desk = endpoint(receiver.url + "/", rate_per_s=4.0)
    await record(9, desk)
    began_s = time.monotonic()
    run(desk)
    await eventually(lambda: counts.accepted["desk"] == 9)
    # A second's worth at once, the other five one by one.
    assert time.monotonic() - began_s >= 5 / 4.0


async def test_endpoints_in_every_trouble_delay_no_other(
    receiver: Receiver, tell: Record, run: Run, counts: Counts, free_port: int
) -> None:
    troubles = {
        "hang": hang,
        "trickle": trickle,
        "flood": flood(500),
        "interim": interim,
        "endless-head": endless_head,
        "error": status(500),
    }
    receiver.answers |= {f"/{name}": [answer] for name, answer in troubles.items()}
    bad = [endpoint(f"{receiver.url}/{name}", name=name, timeout_s=600) for name in troubles]
    bad += [endpoint(f"http://127.0.0.1:{free_port}/", name="closed"), endpoint("http://none.invalid/", name="dns")]
    good = endpoint(receiver.url + "/good", name="good", timeout_s=60)
    await tell(10, *bad, good)
    run(*bad, good)
    await eventually(lambda: counts.accepted["good"] == 30)
    assert_in_order(receiver.at("/good"))
    # Those that keep a connection waiting have one each.
    assert [len(receiver.at(f"/{name}")) for name in ("hang", "interim")] == [1, 1]
    assert set(counts.accepted) == {"good"}


@pytest.mark.parametrize(
    ("answer", "timeout_s", "reason"),
    [(interim, 0.5, DeliveryReason.TIMEOUT), (endless_head, 60, DeliveryReason.PROTOCOL)],
)
async def test_an_answer_that_never_begins_is_cut(
    receiver: Receiver,
    record: Record,
    run: Run,
    counts: Counts,
    answer: Any,
    timeout_s: float,
    reason: DeliveryReason,
) -> None:
    receiver.answers["/"] = [answer]
    desk = endpoint(receiver.url + "/", timeout_s=timeout_s)
    await record(1, desk)
    run(desk)
    await eventually(lambda: counts.refused == {("desk", reason): 1})
    await eventually(lambda: receiver.abandoned == 1)


async def test_one_connection_serves_many_deliveries(
    receiver: Receiver, record: Record, run: Run, counts: Counts
) -> None:
    receiver.answers["/"] = [status(200, b'{"ok": true}')]
    desk = endpoint(receiver.url + "/")
    await record(5, desk)
    run(desk)
    await eventually(lambda: counts.accepted["desk"] == 5)
    assert receiver.connections == 1


async def test_secrets_that_an_answer_repeats_are_not_kept(
    receiver: Receiver, record: Record, run: Run, outbox: Outbox, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers["/hook?token=t0ken-of-the-url"] = [
        status(400, b"POST /hook?token=t0ken-of-the-url\r\nauthorization: Bearer pa55-of-the-header, no")
    ]
    desk = endpoint(
        f"{receiver.url}/hook?token=t0ken-of-the-url", headers={"Authorization": "Bearer pa55-of-the-header"}
    )
    await record(1, desk)
    with caplog.at_level(logging.DEBUG, "monitor"):
        run(desk)
        await eventually(lambda: counts.dead["desk", DeliveryReason.CLIENT_ERROR] == 1)
    (delivery,) = await outbox.deliveries()
    for said in (delivery.detail, caplog.text):
        assert "POST /hook" in said
        assert "t0ken" not in said
        assert "pa55" not in said


_AUTHORITY = """
[ca]
default_ca = own
[own]
database = {directory}/index
serial = {directory}/serial
new_certs_dir = {directory}
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {name}
"""


def make_certificate(directory: Path, *, name: str, until: str) -> ssl.SSLContext:
    """A server's side of TLS; `directory`/certificate.pem signed itself and is valid until then."""
    (directory / "index").touch()
    (directory / "serial").write_text("01\n")
    (directory / "authority").write_text(_AUTHORITY.format(directory=directory, name=name))
    key, request, certificate = (directory / file for file in ("key.pem", "request.pem", "certificate.pem"))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    commands = [
        ("req", *curve, "-subj", "/CN=receiver", "-keyout", key, "-out", request),
        (
            *("ca", "-batch", "-selfsign", "-notext", "-config", directory / "authority", "-keyfile", key),
            *("-in", request, "-out", certificate, "-startdate", "20200101000000Z", "-enddate", until),
        ),
    ]
    for command in commands:
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize(
    ("name", "until", "trusted", "named"),
    [
        ("IP:127.0.0.1", "20490101000000Z", False, "self-signed certificate"),
        ("IP:127.0.0.1", "20200102000000Z", True, "certificate has expired"),
        ("DNS:other.example", "20490101000000Z", True, "IP address mismatch"),
    ],
)
async def test_an_invalid_certificate_is_named(
    outbox: Outbox,
    record: Record,
    run: Run,
    counts: Counts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    until: str,
    trusted: bool,
    named: str,
) -> None:
    context = make_certificate(tmp_path, name=name, until=until)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    async with receiving(tls=context) as receiver:
        desk = endpoint(receiver.url + "/")
        await record(1, desk)
        run(desk)
        await eventually(lambda: counts.refused == {("desk", DeliveryReason.TLS): 1})
        await eventually(lambda: _failed(outbox))
    (delivery,) = await outbox.deliveries()
    assert named in delivery.detail
    assert delivery.state is DeliveryState.PENDING
    assert receiver.received == []


@pytest.mark.parametrize(
    ("said", "timeout_s", "reason", "named"),
    [
        (b"HTTP/1.1 400 This is HTTP\r\n\r\n", 60, DeliveryReason.TLS, "no TLS connection"),
        (b"", 1, DeliveryReason.TIMEOUT, "no connection within 0.45 s"),
    ],
)
async def test_an_endpoint_that_speaks_no_tls_is_named(
    record: Record, run: Run, outbox: Outbox, said: bytes, timeout_s: float, reason: DeliveryReason, named: str
) -> None:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    desk = endpoint(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout_s=timeout_s)
    await record(1, desk)
    run(desk)
    await eventually(lambda: _failed(outbox))
    done.set()
    server.close()
    (delivery,) = await outbox.deliveries()
    assert delivery.reason == reason
    assert named in delivery.detail
    gc.collect()  # an open socket that nobody owns would be told here


async def _failed(outbox: Outbox) -> bool:
    return all(delivery.reason is not None for delivery in await outbox.deliveries())


def test_certificates_that_cannot_be_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        Deliverer(pool=AsyncConnectionPool("", open=False), endpoints=[endpoint("https://hook/")], metrics=counts)


#: A daemon's deliveries alone, in a process that can be killed.
_PROCESS = """
import asyncio, sys
from psycopg_pool import AsyncConnectionPool
from prometheus_client import CollectorRegistry
from monitor.alert.attempt import Endpoint
from monitor.alert.delivery import Deliverer
from monitor.metrics import Metrics

async def main(dsn, url):
    desk = Endpoint(name="desk", url=url, secrets=("a secret of the desk",), timeout_s=60, rate_per_s=1000)
    async with AsyncConnectionPool(dsn, min_size=1, max_size=2, open=False) as pool:
        await Deliverer(pool=pool, endpoints=[desk], metrics=Metrics(CollectorRegistry()), poll_s=0.02).run()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_again_and_again_each_delivery_arrives_in_order_with_its_id(
    database: str, receiver: Receiver, tell: Record, run: Run, outbox: Outbox, clock: Clock
) -> None:
    # At these requests the receiver keeps the answer back, and the process dies.
    deadly = {3, 8, 13}
    stuck = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        if len(receiver.received) in deadly:
            stuck.set()
            await hang(writer)
        await status(204)(writer)

    receiver.answers["/"] = [answer]
    desk = endpoint(receiver.url + "/", timeout_s=60)
    await tell(12, desk)
    for _ in deadly:
        stuck.clear()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _PROCESS, database, desk.url)
        try:
            await asyncio.wait(
                [asyncio.ensure_future(stuck.wait()), asyncio.ensure_future(process.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)
            code = await process.wait()
        assert code == -signal.SIGKILL
    assert len(receiver.received) == max(deadly)

    clock.now_s = time.time() + desk.longest_attempt_s + 60
    deliverer = run(desk)
    await eventually(lambda: _all_delivered(outbox))
    assert await deliverer.drain(30)

    rows = {str(row.delivery_id): row for row in await outbox.deliveries()}
    times_received: dict[str, int] = defaultdict(int)
    for request in receiver.received:
        times_received[request.headers["webhook-id"]] += 1
        assert request.body == rows[request.headers["webhook-id"]].body.encode()
    assert times_received.keys() == rows.keys()
    # What was on its way at a kill came twice, all else once.
    assert sorted(times_received.values()) == [1] * (36 - len(deadly)) + [2] * len(deadly)
    assert_in_order(receiver.received)


async def _all_delivered(outbox: Outbox) -> bool:
    return not await outbox.pending()


async def test_it_ends_though_a_library_answers_its_cancellation_with_an_error_of_its_own(
    receiver: Receiver, record: Record, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def forgetful(*_args: object, **_kwargs: object) -> int:
        begun.set()
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise DeliveryError(DeliveryReason.REFUSED, "the connection is refused") from None

    monkeypatch.setattr("monitor.alert.delivery.post", forgetful)
    desk = endpoint(receiver.url)
    await record(1, desk)
    deliverer = run(desk)
    await asyncio.wait_for(begun.wait(), 10)
    task = deliverer_tasks[deliverer]
    task.cancel()
    assert await asyncio.wait({task}, timeout=10) == ({task}, set())
