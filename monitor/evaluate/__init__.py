"""`monitor evaluate`: broadcasts made from a catalog, heard by the running configuration, against the truth.

It is what somebody runs before trusting a configuration: degrade (what broadcast does) → broadcast (sound and truth) →
hearing (the offline twin's events) → scoring (figures) → report and page.
"""

from __future__ import annotations
