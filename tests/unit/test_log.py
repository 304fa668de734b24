from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime

import pytest

from monitor import log

_log = logging.getLogger("monitor.daemon.stream")


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in log._LIBRARIES)]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def written(form: str, *, level: str = "info", secrets: tuple[str, ...] = ()) -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, form, secrets=secrets, stream=stream)
    return stream


def test_a_json_line_is_one_object_with_a_utc_time_the_action_and_the_extra_fields() -> None:
    stream = written("json")
    _log.warning("no audio for %d s", 20, extra={"action": "stream_stalled", "stream": "rock", "gap_s": 20.5})
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    moment = said.pop("time")
    assert said == {
        "level": "warning",
        "logger": "monitor.daemon.stream",
        "action": "stream_stalled",
        "message": "no audio for 20 s",
        "stream": "rock",
        "gap_s": 20.5,
    }
    assert moment.endswith("Z")
    assert len(moment.partition(".")[2]) == len("123Z")
    assert datetime.fromisoformat(moment).utcoffset() is not None


def test_a_text_line_has_the_message_first_and_then_action_and_fields() -> None:
    stream = written("text")
    _log.info("heard again", extra={"action": "stream_receiving", "stream": "rock"})
    _, _, rest = stream.getvalue().partition(" ")
    assert rest == "info    heard again [stream_receiving] stream=rock\n"


def test_a_foreign_text_cannot_pass_for_a_line_of_its_own() -> None:
    stream = written("text")
    _log.info("ffmpeg said %s", "x\n2026-01-01T00:00:00.000Z error   all is lost\x1b[2J", extra={"action": "said"})
    assert len(stream.getvalue().splitlines()) == 1
    assert "x\\n2026" in stream.getvalue()
    assert "\\x1b[2J" in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_masked_in_message_arguments_fields_and_traces(form: str) -> None:
    stream = written(form, secrets=("sesame", "sesame-and-more"))
    try:
        raise ValueError("cannot open rtsp://user:open@host/x?key=sesame-and-more")
    except ValueError:
        _log.exception("token %s", "sesame", extra={"action": "failed", "url": "http://user:open@host/sesame"})
    said = stream.getvalue()
    for secret in ("sesame", "open@", "and-more"):
        assert secret not in said
    assert "ValueError: cannot open rtsp://***@host/x?key=***" in said


def test_a_second_call_replaces_the_handler_and_still_masks_the_secrets_of_the_first() -> None:
    first = written("text", secrets=("old-secret",))
    second = written("text", secrets=("new-secret",))
    _log.info("old-secret new-secret", extra={"action": "said"})
    assert first.getvalue() == ""
    assert "*** ***" in second.getvalue()


def test_libraries_are_heard_from_warning_in_the_same_form_whatever_handlers_they_brought() -> None:
    import pymilvus  # noqa: F401  (installs handlers of its own)

    stream = written("json", level="debug")
    for name in ("httpx", "uvicorn.access", "pymilvus.milvus_client"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble at http://u:pass@host/")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["logger"], line["action"], line["message"]) for line in lines] == [
        (name, name.partition(".")[0], "trouble at http://***@host/")
        for name in ("httpx", "uvicorn.access", "pymilvus.milvus_client")
    ]


def test_warnings_become_lines() -> None:
    stream = written("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in json.loads(stream.getvalue())["message"]


def test_level_decides() -> None:
    stream = written("text", level="error")
    _log.warning("not this", extra={"action": "said"})
    _log.error("this", extra={"action": "said"})
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["this"]
