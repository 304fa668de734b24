"""Published weights on this machine: fetched with resume, checked against their digests, put in place in one step.

A download goes to `NAME.part` beside its final place and is renamed only when its size and both digests are those of
the published file, so that whoever finds a checkpoint in the models directory can trust it. What a cut connection left
behind is kept and continued (HTTP range requests, RFC 9110 section 14), guarded by the server's own validator
(`If-Range`) and, whatever the server says, by the digests.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NoReturn

import httpx

from monitor.errors import InputError, InUseError, MonitorError, StorageError, UnreachableError
from monitor.masking import mask_url

#: Told how many bytes are there and how many there will be.
Progress = Callable[[int, int], None]

_BLOCK_BYTES = 1 << 20
#: Tries in a row that brought not one byte, and the wait before each.
_WAITS_S = (1.0, 2.0, 4.0, 8.0)
_LONGEST_WAIT_S = 60.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published file of weights: where it comes from and what it must be, byte for byte."""

    name: str
    file_name: str
    url: str
    size_bytes: int
    md5: str
    sha256: str
    licence: str


#: Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", 2020.
PANNS = Checkpoint(
    name="panns",
    file_name="Cnn14_mAP=0.431.pth",
    url="https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
    size_bytes=327_428_481,
    md5="541141fa2ee191a88f24a3219fff024e",
    sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
    licence="CC BY 4.0",
)


