"""What the API has said of streams, for as long as it is not unsaid: which there are, and which are paused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg_pool import AsyncConnectionPool

from monitor.record.border import transaction


class Roster:
    """All methods raise UnreachableError when PostgreSQL does not answer, having changed nothing."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def streams(self) -> list[dict[str, Any]]:
        """The definitions of the streams that were added, by name, each as the configuration file would have it."""
        async with transaction(self._pool, "read the streams of the API") as connection:
            cursor = await connection.execute("SELECT definition FROM api_streams ORDER BY name")
            return [definition for (definition,) in await cursor.fetchall()]

    async def add(self, definition: Mapping[str, Any]) -> bool:
        """The stream is added; False if there is one of its name."""
        async with transaction(self._pool, "add a stream") as connection:
            cursor = await connection.execute(
                "INSERT INTO api_streams (name, definition) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [definition["name"], json.dumps(dict(definition))],
            )
            return cursor.rowcount > 0

    async def remove(self, name: str) -> None:
        """Nothing is known of the stream."""
        async with transaction(self._pool, "remove a stream") as connection:
            await connection.execute("DELETE FROM api_streams WHERE name = %s", [name])
            await connection.execute("DELETE FROM stream_pauses WHERE name = %s", [name])

    async def pauses(self) -> dict[str, bool]:
        """Streams that were paused (true) or resumed (false)."""
        async with transaction(self._pool, "read which streams are paused") as connection:
            return dict(await (await connection.execute("SELECT name, paused FROM stream_pauses")).fetchall())

    async def set_paused(self, name: str, paused: bool) -> None:
        """The stream is paused or not, whatever the configuration says."""
        async with transaction(self._pool, "pause or resume a stream") as connection:
            await connection.execute(
                "INSERT INTO stream_pauses (name, paused) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE SET paused = EXCLUDED.paused, changed_at = now()",
                [name, paused],
            )
