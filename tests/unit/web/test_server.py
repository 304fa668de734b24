from __future__ import annotations

import asyncio
import socket

from monitor.web.server import _bind


async def test_an_answer_does_not_wait_until_what_was_sent_before_is_acknowledged():
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            line = transport.get_extra_info("socket")
            accepted.set_result(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    server = await asyncio.get_running_loop().create_server(Connection, sock=_bind("127.0.0.1", 0))
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(60):
            assert await accepted
        writer.close()
        await writer.wait_closed()
