"""The configuration: `load` reads and checks it, `diff` says what a reload changes, `show` prints it masked."""

from __future__ import annotations

from monitor.config.diff import Diff, diff
from monitor.config.document import Problem
from monitor.config.load import InvalidConfigError, load
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
    TempoAndPitch,
    Webhook,
)
from monitor.config.show import json_schema, show, show_yaml

__all__ = [
    "Catalog", "Config", "Diff", "EmbedderName", "Ffmpeg", "Http", "InvalidConfigError", "Log", "LogFormat", "LogLevel",
    "MatchRules", "Milvus", "Pipeline", "Postgres", "Problem", "Retention", "Stream", "TempoAndPitch", "Webhook",
    "diff", "json_schema", "load", "show", "show_yaml",
]  # fmt: skip
