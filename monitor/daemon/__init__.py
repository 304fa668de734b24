"""The daemon: one task per stream, the stages between bounded queues, and what is periodic."""

from __future__ import annotations
