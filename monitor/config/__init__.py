"""The configuration: `load` reads and checks it, `diff` says what a reload changes, `show` prints it masked."""

from __future__ import annotations

from monitor.config.diff import Diff, diff
from monitor.config.load import load
from monitor.config.schema import (
    Catalog,
    Config,
    EmbedderName,
    Ffmpeg,
    Http,
    Log,
    LogFormat,
    LogLevel,
    MatchRules,
    Milvus,
    Pipeline,
    Postgres,
    Retention,
    Stream,
    Webhook,
)
from monitor.config.show import json_schema, show

__all__ = [
    "Catalog", "Config", "Diff", "EmbedderName", "Ffmpeg", "Http", "Log", "LogFormat", "LogLevel", "MatchRules",
    "Milvus", "Pipeline", "Postgres", "Retention", "Stream", "Webhook", "diff", "json_schema", "load", "show",
]  # fmt: skip
