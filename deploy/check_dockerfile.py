"""Carry out the Dockerfile without Docker, and try what it makes; as root: `python deploy/check_dockerfile.py DIR`

Each stage begins as a copy of a clean Debian with its Python, made by debootstrap in the place of the `python:*-slim`
image. COPY sees what .dockerignore leaves, RUN runs in a chroot. The result is then started as Docker would start it by
`--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --network none`: in namespaces of its own, as
the image's user, by its entry point. There the health check must come to agree with a daemon, which SIGTERM then ends,
and the demo must pass. DIR wants 3 GB and is left for a look. Needs debootstrap, iproute2 and util-linux.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parents[1]
_BASE_PACKAGES = "ca-certificates,netbase,python3,python3-venv"
#: What a container has beside its own file system.
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """What the instructions since FROM have made."""

    root: Path
    environment: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    words: dict[str, list[str]] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Name and argument of each instruction; comments and continued lines are resolved."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, argument = line.strip().partition(" ")
            yield name.upper(), argument.strip()


def expanded(text: str, values: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` by their values."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values.get(found[1] or found[2], ""), text)


def assignments(argument: str, values: dict[str, str]) -> dict[str, str]:
    """NAME=VALUE pairs, as ENV and ARG have them."""
    pairs = (expanded(word, values).partition("=") for word in shlex.split(argument))
    return {name: value for name, _, value in pairs}


def context(directory: Path) -> list[Path]:
    """The files that .dockerignore lets into the build, by their place in it: the last pattern that fits decides."""
    patterns = [line for line in (directory / ".dockerignore").read_text().split("\n") if line and line[0] != "#"]

    def kept(path: Path) -> bool:
        keep = True
        for pattern in patterns:
            wanted = pattern.removeprefix("!").removeprefix("**/")
            anywhere = pattern.startswith("**/")
            names = path.parts if anywhere else [str(place) for place in (path, *path.parents)]
            if any(fnmatch.fnmatchcase(name, wanted) for name in names):
                keep = pattern.startswith("!")
        return keep

    found = (Path(top, name).relative_to(directory) for top, _, names in os.walk(directory) for name in names)
    return sorted(path for path in found if path.parts[0] != ".git" and kept(path))


class Build:
    """The stages of a Dockerfile under one directory."""

    def __init__(self, directory: Path, *, arguments: dict[str, str], binds: Sequence[Path]) -> None:
        self._directory, self._given, self._binds = directory, arguments, binds
        self._defaults: dict[str, str] = {}
        self._stages: dict[str, Stage] = {}
        self._stage: Stage | None = None

    def run(self) -> Stage:
        """Carry out all instructions; the last stage."""
        for name, argument in instructions((SOURCE / "Dockerfile").read_text()):
            print(f"{name} {argument}"[:150], flush=True)
            if name == "FROM":
                self._from(argument)
            elif name == "ARG" and self._stage is None:
                self._defaults |= assignments(argument, {})
            else:
                self._step(self._last, name, argument)
        return self._last

    @property
    def _last(self) -> Stage:
        if self._stage is None:
            raise SystemExit("the first instruction must be FROM")
        return self._stage

    def _from(self, argument: str) -> None:
        image, _, alias = expanded(argument, self._defaults).partition(" AS ")
        match = re.fullmatch(r"python:3\.\d+-slim-(\w+)", image)
        if match is None:
            raise SystemExit(f"{image} is not an image that debootstrap can stand in for")
        base = self._directory / f"base-{match[1]}"
        if not base.exists():
            made = base.with_suffix(".part")
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", match[1], str(made)], check=True
            )
            (made / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            made.rename(base)
        root = self._directory / f"stage-{len(self._stages)}"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "--archive", "--reflink=auto", str(base), str(root)], check=True)
        self._stage = Stage(root=root, environment={"PATH": _SYSTEM_PATH})
        self._stages[alias or str(root)] = self._stage

    def _step(self, stage: Stage, name: str, argument: str) -> None:
        values = stage.arguments | stage.environment
        match name:
            case "ARG":
                stage.arguments |= {
                    key: self._given.get(key, value) for key, value in assignments(argument, {}).items()
                }
            case "ENV":
                stage.environment |= assignments(argument, values)
            case "WORKDIR":
                stage.directory = argument
                (stage.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = argument
            case "VOLUME":
                stage.volumes.append(argument)
            case "ENTRYPOINT" | "CMD":
                stage.words[name] = json.loads(argument)
            case "HEALTHCHECK":
                stage.words[name] = json.loads(argument.partition("CMD")[2])
            case "COPY":
                self._copy(stage, argument)
            case "RUN":
                self._execute(stage, argument)
            case "LABEL" | "EXPOSE":
                pass
            case _:
                raise SystemExit(f"{name} is not known here: teach this check what it means")

    def _copy(self, stage: Stage, argument: str) -> None:
        *words, target = shlex.split(argument)
        destination = stage.root / target.lstrip("/") if target.startswith("/") else self._inside(stage) / target
        if words[0].startswith("--from="):
            origin = self._stages[words[0].removeprefix("--from=")].root / words[1].lstrip("/")
            subprocess.run(["cp", "--archive", str(origin), str(destination)], check=True)
            return
        files = context(SOURCE)
        for word in words:
            inside = [path for path in files if path == Path(word) or Path(word) in path.parents]
            if not inside:
                raise SystemExit(f"COPY {word}: nothing of that name is in the build's context")
            for path in inside:
                place = destination / (path.name if path == Path(word) else path.relative_to(word))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(SOURCE / path, place)

    def _inside(self, stage: Stage) -> Path:
        return stage.root / stage.directory.lstrip("/")

    def _execute(self, stage: Stage, command: str) -> None:
        shutil.copy2("/etc/resolv.conf", stage.root / "etc/resolv.conf")
        lines = [f"mount -t proc proc {stage.root}/proc"]
        for path in self._binds:
            place = stage.root / path.relative_to("/")
            place.mkdir(parents=True, exist_ok=True)
            lines += [f"mount --bind {path} {place}", f"mount --options remount,bind,ro {place}"]
        inner = f"cd {shlex.quote(stage.directory)} && {command}"
        lines.append(f"exec chroot --userspec={stage.user} {stage.root} /bin/sh -c {shlex.quote(inner)}")
        passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environment = passed | {k: v for k, v in stage.arguments.items() if v} | stage.environment
        environment["DEBIAN_FRONTEND"] = "noninteractive"
        subprocess.run(["unshare", "--mount", "sh", "-ec", "\n".join(lines)], env=environment, check=True)


def started(stage: Stage, script: str, *, directory: Path) -> int:
    """The exit code of a shell's script in a container of the image; `$volume` is its state, empty at first."""
    volume = directory / "volume"
    shutil.rmtree(volume, ignore_errors=True)
    (place,) = stage.volumes
    subprocess.run(["cp", "--archive", str(stage.root / place.lstrip("/")), str(volume)], check=True)
    user, _, group = stage.user.partition(":")
    inner = f"cd {shlex.quote(stage.directory)}\n{script}"
    as_user = [f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    as_user += ["--inh-caps=-all", "--bounding-set=-all"]
    lines = [
        "ip link set lo up",
        f"cd {stage.root}",
        f"mount --bind {stage.root} {stage.root}",
        f"mount --options remount,bind,ro {stage.root}",
        f"cd {stage.root}",
        "mount -t proc proc proc",
        "mount -t tmpfs tmpfs tmp",
        "mount -t tmpfs tmpfs dev/shm",
        f"mount --bind {volume} .{place}",
        shlex.join(["exec", "chroot", ".", "setpriv", *as_user, "/bin/sh", "-ec", inner]),
    ]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts"]
    done = subprocess.run(
        [*namespaces, "sh", "-ec", "\n".join(lines)], env=stage.environment | {"HOME": place}, check=False
    )
    return done.returncode


def main() -> int:
    """Build, then try; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--bind", action="append", default=[], type=Path, help="directory of this machine for RUN steps"
    )
    options = parser.parse_args()
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    arguments = dict(word.split("=", 1) for word in options.build_arg)
    stage = Build(directory, arguments=arguments, binds=options.bind).run()
    entry, health = shlex.join(stage.words["ENTRYPOINT"]), shlex.join(stage.words["HEALTHCHECK"])
    size = subprocess.run(["du", "-sm", str(stage.root)], capture_output=True, text=True, check=True).stdout.split()[0]
    print(f"built: {size} MB\nread-only, without network or capabilities, as {stage.user}:", flush=True)
    trials = {
        "its root file system cannot be written": "! touch /trial 2>/dev/null && ! touch /opt/monitor/x 2>/dev/null",
        "the daemon comes to be healthy, and SIGTERM ends it with 0": f"""
            echo 'streams: []' >/tmp/monitor.yaml
            TINI_SUBREAPER=1 {entry} run -c /tmp/monitor.yaml &
            attempts=0
            until {health} 2>/dev/null; do
                attempts=$((attempts + 1)); test $attempts -lt 120; sleep 1
            done
            kill -TERM $!
            wait $!""",
        "the demo passes": f"exec {entry} demo",
    }
    failed = [name for name, script in trials.items() if started(stage, script, directory=directory) != 0]
    for name in trials:
        print(f"{'FAILED' if name in failed else 'ok':<7} {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
