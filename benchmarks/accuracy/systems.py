"""What is compared: each system as its own documentation runs it, in processes of its own."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy import meter
from benchmarks.accuracy.meter import Cost, Ran


@dataclass(frozen=True, kw_only=True)
class Found:
    """A row of a system's answer: these seconds of a query are those seconds of a reference."""

    query_id: str
    reference_id: str
    query_begin_s: float
    query_end_s: float
    reference_begin_s: float
    reference_end_s: float


class System(ABC):
    """One identifier of audio with an index of its own in `place`."""

    #: How the table calls it.
    name: str
    threads: str

    def __init__(self, place: Path) -> None:
        self.place = place
        #: Command lines as they were run, long lists of files cut short.
        self.commands: list[str] = []

    @abstractmethod
    def version(self) -> str:
        """Which one it is."""

    @abstractmethod
    def store(self, references: Path) -> Cost:
        """Index every file of the folder."""

    @abstractmethod
    def query(self, queries: Sequence[Path]) -> tuple[list[Found], Cost]:
        """All rows that it answers."""

    def _run(self, *command: str | Path, environment: dict[str, str] | None = None, **options: object) -> Ran:
        words = [str(word) for word in command]
        shown = words if len(words) <= 14 else [*words[:12], "..."]
        line = shlex.join(shown)
        if line not in self.commands:
            self.commands.append(line)
        return meter.run(words, environment=environment, **options)  # type: ignore[arg-type]


class Monitor(System):
    """This program, at its default configuration."""

    name = "monitor"
    threads = "as by default (pipeline.model_threads); PostgreSQL and Milvus Lite in processes of their own"

    def __init__(self, place: Path, *, data_dir: Path | None = None, catalog: str | None = None) -> None:
        """By itself it begins with an empty catalog; else with what a `catalog` of that directory holds already."""
        super().__init__(place)
        self._data_dir = data_dir or place / "data"
        self._catalog = ("--catalog", catalog) if catalog else ()

    def version(self) -> str:
        """Version and model."""
        return " | ".join((*self._says("--version"), *self._says("model", "list")[:1]))

    def store(self, references: Path) -> Cost:
        """`monitor catalog add DIR`."""
        self.place.mkdir(parents=True, exist_ok=True)
        self.place.chmod(0o711)
        command = (*self._program(), "catalog", "add", references, *self._catalog)
        return self._run(*command, environment=self._environment(), statuses=(0, 65)).cost

    def query(self, queries: Sequence[Path]) -> tuple[list[Found], Cost]:
        """`monitor match --csv FILE…`."""
        ran = self._run(*self._program(), "match", "--csv", *self._catalog, *queries, environment=self._environment())
        found = [
            Found(
                query_id=Path(row["query"]).stem,
                reference_id=_stem(row["reference_id"]),
                query_begin_s=float(row["start_s"]),
                query_end_s=float(row["end_s"]),
                reference_begin_s=float(row["reference_start_s"]),
                reference_end_s=float(row["reference_end_s"]),
            )
            for row in csv.DictReader(ran.output.splitlines())
        ]
        return found, ran.cost

    def _says(self, *words: str) -> list[str]:
        command = [*self._program(), *words]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip().splitlines()

    def _environment(self) -> dict[str, str]:
        return {"MONITOR_DATA_DIR": str(self._data_dir)}

    def _program(self) -> tuple[str, ...]:
        return (sys.executable, "-m", "monitor")


class Olaf(System):
    """Olaf (Six, 2020): `olaf store DIR`, `olaf query FILE…`, one thread, as by default."""

    name = "Olaf"
    threads = "1 (its default)"

    def __init__(self, place: Path, program: Path) -> None:
        super().__init__(place)
        self._program = program

    def version(self) -> str:
        """What it says of itself; the commit where the binary lies in a clone."""
        said = subprocess.run([self._program], capture_output=True, check=False, text=True)
        return f"{(said.stdout + said.stderr).splitlines()[0]} | {commit(self._program.parent)}"

    def store(self, references: Path) -> Cost:
        """Its index is where its configuration file says, which is its home directory's."""
        settings = self.place / ".olaf"
        for name in ("db", "cache"):
            (settings / name).mkdir(parents=True, exist_ok=True)
        folders = {"db_folder": f"{settings / 'db'}/", "cache_folder": f"{settings / 'cache'}/"}
        (settings / "olaf_config.json").write_text(json.dumps(folders), encoding="utf-8")
        return self._run(self._program, "store", references, environment=self._environment()).cost

    def query(self, queries: Sequence[Path]) -> tuple[list[Found], Cost]:
        """Rows of its CSV; its separators have blanks around them."""
        ran = self._run(self._program, "query", *queries, environment=self._environment())
        found = []
        for line in ran.output.splitlines():
            fields = [field.strip() for field in line.split(",")]
            if len(fields) != 11 or not fields[0].isdigit() or fields[4] in {"", "0"}:
                continue
            offset_s = float(fields[3])
            found.append(
                Found(
                    query_id=_stem(fields[2]),
                    reference_id=_stem(fields[7]),
                    query_begin_s=offset_s + float(fields[5]),
                    query_end_s=offset_s + float(fields[6]),
                    reference_begin_s=float(fields[9]),
                    reference_end_s=float(fields[10]),
                )
            )
        return found, ran.cost

    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.place)}


class Audfprint(System):
    """audfprint (Ellis, 2014). It is asked for time ranges and for up to twenty matches a file: by default it names
    the one best match of a file and no end of it, which could not be scored by seconds.
    """

    threads = "1 (its default)"
    _ROW = re.compile(
        r"Matched\s+([\d.]+) s starting at\s+(-?[\d.]+) s in (.+) to time\s+(-?[\d.]+) s in (.+) with\s+\d+ of"
    )

    def __init__(self, place: Path, script: Path, *, python: Path, density: float | None = None) -> None:
        super().__init__(place)
        self._script, self._python = script, python
        self._density = () if density is None else ("--density", f"{density:g}")
        self.name = "audfprint" if density is None else f"audfprint -n {density:g}"

    def version(self) -> str:
        """The commit of its clone."""
        return commit(self._script.parent)

    def store(self, references: Path) -> Cost:
        """`audfprint new`."""
        self.place.mkdir(parents=True, exist_ok=True)
        files = sorted(references.iterdir())
        return self._run(*self._words("new"), *files).cost

    def query(self, queries: Sequence[Path]) -> tuple[list[Found], Cost]:
        """`audfprint match`."""
        ran = self._run(*self._words("match"), "--find-time-range", "--max-matches", "20", *queries)
        found = []
        for line in ran.output.splitlines():
            if (row := self._ROW.search(line)) is None:
                continue
            length_s, begin_s, at_s = float(row[1]), float(row[2]), float(row[4])
            found.append(
                Found(
                    query_id=_stem(row[3]),
                    reference_id=_stem(row[5]),
                    query_begin_s=begin_s,
                    query_end_s=begin_s + length_s,
                    reference_begin_s=at_s,
                    reference_end_s=at_s + length_s,
                )
            )
        return found, ran.cost

    def _words(self, action: str) -> tuple[str | Path, ...]:
        return (self._python, self._script, action, "--dbase", self.place / "index.pklz", *self._density)


def commit(folder: Path) -> str:
    """The commit of the clone that holds the folder, as `git describe` names it."""
    done = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--tags"], capture_output=True, check=False, text=True
    )
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "commit unknown"


def _stem(name: str) -> str:
    """An id of the toolkit: the file's name without its ending."""
    plain = name.rsplit("/", 1)[-1]
    return plain.rsplit(".", 1)[0] if "." in plain else plain
