"""A network of two: this machine and a namespace at the other end of a veth pair, whose packets can be lost.

`tc netem` is missing from many kernels; nft's `numgen random` loses packets as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from monitor.errors import MissingPartError

_numbers = count()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Wire:
    """The far end: its namespace, its address, and what can be done to it."""

    namespace: str
    interface: str
    address: str

    def listener(self) -> socket.socket:
        """A socket that listens over there."""
        made: list[socket.socket] = []

        def enter() -> None:  # the namespace belongs to the thread, which ends with it
            with Path(f"/run/netns/{self.namespace}").open() as place:
                if _libc.setns(place.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server((self.address, 0)))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        (listener,) = made
        listener.setblocking(False)
        return listener

    @contextlib.asynccontextmanager
    async def losing(self, percent: int) -> AsyncIterator[None]:
        """So many of the packets that come and go are lost, each by chance."""
        condition = "" if percent == 100 else f"numgen random mod 100 < {percent} "
        rules = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; {condition}counter drop; }}\n"
            for hook in ("input", "output")
        )
        with self._ruled(rules):
            yield

    @contextlib.asynccontextmanager
    async def resetting(self) -> AsyncIterator[None]:
        """Whatever comes is answered by a reset."""
        rules = "chain input { type filter hook input priority 0; meta l4proto tcp counter reject with tcp reset; }\n"
        with self._ruled(rules):
            yield

    @contextlib.asynccontextmanager
    async def unplugged(self) -> AsyncIterator[None]:
        """The link is down."""
        _ip("-n", self.namespace, "link", "set", self.interface, "down")
        try:
            yield
        finally:
            _ip("-n", self.namespace, "link", "set", self.interface, "up")

    @contextlib.contextmanager
    def _ruled(self, rules: str) -> Iterator[None]:
        nft = ("ip", "netns", "exec", self.namespace, "nft")
        _run(*nft, "-f", "-", words=f"table inet fault {{\n{rules}}}\n")
        try:
            yield
        finally:
            _run(*nft, "delete", "table", "inet", "fault")


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """Lay it; afterwards it is gone. Raises MissingPartError where that is not allowed here."""
    number, own = next(_numbers), os.getpid() % 250
    name = f"fault-{os.getpid()}-{number}"
    near, far = f"fn{os.getpid() % 100_000}-{number}", f"ff{os.getpid() % 100_000}-{number}"
    here, there = (f"10.213.{own}.{4 * number % 256 + host}" for host in (1, 2))
    try:
        _lay(name, near=near, far=far, here=here, there=there)
        yield Wire(namespace=name, interface=far, address=there)
    finally:
        for undoing in (("link", "delete", near), ("netns", "delete", name)):
            with contextlib.suppress(OSError):
                subprocess.run(["ip", *undoing], check=False, capture_output=True)


def _lay(name: str, *, near: str, far: str, here: str, there: str) -> None:
    try:
        _ip("netns", "add", name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("address", "add", f"{here}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "address", "add", f"{there}/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        _run("ip", "netns", "exec", name, "nft", "list", "ruleset")
    except FileNotFoundError as error:
        raise MissingPartError("this needs iproute2; install it (Debian: apt-get install iproute2)") from error
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise MissingPartError(f"a network namespace with nftables is not allowed here: {said}") from error


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str, words: str = "") -> None:
    subprocess.run(command, input=words.encode(), check=True, capture_output=True)
