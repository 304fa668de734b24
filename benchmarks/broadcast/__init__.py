"""A real icecast2 with four mounts, scripted programmes in real time, and the match log held to account."""

from __future__ import annotations
