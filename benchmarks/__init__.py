"""Measurements that take minutes and real servers. They print numbers; the tests assert behaviour."""

from __future__ import annotations
