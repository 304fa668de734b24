"""Everything that the product reads and others wrote, mutated: nothing but errors of our own in one clear sentence."""

from __future__ import annotations
