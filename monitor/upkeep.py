"""What the daemon does by the clock: a sign of life, retention, memory, a look at the catalogs and their folders."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from monitor import config as configuration
from monitor.catalog.loader import FileMark, rescan
from monitor.catalog.references import References
from monitor.catalog.verify import survey
from monitor.daemon import lookback, memory
from monitor.daemon.listening import Listening
from monitor.daemon.schedule import Schedule
from monitor.deployment import Deployment
from monitor.embed import Embedder
from monitor.metrics import Metrics
from monitor.record.store import Store

log = logging.getLogger(__name__)

_SUMMARY_EVERY_S = 300.0
_ABANDONED_EVERY_S = 60.0
_GIVE_BACK_EVERY_S = 30.0
_SURVEY_EVERY_S = 6 * 3600.0
_MOST_NAMED = 10
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
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        #: By catalog: files of its folders that could not be loaded, as they were then.
        self._refused: dict[str, dict[Path, FileMark]] = {}
        self._deployment, self._schedule, self._store = deployment, schedule, store
        self._listening, self._embedders = listening, embedders

    def plan(self) -> None:
        """The jobs are in the schedule."""
        config = self._deployment.config
        self._schedule.every(_SUMMARY_EVERY_S, "summary", self._summarise)
        self._schedule.every(_ABANDONED_EVERY_S, "abandoned matches", self._listening.end_abandoned)
        self._schedule.every(_GIVE_BACK_EVERY_S, "memory", self._give_back)
        self._schedule.daily(_HOUR, "retention", self._retain)
        self._schedule.soon("look-back", self._sweep)
        self._schedule.daily(_HOUR, "look-back", self._sweep)
        self._schedule.soon("survey", self._survey)
        self._schedule.every(_SURVEY_EVERY_S, "survey", self._survey)
        for catalog in config.catalogs:
            if catalog.folders:
                self._schedule.every(
                    catalog.rescan_interval_s, f"rescan {catalog.name}", partial(self._rescan, catalog)
                )

    async def _summarise(self) -> None:
        heard = len(self._listening.heard)
        log.info("%d of %d streams are heard", heard, len(self._listening), extra={"action": "alive", "heard": heard})

    async def _give_back(self) -> None:
        await asyncio.to_thread(memory.give_back)

    async def _survey(self) -> None:
        """Milvus Lite can lose a segment, or give garbage, without a word: say so."""
        unsound = 0
        for catalog in self._deployment.config.catalogs:
            row = await References(self._deployment.pool).catalog(catalog.name)
            if row is None:
                continue
            findings = await survey(
                self._deployment.pool, row, uri=self._deployment.milvus_uri, token=self._deployment.milvus_token
            )
            unsound += len(findings)
            for finding in findings[:_MOST_NAMED]:
                log.error(
                    "catalog %s: %s; run `monitor catalog verify --repair --catalog %s`",
                    *(catalog.name, finding.detail, catalog.name),
                    extra={"action": "catalog_unsound", "catalog": catalog.name, "unsound": len(findings)},
                )
        self._metrics.catalog_unsound.set(unsound)

    async def _retain(self) -> None:
        days = self._deployment.config.retention
        gone = await self._store.retain(
            hits_days=days.hits_days,
            history_days=days.history_days,
            deliveries_days=days.deliveries_days,
            now_s=time.time(),
        )
        log.info("what was older is gone", extra={"action": "retention", **gone})

    async def _sweep(self) -> None:
        gone = await asyncio.to_thread(lookback.sweep, self._deployment.lookback_dir, now_s=time.time())
        if gone:
            log.info("%d files of streams that are gone are removed", gone, extra={"action": "swept", "files": gone})

    async def _rescan(self, catalog: configuration.Catalog) -> None:
        results = await rescan(
            catalog.folders,
            pool=self._deployment.pool,
            milvus_uri=self._deployment.milvus_uri,
            milvus_token=self._deployment.milvus_token,
            catalog=catalog.name,
            embedder=self._embedders[str(catalog.embedder)],
            ffmpeg=self._deployment.ffmpeg,
            refused=self._refused.setdefault(catalog.name, {}),
        )
        log.info("%d files scanned", len(results), extra={"action": "rescanned", "catalog": catalog.name})
