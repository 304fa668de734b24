"""Hits become matches: the evidence of one window, the line of an airing, the life of a match."""

from __future__ import annotations