class Condition(enum.StrEnum):
    """What stands where a checkpoint belongs."""

    PUBLISHED = "published"
    MISSING = "missing"
    DIFFERENT = "different"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found in place of a checkpoint. `sha256` is None where there is no file."""

    path: Path
    condition: Condition
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class _Digest:
    size_bytes: int
    md5: str
    sha256: str

    def difference(self, checkpoint: Checkpoint) -> str | None:
        """Why this is not the published file; None if it is."""
        if self.size_bytes != checkpoint.size_bytes:
            return f"it has {self.size_bytes:,} bytes, the published file has {checkpoint.size_bytes:,}"
        if self.sha256 != checkpoint.sha256:
            return f"its SHA-256 is {self.sha256}, that of the published file is {checkpoint.sha256}"
        if self.md5 != checkpoint.md5:
            return f"its MD5 is {self.md5}, that of the published file is {checkpoint.md5}"
        return None


def verify(checkpoint: Checkpoint, *, models_dir: Path) -> Verification:
    """What `models_dir` holds under the checkpoint's name, by size and digests. StorageError if it can't be read."""
    path = models_dir / checkpoint.file_name
    if not path.is_file():
        return Verification(path=path, condition=Condition.MISSING, size_bytes=0, sha256=None)
    with storing(path):
        found = _digest(path)
    condition = Condition.DIFFERENT if found.difference(checkpoint) else Condition.PUBLISHED
    return Verification(path=path, condition=condition, size_bytes=found.size_bytes, sha256=found.sha256)


def install(checkpoint: Checkpoint, *, models_dir: Path, source: Path) -> Path:
    """A verified copy of the file `source` stands in `models_dir`; `source` is untouched.

    InputError if `source` is not the published file or if other weights already stand there, StorageError if the copy
    can't be written, InUseError if another process is fetching the same file.
    """
    try:
        with source.open("rb") as original:
            if difference := _copy(original, None).difference(checkpoint):
                raise InputError(f"{source} is not the published {checkpoint.file_name}: {difference}")
            if _is_in_place(checkpoint, models_dir):
                return models_dir / checkpoint.file_name
            with _partial(checkpoint, models_dir) as (part, notes):
                original.seek(0)
                try:
                    part.truncate(0)
                    difference = _copy(original, part).difference(checkpoint)
                    if difference:
                        raise InputError(f"{source} changed while it was copied: {difference}")
                except (OSError, MonitorError):
                    Path(part.name).unlink(missing_ok=True)
                    raise
                return _put_in_place(checkpoint, models_dir, part, notes)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error


async def fetch(
    checkpoint: Checkpoint,
    *,
    models_dir: Path,
    url: str | None = None,
    progress: Progress | None = None,
    waits_s: tuple[float, ...] = _WAITS_S,
) -> Path:
    """The verified checkpoint stands in `models_dir`, continued from what an earlier try left; its path is returned.

    `url` names a mirror; the digests stay those of the published file. UnreachableError if the server does not give the
    file after `len(waits_s)` tries that brought nothing, InputError if what it gives is another file (which is then
    deleted) or if other weights already stand there, StorageError if there is no room or no permission, InUseError if
    another process is fetching the same file.
    """
    if await asyncio.to_thread(_is_in_place, checkpoint, models_dir):
        return models_dir / checkpoint.file_name
    timeout = httpx.Timeout(30.0, connect=15.0)
    with _partial(checkpoint, models_dir) as (part, notes):
        download = _Download(checkpoint, url or checkpoint.url, part, notes, progress)
        async with httpx.AsyncClient(follow_redirects=True, max_redirects=10, timeout=timeout) as client:
            await download.run(client, waits_s)
            difference = (await asyncio.to_thread(_digest, Path(part.name))).difference(checkpoint)
            if difference and download.resumed:
                # The two halves may be of two files: one honest try from the start before the server is blamed.
                download.restart()
                await download.run(client, waits_s)
                difference = (await asyncio.to_thread(_digest, Path(part.name))).difference(checkpoint)
        if difference:
            download.discard()
            raise InputError(
                f"{mask_url(download.url)} gave another file than the published {checkpoint.file_name}: {difference}; "
                f"it was deleted"
            )
        return _put_in_place(checkpoint, models_dir, part, notes)


class _Download:
    """The bytes of one file, continued over as many connections as it takes."""

    def __init__(self, checkpoint: Checkpoint, url: str, part: FileIO, notes: Path, progress: Progress | None) -> None:
        self.url = url
        self._checkpoint = checkpoint
        self._part = part
        self._notes = notes
        self._progress = progress
        self._validator = self._read_validator()
        self._length = part.seek(0, os.SEEK_END)
        self.resumed = self._length > 0
        if self._length > checkpoint.size_bytes:
            self.restart()

    async def run(self, client: httpx.AsyncClient, waits_s: tuple[float, ...]) -> None:
        """Every byte of the file is in the partial file."""
        idle = 0
        while self._length < self._checkpoint.size_bytes:
            before = self._length
            wait_s: float | None = None
            try:
                wait_s = await self._connect(client)
                trouble = "the server is busy" if wait_s is not None else "the connection ended early"
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
                raise UnreachableError(f"{mask_url(self.url)} cannot be fetched: {error}") from error
            except httpx.TransportError as error:
                trouble = str(error) or type(error).__name__
            if self._length > before:
                idle = 0
                continue
            if idle >= len(waits_s):
                raise UnreachableError(
                    f"{mask_url(self.url)} cannot be fetched ({trouble}); what came so far is kept, run it again to go "
                    f"on, or copy the file here and use --from FILE"
                )
            await asyncio.sleep(max(waits_s[idle], min(wait_s or 0.0, _LONGEST_WAIT_S)))
            idle += 1

    def restart(self) -> None:
        """The next connection asks for the whole file."""
        self._length = 0
        self._validator = None
        self.resumed = False
        with storing(Path(self._part.name)):
            self._part.truncate(0)
            self._notes.unlink(missing_ok=True)

    def discard(self) -> None:
        """Nothing of the download is left on disk."""
        with storing(Path(self._part.name)):
            Path(self._part.name).unlink(missing_ok=True)
            self._notes.unlink(missing_ok=True)

    async def _connect(self, client: httpx.AsyncClient) -> float | None:
        """One connection's worth of bytes is written; the seconds to wait if the server asked for patience."""
        headers = {"Accept-Encoding": "identity"}
        if self._length:
            headers["Range"] = f"bytes={self._length}-"
            if self._validator is not None:
                headers["If-Range"] = self._validator
        async with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code in _TRY_AGAIN:
                return _retry_after_s(response)
            if response.status_code == 416 or (response.status_code == 206 and not self._continues(response)):
                # The server's idea of the file is not ours: nothing that it said before can be built upon.
                if not self._length:
                    raise UnreachableError(f"{mask_url(self.url)} answers with a part that was not asked for")
                self.restart()
                return None
            if response.status_code not in {200, 206}:
                raise UnreachableError(
                    f"{mask_url(self.url)} answers {response.status_code} {response.reason_phrase}; --url names "
                    f"another address, --from a copy of the file"
                )
            await self._write(response)
        return None

    async def _write(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            self.restart()
            self._check_offered(response.headers.get("Content-Length"))
        else:
            self.resumed = True
        if (validator := _validator_of(response)) != self._validator:
            self._keep_validator(validator)
        async for block in response.aiter_raw():
            if self._length + len(block) > self._checkpoint.size_bytes:
                self._refuse("more bytes")
            _append(self._part, block)
            self._length += len(block)
            if self._progress is not None:
                self._progress(self._length, self._checkpoint.size_bytes)

    def _continues(self, response: httpx.Response) -> bool:
        """True if a 206 begins at our end and is a part of a file of the published size."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != self._length:
            return False
        return match[2] in {"*", str(self._checkpoint.size_bytes)}

    def _check_offered(self, content_length: str | None) -> None:
        """The download of a file that can't be the right one is refused before it begins, as is one without room."""
        size_bytes = self._checkpoint.size_bytes
        if content_length is not None and content_length.isdecimal() and int(content_length) != size_bytes:
            self._refuse(f"{int(content_length):,} bytes")
        with storing(Path(self._part.name)):
            free_bytes = shutil.disk_usage(Path(self._part.name).parent).free
        if free_bytes < size_bytes:
            raise StorageError(
                f"{Path(self._part.name).parent} has {free_bytes:,} bytes free, {self._checkpoint.file_name} needs "
                f"{size_bytes:,}: make room, then fetch again"
            )

    def _refuse(self, offered: str) -> NoReturn:
        self.discard()
        raise InputError(
            f"{mask_url(self.url)} offers another file than the published {self._checkpoint.file_name}: {offered} "
            f"instead of {self._checkpoint.size_bytes:,}; it was not kept"
        )

    def _read_validator(self) -> str | None:
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            return str(notes["validator"]) if notes["url"] == self.url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep_validator(self, validator: str | None) -> None:
        self._validator = validator
        with storing(self._notes):
            if validator is None:
                self._notes.unlink(missing_ok=True)
            else:
                self._notes.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")


def _validator_of(response: httpx.Response) -> str | None:
    """What `If-Range` may carry: a strong entity tag, else the date of the last change (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return str(tag)
    date = response.headers.get("Last-Modified")
    return None if date is None else str(date)


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def _is_in_place(checkpoint: Checkpoint, models_dir: Path) -> bool:
    """True if the published file stands there already; other weights, somebody's own, are never overwritten."""
    found = verify(checkpoint, models_dir=models_dir)
    if found.condition is Condition.DIFFERENT:
        raise InputError(f"{found.path} holds other weights than the published ones: move it away, then fetch again")
    return found.condition is Condition.PUBLISHED


@contextlib.contextmanager
def _partial(checkpoint: Checkpoint, models_dir: Path) -> Iterator[tuple[FileIO, Path]]:
    """The checkpoint's partial file, open for appending by this process alone, and the file of its validator."""
    path = models_dir / f"{checkpoint.file_name}.part"
    with storing(path):
        models_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.open("ab", buffering=0)
    with part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(f"{path} is being written by another process: wait for it, then try again") from error
        yield part, models_dir / f"{checkpoint.file_name}.part.json"


def _put_in_place(checkpoint: Checkpoint, models_dir: Path, part: FileIO, notes: Path) -> Path:
    """The complete partial file has its final name, also after a power cut."""
    target = models_dir / checkpoint.file_name
    with storing(target):
        os.fsync(part.fileno())
        Path(part.name).replace(target)
        notes.unlink(missing_ok=True)
        directory = os.open(models_dir, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    return target


def _digest(path: Path) -> _Digest:
    with path.open("rb") as file:
        return _copy(file, None)


def _copy(source: BinaryIO, target: FileIO | None) -> _Digest:
    """The digests of what is read from `source`, which is also written to `target` if there is one."""
    md5 = hashlib.md5(usedforsecurity=False)
    sha256 = hashlib.sha256()
    size_bytes = 0
    while block := source.read(_BLOCK_BYTES):
        md5.update(block)
        sha256.update(block)
        size_bytes += len(block)
        if target is not None:
            _append(target, block)
    return _Digest(size_bytes=size_bytes, md5=md5.hexdigest(), sha256=sha256.hexdigest())


def _append(part: FileIO, block: bytes) -> None:
    rest = memoryview(block)
    with storing(Path(part.name)):
        while rest:
            rest = rest[part.write(rest) :]


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into a StorageError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageError(f"no room left to write {path}: make room, then try again") from error
        raise StorageError(f"{path} cannot be written or read: {error.strerror or error}") from error
