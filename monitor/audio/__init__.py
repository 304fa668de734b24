"""Sound from anywhere as mono samples on one time axis: streams, sound cards and files."""

from __future__ import annotations
