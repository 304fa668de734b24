"""The self-test: what only the daemon knows is played to each catalog, and must be recognised: "no match" is a finding.

A piece of the canary's song, degraded, goes in behind the sources, as windows of a stream of no user's, at the pace of
live sound; it is embedded, searched and aligned with all others, and its match ends here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from monitor.audio.window import level_dbfs
from monitor.catalog.canary import Canaries, Canary, Planting, degraded
from monitor.catalog.item import RESERVED_PREFIX
from monitor.catalog.search import CatalogReader
from monitor.daemon.pipeline import Pipeline
from monitor.embed import Embedder
from monitor.errors import CanaryReason, DropReason, MonitorError, ServerReason, UnreachableError
from monitor.metrics import Metrics
from monitor.types import MatchEvent, Samples, Window

log = logging.getLogger(__name__)

#: The song is played from here: not where a window of the reference begins.
_FROM_S = 3.37
#: Seconds played beside the first window. Matches are announced after about five.
_PLAYED_S = 14.0
#: After the last window, for what is behind.
_GRACE_S = 30.0
#: A match's place may be wrong by so much.
_TOLERANCE_S = 1.0
_RETRY_S = 60.0
_FIRST_AFTER_S = 30.0


@dataclass(kw_only=True)
class Perch:
    """One catalog, its canary, and how its self-tests went."""

    reader: CatalogReader
    model: str
    embedder: Embedder
    #: Made by the first test.
    canary: Canary | None = None
    failures: int = 0
    reason: CanaryReason | None = None
    tests: count[int] = field(default_factory=count)

    @property
    def stream(self) -> str:
        """The name under which its tests are counted; no user's stream has it."""
        return f"{RESERVED_PREFIX}canary:{self.reader.name}"


class Trial:
    """One test: what the pipeline says of it."""

    def __init__(self) -> None:
        self.found: asyncio.Future[MatchEvent] = asyncio.get_running_loop().create_future()
        self.dropped = 0

    def heard(self, event: MatchEvent) -> None:
        """The first match is what counts."""
        if not self.found.done():
            self.found.set_result(event)

    def lost(self, _: DropReason) -> None:
        """A window was thrown away."""
        self.dropped += 1


