"""Hours of sixty streams, healthy, silent and flapping, and what the daemon took and owes meanwhile."""

from __future__ import annotations
