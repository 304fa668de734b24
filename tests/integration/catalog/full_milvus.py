"""A full Milvus server behind a Unix socket, to be run in a network namespace of its own: it listens on nine ports.

python full_milvus.py DIRECTORY SOCKET: prints "ready", serves until its standard input ends, stops the server.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys

from milvus import MilvusServer

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_PORT = 19730


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server_reader, server_writer = await asyncio.open_connection("127.0.0.1", _PORT)
    await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))


async def _serve(path: str) -> None:
    async with await asyncio.start_unix_server(_forward, path):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    directory, path = sys.argv[1:]
    _raise_loopback()
    server = MilvusServer(wait_for_started=True)
    server.set_base_dir(directory)
    server.config.configs["proxy_port"] = _PORT
    server.start()
    try:
        asyncio.run(_serve(path))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
