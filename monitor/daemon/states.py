"""The states of a stream, and from which to which it may go."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.types import StreamState

_S = StreamState

#: What each state may become. `None` is before the first. The order is that of a stream's life.
TRANSITIONS: Mapping[StreamState | None, frozenset[StreamState]] = {
    None: frozenset({_S.CONNECTING, _S.PAUSED}),
    # A connection that fails backs off; one that gives sound is heard, though it may be quiet from the first second.
    _S.CONNECTING: frozenset({_S.RECEIVING, _S.SILENT, _S.BACKING_OFF, _S.STOPPED}),
    _S.RECEIVING: frozenset({_S.SILENT, _S.STALLED, _S.BACKING_OFF, _S.STOPPED}),
    _S.SILENT: frozenset({_S.RECEIVING, _S.STALLED, _S.BACKING_OFF, _S.STOPPED}),
    # Only what was heard can stall; the connection is given up at once.
    _S.STALLED: frozenset({_S.BACKING_OFF, _S.STOPPED}),
    _S.BACKING_OFF: frozenset({_S.CONNECTING, _S.STOPPED}),
    # Going on is another listener's life.
    _S.PAUSED: frozenset({_S.STOPPED}),
    _S.STOPPED: frozenset(),
}


class IllegalTransitionError(AssertionError):
    """A stream was to go where its table has no way: a bug of ours."""


def check(before: StreamState | None, after: StreamState) -> None:
    """Raises IllegalTransitionError unless a stream may go from `before` to `after`."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransitionError(f"a stream cannot go from {before or 'nothing'} to {after}")
