from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import Config, EmbedderName, InvalidConfigError, load
from monitor.types import MatchState


def written(directory: Path, text: str | bytes, name: str = "monitor.yaml") -> Path:
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path | None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(InvalidConfigError) as refused:
        load(path, environ=environ or {})
    return str(refused.value)


def test_without_a_file_the_defaults_hold() -> None:
    config = load(None, environ={})
    assert config == Config()
    assert [(catalog.name, catalog.embedder) for catalog in config.catalogs] == [("default", EmbedderName.FINGERPRINT)]
    assert config.postgres is None
    assert config.milvus is None
    assert config.http.host == "127.0.0.1"


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "\ufeff", "streams:\nlog:\npostgres:\nmatch: {top_k: }\n"]
)
def test_empty_files_and_keys_without_a_value_leave_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(written(tmp_path, text), environ={}) == Config()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: there is no such file"


def test_what_cannot_be_read_as_text_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    path = written(tmp_path, b"\xff\xfe\x00")
    assert refusal(path) == f"{path}: is not UTF-8 text"
    path = written(tmp_path, "log: \x00")
    assert refusal(path) == f"{path}: holds a character that YAML does not allow"
    path = written(tmp_path, "[" * 3000)
    assert refusal(path) == f"{path}: is nested too deeply"
    path = written(tmp_path, "http: {port: " + "9" * 5000 + "}")
    assert refusal(path) == f"{path}:1: is not YAML: a number has too many digits"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "log: {level: loud}\n"
        "streams:\n"
        "  - {name: a, url: 'http://h/', catalogs: [music], pausd: true}\n"
        "http: {port: -1, token_file: /nowhere}\n"
        "http: {port: -2}\n",
    )
    assert refusal(path, {"MONITOR_HTTP_TOKN": "x"}).splitlines() == [
        "the configuration has 6 problems:",
        f"  {path}:1: log.level: must be 'debug', 'info', 'warning' or 'error', not 'loud'",
        f"  {path}:3: streams[0].catalogs[0]: there is no catalog 'music'; known are default",
        f"  {path}:3: streams[0].pausd: is not a key; did you mean 'paused'?",
        f"  {path}:5: http.port: must be greater than or equal to 0, not -2",
        f"  {path}:5: http: is given twice; the first is in line 4",
        "  environment variable MONITOR_HTTP_TOKN: is not known; did you mean MONITOR_HTTP_TOKEN?",
    ]


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = written(
        tmp_path, "streams:\n  - {name: no, url: 'http://h/', user_agent: 1:30}\nretention: {hits_days: 010}\n"
    )
    config = load(path, environ={})
    assert config.streams[0].name == "no"
    assert config.streams[0].user_agent == "1:30"
    assert config.retention.hits_days == 10


def test_merge_keys_share_settings(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "streams:\n"
        "  - &radio {name: a, url: 'http://h/a', stall_timeout_s: 40}\n"
        "  - {<<: *radio, name: b, url: 'http://h/b'}\n",
    )
    assert [(s.name, s.url, s.stall_timeout_s) for s in load(path, environ={}).streams] == [
        ("a", "http://h/a", 40),
        ("b", "http://h/b", 40),
    ]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    written(tmp_path, "", "song.wav")
    path = written(
        tmp_path,
        "data_dir: state\n"
        "catalogs: [{name: a, folders: [music, /srv/music]}]\n"
        "streams:\n"
        "  - {name: s, urls: [song.wav, 'file:song.wav', 'file:///srv/a:b.wav', /srv/later.wav, 'device:Mic: 2']}\n",
    )
    config = load(path, environ={})
    assert config.data_dir == tmp_path / "state"
    assert config.catalogs[0].folders == (tmp_path / "music", Path("/srv/music"))
    song = str(tmp_path / "song.wav")
    assert config.streams[0].addresses == (song, song, "/srv/a:b.wav", "/srv/later.wav", "device:Mic: 2")


@pytest.mark.parametrize(("given", "found"), [("ffmpeg-9", "ffmpeg-9"), ("bin/ffmpeg", "{}/bin/ffmpeg")])
def test_a_bare_program_is_left_to_the_path(tmp_path: Path, given: str, found: str) -> None:
    config = load(written(tmp_path, f"ffmpeg: {{path: {given}}}"), environ={})
    assert str(config.ffmpeg.path) == found.format(tmp_path)


def test_the_data_directory_of_the_command_line_comes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, "data_dir: /from/file\n")
    environ = {"MONITOR_DATA_DIR": "from-environment"}
    assert load(path, environ={}).data_dir == Path("/from/file")
    assert load(path, environ=environ).data_dir == tmp_path / "from-environment"
    assert load(path, environ=environ, data_dir=Path("given")).data_dir == tmp_path / "given"


