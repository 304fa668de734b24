"""One stream's life: states, back-off, gaps, pauses and alarms, told by sources on a clock of the test's own."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from monitor.daemon.stability import Tolerance
from monitor.daemon.states import TRANSITIONS
from monitor.daemon.stream import Settings, Stream
from monitor.errors import SourceError, StreamReason
from monitor.metrics import Metrics
from monitor.types import Chunk, Gap, StreamAlarm, StreamState, StreamStatus
from tests.unit.daemon.test_pipeline import Model

RATE = 64


class Log:
    def __init__(self) -> None:
        self.entries = []

    async def put(self, entry):
        self.entries.append(entry)

    @property
    def gaps(self):
        """The last word on each gap."""
        gaps: dict[float, Gap] = {}
        for gap in (entry for entry in self.entries if isinstance(entry, Gap)):
            before = gaps.get(gap.start_s)
            gaps[gap.start_s] = gap if before is None or gap.end_s > before.end_s else before  # as the store keeps it
        return [(gap.start_s, gap.end_s, gap.reason) for gap in gaps.values()]

    @property
    def states(self):
        return [entry.state for entry in self.entries if isinstance(entry, StreamStatus)]


@dataclass(kw_only=True)
class Attempt:
    """One connection: how long until sound, the past that comes with it, how long it lasts, and how it ends."""

    connect_s: float = 0.0
    burst_s: float = 0.0
    audio_s: float = 0.0
    reason: StreamReason = StreamReason.ENDED
    #: Seconds by which the clock leaps half-way, which the source follows so much later with a discontinuity.
    leap_s: float = 0.0
    follows_s: float = 0.0
    level: float = 0.1
    #: How long it sends nothing, connected, before the daemon is stopped.
    hangs_s: float = 0.0
    #: Back-off after it.
    wait_s: float = 0.0


@dataclass(kw_only=True)
class Radio:
    """A stream whose sources play a script; when it ends, the stream is stopped."""

    script: list[Attempt] = field(default_factory=list)
    heard_until_s: float | None = None
    now_s: float = 100.0
    paused: bool = False
    addresses: tuple[str, ...] = ("x",)
    tolerance: Tolerance = field(default_factory=Tolerance)

    def __post_init__(self):
        self.log, self.unheard, self.opened, self.covered, self.most = Log(), [], [], [], []
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.add_stream("radio")
        self.last_words = ()
        self.turn = iter(self.script)
        self.stream = Stream(
            settings=Settings(
                name="radio",
                addresses=self.addresses,
                catalogs=("default",),
                paused=self.paused,
                silence_after_s=10,
                silence_dbfs=-60,
                tolerance=self.tolerance,
            ),
            open_source=lambda address, _: self.open(address),
            models={"m": Model()},
            submit=lambda *_: None,
            unheard=self.unheard.append,
            recorder=self.log,
            metrics=self.metrics,
            heard_until_s=self.heard_until_s,
            now=lambda: self.now_s,
        )
        self.stream._wait = self.wait

    def open(self, address):
        self.opened.append(address)
        return self

    async def listen(self):
        self.attempt = next(self.turn, None)
        if self.attempt is None:
            self.task.cancel()
            await asyncio.sleep(60)
        attempt = self.attempt
        self.now_s += attempt.connect_s
        fresh, start_s = True, self.now_s - attempt.burst_s
        end_s = self.now_s + attempt.audio_s
        leap_s = attempt.leap_s
        while start_s + 1 <= end_s:
            half_s, ahead_s = end_s - attempt.audio_s / 2, 0.0
            if leap_s and start_s > half_s:
                ahead_s = leap_s
            if leap_s and start_s > half_s + attempt.follows_s:
                fresh, start_s, end_s = True, start_s + leap_s, end_s + leap_s
                leap_s = ahead_s = 0
            self.now_s = max(self.now_s, start_s + ahead_s + 1)
            self.covered.append((start_s, start_s + 1))
            samples = np.full(RATE, attempt.level, np.float32)
            yield Chunk(start_s=start_s, samples=samples, sample_rate_hz=RATE, discontinuity=fresh)
            fresh, start_s = False, start_s + 1
            await asyncio.sleep(0)
        if attempt.hangs_s:
            self.now_s += attempt.hangs_s
            self.task.cancel()
            await asyncio.sleep(60)
        raise SourceError(attempt.reason, f"x: {attempt.reason}")

    async def wait(self, wait_s):
        self.most.append(wait_s)
        left_s = self.attempt.wait_s
        while left_s > 0:
            await self.stream._grow_gap(self.now_s)
            self.now_s += min(left_s, 10)
            left_s -= 10
        await self.stream._grow_gap(self.now_s)
        await asyncio.sleep(0)

    async def play(self):
        self.task = asyncio.create_task(self.stream.run())
        with suppress(asyncio.CancelledError):
            await self.task
        return self

    def said(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, {"stream": "radio", **labels})


async def test_past_audio_that_a_server_sends_on_reconnect_is_no_gap():
    script = [Attempt(reason=StreamReason.REFUSED, wait_s=51), Attempt(burst_s=10, audio_s=5)]
    radio = await Radio(script=script, heard_until_s=100.0).play()
    assert radio.log.gaps == [(100.0, 141.0, "refused")]
    assert radio.unheard[:3] == [110.0, 120.0, 130.0]
    assert radio.said("monitor_stream_gap_seconds_total", reason="refused") == 41.0


async def test_a_stream_that_never_was_heard_has_a_gap_from_the_first_attempt_on():
    script = [Attempt(connect_s=5, reason=StreamReason.REFUSED), Attempt(connect_s=55, audio_s=2)]
    assert (await Radio(script=script).play()).log.gaps == [(100.0, 160.0, "refused")]


async def test_a_gap_whose_reason_changes_says_each_reason_from_the_attempt_on_that_failed_for_it():
    script = [
        Attempt(audio_s=10, reason=StreamReason.ENDED, wait_s=5),
        Attempt(connect_s=15, reason=StreamReason.TIMEOUT, wait_s=5),
        Attempt(reason=StreamReason.TIMEOUT, wait_s=5),
        Attempt(connect_s=1, reason=StreamReason.NO_AUDIO, wait_s=5),
        Attempt(connect_s=2, audio_s=5),
    ]
    radio = await Radio(script=script).play()
    assert radio.log.gaps == [(110.0, 115.0, "ended"), (115.0, 140.0, "timeout"), (140.0, 148.0, "no_audio")]
    told = {reason: radio.said("monitor_stream_gap_seconds_total", reason=reason) for reason in StreamReason}
    assert {reason: told_s for reason, told_s in told.items() if told_s} == {"ended": 5, "timeout": 25, "no_audio": 8}


async def test_a_start_that_fails_at_first_was_shut_down_until_then():
    script = [Attempt(connect_s=2, reason=StreamReason.REFUSED, wait_s=3), Attempt(audio_s=5)]
    radio = await Radio(script=script, heard_until_s=60.0).play()
    assert radio.log.gaps == [(60.0, 100.0, "shutdown"), (100.0, 105.0, "refused")]


async def test_a_first_connection_that_works_at_once_has_no_gap():
    assert (await Radio(script=[Attempt(connect_s=3, audio_s=5)]).play()).log.gaps == []


@pytest.mark.parametrize(("hangs_s", "gaps"), [(3, []), (14, [(110.0, 124.0, "stalled")])])
async def test_a_stop_before_a_stall_is_noticed_tells_what_was_not_heard(hangs_s, gaps):
    radio = await Radio(script=[Attempt(audio_s=10, hangs_s=hangs_s)]).play()
    assert radio.log.gaps == gaps
    assert radio.log.states[-1] is StreamState.STOPPED


async def test_what_a_crash_left_open_on_a_paused_stream_is_told_of_time():
    radio = Radio(heard_until_s=100.0, now_s=200.0, paused=True)
    radio.task = asyncio.create_task(radio.stream.run())
    await asyncio.sleep(0.01)
    radio.task.cancel()
    with suppress(asyncio.CancelledError):
        await radio.task
    assert radio.unheard == [200.0]
    assert radio.log.states == [StreamState.PAUSED, StreamState.STOPPED]


async def test_the_states_of_a_life():
    script = [
        Attempt(reason=StreamReason.DNS),
        Attempt(audio_s=3, reason=StreamReason.STALLED),
        Attempt(audio_s=30, level=0.0, reason=StreamReason.ENDED),
    ]
    radio = await Radio(script=script).play()
    assert [str(state) for state in radio.log.states] == [
        "connecting", "backing_off",
        "connecting", "receiving", "stalled", "backing_off",
        "connecting", "receiving", "silent", "backing_off",
        "connecting", "stopped",
    ]  # fmt: skip
    assert radio.said("monitor_stream_state_changes_total", state="backing_off") == 3
    assert radio.said("monitor_stream_restarts_total", reason="stalled") == 1
    reasons = [entry.reason for entry in radio.log.entries if isinstance(entry, StreamStatus)]
    assert reasons[1] is StreamReason.DNS
    assert reasons[-1] is StreamReason.SHUTDOWN


async def test_addresses_are_tried_in_turn_and_back_off_doubles_with_each_round(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    radio = await Radio(script=[Attempt(reason=StreamReason.REFUSED)] * 16, addresses=("a", "b")).play()
    assert radio.opened[:5] == ["a", "b", "a", "b", "a"]
    assert radio.most == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 60, 60, 60, 60]


async def test_a_minute_of_good_audio_forgives_and_less_does_not(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    refused = Attempt(reason=StreamReason.REFUSED)
    script = [refused, refused, refused, Attempt(audio_s=59), refused, Attempt(audio_s=60), refused]
    assert (await Radio(script=script).play()).most == [1, 2, 4, 8, 16, 1, 2]


async def test_back_off_has_full_jitter():
    radio = await Radio(script=[Attempt(reason=StreamReason.REFUSED)] * 200).play()
    late = radio.most[10:]
    assert min(late) < 10
    assert max(late) > 50
    assert all(0.2 <= wait_s <= 60 for wait_s in late)


@pytest.mark.parametrize("follows_s", [0, 6])
async def test_a_leap_of_the_clock_is_a_gap_that_says_so(follows_s):
    radio = await Radio(script=[Attempt(audio_s=20, leap_s=86400, follows_s=follows_s)]).play()
    assert [(end_s - start_s, reason) for start_s, end_s, reason in radio.log.gaps] == [(86400, "clock")]
    assert radio.said("monitor_stream_reanchored_total") == 1


async def test_a_blip_is_a_metric_and_no_alarm():
    radio = await Radio(script=[Attempt(audio_s=5)] * 4).play()
    assert radio.said("monitor_stream_blips_total") == 3
    assert radio.stream.alarm is None
    assert radio.said("monitor_stream_alarm", alarm="down") == 0
    assert radio.log.states.count(StreamState.BACKING_OFF) == 4


async def test_flapping_is_one_alarm(caplog):
    caplog.set_level("INFO", logger="monitor.daemon.stream")
    radio = await Radio(script=[Attempt(audio_s=5)] * 30, tolerance=Tolerance(blip_s=0, failures=4)).play()
    alarms = [record.alarm for record in caplog.records if getattr(record, "action", "") == "stream_alarm"]
    assert alarms.count(StreamAlarm.FLAPPING) == 1
    assert alarms[-1] is StreamAlarm.FLAPPING
    assert radio.said("monitor_stream_alarm", alarm="flapping") == 1
    assert radio.said("monitor_stream_alarm", alarm="down") == 0


async def test_an_alarm_comes_when_the_blip_is_over_though_nothing_happens():
    radio = Radio(script=[Attempt(audio_s=2)], tolerance=Tolerance(blip_s=0.05))
    radio.wait = None
    radio.stream._wait = lambda _: asyncio.sleep(60)
    task = asyncio.create_task(radio.stream.run())
    async with asyncio.timeout(120):
        while radio.stream.alarm is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert radio.stream.alarm is StreamAlarm.DOWN
    assert radio.stream.alarm_since_s == radio.now_s
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


ATTEMPTS = st.builds(
    Attempt,
    connect_s=st.floats(0, 15),
    audio_s=st.sampled_from([0.0, 1.0, 30.0, 90.0]),
    reason=st.sampled_from([StreamReason.ENDED, StreamReason.STALLED, StreamReason.REFUSED, StreamReason.TIMEOUT]),
    level=st.sampled_from([0.0, 0.1]),
    wait_s=st.floats(0, 60),
)


@settings(max_examples=15, deadline=None)
@given(script=st.lists(ATTEMPTS, min_size=1, max_size=12), burst_s=st.sampled_from([0.0, 2.0, 11.0, 30.0]))
async def test_what_was_heard_and_what_was_not_are_all_the_time_there_was(script, burst_s):
    """From the first sound or the first failure on, whichever comes first."""
    script = [replace(attempt, burst_s=burst_s if attempt.audio_s else 0.0) for attempt in script]
    radio = await Radio(script=[*script, Attempt(connect_s=1, burst_s=burst_s, audio_s=10)]).play()
    gaps = [(start_s, end_s) for start_s, end_s, _ in radio.log.gaps]
    begin_s, end_s = min(start_s for start_s, _ in (*gaps, *radio.covered)), radio.covered[-1][1]
    heard_s, missed_s = length_s(radio.covered), length_s(gaps)
    assert heard_s + missed_s == pytest.approx(end_s - begin_s, rel=0.01, abs=0.1 * len(script))
    counted_s = sum(radio.said("monitor_stream_gap_seconds_total", reason=reason) or 0 for reason in StreamReason)
    assert counted_s == pytest.approx(missed_s)
    assert radio.said("monitor_stream_covered_seconds_total") == pytest.approx(heard_s)
    for before, after in itertools.pairwise([None, *radio.log.states]):
        assert after in TRANSITIONS[before] or after is before
    assert not any(getattr(entry, "reason", None) is StreamReason.BUG for entry in radio.log.entries)


def length_s(spans):
    """Seconds that the spans cover together, overlaps counted once."""
    total_s, until_s = 0.0, -math.inf
    for start_s, end_s in sorted(spans):
        total_s += max(end_s - max(start_s, until_s), 0.0)
        until_s = max(until_s, end_s)
    return total_s
