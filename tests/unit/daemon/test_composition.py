"""What the composition root does with streams and failures, without servers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import ClassVar

import pytest

from monitor import config as configuration
from monitor.app import Daemon
from monitor.errors import MonitorError, StorageError, UnreachableError


class Store:
    """A log of nothing; PostgreSQL is away for the first `away` calls."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.epoch = away, 0

    async def begin_listening(self, stream):
        if self.away:
            self.away -= 1
            raise UnreachableError("PostgreSQL is away")
        self.epoch += 1
        return self.epoch

    async def close_matches(self, *_args, **_kwargs):
        return []

    async def open_matches(self, stream, **_kwargs):
        return []

    async def heard_until(self, stream):
        return None


@pytest.fixture
async def daemon(tmp_path, monkeypatch):
    monkeypatch.setattr("monitor.daemon.listening._RETRY_S", 0.01)
    path = tmp_path / "monitor.yaml"
    path.write_text("streams:\n  - name: radio\n    url: http://127.0.0.1:9/x\n    paused: true\n")
    config = configuration.load(path, environ={}, data_dir=tmp_path)
    daemon = Daemon(
        SimpleNamespace(
            config=config,
            pool=None,
            data_dir=tmp_path,
            lookback_dir=tmp_path / "lookback",
            ffmpeg=None,
            milvus_uri="",
            milvus_token=None,
        ),
        config_path=path,
    )
    daemon._listening._store = Store()
    daemon._listening._pipeline = Pipeline()
    yield daemon
    await daemon._listening.end()


class Pipeline:
    trouble: ClassVar[dict[str, str]] = {}
    options = SimpleNamespace(max_gap_s=30.0)

    def attach(self, *_args):
        pass

    def models_of(self, _catalogs):
        return {"m": SimpleNamespace(sample_rate_hz=64, window_samples=128, hop_samples=32)}

    def submit(self, *_args):
        pass

    def unheard(self, *_args):
        pass

    def forget(self, _stream):
        pass

    async def detach(self, *_args, **_kwargs):
        return []


async def test_a_stream_that_another_daemon_took_is_named_and_can_be_removed(daemon):
    (radio,) = daemon._config.streams
    await daemon._listening.add(*daemon._listen_to(radio))
    daemon._started.set()
    daemon._metrics.infringements_active.labels("radio").set(1)
    del daemon._recorder.epochs["radio"]
    daemon._listening.taken_over("radio")
    assert daemon._registry.get_sample_value("monitor_infringements_active", {"stream": "radio"}) == 0
    assert daemon.unready() == {"stream radio": "another daemon listens to it"}
    await _drained(daemon)
    await daemon._listening.remove("radio")
    assert daemon.unready() == {} and daemon.streams() == []


async def test_a_stream_is_added_however_long_postgres_is_away(daemon):
    daemon._listening._store = Store(away=3)
    await daemon._listening.add_patiently(*daemon._listen_to(daemon._config.streams[0]))
    assert len(daemon._listening.tasks) == 1


async def test_nothing_is_taken_over_before_the_start_and_while_postgres_is_away(daemon):
    waiting = asyncio.create_task(daemon.reload())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    daemon._recorder.trouble = "PostgreSQL is away"
    daemon._started.set()
    with pytest.raises(UnreachableError):
        await waiting
    daemon._recorder.trouble = None
    daemon.stop()
    with pytest.raises(UnreachableError, match="stopping"):
        await daemon.reload()


async def test_a_stage_of_a_group_that_fails_gives_its_own_exit_code(daemon):
    async def stage():
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    async def fails():
        raise StorageError("the disk is full")

    await asyncio.wait([daemon._own(stage(), "stage")])
    await daemon._stopping.wait()
    assert isinstance(daemon._crash, MonitorError) and daemon._crash.exit_code == 73


async def _drained(daemon):
    """What was said is taken from the journal, as the recorder's task would."""
    await asyncio.gather(*daemon._listening.tasks, return_exceptions=True)
    journal = daemon._recorder._journal
    journal.advance(journal.read(1000))
