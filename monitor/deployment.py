"""What every command stands on: the servers of a configuration, migrated and answering, and what goes with them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool, PoolTimeout

from monitor import embed
from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.catalog.references import References
from monitor.config import Config, TempoAndPitch
from monitor.embed import Embedder
from monitor.errors import ConfigError, UnreachableError
from monitor.match import score
from monitor.match.options import Options
from monitor.match.score import Calibration
from monitor.record.migrations import migrate
from monitor.servers.client import embedded
from monitor.servers.directory import default_data_dir, prepare

# It would say every second of an outage what whoever waits for the database says once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

_WIDE_TEMPO_RATIO = 0.45
_EXACT_TEMPO_RATIO = 0.02


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What every command stands on: the data directory, the servers, ffmpeg."""

    config: Config
    data_dir: Path
    pool: AsyncConnectionPool[Any]
    postgres_dsn: str
    milvus_uri: str
    milvus_token: str | None
    ffmpeg: FfmpegProgram

    @property
    def models_dir(self) -> Path:
        """Where fetched weights lie."""
        return self.data_dir / "models"

    @property
    def lookback_dir(self) -> Path:
        """Where each stream's latest windows lie."""
        return self.data_dir / "lookback"

    def load_embedder(self, name: str) -> Embedder:
        """The embedder with the configured number of threads."""
        return embed.load(name, models_dir=self.models_dir, threads=self.config.pipeline.model_threads)

    def load_calibration(self, name: str, embedder: Embedder) -> Calibration:
        """What the embedder's similarities are worth; the generic scale where nobody has measured."""
        return load_calibration(name, models_dir=self.models_dir, model_id=embedder.model_id)


@asynccontextmanager
async def deploy(config: Config, *, milvus: bool = True) -> AsyncIterator[Deployment]:
    """The servers of the configuration answer and the database is migrated, for as long as the block lasts.

    Servers without an address are the embedded ones. Raises UnreachableError naming the one that does not answer.
    """
    data_dir = prepare(config.data_dir or default_data_dir())
    async with AsyncExitStack() as stack:
        dsn = config.postgres.dsn.get_secret_value() if config.postgres and config.postgres.dsn else ""
        uri = config.milvus.uri if config.milvus and config.milvus.uri else ""
        if not dsn or (milvus and not uri):
            addresses = await stack.enter_async_context(embedded(data_dir, postgres=not dsn, milvus=milvus and not uri))
            dsn, uri = dsn or addresses.postgres_dsn, uri or addresses.milvus_uri
        await migrate(dsn)
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=8,
            timeout=5,
            open=False,
            name="monitor",
            # A server that accepts and then says nothing, or comes back, is noticed within seconds.
            kwargs={"connect_timeout": 10},
            reconnect_timeout=4,
        )
        await stack.enter_async_context(_opened(pool))
        token = config.milvus.token if config.milvus else None
        yield Deployment(
            config=config,
            data_dir=data_dir,
            pool=pool,
            postgres_dsn=dsn,
            milvus_uri=str(uri),
            milvus_token=token.get_secret_value() if token else None,
            ffmpeg=find_ffmpeg(str(config.ffmpeg.path) if config.ffmpeg.path else None),
        )


@asynccontextmanager
async def _opened(pool: AsyncConnectionPool[Any]) -> AsyncIterator[None]:
    try:
        await pool.open(wait=True, timeout=15)
    except PoolTimeout as error:
        raise UnreachableError(f"PostgreSQL does not answer: {error}") from error
    try:
        yield
    finally:
        await pool.close(timeout=2)


async def embedder_of(deployment: Deployment, catalog: str) -> str:
    """The embedder that a catalog was built with, for catalogs that the configuration does not name."""
    row = await References(deployment.pool).catalog(catalog)
    if row is None:
        raise ConfigError(f"there is no catalog {catalog}; `monitor catalog add --catalog {catalog} PATH` makes one")
    return row.embedder


def load_calibration(name: str, *, models_dir: Path, model_id: str) -> Calibration:
    """The calibration beside the weights of an embedder, or the generic one."""
    shipped = Path(embed.__file__).parent / "models" / f"{name}.calibration.json"
    for path in (models_dir / f"{name}.calibration.json", shipped):
        if path.exists():
            return score.load_calibration(path, model_id=model_id)
    return score.generic_calibration()


def alignment_options(config: Config) -> Options:
    """The thresholds of the configuration, the model's own where it names none."""
    rules = config.match
    wide = rules.tempo_and_pitch is TempoAndPitch.WIDE
    provisional = rules.provisional_evidence_nats or score.PROVISIONAL_NATS
    return Options(
        provisional_nats=provisional,
        confirmed_nats=rules.confirmed_evidence_nats or max(score.CONFIRMED_NATS, provisional),
        min_length_s=rules.min_length_s,
        silence_s=rules.end_after_s,
        max_gap_s=rules.max_gap_s,
        tempo_max_ratio=_WIDE_TEMPO_RATIO if wide else _EXACT_TEMPO_RATIO,
        any_pitch=wide,
    )
