"""What the faces ask of the daemon, answered from its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client import Gauge

from monitor.config import Config
from monitor.daemon.listening import Listening
from monitor.daemon.pipeline import Pipeline
from monitor.deployment import Deployment
from monitor.embed import Embedder
from monitor.errors import UnreachableError
from monitor.metrics import Metrics
from monitor.servers.border import transaction

_ANSWER_S = 2.0


class Faces:
    """`monitor.web.daemon.Daemon` for a daemon that is composed of these parts."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        config: Callable[[], Config],
        listening: Listening,
        pipeline: Pipeline,
        metrics: Metrics,
        embedders: Mapping[str, Embedder],
        unready: Callable[[], dict[str, str]],
        reload: Callable[[], Coroutine[Any, Any, dict[str, list[str]]]],
        wake_deliveries: Callable[[], None],
    ) -> None:
        self._deployment, self._config, self._listening, self._pipeline = deployment, config, listening, pipeline
        self._metrics, self._embedders = metrics, embedders
        self.unready, self.reload, self.wake_deliveries = unready, reload, wake_deliveries

    def streams(self) -> list[dict[str, Any]]:
        """Each stream as it is now."""
        of_file = {stream.name for stream in self._config().streams}
        return [
            stream | {"source": "file" if stream["name"] in of_file else "api"}
            for stream in self._listening.described()
        ]

    async def health(self) -> dict[str, Any]:
        """Models, catalogs, queues and servers."""
        length, capacity = _by_queue(self._metrics.queue_length), _by_queue(self._metrics.queue_capacity)
        config = self._config()
        postgres, milvus = await asyncio.gather(_within(self._postgres_version()), _within(self._milvus_version()))
        return {
            "models": [
                {"name": name, "model_id": embedder.model_id, "dimension": embedder.dimension}
                for name, embedder in self._embedders.items()
            ],
            "catalogs": [
                {
                    "name": name,
                    "references": len(lane.reader.references),
                    "windows": sum(reference.windows for reference in lane.reader.references.values()),
                    "model_id": lane.embedder.model_id,
                }
                for name, lane in self._pipeline.lanes.items()
            ],
            "queues": [
                {"name": name, "length": int(length.get(name, 0)), "capacity": int(bound)}
                for name, bound in capacity.items()
            ],
            "servers": {
                "postgres": {"version": postgres, "embedded": config.postgres is None},
                "milvus": {"version": milvus, "embedded": config.milvus is None},
                "ffmpeg": {"version": self._deployment.ffmpeg.version, "path": self._deployment.ffmpeg.path},
            },
        }

    async def _postgres_version(self) -> str:
        async with transaction(self._deployment.pool, "ask PostgreSQL for its version") as connection:
            ((said,),) = await (await connection.execute("SHOW server_version")).fetchall()
            return str(said)

    async def _milvus_version(self) -> str:
        if self._config().milvus is None:
            return version("milvus-lite")
        for lane in self._pipeline.lanes.values():
            return await lane.reader.server_version()
        raise UnreachableError("no catalog is open")


async def _within(asking: Awaitable[str]) -> str | None:
    """The answer, or None if there is none soon."""
    try:
        return await asyncio.wait_for(asking, _ANSWER_S)
    except (TimeoutError, UnreachableError):
        return None


def _by_queue(gauge: Gauge) -> dict[str, float]:
    return {sample.labels["queue"]: sample.value for metric in gauge.collect() for sample in metric.samples}
