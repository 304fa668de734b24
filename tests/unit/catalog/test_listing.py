from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitor.catalog.item import LoadItem
from monitor.catalog.listing import listed
from monitor.errors import InputError
from monitor.types import LoadStatus


def _files(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")


def _ids(items: list[LoadItem]) -> list[str]:
    return [item.reference_id for item in items if item.problem is None]


def _reasons(items: list[LoadItem]) -> list[str]:
    return [f"{item.place}{item.problem.reason}" for item in items if item.problem is not None]


def test_a_directory_is_searched_for_audio_and_ids_are_relative_paths_without_suffix(tmp_path: Path) -> None:
    _files(tmp_path, "b.mp3", "Rock/a.song.FLAC", "Rock/Vol. 2/x.wav", "cover.jpg", "._b.mp3", ".hidden/c.mp3")
    items = listed([tmp_path])
    assert _ids(items) == ["b", "Rock/a.song", "Rock/Vol. 2/x"]
    assert [item.path for item in items] == [
        tmp_path / name for name in ("b.mp3", "Rock/a.song.FLAC", "Rock/Vol. 2/x.wav")
    ]
    assert all(item.metadata is None and not item.id_given and item.place == "" for item in items)


def test_a_file_is_named_by_itself_whatever_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _files(tmp_path, "song.xyz", "No. 5", "missing-suffix")
    monkeypatch.chdir(tmp_path)
    items = listed(["song.xyz", "./No. 5", tmp_path / "missing-suffix", "not-there.mp3"])
    assert _ids(items) == ["song", "No. 5", "missing-suffix", "not-there"]
    assert all(item.path.is_absolute() for item in items)


def test_a_glob_that_no_shell_expanded_is_expanded(tmp_path: Path) -> None:
    _files(tmp_path, "in/a/x.ogg", "in/b/y.ogg", "in/b/z.mp3", "in/b/t.txt", "in/c.odd")
    assert _ids(listed([f"{tmp_path}/in/**/*.ogg"])) == ["a/x", "b/y"]
    assert _ids(listed([f"{tmp_path}/in/b/*"])) == ["y", "z"]
    assert _ids(listed([f"{tmp_path}/in/*.odd"])) == ["c"]
    assert _reasons(listed([f"{tmp_path}/*.wav"])) == [f"no audio file matches {tmp_path}/*.wav"]


def test_brackets_in_an_existing_name_are_no_glob(tmp_path: Path) -> None:
    _files(tmp_path, "a [live].mp3")
    assert _ids(listed([tmp_path / "a [live].mp3"])) == ["a [live]"]


def test_an_empty_directory_says_so(tmp_path: Path) -> None:
    assert _reasons(listed([tmp_path])) == [f"{tmp_path} has no audio files in it"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    _files(tmp_path, "music/a.mp3", "elsewhere/b.mp3")
    (tmp_path / "music/up").symlink_to(tmp_path / "music")
    (tmp_path / "music/more").symlink_to(tmp_path / "elsewhere")
    assert _ids(listed([tmp_path / "music"])) == ["a", "more/b"]


def test_one_file_named_twice_is_one_item(tmp_path: Path) -> None:
    _files(tmp_path, "x/a.mp3", "x/b.mp3")
    assert _ids(listed([tmp_path / "x", tmp_path / "x/a.mp3", tmp_path])) == ["a", "b"]


def test_two_files_with_one_derived_id_are_both_refused_with_both_paths(tmp_path: Path) -> None:
    _files(tmp_path, "a.mp3", "a.wav", "b.mp3")
    items = listed([tmp_path])
    assert _ids(items) == ["b"]
    one, two = tmp_path / "a.mp3", tmp_path / "a.wav"
    assert _reasons(items) == [
        f"the id 'a' would stand for both {one} and {two}; rename one, or give ids in a manifest",
        f"the id 'a' would stand for both {two} and {one}; rename one, or give ids in a manifest",
    ]


def test_names_in_either_unicode_form_have_one_id(tmp_path: Path) -> None:
    _files(tmp_path, "Beyonce\u0301.mp3")
    assert _ids(listed([tmp_path])) == ["Beyonc\u00e9"]


def test_a_name_that_is_not_utf8_is_refused_by_itself(tmp_path: Path) -> None:
    _files(tmp_path, "good.mp3")
    _files(tmp_path, os.fsdecode(b"bad\xff.mp3"))
    items = listed([tmp_path])
    assert _ids(items) == ["good"]
    assert _reasons(items) == [f"the name '{tmp_path}/bad\\udcff.mp3' is not UTF-8; rename the file"]
    assert all(item.reference_id.isascii() for item in items)


def test_playlist_entries_are_relative_to_it_and_bring_titles(tmp_path: Path) -> None:
    _files(tmp_path, "lists/in/one.mp3", "other/two.mp3", "lists/three four.mp3")
    (tmp_path / "lists/all.m3u").write_text(
        "#EXTM3U\n#EXTINF:123,An Artist - A Title\nin/one.mp3\n\n# comment\n../other/two.mp3\n"
        f"#EXTINF:-1,Only a title\nfile://{tmp_path}/lists/three%20four.mp3\nhttp://user:word@host/live.mp3\n"
    )
    items = listed([tmp_path / "lists/all.m3u"])
    assert _ids(items) == ["in/one", "two", "three four"]
    metadata = [(item.metadata.artist, item.metadata.title) if item.metadata else None for item in items[:3]]
    assert metadata == [("An Artist", "A Title"), None, (None, "Only a title")]
    assert [item.line for item in items] == [3, 6, 8, 9]
    assert _reasons(items) == [
        f"{tmp_path}/lists/all.m3u, line 9: http://***@host/live.mp3 is an address, not a file; download it first"
    ]


def test_a_playlist_in_an_old_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.m3u").write_bytes("Für Elise.mp3\n".encode("cp1252"))
    assert _ids(listed([tmp_path / "old.m3u"])) == ["Für Elise"]


def test_the_playlist_of_a_stream_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    _files(tmp_path, "a.mp3")
    (tmp_path / "live.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nseg1.ts\n")
    items = listed([tmp_path / "live.m3u8", tmp_path / "a.mp3"])
    assert _ids(items) == ["a"]
    assert _reasons(items) == [
        f"{tmp_path}/live.m3u8 is the playlist of a stream (HLS), not a list of files; monitor it as a stream"
    ]


def _manifest(tmp_path: Path, text: str | bytes, name: str = "list.csv") -> list[LoadItem]:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return listed([], manifests=[path])


def test_a_csv_manifest_gives_ids_metadata_and_keeps_other_columns(tmp_path: Path) -> None:
    items = _manifest(
        tmp_path,
        '\ufeffid,path,title,artist,isrc,owner,label,mood\r\nS1,in/a.mp3,"Hello, you",Me,GBAYE0601498,Us,L,calm\r\n'
        f",{tmp_path}/in/b.mp3,,,,,,\r\n\r\n",
    )
    assert _ids(items) == ["S1", "in/b"]
    assert [item.path for item in items] == [tmp_path / "in/a.mp3", tmp_path / "in/b.mp3"]
    assert [item.id_given for item in items] == [True, False]
    first = items[0].metadata
    assert first is not None
    assert (first.title, first.artist, first.isrc) == ("Hello, you", "Me", "GBAYE0601498")
    assert (first.owner, first.label, first.attributes) == ("Us", "L", {"mood": "calm"})
    assert items[1].metadata is not None
    assert items[1].metadata.title is None


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_manifest_may_have_the_delimiter_of_other_spreadsheets(tmp_path: Path, delimiter: str) -> None:
    items = _manifest(tmp_path, delimiter.join(["id", "path"]) + "\n" + delimiter.join(["S1", "a, b.mp3"]) + "\n")
    assert [(item.reference_id, item.path.name) for item in items] == [("S1", "a, b.mp3")]


def test_bad_rows_and_ids_given_twice_are_named_by_line_and_the_others_go_on(tmp_path: Path) -> None:
    items = _manifest(
        tmp_path,
        b'id,path,title\nA,a.mp3,"two\nlines"\nB,b.mp3\nC,,x\nA,c.mp3,y\nD,d.mp3,caf\xe9\n'
        b'E,e.mp3,nul\x00\nF,"f"oo.mp3,z\nG,g.mp3,end\n',
    )
    manifest = tmp_path / "list.csv"
    assert _ids(items) == ["A", "G"]
    assert _reasons(items) == [
        f"{manifest}, line 4: the row has 2 values for 3 columns",
        f"{manifest}, line 5: the row has no path",
        f"{manifest}, line 6: the id 'A' is given twice, first in line 2; ids must be unique",
        f"{manifest}, line 7: the row is not UTF-8 text in column 'title'; save the manifest as UTF-8",
        f"{manifest}, line 8: the row is not UTF-8 text in column 'title'; save the manifest as UTF-8",
        f"{manifest}, line 9: the row is not valid CSV: ',' expected after '\"'",
    ]
    assert items[1].problem is not None
    assert items[1].problem.status is LoadStatus.FAILED


def test_a_json_manifest_keeps_values_of_any_kind_as_text(tmp_path: Path) -> None:
    items = _manifest(
        tmp_path,
        '{"path": "a.mp3", "id": 7, "title": "Ä", "year": 1999, "tags": ["x", "é"], "label": null}\n\n'
        '{"path": "b.mp3"\n[1]\n{"title": "no path"}\n' + "[" * 100_000 + "\n",
        "list.jsonl",
    )
    manifest = tmp_path / "list.jsonl"
    assert _ids(items) == ["7"]
    assert items[0].metadata is not None
    assert (items[0].metadata.title, items[0].metadata.label) == ("Ä", None)
    assert items[0].metadata.attributes == {"year": "1999", "tags": '["x", "é"]'}
    reasons = _reasons(items)
    assert reasons[:3] == [
        f"{manifest}, line 3: the row is not valid JSON: Expecting ',' delimiter",
        f"{manifest}, line 4: the row is not a JSON object",
        f"{manifest}, line 5: the row has no path",
    ]
    assert reasons[3].startswith(f"{manifest}, line 6: the row is not valid JSON:")


def test_an_id_that_a_manifest_gives_wins_over_a_derived_one(tmp_path: Path) -> None:
    _files(tmp_path, "x/a.mp3", "other.mp3")
    (tmp_path / "list.csv").write_text("id,path\na,other.mp3\n")
    items = listed([tmp_path / "x"], manifests=[tmp_path / "list.csv"])
    assert [item.path for item in items if item.problem is None] == [tmp_path / "other.mp3"]
    one, two = tmp_path / "x/a.mp3", tmp_path / "other.mp3"
    assert _reasons(items) == [
        f"the id 'a' would stand for both {one} and {two}; rename one, or give ids in a manifest"
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "id,file\n", "has no column 'path' in its first line"),
        ("list.csv", "", "has no column 'path' in its first line"),
        ("list.csv", "path,title,title\n", "has the column 'title' twice"),
        ("list.xlsx", "", "its name must end in .csv or .jsonl"),
        ("list.csv", None, "cannot be read: No such file or directory"),
    ],
)
def test_a_manifest_that_is_useless_as_a_whole_is_refused(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        listed([], manifests=[tmp_path / name])
