"""A service manager's socket held against the real daemon."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from .conftest import Service, free_ports, short_directory

#: A machine that does much else starts a daemon slowly.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def service() -> Iterator[Service]:
    with short_directory() as directory:
        made = Service(directory, free_ports(1)[0], watchdog_s=3.0)
        made.write(streams=[{"name": "away", "url": "http://127.0.0.1:9/none", "paused": True}])
        try:
            yield made
        finally:
            made.close()


def test_the_service_manager_is_told_of_start_watchdog_reload_and_stop(service: Service) -> None:
    service.start()
    assert service.next_told(READY="1")["STATUS"] == "0 of 1 streams are heard"
    assert service.told[0] == {"STATUS": "starting"}
    for _ in range(3):
        assert service.next_told(WATCHDOG="1")["STATUS"] == "0 of 1 streams are heard"
    # Nobody is told that the daemon lives before it does its job.
    first_beat = next(index for index, message in enumerate(service.told) if "WATCHDOG" in message)
    assert any("READY" in message for message in service.told[:first_beat])

    before_us = time.monotonic_ns() // 1000
    service.write(streams=[])
    service.send(signal.SIGHUP)
    assert int(service.next_told(RELOADING="1")["MONOTONIC_USEC"]) >= before_us
    assert service.next_told(READY="1")["STATUS"] == "0 of 0 streams are heard"
    (service.directory / "monitor.yaml").write_text("streams: [}")
    service.send(signal.SIGHUP)
    service.next_told(RELOADING="1")
    service.next_told(READY="1")  # refused; the daemon goes on as it was
    service.next_told(WATCHDOG="1")

    service.send(signal.SIGTERM)
    service.next_told(STOPPING="1")
    assert service.wait() == 0
    assert "MONOTONIC_USEC" not in service.told[-1]
