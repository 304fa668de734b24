"""A real daemon in this process, on the session's servers, asked through its port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from psycopg_pool import AsyncConnectionPool

from monitor import config as configuration
from monitor.app import Daemon
from monitor.catalog.index import VectorIndex
from monitor.catalog.references import References
from monitor.deployment import Deployment, deploy
from tests.integration.catalog.sound import melody, write_wav

WAIT_S = 180.0


async def until(condition: Callable[[], Awaitable[Any]], wait_s: float = WAIT_S) -> Any:
    """What the condition returns once it is true."""
    async with asyncio.timeout(wait_s):
        while not (found := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


@dataclass
class House:
    """What a daemon runs on, and the configuration that it is to read."""

    directory: Path
    database: str
    milvus_uri: str
    port: int

    @property
    def config_path(self) -> Path:
        return self.directory / "monitor.yaml"

    def write(self, *, http: dict[str, Any] | None = None, **sections: Any) -> None:
        content = {
            "data_dir": str(self.directory / "data"),
            "postgres": {"dsn": self.database},
            "http": {"port": self.port, **(http or {})},
            **sections,
        }
        self.config_path.write_text(yaml.safe_dump(content))

    @asynccontextmanager
    async def deployment(self) -> AsyncIterator[Deployment]:
        config = configuration.load(self.config_path, environ={}, data_dir=None)
        # The session's Milvus Lite has a Unix socket, which no configuration names.
        async with deploy(config, milvus=False) as deployment:
            yield replace(deployment, milvus_uri=self.milvus_uri)

    @asynccontextmanager
    async def daemon(self, **client: Any) -> AsyncIterator[Site]:
        async with self.deployment() as deployment:
            daemon = Daemon(deployment, config_path=self.config_path)
            running = asyncio.create_task(daemon.run())
            try:
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{self.port}", timeout=WAIT_S, trust_env=False, **client
                ) as asking:
                    site = Site(asking, deployment)
                    await until(lambda: _ready(site, running))
                    yield site
            finally:
                daemon.stop()
                await running


@dataclass
class Site:
    """A daemon's port."""

    client: httpx.AsyncClient
    deployment: Deployment

    @property
    def pool(self) -> AsyncConnectionPool[Any]:
        return self.deployment.pool

    async def get(self, path: str, status: int = 200, **words: Any) -> Any:
        return self._read(await self.client.get(f"/api/v1{path}", **words), status)

    async def post(self, path: str, status: int = 200, **words: Any) -> Any:
        return self._read(await self.client.post(f"/api/v1{path}", **words), status)

    async def patch(self, path: str, status: int = 200, **words: Any) -> Any:
        return self._read(await self.client.patch(f"/api/v1{path}", **words), status)

    async def delete(self, path: str, status: int = 200, **words: Any) -> Any:
        return self._read(await self.client.delete(f"/api/v1{path}", **words), status)

    async def upload(self, *files: tuple[str, bytes], status: int = 202, **fields: str) -> Any:
        parts = [("files[]", (name, content, "application/octet-stream")) for name, content in files]
        return await self.post("/references", status, files=parts, data=fields)

    async def finished(self, job: dict[str, Any]) -> dict[str, Any]:
        async def done() -> Any:
            now = await self.get(f"/jobs/{job['job_id']}")
            return now if now["state"] in {"done", "failed", "cancelled"} else None

        result: dict[str, Any] = await until(done)
        return result

    @staticmethod
    def _read(answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
        return answer.json() if answer.content else None


async def _ready(site: Site, running: asyncio.Task[None]) -> bool:
    if running.done():
        running.result()
    try:
        return (await site.client.get("/-/ready")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def postgres_server(wheel_postgres_server: str) -> str:
    """The faces are tested on one PostgreSQL; the log's own tests run on each kind."""
    return wheel_postgres_server


@pytest.fixture
async def house(data_dir: Path, database: str, milvus_lite: str, free_port: int) -> AsyncIterator[House]:
    house = House(directory=data_dir, database=database, milvus_uri=milvus_lite, port=free_port)
    house.write()
    yield house
    async with AsyncConnectionPool(database, min_size=1, open=False) as pool:
        for catalog in await References(pool).catalogs():
            index = VectorIndex(uri=milvus_lite, token=None, collection=catalog.collection, dimension=catalog.dimension)
            index.drop()
            index.close()


@pytest.fixture
async def site(house: House) -> AsyncIterator[Site]:
    async with house.daemon() as site:
        yield site


@pytest.fixture
def recording(tmp_path: Path) -> Callable[[int, float], bytes]:
    """The bytes of a recording by seed and length."""

    def make(seed: int, duration_s: float = 8.0) -> bytes:
        return write_wav(tmp_path / f"{seed}.wav", melody(seed, duration_s)).read_bytes()

    return make
