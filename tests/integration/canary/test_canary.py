"""The self-test with the real model, Milvus and PostgreSQL: what it proves, and what each fault looks like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from psycopg_pool import AsyncConnectionPool

from monitor import embed
from monitor.catalog.canary import CANARY_ID, MOST_WINDOWS, Canaries, Canary, Planting, count_vectors, degraded, song
from monitor.catalog.recording import Recording
from monitor.catalog.references import FileState, References
from monitor.catalog.search import CatalogReader
from monitor.catalog.verify import Repair, verify
from monitor.catalog.writer import CatalogWriter
from monitor.daemon import canary as tests_of_itself
from monitor.daemon.canary import SelfTest
from monitor.daemon.pipeline import Limits, Pipeline
from monitor.deployment import load_calibration
from monitor.embed import Embedder
from monitor.embed.spectrogram import Spectrograph
from monitor.errors import CanaryReason, UnreachableError
from monitor.match.options import Options
from monitor.match.score import CONFIRMED_NATS, PROVISIONAL_NATS
from monitor.metrics import Metrics
from monitor.types import MatchEvent, Reference, ReferenceState, Window

_names = (f"songs-{number}" for number in count(1))


@pytest.fixture
def postgres_server(wheel_postgres_server: str) -> str:
    """One server suffices: nothing here is particular to a version."""
    return wheel_postgres_server


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return embed.load("fingerprint", models_dir=Path("/nonexistent"))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(database, min_size=1, max_size=8, open=False) as opened:
        yield opened


class Log:
    """What would be written."""

    def __init__(self) -> None:
        self.events: list[MatchEvent] = []

    async def put(self, event: MatchEvent) -> None:
        self.events.append(event)


class Deployment:
    """A catalog with two references of the user's, and the stages; `test` tests it."""

    def __init__(self, pool: AsyncConnectionPool[Any], milvus_uri: str, embedder: Embedder) -> None:
        self.pool, self.milvus_uri, self.embedder, self.name = pool, milvus_uri, embedder, next(_names)
        self.canaries = Canaries(pool=pool, milvus_uri=milvus_uri, milvus_token=None)
        self.log, self.metrics = Log(), Metrics(CollectorRegistry())
        self.reader: CatalogReader
        self.running: asyncio.Task[None] | None = None

    async def open_reader(self) -> CatalogReader:
        return await CatalogReader.open(
            name=self.name, pool=self.pool, milvus_uri=self.milvus_uri, milvus_token=None, embedder=self.embedder
        )

    async def begin(self, *, windows_capacity: int = 1000) -> None:
        self.reader = await self.open_reader()
        self.pipeline = Pipeline(
            recorder=self.log,  # type: ignore[arg-type]
            metrics=self.metrics,
            limits=Limits(batch_windows=16, windows_capacity=windows_capacity, backlog_s=60, search_interval_s=0.1),
            options=Options(provisional_nats=PROVISIONAL_NATS, confirmed_nats=CONFIRMED_NATS),
            top_k=10,
        )
        calibration = load_calibration("fingerprint", models_dir=Path("/x"), model_id=self.embedder.model_id)
        self.pipeline.add_catalog(
            name=self.name, model="m", embedder=self.embedder, reader=self.reader, calibration=calibration
        )
        self.self_test = SelfTest(
            pipeline=self.pipeline, canaries=self.canaries, metrics=self.metrics, interval_s=1.0, alarm_after=2
        )
        self.self_test.add_catalog(reader=self.reader, model="m", embedder=self.embedder)

    def run(self) -> None:
        self.running = asyncio.create_task(self.pipeline.run())

    async def test(self) -> CanaryReason | None:
        return await self.self_test.test(self.name)

    def writer(self) -> Any:
        return CatalogWriter.open(
            pool=self.pool, milvus_uri=self.milvus_uri, milvus_token=None, catalog=self.reader.catalog
        )

    async def load(self, reference_id: str, sound: Any) -> None:
        vectors = self.embedder.embed_reference(sound)
        digest = f"sha of {reference_id}"
        reference = Reference(
            catalog=self.name,
            reference_id=reference_id,
            number=0,
            state=ReferenceState.LOADING,
            path=f"/{reference_id}",
            duration_s=sound.size / self.embedder.sample_rate_hz,
            windows=len(vectors),
            file_sha256=digest,
            audio_sha256=digest,
        )
        recording = Recording(
            duration_s=reference.duration_s,
            windows=len(vectors),
            kept=np.arange(len(vectors)),
            vectors=vectors,
            levels=Spectrograph.for_embedder(self.embedder).rows(sound, np.arange(len(vectors))),
            audio_sha256=digest,
        )
        async with self.writer() as writer:
            await writer.store(reference, recording, FileState(size_bytes=1, modified_us=1))
        await self.reader.refresh()

    def value(self, name: str, **labels: str) -> float:
        stream = f"monitor:canary:{self.name}"
        found = self.metrics.registry.get_sample_value(f"monitor_canary_{name}", {"stream": stream, **labels})
        assert found is not None
        return found


