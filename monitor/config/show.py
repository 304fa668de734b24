"""A configuration for people and editors: YAML without its secrets, and JSON Schema."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import SecretStr

from monitor.config.schema import Config, Section
from monitor.masking import MASK, mask_path, mask_text, mask_url


def show(config: Config) -> dict[str, Any]:
    """The effective configuration as plain data, secrets replaced by `***`."""
    data: dict[str, Any] = _plain(config)
    return data


def show_yaml(config: Config) -> str:
    """`show` as YAML, in the order of the schema."""
    return yaml.safe_dump(show(config), sort_keys=False, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration file, for editors. A secret may be given in a file instead."""
    schema = Config.model_json_schema()
    for section in schema["$defs"].values():
        required = section.get("required", [])
        in_files = [key for key in required if f"{key}_file" in section["properties"]]
        if in_files:
            section["required"] = [key for key in required if key not in in_files]
            section["allOf"] = [{"oneOf": [{"required": [key]}, {"required": [f"{key}_file"]}]} for key in in_files]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "monitor"}


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, Section):
        return {field: _plain(getattr(value, field), field) for field in type(value).model_fields}
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value(), name)
    if isinstance(value, tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, key) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float):
        return value
    return mask_url(str(value))


def _masked(secret: str, name: str) -> str:
    if name == "url":
        return mask_path(secret)
    if name == "dsn":
        return mask_text(secret)
    return MASK
