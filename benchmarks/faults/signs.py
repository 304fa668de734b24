"""What shows that a stream suffers from its fault, or that it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults.rig import Watch
from monitor.errors import StreamReason
from monitor.types import StreamAlarm, StreamState

#: A stream that bears its fault must have been recognised for so long under it.
_BORNE_S = 6.0
DOWN = frozenset({StreamState.STALLED, StreamState.BACKING_OFF})


@dataclass(frozen=True, kw_only=True)
class Sign:
    """`seen(watch, stream, since)` gives the Unix time at which it was there, once it was."""

    text: str
    seen: Callable[[Watch, str, float], float | None]
    #: What the log and the gaps must give for it; none where nothing may be missed.
    reasons: frozenset[StreamReason] = frozenset()


def falls(state: StreamState, *reasons: StreamReason) -> Sign:
    """The stream comes into the state, for one of these reasons."""

    def seen(watch: Watch, stream: str, since_s: float) -> float | None:
        status = watch.turned(stream, state, since_s=since_s, reasons=frozenset(reasons))
        return None if status is None else status.since_s

    words = f"{state}: {' or '.join(reasons)}" if reasons else str(state)
    return Sign(text=words, seen=seen, reasons=frozenset(reasons))


def backs_off(*reasons: StreamReason) -> Sign:
    """The stream is given up for a while."""
    return falls(StreamState.BACKING_OFF, *reasons)


def bears_it() -> Sign:
    """What it plays is recognised all the same, and it never goes down."""

    def seen(watch: Watch, stream: str, since_s: float) -> float | None:
        heard_s = max((row.end_s for row in watch.found[stream]), default=0.0)
        return since_s if heard_s > since_s + _BORNE_S else None

    return Sign(text="heard and recognised all the same", seen=seen)


def is_anchored_anew() -> Sign:
    """It is heard all the time, and its time axis is moved to the clock, and counted."""

    def seen(watch: Watch, stream: str, since_s: float) -> float | None:
        return since_s if watch.metric("monitor_stream_reanchored_total", stream=stream) else None

    return Sign(text="receiving, re-anchored and counted", seen=seen)


def flaps() -> Sign:
    """One alarm for all its falls."""

    def seen(watch: Watch, stream: str, since_s: float) -> float | None:
        holds = watch.metric("monitor_stream_alarm", alarm=StreamAlarm.FLAPPING, stream=stream)
        falls = [
            status.since_s for status in watch.states[stream] if status.state in DOWN and status.since_s >= since_s
        ]
        return falls[-1] if holds and falls else None

    return Sign(text="alarm: flapping", seen=seen, reasons=frozenset({StreamReason.ENDED}))
