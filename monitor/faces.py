"""What the faces ask of the daemon, answered from its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import Gauge

from monitor.audio.source import SourceOptions
from monitor.catalog.loader import Loader
from monitor.catalog.references import References
from monitor.catalog.register import Register
from monitor.catalog.writer import CatalogWriter
from monitor.config import Config
from monitor.daemon.listening import Listening
from monitor.daemon.offline import Twin
from monitor.daemon.pipeline import Pipeline
from monitor.deployment import Deployment
from monitor.embed import Embedder
from monitor.errors import UnreachableError
from monitor.lineup import Lineup, api_egress
from monitor.metrics import Metrics
from monitor.servers.border import transaction
from monitor.types import Reference
from monitor.web.jobs import discard
from monitor.web.trial import tried

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
        lineup: Lineup,
        register: Register,
    ) -> None:
        self._deployment, self._config, self._listening, self._pipeline = deployment, config, listening, pipeline
        self._metrics, self._embedders = metrics, embedders
        self._lineup, self._register = lineup, register
        self.unready, self.reload, self.wake_deliveries = unready, reload, wake_deliveries

    def streams(self) -> list[dict[str, Any]]:
        """Each stream as it is now."""
        return [
            stream | {"source": "api" if self._lineup.is_added(stream["name"]) else "file"}
            for stream in self._listening.described()
        ]

    async def try_stream(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """What is heard at an address."""
        stream = self._lineup.parse({"name": "trial", **definition})
        options = SourceOptions(
            headers=stream.request_headers,
            user_agent=stream.user_agent,
            tls_verify=stream.tls_verify,
            ca_file=None if stream.ca_file is None else str(stream.ca_file),
            connect_timeout_s=stream.connect_timeout_s,
            egress=api_egress(self._config()),
        )
        return await tried(stream.addresses[0], ffmpeg=self._deployment.ffmpeg, options=options)

    async def add_stream(self, definition: Mapping[str, Any]) -> None:
        """Listen to a stream from now on."""
        await self._lineup.add(definition)

    async def remove_stream(self, name: str) -> None:
        """Listen no more to a stream that was added so."""
        await self._lineup.remove(name)

    async def pause_stream(self, name: str, *, paused: bool) -> None:
        """Pause or resume any stream."""
        await self._lineup.set_paused(name, paused)

    async def restart_stream(self, name: str) -> None:
        """Connect to a stream anew."""
        await self._lineup.restart(name)

    # -- catalogs ----------------------------------------------------------------------------------------------------

    def catalogs(self) -> list[str]:
        """The names of the configured catalogs."""
        return [catalog.name for catalog in self._config().catalogs]

    def loader(self, catalog: str) -> Loader:
        """A loader of one of the configured catalogs, in the background of the daemon."""
        deployment, config = self._deployment, self._config()
        (embedder,) = (str(known.embedder) for known in config.catalogs if known.name == catalog)
        return Loader(
            pool=deployment.pool,
            milvus_uri=deployment.milvus_uri,
            milvus_token=deployment.milvus_token,
            catalog=catalog,
            embedder=self._embedders[embedder],
            ffmpeg=deployment.ffmpeg,
            parallel=1,
            max_duration_s=config.http.max_reference_s,
        )

    async def twin(self, catalog: str) -> Twin:
        """What matches clips against the catalog as the streams are matched."""
        lane = self._pipeline.lanes.get(catalog)
        if lane is None:
            raise UnreachableError("the daemon is starting: come back soon")
        return Twin(
            reader=lane.reader,
            embedder=lane.embedder,
            calibration=lane.calibration,
            options=self._pipeline.options,
            ffmpeg=self._deployment.ffmpeg,
            top_k=self._config().match.top_k,
        )

    async def remove_references(self, catalog: str, references: Sequence[Reference]) -> None:
        """The references are gone, with the files that were uploaded for them."""
        deployment = self._deployment
        row = await References(deployment.pool).catalog(catalog)
        if row is None:
            return
        opening = CatalogWriter.open(
            pool=deployment.pool,
            milvus_uri=deployment.milvus_uri,
            milvus_token=deployment.milvus_token,
            catalog=row,
            clear=False,
        )
        async with opening as writer:
            await writer.remove(references)
        for path in (Path(reference.path) for reference in references):
            if path.is_relative_to(uploads_dir(deployment)):
                await discard(path.parent, [path], self._register)

    # -- health ------------------------------------------------------------------------------------------------------

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


def uploads_dir(deployment: Deployment) -> Path:
    """Where uploaded references are kept, to be played."""
    return deployment.data_dir / "uploads"


async def _within(asking: Awaitable[str]) -> str | None:
    """The answer, or None if there is none soon."""
    try:
        return await asyncio.wait_for(asking, _ANSWER_S)
    except (TimeoutError, UnreachableError):
        return None


def _by_queue(gauge: Gauge) -> dict[str, float]:
    return {sample.labels["queue"]: sample.value for metric in gauge.collect() for sample in metric.samples}
