"""`config/monitor.example.yaml` names every key of the schema with its default, and loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from monitor.config import Config, json_schema, load
from monitor.config.document import parse
from monitor.config.resolve import sections_of
from monitor.config.schema import Section

EXAMPLE = Path(__file__).parents[3] / "config" / "monitor.example.yaml"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The example with every commented key in use."""
    path = tmp_path_factory.mktemp("example") / "monitor.yaml"
    path.write_text(
        re.sub(r"^( *)#(?=[ ]*(?:- )?[a-z_]+:)(?! [A-Za-z])", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    )
    document = parse(path)
    assert document.problems == ()
    return document.data


def keys(model: type[Section], where: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        inner = sections_of(field.annotation)
        if inner:
            yield from keys(inner, f"{where}{name}.")
        else:
            yield f"{where}{name}", field.default


def given(data: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        entries = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        is_section = isinstance(entries[0], dict) and name != "headers"
        for entry in entries:
            yield from given(entry, f"{where}{name}.") if is_section else [(f"{where}{name}", entry)]


def test_the_example_is_the_defaults_and_one_stream() -> None:
    config = load(EXAMPLE, environ={})
    assert [stream.name for stream in config.streams] == ["example-radio"]
    assert config.model_copy(update={"streams": ()}) == Config()


def test_the_example_names_every_key_in_the_order_of_the_schema(whole: dict[str, Any]) -> None:
    assert [key for key, _ in given(whole)] == [key for key, _ in keys(Config)]


def test_the_values_of_the_example_are_the_defaults(whole: dict[str, Any]) -> None:
    examples = dict(given(whole))
    for key, default in keys(Config):
        if default not in (None, PydanticUndefined, (), {}):
            shown = [str(item) for item in default] if isinstance(default, tuple) else default
            assert examples[key] == shown, key


def test_every_key_has_a_title_and_a_description_for_editors() -> None:
    schema = json_schema()
    undescribed = [
        f"{name}.{key}"
        for name, section in schema["$defs"].items()
        for key, field in section.get("properties", {}).items()
        if not (field.get("title") and field.get("description"))
    ]
    assert undescribed == []
    assert schema["$defs"]["Stream"]["properties"]["stall_timeout_s"] == {
        "default": 20,
        "description": "Seconds without audio after which to reconnect.",
        "maximum": 600,
        "minimum": 1,
        "title": "Stall timeout",
        "type": "number",
    }


def test_the_schema_lets_a_secret_stand_in_a_file() -> None:
    schema = json_schema()
    assert "required" not in {key for key in schema if key == "required"}
    assert schema["$defs"]["Webhook"]["required"] == ["name"]
    assert schema["$defs"]["Webhook"]["allOf"] == [
        {"oneOf": [{"required": ["url"]}, {"required": ["url_file"]}]},
        {"oneOf": [{"required": ["secret"]}, {"required": ["secret_file"]}]},
    ]
    assert schema["$defs"]["Stream"]["oneOf"] == [{"required": [key]} for key in ("url", "urls", "url_file")]
