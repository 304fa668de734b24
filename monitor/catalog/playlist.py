"""M3U playlists: plain lists of files, with the titles that some carry (`#EXTINF:seconds,Artist - Title`)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from monitor.catalog.item import LoadItem, Metadata, Problem, absolute, derived_id
from monitor.errors import InputError
from monitor.masking import mask_url
from monitor.types import LoadStatus

SUFFIXES = frozenset({".m3u", ".m3u8"})


def read_playlist(path: Path) -> list[LoadItem]:
    """An item for each entry. A file's id is its path relative to the playlist's directory, without suffix.

    Raises InputError when the playlist cannot be read, or is one of a stream (HLS).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")  # what M3U was before M3U8
    items = []
    metadata: Metadata | None = None
    for line, content in enumerate(text.splitlines(), 1):
        entry = content.replace("\x00", "").strip()
        if entry.startswith("#EXT-X-"):
            raise InputError(f"{path} is the playlist of a stream (HLS), not a list of files; monitor it as a stream")
        if entry.startswith("#EXTINF:"):
            metadata = _metadata(entry)
        elif entry and not entry.startswith("#"):
            items.append(_item(path, line, entry, metadata))
            metadata = None
    return items


def _item(playlist: Path, line: int, entry: str, metadata: Metadata | None) -> LoadItem:
    problem = None
    if entry.startswith("file://"):
        entry = unquote(urlsplit(entry).path)
    elif "://" in entry:
        reason = f"{mask_url(entry)} is an address, not a file; download it first"
        problem = Problem(status=LoadStatus.FAILED, reason=reason)
        entry = mask_url(entry)
    path = absolute(playlist.parent / entry)
    return LoadItem(
        reference_id=derived_id(path, playlist.parent),
        path=path,
        metadata=metadata,
        listed_in=playlist,
        line=line,
        problem=problem,
    )


def _metadata(entry: str) -> Metadata | None:
    words = entry.partition(",")[2].strip()
    artist, dash, title = words.partition(" - ")
    if dash and artist.strip() and title.strip():
        return Metadata(title=title.strip(), artist=artist.strip())
    return Metadata(title=words) if words else None
