"""A client in a process of its own: says what it was told, holds the servers until its standard input closes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from monitor.errors import MonitorError
from monitor.servers.client import embedded


async def main() -> int:
    data_dir, linger_s, milvus = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "milvus"
    try:
        async with embedded(data_dir, milvus=milvus, linger_s=linger_s) as addresses:
            print(json.dumps({"dsn": addresses.postgres_dsn, "keeper": addresses.keeper_pid}), flush=True)
            await asyncio.to_thread(sys.stdin.read)
    except MonitorError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
