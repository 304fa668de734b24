from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from monitor.errors import StorageError
from monitor.servers.client import embedded
from monitor.servers.directory import socket_dir
from tests.integration.servers.processes import (
    command_line,
    environment,
    listening_tcp_sockets,
    living,
    nobody_left,
    readable_by_others,
    until,
)

CLIENT = Path(__file__).with_name("client.py")


@asynccontextmanager
async def client_process(
    data_dir: Path, *, linger_s: float = 0.3, variables: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(CLIENT), str(data_dir), str(linger_s), ""),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | (variables or {}),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def told(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None
    answer: dict[str, str] = json.loads(await process.stdout.readline())
    return answer


async def execute(dsn: str, statement: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def until_answers(dsn: str) -> None:
    for _ in range(2400):
        try:
            await execute(dsn, "SELECT 1")
        except psycopg.OperationalError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("PostgreSQL did not come back")


async def test_servers_last_from_the_first_client_to_the_last(served_dir: Path) -> None:
    async with embedded(served_dir, milvus=False, linger_s=0.3) as first:
        assert first.milvus_uri == ""
        await execute(first.postgres_dsn, "CREATE TABLE kept (n int)")
        async with embedded(served_dir, milvus=False) as second:
            assert second == first
            await execute(second.postgres_dsn, "INSERT INTO kept VALUES (1)")
        await asyncio.sleep(1)  # longer than it would linger
        assert living(served_dir, "postgres")
    assert await nobody_left(served_dir)
    assert not (socket_dir(served_dir) / "keeper.sock").exists()
    async with embedded(served_dir, milvus=False, linger_s=0.3) as again:
        assert again.postgres_dsn == first.postgres_dsn
        assert again.keeper_pid != first.keeper_pid
        assert await execute(again.postgres_dsn, "SELECT n FROM kept") == [(1,)]


async def test_a_keeper_that_does_not_linger_serves_its_first_client_and_ends_after_it(served_dir: Path) -> None:
    async with embedded(served_dir, milvus=False, linger_s=0) as addresses:
        assert await execute(addresses.postgres_dsn, "SELECT 1") == [(1,)]
    assert await nobody_left(served_dir)
    assert (served_dir / "keeper.log").read_text().count(" began ") == 1


async def test_a_client_that_comes_while_they_linger_finds_the_same_servers(served_dir: Path) -> None:
    async with embedded(served_dir, milvus=False, linger_s=600) as first:
        servers = living(served_dir, "postgres")
    async with embedded(served_dir, milvus=False) as second:
        assert second.keeper_pid == first.keeper_pid
        assert servers <= living(served_dir)
        os.kill(second.keeper_pid, signal.SIGTERM)
        await asyncio.sleep(0.5)
        await execute(second.postgres_dsn, "SELECT 1")  # a polite request waits for who is connected
    # ... and then for nobody: ten minutes have not passed
    assert await nobody_left(served_dir)


async def test_a_killed_client_takes_nothing_from_the_others(served_dir: Path) -> None:
    async with client_process(served_dir) as killed, client_process(served_dir) as other:
        first, second = await told(killed), await told(other)
        assert first == second
        killed.kill()
        await killed.wait()
        await asyncio.sleep(1)
        await execute(second["dsn"], "SELECT 1")
        other.kill()
        await other.wait()
        assert await nobody_left(served_dir)


async def test_many_first_clients_at_once_get_one_keeper(served_dir: Path) -> None:
    async with AsyncExitStack() as clients:
        processes = [await clients.enter_async_context(client_process(served_dir)) for _ in range(4)]
        answers = await asyncio.gather(*(told(process) for process in processes))
        assert len({answer["keeper"] for answer in answers}) == 1


async def test_a_killed_keeper_takes_its_servers_along_and_both_come_back(served_dir: Path) -> None:
    from pymilvus import MilvusClient

    async with embedded(served_dir, linger_s=0.3) as addresses:
        await execute(addresses.postgres_dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        vectors = MilvusClient(addresses.milvus_uri)
        vectors.create_collection("kept", dimension=4)
        vectors.insert("kept", [{"id": 7, "vector": [1.0, 0.0, 0.0, 0.0]}])
        vectors.close()
        servers = living(served_dir) - {addresses.keeper_pid}
        os.kill(addresses.keeper_pid, signal.SIGKILL)
        await until(lambda: not servers & living(served_dir))
        # This client is still here, and so the servers are too, where they were.
        await until_answers(addresses.postgres_dsn)
        assert await execute(addresses.postgres_dsn, "SELECT n FROM kept") == [(7,)]
        async with embedded(served_dir) as now:
            assert now.keeper_pid != addresses.keeper_pid
            assert (now.postgres_dsn, now.milvus_uri) == (addresses.postgres_dsn, addresses.milvus_uri)
            vectors = MilvusClient(now.milvus_uri)
            vectors.load_collection("kept")
            assert vectors.get("kept", ids=[7])[0]["id"] == 7
            vectors.close()


async def test_a_keeper_killed_with_nobody_connected_leaves_nothing_running(served_dir: Path) -> None:
    async with embedded(served_dir, milvus=False, linger_s=60) as addresses:
        await execute(addresses.postgres_dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    os.kill(addresses.keeper_pid, signal.SIGKILL)
    assert await nobody_left(served_dir)
    async with embedded(served_dir, milvus=False, linger_s=0.3) as again:
        assert await execute(again.postgres_dsn, "SELECT n FROM kept") == [(7,)]


@pytest.mark.parametrize("delay_s", [0.15, 0.6, 1.2])
async def test_a_keeper_killed_while_it_makes_the_files_leaves_no_half_database(
    served_dir: Path, delay_s: float
) -> None:
    async with client_process(served_dir) as process:
        await until(lambda: living(served_dir, "monitor.servers.keeper"))
        await asyncio.sleep(delay_s)
        for keeper in living(served_dir, "monitor.servers.keeper"):
            os.kill(keeper, signal.SIGKILL)
        dsn = (await told(process))["dsn"]
        # On a fast machine the client had its answer before the keeper died: the next one serves the same address.
        await until_answers(dsn)
        assert await execute(dsn, "SELECT 1") == [(1,)]
    async with embedded(served_dir, milvus=False, linger_s=0.3) as again:
        assert await execute(again.postgres_dsn, "SELECT count(*) FROM pg_class WHERE relname = 'kept'") == [(0,)]


async def test_a_killed_postgresql_comes_back_with_all_that_was_committed(served_dir: Path) -> None:
    async with embedded(served_dir, milvus=False, linger_s=0.3) as addresses:
        await execute(addresses.postgres_dsn, "CREATE TABLE kept AS SELECT generate_series(1, 5000) AS n")
        (postmaster,) = {pid for pid in living(served_dir) if command_line(pid)[0].endswith("bin/postgres")}
        os.kill(postmaster, signal.SIGKILL)
        await until(lambda: postmaster not in living(served_dir))
        await until_answers(addresses.postgres_dsn)
        assert await execute(addresses.postgres_dsn, "SELECT count(*) FROM kept") == [(5000,)]
        async with embedded(served_dir, milvus=False) as second:
            assert second == addresses  # of the same keeper
    assert "PostgreSQL died with status -9" in (served_dir / "keeper.log").read_text()


async def test_a_killed_milvus_comes_back_with_its_vectors(served_dir: Path) -> None:
    from pymilvus import MilvusClient

    async with embedded(served_dir, postgres=False, linger_s=0.3) as addresses:
        assert addresses.postgres_dsn == ""
        assert not (served_dir / "postgres").exists()
        vectors = MilvusClient(addresses.milvus_uri)
        vectors.create_collection("kept", dimension=4)
        vectors.insert("kept", [{"id": n, "vector": [1.0, 0.0, 0.0, float(n)]} for n in range(50)])
        (server,) = living(served_dir, "milvus_lite")
        os.kill(server, signal.SIGKILL)
        await until(lambda: living(served_dir, "milvus_lite") - {server})
        async with embedded(served_dir, postgres=False) as second:
            assert second == addresses
            vectors.load_collection("kept")
            assert len(vectors.get("kept", ids=list(range(50)))) == 50
        vectors.close()


async def test_servers_are_private_and_see_no_secrets(served_dir: Path) -> None:
    secrets = {"https_proxy": "http://proxy:3128", "MONITOR_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "secret"}
    async with (
        client_process(served_dir, variables=secrets) as process,
        embedded(served_dir, linger_s=0.3),
    ):
        await told(process)
        servers = living(served_dir) - {process.pid}
        assert len(servers) >= 3
        assert listening_tcp_sockets(servers) == set()
        for pid in servers:
            assert not [name for name in secrets if name.encode() in environment(pid)]
        assert readable_by_others(served_dir) == []


async def test_a_path_too_long_for_a_socket_works(served_dir: Path) -> None:
    long = served_dir / ("a long, strange 100% path " * 3) / ("x" * 60)
    long.mkdir(parents=True)
    sockets = socket_dir(long)
    assert not sockets.is_relative_to(served_dir)
    async with embedded(long, linger_s=0.3) as addresses:
        assert await execute(addresses.postgres_dsn, "SELECT 1") == [(1,)]
        assert sockets.stat().st_mode & 0o066 == 0
    assert await nobody_left(long)
    assert not sockets.exists()


async def test_a_directory_for_sockets_made_by_someone_else_is_refused(served_dir: Path) -> None:
    long = served_dir / ("x" * 100)
    long.mkdir()
    squatted = socket_dir(long)
    squatted.symlink_to(served_dir)
    try:
        with pytest.raises(StorageError, match="another user") as caught:
            async with embedded(long, milvus=False):
                pass
        assert str(squatted) in str(caught.value)
    finally:
        squatted.unlink()
