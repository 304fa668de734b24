"""One file into the catalog, or the reason why not."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.catalog.item import METADATA_COLUMNS, LoadItem, Metadata
from monitor.catalog.recording import SILENCE_DBFS, Recording, read_recording
from monitor.catalog.references import FileState, ReferenceRow
from monitor.catalog.writer import Busy, CatalogWriter, SameAudio, in_thread
from monitor.embed import Embedder
from monitor.errors import InputError
from monitor.types import LoadStatus, Reference, ReferenceState

_BAD = frozenset({LoadStatus.TOO_SHORT, LoadStatus.SILENT, LoadStatus.UNREADABLE, LoadStatus.FAILED})


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """What became of one item."""

    reference_id: str
    path: str
    status: LoadStatus
    #: One sentence; None where the status says all.
    reason: str | None = None
    #: The reference that has the same audio.
    duplicate_of: str | None = None
    duration_s: float | None = None
    #: Windows that have a vector.
    windows: int | None = None
    #: Where a manifest or playlist names it.
    listed_in: str | None = None
    line: int | None = None

    @property
    def bad(self) -> bool:
        """True if the file is not in the catalog although it should be."""
        return self.status in _BAD


class Intake:
    """Takes files into one catalog, which had the references `known` at the start.

    Without a writer and an executor it only says what would become of them.
    """

    def __init__(
        self,
        *,
        catalog: str,
        embedder: Embedder,
        ffmpeg: FfmpegProgram,
        known: Mapping[str, ReferenceRow],
        writer: CatalogWriter | None,
        executor: Executor | None,
        max_duration_s: float | None = None,
    ) -> None:
        self._catalog, self._embedder, self._ffmpeg = catalog, embedder, ffmpeg
        self._known, self._writer, self._executor = known, writer, executor
        self._max_duration_s = max_duration_s
        self._by_file = {row.reference.file_sha256: name for name, row in reversed(list(known.items()))}
        self._by_audio = {row.reference.audio_sha256: name for name, row in reversed(list(known.items()))}

    async def load(self, item: LoadItem, on_audio: Callable[[float], None]) -> LoadResult:
        """What became of the item. Raises only what concerns all items."""
        if item.problem is not None:
            return _result(item, item.problem.status, item.problem.reason)
        try:
            return await self._load(item, self._known.get(item.reference_id), on_audio)
        except InputError as error:
            return _result(item, LoadStatus.UNREADABLE, str(error))

    async def _load(self, item: LoadItem, known: ReferenceRow | None, on_audio: Callable[[float], None]) -> LoadResult:
        file = await asyncio.to_thread(_file_state, item.path)
        if known is not None and known.reference.path == str(item.path) and known.file == file:
            return await self._keep(item, known, file, known.reference.file_sha256)
        sha256 = await in_thread(_digest, item.path)
        if known is not None:
            elsewhere = known.reference.path != str(item.path) and Path(known.reference.path).exists()  # noqa: ASYNC240
            if elsewhere and not item.id_given:
                return self._clash(item, known, same=known.reference.file_sha256 == sha256)
            if known.reference.file_sha256 == sha256:
                return await self._keep(item, known, file, sha256)
        elif (other := self._by_file.get(sha256)) is not None:
            return _duplicate(item, other)
        recording = await read_recording(
            item.path,
            embedder=self._embedder,
            ffmpeg=self._ffmpeg,
            executor=self._executor,
            on_audio=on_audio,
            max_duration_s=self._max_duration_s,
        )
        if await asyncio.to_thread(_file_state, item.path) != file:
            return _result(item, LoadStatus.FAILED, f"{item.path} changed while it was read; run the command again")
        if recording.windows == 0:
            return _result(
                item,
                LoadStatus.TOO_SHORT,
                f"{item.path} lasts {recording.duration_s:.2f} s, less than one window of the model"
                f" ({self._embedder.window_s:.2f} s); give a longer recording",
                duration_s=recording.duration_s,
            )
        if len(recording.kept) == 0:
            return _result(
                item,
                LoadStatus.SILENT,
                f"{item.path} is silent: nothing in it is louder than {SILENCE_DBFS:.0f} dBFS",
                duration_s=recording.duration_s,
            )
        if known is not None and known.reference.audio_sha256 == recording.audio_sha256:
            await self._describe(known, item, file, sha256)
            return _stored(item, LoadStatus.REPLACED, recording, "other bytes, the same audio: its vectors were kept")
        return await self._store(item, known, file, sha256, recording)

    async def _store(
        self, item: LoadItem, known: ReferenceRow | None, file: FileState, sha256: str, recording: Recording
    ) -> LoadResult:
        status = LoadStatus.ADDED if known is None else LoadStatus.REPLACED
        if self._writer is None:
            other = self._by_audio.setdefault(recording.audio_sha256, item.reference_id)
            return _stored(item, status, recording) if other == item.reference_id else _duplicate(item, other)
        metadata = _merged(item, known)
        reference = Reference(
            catalog=self._catalog,
            reference_id=item.reference_id,
            number=0,
            state=ReferenceState.LOADING,
            path=str(item.path),
            **{column: getattr(metadata, column) for column in METADATA_COLUMNS},
            attributes=metadata.attributes,
            duration_s=recording.duration_s,
            windows=len(recording.kept),
            file_sha256=sha256,
            audio_sha256=recording.audio_sha256,
        )
        stored = await self._writer.store(reference, recording, file)
        if isinstance(stored, SameAudio):
            return _duplicate(item, stored.reference_id)
        if isinstance(stored, Busy):
            return _result(item, LoadStatus.FAILED, "another process is loading this reference; run the command again")
        return _stored(item, LoadStatus.REPLACED if stored.replaced else LoadStatus.ADDED, recording)

    async def _keep(self, item: LoadItem, known: ReferenceRow, file: FileState, sha256: str) -> LoadResult:
        reference, metadata = known.reference, _merged(item, known)
        changed = [column for column in METADATA_COLUMNS if getattr(metadata, column) != getattr(reference, column)]
        changed += ["attributes"] if metadata.attributes != reference.attributes else []
        reasons = [f"{', '.join(changed)} updated"] if changed else []
        if reference.path != str(item.path):
            reasons.append(f"moved from {reference.path}")
        if reasons or known.file != file:
            await self._describe(known, item, file, sha256)
        return _result(
            item,
            LoadStatus.UNCHANGED,
            "; ".join(reasons) or None,
            duration_s=reference.duration_s,
            windows=reference.windows,
        )

    async def _describe(self, known: ReferenceRow, item: LoadItem, file: FileState, sha256: str) -> None:
        if self._writer is not None:
            await self._writer.references.describe(
                known.reference.number, path=str(item.path), file=file, sha256=sha256, metadata=_merged(item, known)
            )

    def _clash(self, item: LoadItem, known: ReferenceRow, *, same: bool) -> LoadResult:
        if same:
            return _duplicate(item, known.reference.reference_id)
        return _result(
            item,
            LoadStatus.FAILED,
            f"the id {item.reference_id!r} would stand for both {item.path} and {known.reference.path}, which the"
            " catalog has; rename one, or give ids in a manifest",
        )


def _merged(item: LoadItem, known: ReferenceRow | None) -> Metadata:
    """What the item says, and where it says nothing, what the catalog has."""
    said = item.metadata or Metadata()
    if known is None:
        return said
    had = known.reference
    return Metadata(
        **{column: getattr(said, column) or getattr(had, column) for column in METADATA_COLUMNS},
        attributes={**had.attributes, **said.attributes},
    )


def _result(
    item: LoadItem,
    status: LoadStatus,
    reason: str | None = None,
    *,
    duplicate_of: str | None = None,
    duration_s: float | None = None,
    windows: int | None = None,
) -> LoadResult:
    return LoadResult(
        reference_id=item.reference_id,
        path=str(item.path),
        status=status,
        reason=f"{item.place}{reason}" if status in _BAD else reason,
        duplicate_of=duplicate_of,
        duration_s=duration_s,
        windows=windows,
        listed_in=str(item.listed_in) if item.listed_in else None,
        line=item.line,
    )


def _stored(item: LoadItem, status: LoadStatus, recording: Recording, reason: str | None = None) -> LoadResult:
    said = "; ".join(part for part in (reason, recording.warning) if part)
    return _result(item, status, said or None, duration_s=recording.duration_s, windows=len(recording.kept))


def _duplicate(item: LoadItem, other: str) -> LoadResult:
    return _result(item, LoadStatus.DUPLICATE, f"the same audio as {other}", duplicate_of=other)


def _file_state(path: Path) -> FileState:
    try:
        state = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; correct the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{path} is not a regular file; name an audio file")
    return FileState(size_bytes=state.st_size, modified_us=state.st_mtime_ns // 1000)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
