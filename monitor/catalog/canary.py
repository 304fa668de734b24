"""The canary: a reference of a catalog's own making, which proves that the catalog is searched and answers.

Its vectors lie in the catalog's collection under number 0, which no row has: so it is in no listing, and no search
finds it but by a reader that was told of it.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from psycopg_pool import AsyncConnectionPool

from monitor.catalog.index import VectorIndex, damaged
from monitor.catalog.item import RESERVED_PREFIX
from monitor.catalog.recording import Recording
from monitor.catalog.references import CatalogRow
from monitor.catalog.writer import CatalogWriter, in_thread
from monitor.embed import Embedder
from monitor.embed.spectrogram import Spectrograph
from monitor.servers.border import transaction
from monitor.types import Reference, ReferenceState, Samples

#: Rows begin with number 1.
CANARY_NUMBER = 0
CANARY_ID = f"{RESERVED_PREFIX}canary"
#: It never has more windows than that: the song is short.
MOST_WINDOWS = 256
_SONG_S = 24.0
_NOTES = 96
_SEED = 20_240_229


def song(sample_rate_hz: int, duration_s: float) -> Samples:
    """A melody in three voices with strokes of noise, the same at every rate; float32 (n,), peak 0.5.

    No note or stroke comes twice in the same way, so that each window is like itself alone.
    """
    chance = np.random.default_rng(_SEED)
    sound = np.zeros(round(duration_s * sample_rate_hz))
    lengths_s = chance.uniform(0.18, 0.55, _NOTES)
    lengths_s *= duration_s / lengths_s.sum()
    for number, start_s in enumerate(np.cumsum(lengths_s) - lengths_s):
        first = round(start_s * sample_rate_hz)
        tone_s = np.arange(min(round(1.5 * lengths_s[number] * sample_rate_hz), sound.size - first)) / sample_rate_hz
        pitches_hz = 110.0 * 2.0 ** chance.uniform(0, 4, 3)
        timbre, stroke_hz = chance.uniform(0.2, 1.0, 4), chance.uniform(300, 3000, 12)
        note = np.zeros(tone_s.size)
        for pitch_hz in pitches_hz:
            for harmonic, strength in enumerate(timbre, 1):
                note += strength / harmonic * np.sin(2 * np.pi * harmonic * pitch_hz * tone_s)
        note *= np.exp(-4.0 * tone_s / lengths_s[number])
        note += 2.0 * np.exp(-60.0 * tone_s) * np.sin(2 * np.pi * np.outer(tone_s, stroke_hz)).sum(axis=1)
        sound[first : first + tone_s.size] += note
    return np.asarray(0.5 * sound / np.abs(sound).max(), dtype=np.float32)


def degraded(sound: Samples, *, noise_db: float = -10.0) -> Samples:
    """The sound as a bad receiver gives it: dull, quiet, and with noise so much below (or above) it."""
    chance = np.random.default_rng(_SEED + 1)
    dull = np.convolve(sound, (0.25, 0.5, 0.25), mode="same")
    noise = chance.standard_normal(dull.size) * np.sqrt(np.mean(dull**2)) * 10 ** (noise_db / 20)
    return np.asarray(0.3 * (dull + noise), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """The canary of one catalog: what was planted, and what is played to find it again."""

    reference: Reference
    #: The song itself, at the embedder's rate.
    song: Samples

    @classmethod
    def of(cls, catalog: CatalogRow, embedder: Embedder) -> Canary:
        """The canary for the catalog's model. Blocks for a moment."""
        sound = song(embedder.sample_rate_hz, _SONG_S)
        return cls(
            song=sound,
            reference=Reference(
                catalog=catalog.name,
                reference_id=CANARY_ID,
                number=CANARY_NUMBER,
                state=ReferenceState.READY,
                path="",
                duration_s=sound.size / embedder.sample_rate_hz,
                windows=1 + (sound.size - embedder.window_samples) // embedder.reference_hop_samples,
                file_sha256="",
                audio_sha256=hashlib.sha256(np.round(sound * 32767).astype("<i2").tobytes()).hexdigest(),
            ),
        )


class Planting(enum.StrEnum):
    """In what state a canary was found; in the end its vectors are there and sound in each case."""

    SOUND = "sound"
    #: There was none, or one of another version.
    NEW = "new"
    #: It had been planted, and vectors of it were gone or damaged: others may be too.
    LOST = "lost"


class Canaries:
    """The canaries of all catalogs: their vectors, and what PostgreSQL knows of them."""

    def __init__(self, *, pool: AsyncConnectionPool[Any], milvus_uri: str, milvus_token: str | None) -> None:
        self._pool, self._uri, self._token = pool, milvus_uri, milvus_token

    async def plant(self, catalog: CatalogRow, canary: Canary, embedder: Embedder) -> Planting:
        """The canary's vectors are in the catalog's collection. Raises UnreachableError."""
        async with CatalogWriter.open(
            pool=self._pool, milvus_uri=self._uri, milvus_token=self._token, catalog=catalog, clear=False
        ) as writer:
            known = await self._known(catalog.name) == canary.reference.audio_sha256
            found, vectors = await in_thread(writer.index.vectors, range(canary.reference.windows))
            if known and len(found) == canary.reference.windows and not damaged(vectors).any():
                return Planting.SOUND
            vectors = await asyncio.to_thread(embedder.embed_reference, canary.song)
            spectrograph = Spectrograph.for_embedder(embedder)
            recording = Recording(
                duration_s=canary.reference.duration_s,
                windows=len(vectors),
                kept=np.arange(len(vectors)),
                vectors=vectors,
                levels=spectrograph.rows(canary.song, np.arange(len(vectors))),
                audio_sha256=canary.reference.audio_sha256,
            )
            await writer.rewrite(CANARY_NUMBER, recording)
        async with transaction(self._pool, "record a canary") as connection:
            await connection.execute(
                "INSERT INTO canaries (catalog, song_sha256) VALUES (%s, %s) ON CONFLICT (catalog) DO UPDATE SET"
                " song_sha256 = EXCLUDED.song_sha256, planted_at = now()",
                [catalog.name, canary.reference.audio_sha256],
            )
        return Planting.LOST if known else Planting.NEW

    async def recognised(self, catalog: str, at_s: float) -> None:
        """The catalog's canary was recognised then."""
        async with transaction(self._pool, "record a canary's recognition") as connection:
            await connection.execute(
                "UPDATE canaries SET recognised_at = %s WHERE catalog = %s",
                [datetime.fromtimestamp(at_s, UTC), catalog],
            )

    async def recognised_s(self, catalog: str) -> float | None:
        """When the catalog's canary was recognised last; None if it never was."""
        async with transaction(self._pool, "read a canary's recognition") as connection:
            cursor = await connection.execute("SELECT recognised_at FROM canaries WHERE catalog = %s", [catalog])
            row = await cursor.fetchone()
            return None if row is None or row[0] is None else float(row[0].timestamp())

    async def _known(self, catalog: str) -> str | None:
        async with transaction(self._pool, "read a canary") as connection:
            cursor = await connection.execute("SELECT song_sha256 FROM canaries WHERE catalog = %s", [catalog])
            row = await cursor.fetchone()
            return None if row is None else str(row[0])


def count_vectors(index: VectorIndex) -> int:
    """How many vectors of the collection are its canary's. Blocks."""
    return len(index.vectors(range(MOST_WINDOWS))[0])
