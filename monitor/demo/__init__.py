"""`monitor demo`: composed music, live stations that play it, the real daemon, and what it found held to account."""

from __future__ import annotations
