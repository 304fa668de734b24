"""What the daemon does by the clock: a sign of life, retention, a look into the catalogs' folders."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial

from monitor import config as configuration
from monitor.catalog.loader import rescan
from monitor.daemon.listening import Listening
from monitor.daemon.schedule import Schedule
from monitor.deployment import Deployment
from monitor.embed import Embedder
from monitor.record.store import Store

log = logging.getLogger(__name__)

_SUMMARY_EVERY_S = 300.0
_ABANDONED_EVERY_S = 60.0
_HOUR = 3


class Upkeep:
    """The jobs of one daemon."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        schedule: Schedule,
        store: Store,
        listening: Listening,
        embedders: Mapping[str, Embedder],
    ) -> None:
        self._deployment, self._schedule, self._store = deployment, schedule, store
        self._listening, self._embedders = listening, embedders

    def plan(self) -> None:
        """The jobs are in the schedule."""
        config = self._deployment.config
        self._schedule.every(_SUMMARY_EVERY_S, "summary", self._summarise)
        self._schedule.every(_ABANDONED_EVERY_S, "abandoned matches", self._listening.end_abandoned)
        self._schedule.daily(_HOUR, "retention", self._retain)
        for catalog in config.catalogs:
            if catalog.folders:
                self._schedule.every(
                    catalog.rescan_interval_s, f"rescan {catalog.name}", partial(self._rescan, catalog)
                )

    async def _summarise(self) -> None:
        heard = len(self._listening.heard)
        log.info("%d of %d streams are heard", heard, len(self._listening), extra={"action": "alive", "heard": heard})

    async def _retain(self) -> None:
        days = self._deployment.config.retention
        gone = await self._store.retain(
            hits_days=days.hits_days,
            history_days=days.history_days,
            deliveries_days=days.deliveries_days,
            now_s=time.time(),
        )
        log.info("what was older is gone", extra={"action": "retention", **gone})

    async def _rescan(self, catalog: configuration.Catalog) -> None:
        results = await rescan(
            catalog.folders,
            pool=self._deployment.pool,
            milvus_uri=self._deployment.milvus_uri,
            milvus_token=self._deployment.milvus_token,
            catalog=catalog.name,
            embedder=self._embedders[str(catalog.embedder)],
            ffmpeg=self._deployment.ffmpeg,
        )
        log.info("%d files scanned", len(results), extra={"action": "rescanned", "catalog": catalog.name})