def test_secrets_come_from_files_without_the_line_end(tmp_path: Path) -> None:
    written(tmp_path, "a-token-of-some-length\n", "token")
    written(tmp_path, "http://user:pass@a/\n\nhttp://b/\n", "urls")
    written(tmp_path, "Authorization: Bearer abcdefgh\nX-Key: from-file\n", "headers")
    path = written(
        tmp_path,
        "http: {token_file: token}\n"
        "streams: [{name: s, url_file: urls, headers_file: headers, headers: {X-Key: own}}]\n"
        "webhooks: [{name: w, url: 'https://h/', secret_file: token}]\n",
    )
    config = load(path, environ={})
    assert config.http.token is not None
    assert config.http.token.get_secret_value() == "a-token-of-some-length"
    assert config.http.token_file == tmp_path / "token"
    assert config.streams[0].addresses == ("http://user:pass@a/", "http://b/")
    assert config.streams[0].request_headers == {"Authorization": "Bearer abcdefgh", "X-Key": "own"}
    assert config.webhooks[0].secrets == ("a-token-of-some-length",)
    assert config.webhooks[0].states == tuple(MatchState)


def test_a_line_that_is_no_header_is_refused_without_being_shown(tmp_path: Path) -> None:
    written(tmp_path, "Accept: audio/mpeg\nBearer abcdefgh\n", "headers")
    path = written(tmp_path, "streams: [{name: s, url: 'http://h/', headers_file: headers}]\n")
    assert refusal(path) == (f"{path}:1: streams[0].headers_file: {tmp_path}/headers has no 'Name: value' in line 2")


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    written(tmp_path, "key-from-a-file-of-its-own", "key")
    path = written(
        tmp_path,
        "postgres: {dsn_file: /nowhere}\n"
        "streams: [{name: rock.fm, urls: ['http://old/']}]\n"
        "webhooks: [{name: desk, url: 'https://h/'}]\n",
    )
    config = load(
        path,
        environ={
            "MONITOR_POSTGRES_DSN": "postgresql://h/db",
            "MONITOR_MILVUS_URI": "http://m:19530",
            "MONITOR_LOG_FORMAT": "json",
            "MONITOR_STREAM_ROCK_FM_URL": "http://user:new@h/",
            "MONITOR_WEBHOOK_DESK_SECRET_FILE": str(tmp_path / "key"),
            "MONITOR_HTTP_TOKEN": "",
            "MONITOR_SERVICE_HOST": "10.0.0.1",
        },
    )
    assert config.postgres is not None
    assert config.postgres.dsn.get_secret_value() == "postgresql://h/db"
    assert config.milvus is not None
    assert config.log.format == "json"
    assert config.streams[0].addresses == ("http://user:new@h/",)
    assert config.webhooks[0].secrets == ("key-from-a-file-of-its-own",)
    assert config.http.token is None


def test_a_problem_with_a_variable_names_the_variable(tmp_path: Path) -> None:
    assert refusal(None, {"MONITOR_LOG_LEVEL": "loud"}) == (
        "environment variable MONITOR_LOG_LEVEL: log.level: must be 'debug', 'info', 'warning' or 'error', not 'loud'"
    )
    assert refusal(None, {"MONITOR_POSTGRES_DSN": "user:hush@h"}) == (
        "environment variable MONITOR_POSTGRES_DSN: postgres.dsn: "
        "is not a connection string such as postgresql://host/database"
    )
    assert refusal(None, {"MONITOR_HTTP_TOKEN_FILE": str(tmp_path / "no")}) == (
        f"environment variable MONITOR_HTTP_TOKEN_FILE: http.token_file: {tmp_path}/no cannot be read: "
        "No such file or directory"
    )
    both = {"MONITOR_HTTP_TOKEN": "x" * 20, "MONITOR_HTTP_TOKEN_FILE": "/dev/null"}
    assert refusal(None, both) == (
        "environment variable MONITOR_HTTP_TOKEN_FILE: is set, and so is MONITOR_HTTP_TOKEN: remove one of them"
    )


def test_a_stream_is_watched_against_its_catalogs_or_the_first(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "catalogs: [{name: music}, {name: effects, embedder: panns}]\n"
        "streams: [{name: a, url: 'http://h/'}, {name: b, url: 'http://h/', catalogs: [effects, music]}]\n",
    )
    config = load(path, environ={})
    names = [[catalog.name for catalog in config.catalogs_of(stream)] for stream in config.streams]
    assert names == [["music"], ["effects", "music"]]


_texts = st.text("ab/:.@\x00é ", max_size=8)
_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*Config.model_fields, "x"]),
        st.dictionaries(st.sampled_from(["name", "url", "urls", "token", "dsn", "uri", "headers", "folders"]), _trees)
        | st.lists(
            st.dictionaries(st.sampled_from(["name", "url", "url_file", "catalogs", "secret"]), _trees), max_size=3
        )
        | _trees,
        max_size=4,
    )
)
def test_any_data_gives_a_configuration_or_its_problems(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    import yaml

    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    try:
        assert isinstance(load(path, environ={}), Config)
    except InvalidConfigError as refused:
        assert refused.problems
