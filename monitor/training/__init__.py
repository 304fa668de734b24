"""How the shipped fingerprint model is made; the daemon never imports this."""

from __future__ import annotations
