"""What a service manager is told, by way of real sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import suppress

import pytest

from monitor.daemon.notify import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A socket that a service manager listens to, and its address as NOTIFY_SOCKET has it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@monitor-test-{os.getpid()}-{time.time_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + address[1:] if address[0] == "@" else address)
        listening.settimeout(60)
        yield listening, address


def told(listening) -> dict[str, str]:
    return dict(line.split("=", 1) for line in listening.recv(4096).decode().split("\n"))


def test_each_step_is_told_and_the_environment_is_taken(manager):
    listening, address = manager
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    service = ServiceManager.from_environment(environ)
    assert environ == {"HOME": "/"}
    service.ready("2 of 3 streams\nare heard")
    assert told(listening) == {"READY": "1", "STATUS": "2 of 3 streams are heard"}
    before = time.monotonic_ns() // 1000
    service.reloading()
    message = told(listening)
    assert message.keys() == {"RELOADING", "MONOTONIC_USEC", "STATUS"}
    assert before <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    service.stopping()
    assert told(listening)["STOPPING"] == "1"


async def test_the_watchdog_is_fed_only_while_no_stage_is_stuck(manager, caplog):
    listening, address = manager
    service = ServiceManager(address, watchdog_s=0.06)
    stuck, limits = [], []

    def asked(limit_s):
        limits.append(limit_s)
        return stuck

    async def next_one():
        return await asyncio.to_thread(told, listening)

    async def until_told(**lines):
        while not lines.items() <= (message := await next_one()).items():
            pass
        return message

    watching = asyncio.create_task(service.watch(stuck=asked, status=lambda: "all is well"))
    try:
        assert await next_one() == {"WATCHDOG": "1", "STATUS": "all is well"}
        assert set(limits) == {0.03}
        with caplog.at_level(logging.ERROR):
            stuck.append("embed panns")
            await until_told(STATUS="stuck: embed panns")
            for _ in range(3):
                assert "WATCHDOG" not in await next_one()
        assert [record.getMessage() for record in caplog.records] == [
            "the watchdog is told nothing: embed panns does not turn"
        ]
        stuck.clear()
        await until_told(WATCHDOG="1", STATUS="all is well")
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"WATCHDOG_USEC": "3000000"},
    ],
)
async def test_where_nobody_listens_nothing_is_said(environ):
    service = ServiceManager.from_environment(environ)
    service.ready("")
    await asyncio.wait_for(service.watch(stuck=lambda limit_s: [], status=str), 60)


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}])
async def test_without_a_watchdog_of_ours_only_the_status_is_told(manager, watchdog):
    listening, address = manager
    service = ServiceManager.from_environment({"NOTIFY_SOCKET": address, **watchdog})
    watching = asyncio.create_task(service.watch(stuck=lambda limit_s: [], status=lambda: "all is well"))
    try:
        assert await asyncio.to_thread(told, listening) == {"STATUS": "all is well"}
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def test_a_manager_that_is_gone_stops_nothing(tmp_path, caplog):
    ServiceManager(str(tmp_path / "gone")).ready("")
    assert "the service manager was not told" in caplog.text
