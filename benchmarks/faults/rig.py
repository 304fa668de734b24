"""The daemon as anybody runs it, with a catalog, and all that it says of itself: match log, metrics, log lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import yaml

from benchmarks.faults.sounds import Sounds, compose_sounds
from monitor.audio.ffmpeg import FfmpegProgram, find_ffmpeg
from monitor.demo import commands
from monitor.demo.commands import Daemon, Program
from monitor.demo.report import Found, read_found
from monitor.errors import MonitorError, StreamReason
from monitor.types import Gap, StreamState, StreamStatus

CATALOG = "faults"
#: Planted in addresses; no log line may show it.
SECRET = "planted-secret-9f27"
_POLL_S = 0.7
_READY_S = 400.0
_SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
_STATES_SQL = """
SELECT stream, state, reason, detail, extract(epoch FROM since)::float8 FROM stream_states
 WHERE since >= to_timestamp(%s) ORDER BY id
"""
_GAPS_SQL = """
SELECT stream, extract(epoch FROM start_at)::float8, extract(epoch FROM end_at)::float8, reason FROM gaps
 WHERE end_at >= to_timestamp(%s) ORDER BY start_at
"""
Seen = TypeVar("Seen")


@dataclass(kw_only=True)
class Rig:
    """One data directory with its catalog, and the daemons that run on it, one after the other."""

    place: Path
    sounds: Sounds
    ffmpeg: FfmpegProgram
    program: Program
    dsn: str
    say: Callable[[str], None]
    port: int = 0
    lives: int = 0

    def configure(self, *, streams: list[dict[str, Any]], **sections: Any) -> None:
        """Write the daemon's configuration, with a port that is free now."""
        self.port = commands.free_port()
        settings: dict[str, Any] = {
            "log": {"format": "json"},
            "http": {"port": self.port},
            "catalogs": [{"name": CATALOG}],
            "match": {"tempo_and_pitch": "exact"},
            "canary": {"interval_s": 0},
            "streams": streams,
        }
        self.program.config.write_text(yaml.safe_dump(settings | sections), encoding="utf-8")

    @contextlib.asynccontextmanager
    async def running(
        self, *, environment: Mapping[str, str] | None = None, record_since_s: float | None = None
    ) -> AsyncIterator[Watch]:
        """`monitor run`, ready, and watched; afterwards it is stopped as a service manager stops it.

        Of the match log the watch sees what is new, or all since `record_since_s`.
        """
        self.lives += 1
        log = self.place / f"daemon-{self.lives}.log"
        began_s = time.time() if record_since_s is None else record_since_s
        async with self.program.daemon(log, environment=environment or {}) as daemon:
            watch = Watch(rig=self, daemon=daemon, log=log, began_s=began_s)
            watching = asyncio.create_task(watch.run(), name="watch")
            try:
                if await watch.until(lambda: watch.ready, _READY_S) is None:
                    daemon.check()
                    raise MonitorError(f"the daemon is not ready after {_READY_S:.0f} s: {watch.unready}; see {log}")
                yield watch
            finally:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching


@contextlib.asynccontextmanager
async def rigged(say: Callable[[str], None], *, folder: Path | None = None) -> AsyncIterator[Rig]:
    """A catalog of composed pieces in a data directory, gone afterwards with all that ran on it, unless in `folder`.

    What a folder holds from an earlier time is used again.
    """
    ffmpeg = await asyncio.to_thread(find_ffmpeg)
    with _place(folder) as place:
        sounds = await compose_sounds(place, ffmpeg)
        program = Program(config=place / "monitor.yaml", data_dir=place / "data")
        async with commands.servers(program.data_dir) as dsn:
            rig = Rig(place=place, sounds=sounds, ffmpeg=ffmpeg, program=program, dsn=dsn, say=say)
            rig.configure(streams=[])
            await program.run("catalog", "add", "--catalog", CATALOG, str(place / "pieces"), "--json")
        yield rig
        await commands.until_servers_ended(program.data_dir)


@contextlib.contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)  # PostgreSQL's user must be able to pass
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="monitor-faults-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@dataclass(frozen=True, kw_only=True)
class Account:
    """How many seconds of a stream were heard, and not heard, when the daemon was asked."""

    at_s: float
    heard_s: float
    missed_s: float


