"""A broadcast under random SIGKILLs of the daemon and of its keeper, and the log held to account."""

from __future__ import annotations
