"""Hours of sound that no catalog holds, by kind, against a catalog: what is cried wolf about, and how near it came."""

from __future__ import annotations
