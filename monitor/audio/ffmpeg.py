"""ffmpeg as a child process: found, started in a group of its own, listened to, and always reaped."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi
import imageio_ffmpeg
import numpy as np

from monitor.errors import ConfigError
from monitor.types import Samples

#: Lines of stderr that are kept for the message of a failure.
LAST_WORDS = 100
#: Options before any input: ask nothing, and say each thing with its level, which failures are told from.
QUIET = ("-nostdin", "-hide_banner", "-nostats", "-loglevel", "repeat+level+info")
_STRUCTURE = re.compile(r"Input #|Output #|Duration: |Stream |\[(warning|error|fatal|panic)\]")
_TERMINATE_S = 2.0
_LINE_LIMIT = 2000
_BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, kw_only=True)
class FfmpegProgram:
    """An ffmpeg that has answered `-version`."""

    path: str
    version: str


def find_ffmpeg(configured: str | None = None) -> FfmpegProgram:
    """The configured ffmpeg, else the system's, else the one of the imageio-ffmpeg wheel.

    Raises ConfigError if the configured one does not run, or none does.
    """
    if configured is not None:
        found = shutil.which(configured)
        version = _version(found) if found else None
        if found is None or version is None:
            raise ConfigError(f"ffmpeg: {configured} is not a program that runs; correct the path or leave the key out")
        return FfmpegProgram(path=found, version=version)
    system = shutil.which("ffmpeg")
    if system and (version := _version(system)):
        return FfmpegProgram(path=system, version=version)
    with contextlib.suppress(RuntimeError):
        bundled = imageio_ffmpeg.get_ffmpeg_exe()
        if version := _version(bundled):
            return FfmpegProgram(path=bundled, version=version)
    raise ConfigError("no ffmpeg runs on this machine; install the system's ffmpeg, or reinstall this package's wheels")


def _version(path: str) -> str | None:
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    match = re.match(r"ffmpeg version (\S+)", answer)
    return match.group(1) if match else None


@functools.cache
def default_ca_file() -> str:
    """The certificate authorities that Python trusts here; certifi's where the machine has none."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile and Path(paths.cafile).is_file():
        return paths.cafile
    for bundle in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if Path(bundle).is_file():
            return bundle
    return certifi.where()


