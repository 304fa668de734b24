"""Every way in which a feed, a network, a server or a machine fails, done for real to a daemon that must survive it."""

from __future__ import annotations
