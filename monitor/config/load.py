"""Reads and checks a configuration: all its problems at once, each with file, line and key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from monitor.config.document import Document, KeyPath, Problem, parse
from monitor.config.resolve import Resolver, did_you_mean, sections_of
from monitor.config.schema import Config, Section
from monitor.errors import ConfigError
from monitor.masking import mask_text

#: Keys whose values never stand in a message.
_SECRET_KEYS = {"dsn", "uri", "token", "url", "urls", "secret", "previous_secret", "headers"}


class InvalidConfigError(ConfigError):
    """A configuration has problems; the message lists them all."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(
            sorted(set(problems), key=lambda problem: (problem.source, problem.line or 0, str(problem)))
        )
        lines = [mask_text(str(problem)) for problem in self.problems]
        many = "".join(f"\n  {line}" for line in lines)
        super().__init__(lines[0] if len(lines) == 1 else f"the configuration has {len(lines)} problems:{many}")


def load(path: Path | None, *, environ: Mapping[str, str], data_dir: Path | None = None) -> Config:
    """The configuration of the file (None: defaults), with the environment's values before the file's.

    `data_dir` comes before MONITOR_DATA_DIR, and that before the file's. Files of secrets are read now. Paths in the
    file are relative to its directory.

    Raises InvalidConfigError with every problem found.
    """
    document = parse(path) if path else Document()
    source = str(path) if path else "configuration"
    base_dir = path.absolute().parent if path else Path.cwd()
    resolver = Resolver(document, source=source, base_dir=base_dir, environ=environ)
    data = resolver.resolve(data_dir)
    problems = [*document.problems, *resolver.problems]
    config: Config | None = None
    try:
        config = Config.model_validate_json(json.dumps(data))
    except ValidationError as error:
        told = {problem.key for problem in problems}
        for details in error.errors(include_url=False):
            if details["type"] == "too_short" and details["input"] and isinstance(details["input"], list):
                continue  # its entries are wrong, and each says so
            key = _key(details)
            if not told & {key, (*key[:-1], f"{key[-1]}_file")}:
                problems.append(resolver.located(key, _message(details, key)))
    if problems or config is None:
        raise InvalidConfigError(problems)
    return config


def _key(details: ErrorDetails) -> KeyPath:
    return tuple(part for part in details["loc"] if part != "[key]")


def _message(details: ErrorDetails, key: KeyPath) -> str:
    kind, value = details["type"], details["input"]
    name = str(key[-1]) if key else ""
    parent = _model_at(key[:-1])
    if kind == "extra_forbidden":
        return f"is not a key{did_you_mean(name, parent.model_fields) if parent else ''}"
    if kind == "missing":
        in_file = parent is not None and f"{name}_file" in parent.model_fields
        return f"is required: give {name} or {name}_file" if in_file else "is required"
    if details["loc"] and details["loc"][-1] == "[key]":
        return "is not the name of a header"
    expected = _expected(details, name)
    is_shown = not _is_secret(key) and not isinstance(value, list | dict)
    return f"{expected}, not {_shown(value)}" if is_shown else expected


def _expected(details: ErrorDetails, name: str) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return details["msg"].removeprefix("Value error, ")
    if kind == "model_type":
        model = _model_at(_key(details))
        keys = list(model.model_fields if model else ())
        return f"must be a mapping of keys ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})"
    if kind == "tuple_type":
        return "must be a list, each entry after a '-'"
    if kind == "string_type":
        number = isinstance(details["input"], bool | int | float)
        return "must be text: put it in quotes" if number else "must be text"
    if kind == "string_pattern_mismatch" and name == "name":
        return "must be letters, digits, '.', '_' and '-', at most 63, the first a letter or digit"
    if kind in {"string_too_short", "too_short"}:
        least = context["min_length"]
        return f"must have at least {least} {'entry' if isinstance(details['input'], list) else 'characters'}"
    if kind == "bool_type":
        return "must be true or false"
    if kind in {"int_type", "int_from_float", "float_type"}:
        return "must be a number" if kind == "float_type" else "must be a whole number"
    return details["msg"].replace("Input should be", "must be").replace("String should", "must")


def _model_at(key: KeyPath) -> type[Section] | None:
    model: type[Section] | None = Config
    for part in key:
        if isinstance(part, str) and model is not None:
            field = model.model_fields.get(part)
            model = sections_of(field.annotation) if field else None
    return model


def _is_secret(key: KeyPath) -> bool:
    return any(part in _SECRET_KEYS for part in key)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
