"""YAML text to plain data with the line of every key: scalars as in YAML 1.2, duplicate keys refused."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from monitor.masking import mask_text

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration, and where."""

    message: str
    key: KeyPath = ()
    #: What the key stands in: a file's path, or "environment".
    source: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        text = f"{where}: {dotted(self.key)}: {self.message}" if self.key else f"{where}: {self.message}"
        # A key may hold anything, and a terminal obeys some of it.
        return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)

    def as_json(self) -> dict[str, str | int | None]:
        """The problem for programs."""
        return {"source": self.source, "line": self.line, "key": dotted(self.key), "message": mask_text(self.message)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A parsed file: its data, and where each of its keys stands."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def dotted(key: KeyPath) -> str:
    """`("streams", 0, "url")` as people write it: `streams[0].url`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse(path: Path) -> Document:
    """The file's data. Whatever is wrong with its syntax stands in `problems`; an empty file is an empty mapping."""
    source = str(path)

    def failed(message: str, line: int | None = None) -> Document:
        return Document(problems=(Problem(message=message, source=source, line=line),))

    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return failed("there is no such file")
    except UnicodeDecodeError:
        return failed("is not UTF-8 text")
    except OSError as error:
        return failed(f"cannot be read: {error.strerror}")
    loader = None
    try:
        loader = _Yaml12Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document()
        reader = _Reader(loader=loader, source=source)
        data = reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return failed(_syntax_message(error), mark.line + 1 if mark else None)
    except yaml.YAMLError:
        return failed("holds a character that YAML does not allow")
    except RecursionError:
        return failed("is nested too deeply")
    finally:
        if loader is not None:
            loader.dispose()
    if data is None:
        return Document()
    if not isinstance(data, dict):
        return failed("must be a mapping of keys, such as 'streams:'", node.start_mark.line + 1)
    return Document(data=data, lines=reader.lines, problems=tuple(reader.problems))


class _Yaml12Loader(yaml.SafeLoader):
    """SafeLoader that takes `on`, `no`, `1:30` and dates as the text that they look like, as YAML 1.2 does."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML reads it as a class attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("int", r"^[-+]?[0-9]+$", "-+0123456789")
_resolve("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789")


@dataclass(kw_only=True)
class _Reader:
    loader: _Yaml12Loader
    source: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _open: list[yaml.Node] = field(default_factory=list)

    def read(self, node: yaml.Node, key: KeyPath) -> Any:
        self.lines.setdefault(key, node.start_mark.line + 1)
        if any(node is parent for parent in self._open):
            raise yaml.constructor.ConstructorError(None, None, "an anchor refers to itself", node.start_mark)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            if isinstance(node, yaml.SequenceNode):
                return [self.read(item, (*key, index)) for index, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, key: KeyPath) -> dict[str, Any]:
        first_lines: dict[str, int] = {}
        for name_node, _ in node.value:
            if name_node.tag == "tag:yaml.org,2002:merge":
                continue
            line = name_node.start_mark.line + 1
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else None
            if name is None:
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", name_node.start_mark)
            if name in first_lines:
                message = f"is given twice; the first is in line {first_lines[name]}"
                self.problems.append(Problem(message=message, key=(*key, name), source=self.source, line=line))
            first_lines.setdefault(name, line)
        self.loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        for name_node, value_node in node.value:
            child = (*key, name_node.value)
            self.lines[child] = name_node.start_mark.line + 1
            data[name_node.value] = self.read(value_node, child)
        return data

    def _scalar(self, node: yaml.Node) -> Any:
        tag = node.tag.rpartition(":")[2]
        if tag in {"str", "null", "bool"}:
            return self.loader.construct_object(node)
        if tag in {"int", "float"}:
            with contextlib.suppress(ValueError):  # Python's limit on the digits of an integer
                return (int if tag == "int" else float)(node.value)
            raise yaml.constructor.ConstructorError(None, None, "a number has too many digits", node.start_mark)
        raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not allowed", node.start_mark)


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "is not YAML"
    if "'\\t'" in problem:
        return "a tab stands where YAML wants spaces"
    if problem == "but found another document":
        return "holds more than one document; remove the second '---'"
    if problem == "mapping values are not allowed here":
        return "a ':' stands where no key may begin: check the indentation, or quote the text"
    return f"is not YAML: {problem}"