class SelfTest:
    """Tests every catalog each `interval_s`, a failing one each minute."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        canaries: Canaries,
        metrics: Metrics,
        interval_s: float,
        alarm_after: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._pipeline, self._canaries, self._metrics = pipeline, canaries, metrics
        self._interval_s, self._alarm_after, self._now = interval_s, alarm_after, now
        self._perches: list[Perch] = []
        metrics.canary_interval.set(interval_s)

    def add_catalog(self, *, reader: CatalogReader, model: str, embedder: Embedder) -> None:
        """The catalog is tested. All catalogs are added before `run`."""
        if self._interval_s:
            self._perches.append(Perch(reader=reader, model=model, embedder=embedder))
            self._metrics.add_canary(self._perches[-1].stream)

    @property
    def trouble(self) -> dict[str, str]:
        """Catalogs whose last tests all failed, and why the latest did."""
        return {
            perch.reader.name: f"{perch.failures} self-tests in a row failed, the latest: {perch.reason}"
            for perch in self._perches
            if perch.failures >= self._alarm_after
        }

    async def run(self) -> None:
        """Test until cancelled."""
        async with asyncio.TaskGroup() as perches:
            for perch in self._perches:
                perches.create_task(self._watch(perch), name=f"self-test of {perch.reader.name}")

    async def test(self, catalog: str) -> CanaryReason | None:
        """Test a catalog now: why it failed, or None."""
        perch = next(perch for perch in self._perches if perch.reader.name == catalog)
        began_s = self._now()
        try:
            reason = await self._test(perch)
        except MonitorError as error:
            corrupt = isinstance(error, UnreachableError) and error.reason is ServerReason.CORRUPT
            reason = CanaryReason.LOST if corrupt else CanaryReason.UNREACHABLE
            log.warning("%s", error, extra={"action": "self_test_impossible", "catalog": catalog})
        await self._judge(perch, reason, began_s)
        return reason

    async def _watch(self, perch: Perch) -> None:
        try:
            before_s = await self._canaries.recognised_s(perch.reader.name)
        except MonitorError:
            before_s = None
        self._metrics.canary_last_success.labels(perch.stream).set(before_s or 0.0)
        await asyncio.sleep(min(self._interval_s, _FIRST_AFTER_S))
        while True:
            reason = await self.test(perch.reader.name)
            await asyncio.sleep(self._interval_s if reason is None else min(self._interval_s, _RETRY_S))

    async def _test(self, perch: Perch) -> CanaryReason | None:
        catalog, embedder = perch.reader.catalog, perch.embedder
        if (canary := perch.canary) is None:
            canary = perch.canary = await asyncio.to_thread(Canary.of, catalog, embedder)
        planting = await self._canaries.plant(catalog, canary, embedder)
        perch.reader.reveal(canary.reference)
        if planting is Planting.LOST:
            return CanaryReason.LOST
        first = round(_FROM_S * embedder.sample_rate_hz)
        length = embedder.window_samples + round(_PLAYED_S * embedder.sample_rate_hz)
        sound = (await asyncio.to_thread(degraded, canary.song))[first : first + length]
        # A name of its own: what an earlier test left in a queue is not mistaken for this one's.
        stream, trial = f"{perch.stream}:{next(perch.tests)}", Trial()
        self._pipeline.attach_canary(stream, catalog.name, trial)
        try:
            return await self._play(perch, stream, trial, sound)
        finally:
            self._pipeline.detach_canary(stream)

    async def _play(self, perch: Perch, stream: str, trial: Trial, sound: Samples) -> CanaryReason | None:
        embedder, loop = perch.embedder, asyncio.get_running_loop()
        start_s, began_s = self._now(), loop.time()
        windows = 1 + (len(sound) - embedder.window_samples) // embedder.hop_samples
        for number in range(windows):
            # A window is whole when its last sample has been heard.
            due_s = began_s + embedder.window_s + number * embedder.hop_s
            await asyncio.wait([trial.found], timeout=max(due_s - loop.time(), 0.0))
            if trial.found.done():
                break
            samples = sound[number * embedder.hop_samples :][: embedder.window_samples]
            window = Window(
                stream=stream,
                start_s=start_s + number * embedder.hop_s,
                samples=samples,
                level_dbfs=level_dbfs(samples),
            )
            self._pipeline.submit(perch.model, window)
        through = asyncio.Semaphore(0)
        self._pipeline.unheard(stream, start_s + len(sound) / embedder.sample_rate_hz, through=through)
        passing = asyncio.create_task(through.acquire(), name=f"{stream} passes")
        waited_for: set[asyncio.Future[Any]] = {trial.found, passing}
        try:
            await asyncio.wait(waited_for, timeout=_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            passing.cancel()
        if not trial.found.done():
            return await self._why_not(perch, trial, through=passing.done())
        match = trial.found.result().match
        if abs(match.reference_start_s - (_FROM_S + match.start_s - start_s)) > _TOLERANCE_S:
            return CanaryReason.MISPLACED
        self._metrics.canary_detection.labels(perch.stream).set(loop.time() - began_s)
        return None

    async def _why_not(self, perch: Perch, trial: Trial, *, through: bool) -> CanaryReason:
        if perch.reader.name in self._pipeline.trouble:
            return CanaryReason.UNREACHABLE
        if trial.dropped:
            return CanaryReason.DROPPED
        if not through:
            return CanaryReason.LATE
        canary = perch.canary
        if canary and await self._canaries.plant(perch.reader.catalog, canary, perch.embedder) is Planting.LOST:
            return CanaryReason.LOST
        return CanaryReason.MISSED

    async def _judge(self, perch: Perch, reason: CanaryReason | None, began_s: float) -> None:
        name = perch.reader.name
        if reason is None:
            if perch.failures:
                words = {"action": "self_test_passed", "catalog": name}
                log.info("catalog %s recognises its canary again", name, extra=words)
            perch.failures, perch.reason = 0, None
            self._metrics.canary_last_success.labels(perch.stream).set(began_s)
            with suppress(MonitorError):
                await self._canaries.recognised(name, began_s)
            return
        perch.failures, perch.reason = perch.failures + 1, reason
        self._metrics.canary_failures.labels(perch.stream, reason).inc()
        advice = "; run monitor catalog verify --repair, others may be lost too" if reason is CanaryReason.LOST else ""
        log.log(
            logging.ERROR if perch.failures >= self._alarm_after or advice else logging.WARNING,
            "self-test of catalog %s failed (%d in a row): %s%s",
            *(name, perch.failures, reason, advice),
            extra={"action": "self_test_failed", "catalog": name, "reason": reason.value},
        )
