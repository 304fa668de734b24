"""How often one endpoint is asked: a rate limit, and a circuit breaker. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.record.endpoints import TRIP_AFTER

_FIRST_REST_S = 10.0
_LONGEST_REST_S = 300.0


def rest_s(failures: int) -> float:
    """How long an endpoint is left alone after so many failures in a row: not at all, then 10 s doubling to 300 s.

    What is sent after the rest is one delivery, so that an endpoint that is down costs neither time nor the attempts of
    all that waits for it (the circuit breaker of Nygard, "Release It!", 2007, with growing rests).
    """
    if failures < TRIP_AFTER:
        return 0.0
    return float(min(_FIRST_REST_S * 2.0 ** min(failures - TRIP_AFTER, 16), _LONGEST_REST_S))


@dataclass(kw_only=True)
class Rate:
    """A token bucket: in t seconds at most `per_s * t` requests, beside one second's worth (or one) at once."""

    per_s: float
    #: Requests that may be made at once, as of `_filled_s`.
    _tokens: float = float("inf")
    _filled_s: float = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """How long the next request has to wait; 0 if it may be made now."""
        self._fill(now_s)
        return max(1.0 - self._tokens, 0.0) / self.per_s

    def spend(self, now_s: float) -> None:
        """A request is made now."""
        self._fill(now_s)
        self._tokens -= 1.0

    def _fill(self, now_s: float) -> None:
        earned = (now_s - self._filled_s) * self.per_s
        self._tokens = min(self._tokens + max(earned, 0.0), max(self.per_s, 1.0))
        self._filled_s = max(now_s, self._filled_s)
