"""Reads the match log while it grows, and says what is new in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from monitor.demo import report
from monitor.demo.report import Found

_OPEN = ("provisional", "confirmed")
_POLL_S = 0.5
#: Rows are read from so long before the broadcast: a row that begins too early is wrong, and must be seen.
_EARLY_S = 10.0


class Follower:
    """One catalog's rows since a broadcast began; each is said once when confirmed and once when over."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        *,
        catalog: str,
        titles: Mapping[str, str],
        since_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._titles = titles
        self._since_s = since_s
        self._say = say
        self._said: set[tuple[str, str]] = set()

    async def look(self) -> None:
        """Say what is new."""
        await self.rows()

    async def settle(self, timeout_s: float) -> None:
        """Until every match has ended or been retracted, at most so long."""
        give_up_s = time.monotonic() + timeout_s
        while any(row.state in _OPEN for row in await self.rows()):
            if time.monotonic() > give_up_s:
                return
            await asyncio.sleep(_POLL_S)

    async def rows(self) -> list[Found]:
        """The rows by now, the oldest first."""
        rows = await report.read_found(self._connection, catalog=self._catalog, since_s=self._since_s - _EARLY_S)
        for row in rows:
            if row.state != "provisional" and (str(row.match_id), row.state) not in self._said:
                self._said.add((str(row.match_id), row.state))
                self._say(self._line(row))
        return rows

    def _line(self, row: Found) -> str:
        title = self._titles.get(row.reference_id, row.reference_id)
        start_s, end_s = row.start_s - self._since_s, row.end_s - self._since_s
        if row.state == "confirmed":
            where = f"from its second {row.reference_start_s:.1f}, since {start_s:.1f} s"
        else:
            where = f"{start_s:.1f} to {end_s:.1f} s"
        return f"{row.stream} {row.state}: {title}, {where} (score {row.score:.2f})"