@pytest.fixture
async def deployment(pool: AsyncConnectionPool[Any], milvus_lite: str, embedder: Embedder) -> AsyncIterator[Deployment]:
    deployed = Deployment(pool, milvus_lite, embedder)
    await deployed.begin()
    yield deployed
    if deployed.running is not None:
        deployed.running.cancel()
        with suppress(asyncio.CancelledError):
            await deployed.running
    await deployed.reader.close()
    async with deployed.writer() as writer:
        await asyncio.to_thread(writer.index.drop)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is played, and what does not get through is not waited for."""
    monkeypatch.setattr(tests_of_itself, "_PLAYED_S", 1.0)
    monkeypatch.setattr(tests_of_itself, "_GRACE_S", 1.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(tests_of_itself, "_GRACE_S", 120.0)


@pytest.mark.usefixtures("patient")
async def test_the_canary_is_recognised_and_nobody_else_hears_of_it(deployment: Deployment) -> None:
    noise = np.random.default_rng(1).standard_normal(20 * deployment.embedder.sample_rate_hz).astype(np.float32)
    await deployment.load("noise", 0.1 * noise)
    embedder = deployment.embedder
    # A user's stream that plays the very same song is no match: the canary is for the self-test alone.
    deployment.metrics.add_stream("radio")
    deployment.pipeline.attach("radio", [deployment.name], [])
    deployment.run()
    testing = asyncio.create_task(deployment.test())
    played = degraded(song(embedder.sample_rate_hz, 24.0))
    for number in range(40):
        samples = played[number * embedder.hop_samples :][: embedder.window_samples]
        start_s = 1e9 + number * embedder.hop_s
        deployment.pipeline.submit("m", Window(stream="radio", start_s=start_s, samples=samples, level_dbfs=-20.0))

    assert await testing is None

    assert deployment.value("detection_seconds") > embedder.window_s
    recorded_s = await deployment.canaries.recognised_s(deployment.name)
    assert deployment.value("last_success_timestamp_seconds") == pytest.approx(recorded_s, rel=0, abs=1e-5)
    assert all(deployment.value("failures_total", reason=reason) == 0 for reason in CanaryReason)
    assert deployment.self_test.trouble == {}
    through = asyncio.Semaphore(0)
    deployment.pipeline.unheard("radio", 1e9 + 30, through=through)
    await through.acquire()
    assert deployment.log.events == []

    # It is in no listing, no count and no foreign search, and verify finds nothing amiss.
    rows = await References(deployment.pool).rows(deployment.name, tuple(ReferenceState))
    assert [row.reference.reference_id for row in rows] == ["noise"]
    assert list(deployment.reader.references) == ["noise"]
    assert deployment.metrics.registry.get_sample_value("monitor_catalog_references") == 0.0  # counted at the start
    reader = await deployment.open_reader()
    try:
        near = await reader.search(embedder.embed_span(played), 10)
        assert {found.reference_id for row in near for found in row} == {"noise"}
        starts_s, _ = await reader.stretch(CANARY_ID, 0, 10)
        assert starts_s.size == 0
        own = await deployment.reader.search(embedder.embed_span(played), 1)
        assert {found.reference_id for row in own for found in row} == {CANARY_ID}
    finally:
        await reader.close()
    async with deployment.writer() as writer:
        verdict = await verify(writer, repair=Repair(embedder=embedder, ffmpeg=None))  # type: ignore[arg-type]
        assert (verdict.findings, verdict.vectors) == ((), rows[0].reference.windows)
        assert 0 < count_vectors(writer.index) < MOST_WINDOWS


async def test_vectors_that_milvus_lost_are_named_and_planted_anew(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    catalog, embedder = deployment.reader.catalog, deployment.embedder
    canary = Canary.of(catalog, embedder)
    assert await deployment.canaries.plant(catalog, canary, embedder) is Planting.NEW
    assert await deployment.canaries.plant(catalog, canary, embedder) is Planting.SOUND
    async with deployment.writer() as writer:
        await asyncio.to_thread(writer.index.delete_reference, 0, 5)

    with caplog.at_level(logging.ERROR, "monitor"):
        assert await deployment.test() is CanaryReason.LOST

    assert "monitor catalog verify --repair" in caplog.text
    assert deployment.value("failures_total", reason="lost") == 1
    assert await deployment.canaries.plant(catalog, canary, embedder) is Planting.SOUND


@pytest.mark.usefixtures("patient")
async def test_what_is_not_recognised_is_missed_and_not_ready_after_some_failures(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hiss(sound: Any) -> Any:
        return 0.1 * np.random.default_rng(7).standard_normal(sound.size).astype(np.float32)

    monkeypatch.setattr(tests_of_itself, "degraded", hiss)
    monkeypatch.setattr(tests_of_itself, "_PLAYED_S", 1.0)
    deployment.run()
    assert await deployment.test() is CanaryReason.MISSED
    assert deployment.self_test.trouble == {}
    assert await deployment.test() is CanaryReason.MISSED
    assert deployment.self_test.trouble == {deployment.name: "2 self-tests in a row failed, the latest: missed"}
    assert deployment.value("failures_total", reason="missed") == 2


@pytest.mark.usefixtures("brief")
async def test_windows_that_do_not_get_through_are_late(deployment: Deployment) -> None:
    # The stages do not run.
    assert await deployment.test() is CanaryReason.LATE


@pytest.mark.usefixtures("brief")
async def test_windows_that_are_thrown_away_are_dropped(deployment: Deployment) -> None:
    await deployment.reader.close()
    await deployment.begin(windows_capacity=1)
    assert await deployment.test() is CanaryReason.DROPPED
    assert [family.samples for family in deployment.metrics.windows_dropped.collect()] == [[]]


@pytest.mark.usefixtures("brief")
async def test_while_milvus_is_away_the_reason_is_that(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Any:
        raise UnreachableError("Milvus is away")

    monkeypatch.setattr(deployment.reader, "search", away)
    deployment.run()
    deployment.pipeline.attach("radio", [deployment.name], [])
    loud = np.ones(deployment.embedder.window_samples, dtype=np.float32)
    deployment.pipeline.submit("m", Window(stream="radio", start_s=1e9, samples=loud, level_dbfs=0.0))
    while not deployment.pipeline.trouble:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    assert await deployment.test() is CanaryReason.UNREACHABLE
    monkeypatch.setattr(deployment.canaries, "plant", away)
    assert await deployment.test() is CanaryReason.UNREACHABLE
    assert deployment.value("failures_total", reason="unreachable") == 2


@pytest.mark.usefixtures("patient")
async def test_it_runs_by_itself_until_it_is_cancelled(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests_of_itself, "_FIRST_AFTER_S", 0.0)
    await deployment.canaries.plant(
        deployment.reader.catalog, Canary.of(deployment.reader.catalog, deployment.embedder), deployment.embedder
    )
    await deployment.canaries.recognised(deployment.name, 1_700_000_000.5)
    deployment.run()
    running = asyncio.create_task(deployment.self_test.run())
    seen = []
    while not seen or seen[-1] <= 1_700_000_000.5:
        seen.append(deployment.value("last_success_timestamp_seconds"))
        await asyncio.sleep(0.05)
    # What an earlier life of the daemon saw was known at once.
    assert 1_700_000_000.5 in seen
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert deployment.log.events == []


def test_without_an_interval_nothing_is_tested(deployment: Deployment) -> None:
    off = SelfTest(
        pipeline=deployment.pipeline,
        canaries=deployment.canaries,
        metrics=Metrics(CollectorRegistry()),
        interval_s=0,
        alarm_after=1,
    )
    off.add_catalog(reader=deployment.reader, model="m", embedder=deployment.embedder)
    assert off._perches == []


@pytest.mark.parametrize("sample_rate_hz", [8000, 32000])
def test_the_song_is_the_same_at_every_rate_and_never_silent(sample_rate_hz: int) -> None:
    sound = song(sample_rate_hz, 24.0)
    assert sound.dtype == np.float32
    assert sound.size == 24 * sample_rate_hz
    assert np.abs(sound).max() == pytest.approx(0.5)
    loudness = np.sqrt(np.mean(sound[: sound.size // 48 * 48].reshape(48, -1) ** 2, axis=1))
    assert loudness.min() > 0.005
    assert not np.array_equal(degraded(sound), 0.3 * sound)