@dataclass(kw_only=True)
class Watch:
    """A daemon seen from outside, looked at all the time."""

    rig: Rig
    daemon: Daemon
    log: Path
    began_s: float
    ready: bool = False
    #: What `/-/ready` gives as reasons; None while nobody answers.
    unready: dict[str, str] | None = None
    states: dict[str, list[StreamStatus]] = field(default_factory=lambda: defaultdict(list))
    gaps: dict[str, list[Gap]] = field(default_factory=lambda: defaultdict(list))
    found: dict[str, list[Found]] = field(default_factory=lambda: defaultdict(list))
    #: By name with labels, as Prometheus reads them.
    metrics: dict[str, float] = field(default_factory=dict)
    #: When they were asked for.
    asked_s: float = 0.0
    lines: list[dict[str, Any]] = field(default_factory=list)
    _read_bytes: int = 0
    _looked: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        """Look until cancelled."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.rig.port}", timeout=10) as client:
            while True:
                await self._look(client)
                async with self._looked:
                    self._looked.notify_all()
                await asyncio.sleep(_POLL_S)

    async def until(self, seen: Callable[[], Seen], within_s: float) -> Seen | None:
        """What `seen` gives once that is true; None if it never is within the time, or the daemon ends."""
        give_up_s = time.monotonic() + within_s
        while True:
            if result := seen():
                return result
            left_s = give_up_s - time.monotonic()
            if left_s <= 0 or self.daemon.has_ended:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s), self._looked:
                    await self._looked.wait()

    async def end(self) -> list[str]:
        """Stop the daemon in order: what is wrong with its end, or with anything that it has said."""
        status = await self.daemon.stop()
        self._read_log()
        problems = [] if self.daemon.stopped_well else [f"the daemon ended with status {status}"]
        if any(SECRET in str(line) for line in self.lines):
            problems.append("the log shows a secret")
        for action in ("stream_bug", "crash", "request_bug", "not JSON"):
            problems += [f"the log says {action}: {line['message']}" for line in self.said(action)[:3]]
        return problems

    def state(self, stream: str) -> StreamStatus | None:
        """The newest of the stream."""
        return self.states[stream][-1] if self.states[stream] else None

    def turned(
        self, stream: str, state: StreamState, *, since_s: float, reasons: frozenset[StreamReason] = frozenset()
    ) -> StreamStatus | None:
        """The first time since then that the stream came into the state, for one of the reasons if there are any."""
        return next(
            (
                status
                for status in self.states[stream]
                if status.state is state and status.since_s >= since_s and (not reasons or status.reason in reasons)
            ),
            None,
        )

    def metric(self, name: str, **labels: str) -> float:
        """Its value; 0 where there is none."""
        written = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        return self.metrics.get(f"{name}{{{written}}}" if written else name, 0.0)

    def account(self, stream: str) -> Account:
        """Of the stream's own time: what was sent twice is counted once."""
        missed = (self.metric("monitor_stream_gap_seconds_total", reason=one, stream=stream) for one in StreamReason)
        heard_s = self.metric("monitor_stream_covered_seconds_total", stream=stream)
        return Account(at_s=self.asked_s, heard_s=heard_s, missed_s=sum(missed))

    async def looked_again(self) -> None:
        """Once more from now on."""
        now_s = time.time()
        await self.until(lambda: self.asked_s > now_s, _READY_S)

    def said(self, action: str, **fields: str) -> list[dict[str, Any]]:
        """The log lines of that action."""
        return [
            line
            for line in self.lines
            if line["action"] == action and all(line.get(name) == value for name, value in fields.items())
        ]

    async def change(self, stream: str, action: str) -> None:
        """Pause or resume the stream, as the page does."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.rig.port}", timeout=60) as client:
            (await client.post(f"/api/v1/streams/{stream}/{action}")).raise_for_status()

    async def _look(self, client: httpx.AsyncClient) -> None:
        self._read_log()
        try:
            answer = await client.get("/-/ready")
            self.ready, self.unready = answer.status_code == httpx.codes.OK, answer.json()["reasons"]
            if self.ready or self.metrics:
                asked_s, text = time.time(), (await client.get("/metrics")).text
                self.asked_s = asked_s
                self.metrics = {name: float(value) for name, value in _SAMPLE.findall(text)}
        except (httpx.HTTPError, ValueError):
            self.ready, self.unready = False, None
        with contextlib.suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(10):
                await self._read_record()

    async def _read_record(self) -> None:
        connecting = psycopg.AsyncConnection.connect(self.rig.dsn, autocommit=True, connect_timeout=5)
        async with await connecting as connection:
            states = await (await connection.execute(_STATES_SQL, (self.began_s,))).fetchall()
            gaps = await (await connection.execute(_GAPS_SQL, (self.began_s,))).fetchall()
            found = await read_found(connection, catalog=CATALOG, since_s=self.began_s)
        self.states, self.gaps, self.found = defaultdict(list), defaultdict(list), defaultdict(list)
        for stream, state, reason, detail, since_s in states:
            status = StreamStatus(
                stream=stream, state=StreamState(state), reason=reason, detail=detail, since_s=since_s
            )
            self.states[stream].append(status)
        for stream, start_s, end_s, reason in gaps:
            self.gaps[stream].append(Gap(stream=stream, start_s=start_s, end_s=end_s, reason=reason))
        for row in found:
            self.found[row.stream].append(row)

    def _read_log(self) -> None:
        with self.log.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.lines.append({"action": "not JSON", "message": line, "level": "error"})
