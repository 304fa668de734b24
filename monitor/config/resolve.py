"""From a file's data to the schema's: environment, secrets in files of their own, absolute paths, rules across keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from monitor.config import address
from monitor.config.document import Document, KeyPath, Problem
from monitor.config.schema import Config, Section

MAX_SECRET_FILE_BYTES = 65536

#: Variables that hold a value. Those of secrets may end in `_FILE` and name the file that holds it.
VARIABLES: Mapping[str, KeyPath] = {
    "MONITOR_LOG_LEVEL": ("log", "level"),
    "MONITOR_LOG_FORMAT": ("log", "format"),
    "MONITOR_POSTGRES_DSN": ("postgres", "dsn"),
    "MONITOR_MILVUS_URI": ("milvus", "uri"),
    "MONITOR_MILVUS_TOKEN": ("milvus", "token"),
    "MONITOR_HTTP_TOKEN": ("http", "token"),
}
#: Lists whose entries take variables of their own: MONITOR_STREAM_<NAME>_URL, MONITOR_WEBHOOK_<NAME>_SECRET, ...
ENTRY_VARIABLES = {
    "streams": ("MONITOR_STREAM", ("url",)),
    "webhooks": ("MONITOR_WEBHOOK", ("url", "secret", "previous_secret")),
}
SECRETS = ("dsn", "token", "url", "secret", "previous_secret")


class Resolver:
    """Resolves one document; afterwards `problems` holds every rule that it breaks."""

    def __init__(self, document: Document, *, source: str, base_dir: Path, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._lines = document.lines
        self._source = source
        self._base_dir = base_dir
        self._environ = environ
        self._variable_of: dict[KeyPath, str] = {}
        self._data: dict[str, Any] = _without_nulls(Config, document.data)

    def resolve(self, data_dir: Path | None) -> dict[str, Any]:
        """The data, ready for the schema. A directory given here comes before MONITOR_DATA_DIR and the file."""
        data = self._data
        self._data_dir(data_dir)
        for variable, key in self._variables():
            self._apply(variable, key)
        self._refuse_misspelt_variables()
        self._section("postgres", self._check("dsn", address.check_postgres))
        self._section("milvus", self._check("uri", address.check_milvus))
        self._section("http", self._http)
        self._section("match", self._evidence)
        for key, stream in self._entries("streams"):
            self._stream(key, stream)
        for key, webhook in self._entries("webhooks"):
            self._read_secrets(key, webhook)
            self._check("url", address.check_webhook)(key, webhook)
        for _, catalog in self._entries("catalogs"):
            if isinstance(catalog.get("folders"), list):
                catalog["folders"] = [self._absolute(folder) for folder in catalog["folders"]]
        ffmpeg = data.get("ffmpeg")
        if isinstance(ffmpeg, dict) and "/" in str(ffmpeg.get("path")):  # a bare name is looked for on PATH
            ffmpeg["path"] = self._absolute(ffmpeg["path"])
        for kind in ("catalogs", "streams", "webhooks"):
            self._unique_names(kind)
        return data

    def located(self, key: KeyPath, message: str) -> Problem:
        """The problem with the line of the key or its nearest parent, or with the variable that gave the value."""
        if key in self._variable_of:
            return Problem(message=message, key=key, source=f"environment variable {self._variable_of[key]}")
        parents = (key[:length] for length in range(len(key), 0, -1))
        line = next((self._lines[parent] for parent in parents if parent in self._lines), None)
        return Problem(message=message, key=key, source=self._source, line=line)

    def _refuse(self, key: KeyPath, message: str) -> None:
        self.problems.append(self.located(key, message))

    # -- environment --------------------------------------------------------------------------------------------------

    def _data_dir(self, given: Path | None) -> None:
        variable = self._environ.get("MONITOR_DATA_DIR")
        if given is not None or variable:
            self._data["data_dir"] = str(Path(given or variable or "").expanduser().absolute())
        elif "data_dir" in self._data:
            self._data["data_dir"] = self._absolute(self._data["data_dir"])

    def _variables(self) -> Iterator[tuple[str, KeyPath]]:
        yield from VARIABLES.items()
        for kind, (prefix, names) in ENTRY_VARIABLES.items():
            for key, entry in self._entries(kind):
                if isinstance(entry.get("name"), str):
                    middle = re.sub(r"[^A-Z0-9]", "_", entry["name"].upper())
                    yield from ((f"{prefix}_{middle}_{name.upper()}", (*key, name)) for name in names)

    def _apply(self, variable: str, key: KeyPath) -> None:
        *parents, name = key
        file_variable = f"{variable}_FILE" if name in SECRETS else ""
        value, file = self._environ.get(variable), self._environ.get(file_variable)
        if value and file:
            message = f"is set, and so is {variable}: remove one of them"
            self.problems.append(Problem(message=message, source=f"environment variable {file_variable}"))
        if not value and not file:
            return
        section: Any = self._data
        for parent in parents:
            section = section.setdefault(parent, {}) if isinstance(section, dict) else section[parent]
        if not isinstance(section, dict):
            return
        for replaced in (str(name), f"{name}_file", *(["urls"] if parents[0] == "streams" else [])):
            section.pop(replaced, None)
        if value:
            section[str(name)] = value
            self._variable_of[key] = variable
        elif file:
            section[f"{name}_file"] = str(Path(file).expanduser().absolute())
            self._variable_of[*parents, f"{name}_file"] = self._variable_of[key] = file_variable

    def _refuse_misspelt_variables(self) -> None:
        known = {"MONITOR_DATA_DIR"}
        for variable, key in self._variables():
            known |= {variable, f"{variable}_FILE"} if key[-1] in SECRETS else {variable}
        for variable in sorted(self._environ.keys() - known):
            close = difflib.get_close_matches(variable, known, n=1, cutoff=0.9)
            if variable.startswith("MONITOR_") and close:
                message = f"is not known; did you mean {close[0]}?"
                self.problems.append(Problem(message=message, source=f"environment variable {variable}"))

    # -- files --------------------------------------------------------------------------------------------------------

    def _absolute(self, path: Any) -> Any:
        return str(self._base_dir / Path(path).expanduser()) if isinstance(path, str) else path

    def _read_secrets(self, key: KeyPath, section: dict[str, Any]) -> None:
        for name in SECRETS:
            if f"{name}_file" in section:
                text = self._read_file(key, section, name)
                if text is not None:
                    section[name] = text
        if "headers_file" in section:
            self._read_headers(key, section)

    def _read_file(self, key: KeyPath, section: dict[str, Any], name: str) -> str | None:
        """The text of `name`_file without the white space around it; None after noting why not."""
        file_key = (*key, f"{name}_file")
        given = section[f"{name}_file"]
        if not isinstance(given, str):
            return None
        section[f"{name}_file"] = path = self._absolute(given)
        if name in section and name != "headers":
            self._refuse(file_key, f"is given beside {name}: remove one of them")
            return None
        try:
            with Path(path).open("rb") as file:
                content = file.read(MAX_SECRET_FILE_BYTES + 1)
            text = content.decode("utf-8-sig").strip()
        except OSError as error:
            self._refuse(file_key, f"{path} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self._refuse(file_key, f"{path} is not UTF-8 text")
        else:
            if text and len(content) <= MAX_SECRET_FILE_BYTES:
                return text
            self._refuse(file_key, f"{path} is empty" if not text else f"{path} is over {MAX_SECRET_FILE_BYTES} bytes")
        return None

    def _read_headers(self, key: KeyPath, section: dict[str, Any]) -> None:
        text = self._read_file(key, section, "headers")
        headers = {}
        for number, line in enumerate((text or "").splitlines(), start=1):
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                message = f"{section['headers_file']} has no 'Name: value' in line {number}"
                self._refuse((*key, "headers_file"), message)
            else:
                headers[name.strip()] = value.strip()
        if isinstance(section.get("headers", {}), dict):
            section["headers"] = headers | section.get("headers", {})

    # -- rules --------------------------------------------------------------------------------------------------------

    def _section(self, name: str, *rules: Callable[[KeyPath, dict[str, Any]], None]) -> None:
        section = self._data.get(name)
        if isinstance(section, dict):
            self._read_secrets((name,), section)
            for rule in rules:
                rule((name,), section)

    def _http(self, _key: KeyPath, http: dict[str, Any]) -> None:
        if isinstance(http.get("import_dirs"), list):
            http["import_dirs"] = [self._absolute(directory) for directory in http["import_dirs"]]

    def _entries(self, kind: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
        entries = self._data.get(kind)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, dict):
                yield (kind, index), entry

    def _check(self, name: str, check: Callable[[str], str | None]) -> Callable[[KeyPath, dict[str, Any]], None]:
        def rule(key: KeyPath, section: dict[str, Any]) -> None:
            value = section.get(name)
            if isinstance(value, str) and (message := check(value)):
                self._refuse((*key, name), message)

        return rule

    def _stream(self, key: KeyPath, stream: dict[str, Any]) -> None:
        given = [name for name in ("url", "urls", "url_file") if name in stream]
        if not given:
            self._refuse(key, "has no url: give url, urls or url_file")
        elif len(given) > 1:
            self._refuse((*key, given[1]), f"has {' and '.join(given)}: give one of them")
        elif given[0] == "url_file":
            text = self._read_file(key, stream, "url")
            if text is not None:
                stream["urls"] = [line.strip() for line in text.splitlines() if line.strip()]
        if "headers_file" in stream:
            self._read_headers(key, stream)
        if isinstance(stream.get("url"), str):
            stream["url"] = self._address((*key, "url"), stream["url"])
        if isinstance(stream.get("urls"), list):
            stream["urls"] = [
                self._address((*key, "urls", index), url) if isinstance(url, str) else url
                for index, url in enumerate(stream["urls"])
            ]
            if not stream["urls"]:
                self._refuse((*key, "urls"), "holds no address")
        if isinstance(stream.get("ca_file"), str):
            stream["ca_file"] = ca_file = self._absolute(stream["ca_file"])
            if not Path(ca_file).is_file():
                self._refuse((*key, "ca_file"), f"{ca_file} is not a file")
        self._stream_catalogs(key, stream)

    def _address(self, key: KeyPath, given: str) -> str:
        scheme, _, path = given.partition(":")
        path = path.removeprefix("//") if scheme.lower() == "file" else given
        if not address.is_path(path):
            if message := address.check_stream(given):
                self._refuse(key, message)
            return given
        absolute = str(self._absolute(path))
        if message := address.check_file(path, Path(absolute)):
            self._refuse(key, message)
        return absolute

    def _stream_catalogs(self, key: KeyPath, stream: dict[str, Any]) -> None:
        known = [catalog.get("name") for _, catalog in self._entries("catalogs")] or ["default"]
        wanted: Any = stream.get("catalogs")
        for index, name in enumerate(wanted if isinstance(wanted, list) else []):
            if isinstance(name, str) and name not in known:
                names = [known_name for known_name in known if isinstance(known_name, str)]
                self._refuse((*key, "catalogs", index), f"there is no catalog {name!r}{did_you_mean(name, names)}")
            elif name in wanted[:index]:
                self._refuse((*key, "catalogs", index), f"names {name!r} twice")

    def _unique_names(self, kind: str) -> None:
        first: dict[str, KeyPath] = {}
        for key, entry in self._entries(kind):
            name = entry.get("name")
            if isinstance(name, str) and first.setdefault(name, key) != key:
                line = self._lines.get((*first[name], "name"))
                self._refuse((*key, "name"), f"{name!r} is taken by the entry in line {line}")

    def _evidence(self, key: KeyPath, match: dict[str, Any]) -> None:
        low, high = match.get("provisional_evidence_nats"), match.get("confirmed_evidence_nats")
        if isinstance(low, int | float) and isinstance(high, int | float) and high < low:
            self._refuse((*key, "confirmed_evidence_nats"), f"must be at least provisional_evidence_nats ({low})")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the known names if none is near."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def sections_of(annotation: Any) -> type[Section] | None:
    """The schema class within an annotation such as `tuple[Stream, ...]` or `Postgres | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := sections_of(part))), None)


def _without_nulls(model: type[Section], data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which known keys without a value are left out, so that they keep their defaults."""
    kept: dict[str, Any] = {}
    for name, value in data.items():
        field = model.model_fields.get(name)
        inner = sections_of(field.annotation) if field else None
        if inner and isinstance(value, dict):
            kept[name] = _without_nulls(inner, value)
        elif inner and isinstance(value, list):
            kept[name] = [_without_nulls(inner, item) if isinstance(item, dict) else item for item in value]
        elif value is not None or field is None:
            kept[name] = value
    return kept
