"""What the daemon tells its service manager: sd_notify(3) over a plain datagram socket."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Self

log = logging.getLogger(__name__)

#: Of the manager's watchdog period: how often it is told, and how long a stage may be at one step.
_BEAT_SHARE, _STUCK_SHARE = 1 / 3, 1 / 2
_STATUS_EVERY_S = 10.0
_SEND_TIMEOUT_S = 1.0


class ServiceManager:
    """systemd, or whoever else gave us a NOTIFY_SOCKET; without one nothing is said to anybody."""

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        self._address, self._watchdog_s = address, watchdog_s

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """Take what the manager left in the environment, so that no child of ours passes for us.

        An address is a path, or `@` and a name in the abstract namespace. A watchdog meant for another process id
        is not ours.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        period_us = environ.pop("WATCHDOG_USEC", "")
        owner = environ.pop("WATCHDOG_PID", "")
        if address[:1] not in {"/", "@"}:
            return cls()
        ours = period_us.isdecimal() and int(period_us) > 0 and owner in {"", str(os.getpid())}
        return cls(address, watchdog_s=int(period_us) / 1e6 if ours else None)

    def ready(self, status: str) -> None:
        """The daemon does its job: after its start, and after a reload, whether that was taken over or refused."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", _status("reloading"))

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1", _status("stopping"))

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(_status(text))

    async def watch(self, *, stuck: Callable[[float], Sequence[str]], status: Callable[[], str]) -> None:
        """Tell the status again and again, and that we are alive for as long as no stage is stuck.

        `stuck` is given the seconds that a step may take and names the stages that took longer. Returns at once
        where nobody listens.
        """
        if self._address is None:
            return
        watchdog_s = self._watchdog_s
        every_s = _STATUS_EVERY_S if watchdog_s is None else min(watchdog_s * _BEAT_SHARE, _STATUS_EVERY_S)
        silent = False
        while True:
            stages = stuck(watchdog_s * _STUCK_SHARE) if watchdog_s is not None else ()
            if stages and not silent:
                log.error(
                    "the watchdog is told nothing: %s does not turn", ", ".join(stages), extra={"action": "stuck"}
                )
            silent = bool(stages)
            beat = ("WATCHDOG=1",) if watchdog_s is not None and not silent else ()
            self._send(*beat, _status(f"stuck: {', '.join(stages)}" if silent else status()))
            await asyncio.sleep(every_s)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.settimeout(_SEND_TIMEOUT_S)
                sending.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("the service manager was not told: %s", error, extra={"action": "notify_failed"})


def _status(text: str) -> str:
    """One line, whatever the text."""
    return "STATUS=" + " ".join(text.split())
