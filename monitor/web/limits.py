"""How often one client may change or search something: a token bucket per address."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request

from monitor.web.problem import ProblemError

#: Addresses that are remembered; the one that was quiet longest is forgotten first.
_CLIENTS = 4096


class RateLimit:
    """Lets `burst` requests of a client through at once, and `per_s` a second in the long run."""

    def __init__(self, *, per_s: float, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._now = per_s, burst, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, request: Request) -> None:
        """For FastAPI's `Depends`. Raises ProblemError 429."""
        self.take(request.client.host if request.client else "")

    def take(self, client: str) -> None:
        """One request of the client is let through. Raises ProblemError 429, saying when to come back."""
        now = self._now()
        left, since = self._buckets.pop(client, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) * self._per_s)
        allowed = left >= 1.0
        self._buckets[client] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = math.ceil((1.0 - left) / self._per_s)
            raise ProblemError(429, f"too many requests; come back in {wait_s} s", headers={"Retry-After": str(wait_s)})