@functools.cache
def _launcher() -> tuple[str, ...]:
    # The kernel then kills ffmpeg when the daemon dies, however it dies. A preexec_fn would fork the whole daemon and
    # run Python between its threads; setpriv is in every Linux with glibc and costs a few milliseconds. Elsewhere a
    # dead reader (SIGPIPE) and the socket timeouts end ffmpeg, later.
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    try:
        subprocess.run([setpriv, "--pdeathsig", "KILL", "true"], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return (setpriv, "--pdeathsig", "KILL", "--")


def pcm_arguments(sample_rate_hz: int, *, block_s: float | None = None) -> dict[str, object]:
    """Output options for ffmpeg-python: the first audio track as mono 16-bit PCM on standard output.

    With `block_s` ffmpeg writes whole blocks of that length: as few wake-ups as `-flush_packets 0`, whose buffer is 2 s
    at 8 kHz, without its delay.
    """
    arguments: dict[str, object] = {
        "map": "0:a:0", "vn": None, "sn": None, "dn": None, "f": "s16le", "ac": 1, "ar": sample_rate_hz,
    }  # fmt: skip
    if block_s is not None:
        arguments["af"] = f"aresample={sample_rate_hz},asetnsamples=n={round(sample_rate_hz * block_s)}:p=0"
    return arguments


class FfmpegRun:
    """One running ffmpeg: PCM from its standard output, the ring of its last words from its standard error."""

    def __init__(self, process: asyncio.subprocess.Process, mask: Callable[[str], str]) -> None:
        assert process.stdout is not None and process.stderr is not None  # noqa: S101
        self._process = process
        self._stdout = process.stdout
        self._stderr = process.stderr
        self._mask = mask
        self._odd = b""
        self._lines: deque[str] = deque(maxlen=LAST_WORDS)
        #: The first lines that name the input's format, codec and duration, or a problem, outlive the ring.
        self.opening: list[str] = []
        self._listening = asyncio.create_task(self._listen(), name=f"ffmpeg-stderr-{process.pid}")

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._process.pid

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last 100 lines that ffmpeg wrote on standard error, without secrets."""
        return tuple(self._lines)

    async def read(self, limit_samples: int) -> Samples:
        """The next samples, at most `limit_samples`, at least one; none at the end of the audio."""
        while True:
            data = await self._stdout.read(limit_samples * _BYTES_PER_SAMPLE)
            if not data:
                return np.empty(0, dtype=np.float32)
            # A read of a pipe ends anywhere: the odd byte waits for its other half.
            data = self._odd + data
            whole = len(data) - len(data) % _BYTES_PER_SAMPLE
            self._odd = data[whole:]
            if whole:
                return pcm_samples(data[:whole])

    async def read_block(self, samples: int) -> Samples:
        """Exactly `samples` samples; fewer only at the end of the audio."""
        try:
            data = await self._stdout.readexactly(samples * _BYTES_PER_SAMPLE)
        except asyncio.IncompleteReadError as error:
            data = error.partial
        return pcm_samples(data[: len(data) - len(data) % _BYTES_PER_SAMPLE])

    async def read_bytes(self, limit: int) -> bytes:
        """The next bytes of an output that is no PCM; none at its end."""
        return await self._stdout.read(limit)

    async def wait(self) -> int:
        """The exit status, after all last words are in."""
        await self._listening
        return await self._process.wait()

    async def _listen(self) -> None:
        tail = b""
        while data := await self._stderr.read(4096):
            *lines, tail = re.split(rb"[\r\n]+", tail + data)
            tail = tail[:_LINE_LIMIT]
            for line in lines:
                self._note(line)
        self._note(tail)

    def _note(self, line: bytes) -> None:
        text = self._mask(line[:_LINE_LIMIT].decode("utf-8", "replace").strip())
        if text:
            self._lines.append(text)
            if len(self.opening) < LAST_WORDS and _STRUCTURE.search(text):
                self.opening.append(text)

    async def end(self) -> None:
        """Afterwards the process is dead and reaped, also when this is cancelled meanwhile."""
        self._signal(signal.SIGTERM)
        reaped = asyncio.ensure_future(self._reap())
        cancelled = False
        try:
            await asyncio.wait({reaped}, timeout=_TERMINATE_S)
        except asyncio.CancelledError:
            cancelled = True
        self._signal(signal.SIGKILL)
        while not reaped.done():
            try:
                await asyncio.wait({reaped})
            except asyncio.CancelledError:
                cancelled = True
        reaped.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _reap(self) -> None:
        # A writer that is blocked on a full pipe does not look at SIGTERM, and asyncio reports no end before the pipes
        # are empty: read what is left.
        while await self._stdout.read(1 << 16):
            pass
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def pcm_samples(data: bytes) -> Samples:
    """16-bit PCM as float32 in [-1, 1)."""
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(32768.0)


@contextlib.asynccontextmanager
async def running(
    program: FfmpegProgram,
    arguments: Sequence[str],
    *,
    mask: Callable[[str], str] = str,
    environment: Mapping[str, str] | None = None,
    ca_file: str | None = None,
) -> AsyncIterator[FfmpegRun]:
    """ffmpeg with `arguments` in a process group of its own; on leaving it is ended and reaped.

    Nothing outlives this process: where the kernel can, it kills ffmpeg when this process dies. `environment` adds to
    this process's, unseen by other users; `ca_file` is what TLS connections trust where no option reaches them. Raises
    ConfigError if it cannot start.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *_launcher(),
            program.path,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={
                **os.environ,
                "SSL_CERT_FILE": ca_file or default_ca_file(),
                "AV_LOG_FORCE_NOCOLOR": "1",
                **(environment or {}),
            },
        )
    except OSError as error:
        raise ConfigError(f"ffmpeg at {program.path} cannot be started: {error.strerror}") from error
    run = FfmpegRun(process, mask)
    try:
        yield run
    finally:
        await run.end()
