"""Log lines for people or for programs, each with a stable `action`, none with a secret.

_log = logging.getLogger(__name__)
_log.info("%s is heard again", stream, extra={"action": "stream_receiving", "stream": stream})
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from monitor.masking import mask_text

#: Libraries that log much at INFO, or bring handlers of their own.
_LIBRARIES = (
    "apscheduler", "asyncio", "httpcore", "httpx", "milvus_lite", "psycopg", "psycopg.pool", "py.warnings", "pymilvus",
    "pymilvus.bulk_writer", "pymilvus.milvus_client", "uvicorn", "uvicorn.access", "uvicorn.error",
)  # fmt: skip
_RECORD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def configure(
    level: str = "info",
    format: Literal["text", "json"] | str = "text",  # noqa: A002  (the configuration's word)
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Log lines of `level` and above go to `stream` (standard error), in `format` "text" or "json".

    `secrets`, those of earlier calls, and whatever looks like a credential in a URL or a header, appear as `***`.
    Libraries log from WARNING, in the same form. To be called once they are imported (pymilvus brings handlers of its
    own), and again after each reload.
    """
    root = logging.getLogger()
    known = set(secrets)
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, _Formatter):
            known |= set(handler.formatter.secrets)
            root.removeHandler(handler)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((_JsonFormatter if format == "json" else _TextFormatter)(known))
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(logging.WARNING, root.level))


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        #: The longest first, so that none is left in part.
        self.secrets = tuple(sorted(filter(None, secrets), key=len, reverse=True))

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The record's own fields and those of `extra`, masked."""
        extra = {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
        action = extra.pop("action", record.name.partition(".")[0])
        moment = datetime.fromtimestamp(record.created, tz=UTC)
        fields = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "action": action,
            "message": self._masked(record.getMessage()),
            **{name: self._masked(value) for name, value in extra.items()},
        }
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = self._masked(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = self._masked(record.stack_info)
        return fields

    def _masked(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        return mask_text(str(value), self.secrets)


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), ensure_ascii=False)


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        time, level, _, action, message = (_one_line(fields.pop(name)) for name in list(fields)[:5])
        traces = [fields.pop(name) for name in ("exception", "stack") if name in fields]
        words = "".join(f" {name}={_one_line(value)}" for name, value in fields.items())
        return "\n".join([f"{time} {level:<7} {message} [{action}]{words}", *traces])


def _one_line(value: object) -> str:
    """The text with control characters escaped, so that a foreign text cannot pass for a line of its own."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
