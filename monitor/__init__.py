"""An open media-monitoring daemon: which of your recordings does each live stream play, since when, and may it?"""

from __future__ import annotations

__version__ = "0.1.0"
