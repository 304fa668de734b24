"""The API under load and over a long log: `python -m benchmarks.http load` and `python -m benchmarks.http rows`."""

from __future__ import annotations
