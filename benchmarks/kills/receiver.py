"""Where the webhooks of a run arrive: every delivery is remembered under its id."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_KEEP_OPEN_S = 60.0


@dataclass(kw_only=True)
class Receiver:
    """What came."""

    url: str = ""
    #: Under each `webhook-id`, the bodies that came with it.
    bodies: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    @property
    def received(self) -> int:
        """How many requests came."""
        return sum(map(len, self.bodies.values()))

    @property
    def unstable(self) -> list[str]:
        """Ids that came with two bodies, and steps of a match that came under two ids."""
        changed = [each for each, bodies in self.bodies.items() if len(set(bodies)) > 1]
        steps: dict[tuple[str, int], set[str]] = defaultdict(set)
        for each, bodies in self.bodies.items():
            said = json.loads(bodies[0])["data"]
            steps[said["match_id"], said["sequence"]].add(each)
        return changed + [f"{match} {sequence}" for (match, sequence), ids in steps.items() if len(ids) > 1]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests until the client hangs up."""
        try:
            while True:
                async with asyncio.timeout(_KEEP_OPEN_S):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    pairs = (line.partition(":") for line in head[1:] if line)
                    headers = {name.lower(): value.strip() for name, _, value in pairs}
                    body = await reader.readexactly(int(headers["content-length"]))
                self.bodies[headers["webhook-id"]].append(body)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # whoever delivers was killed
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield receiver
    finally:
        server.close()
