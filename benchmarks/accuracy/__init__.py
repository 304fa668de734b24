"""The same queries through us and through what else identifies audio, judged by a third party's evaluator."""

from __future__ import annotations
