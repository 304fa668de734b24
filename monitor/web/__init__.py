"""The one HTTP server: metrics, health, reload, and what the page reads."""

from __future__ import annotations
