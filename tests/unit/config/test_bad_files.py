"""One tiny file per rule in `bad/`, each with the exact message."""

# ruff: noqa: E501  (messages stand here as they are printed)

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.config import load
from monitor.errors import ConfigError

BAD = Path(__file__).parent / "bad"

MESSAGES = {
    "above-full-scale": "2: streams[0].silence_dbfs: must be less than or equal to 0, not 3",
    "catalog-twice": "2: streams[0].catalogs[1]: names 'default' twice",
    "colon": "1: a ':' stands where no key may begin: check the indentation, or quote the text",
    "duplicate-inner-key": "3: http.port: is given twice; the first is in line 2",
    "duplicate-key": "3: log: is given twice; the first is in line 1",
    "entry-not-mapping": "2: streams[0]: must be a mapping of keys (name, url, urls, url_file, ...), not 'http://h/'",
    "evidence-order": "3: match.confirmed_evidence_nats: must be at least provisional_evidence_nats (20)",
    "fraction": "1: match.top_k: must be a whole number, not 2.5",
    "header-name": "4: streams[0].headers.X Y: is not the name of a header",
    "header-value": "4: streams[0].headers.X-Key: must be one line of ASCII characters",
    "http-token-short": "1: http.token: must have at least 16 characters",
    "infinite": "1: match.max_gap_s: must be a finite number, not Infinity",
    "key-not-text": "1: is not YAML: a key must be plain text",
    "list-not-list": "1: streams: must be a list, each entry after a '-'",
    "milvus-file": "1: milvus.uri: is not the address of a server, such as http://host:19530; leave the section out for an embedded Milvus",
    "milvus-without-uri": "1: milvus.uri: is required",
    "name-characters": "2: streams[0].name: must be letters, digits, '.', '_' and '-', at most 63, the first a letter or digit, not 'a b'",
    "name-missing": "2: streams[0].name: is required",
    "no-catalogs": "1: catalogs: must have at least 1 entry",
    "no-url": "2: streams[0]: has no url: give url, urls or url_file",
    "not-a-choice": "1: log.level: must be 'debug', 'info', 'warning' or 'error', not 'verbose'",
    "not-a-mapping": "1: must be a mapping of keys, such as 'streams:'",
    "not-yaml": "2: is not YAML: expected the node content, but found '<stream end>'",
    "number-from-text": "1: http.port: must be a whole number, not '8710'",
    "own-anchor": "1: is not YAML: an anchor refers to itself",
    "postgres-dsn": "1: postgres.dsn: is not a connection string such as postgresql://host/database",
    "postgres-without-dsn": "1: postgres.dsn: is required: give dsn or dsn_file",
    "protocol-name": "2: streams[0].protocols[0]: must match pattern '^[a-z][a-z0-9+]*$', not 'HTTP'",
    "same-name": "3: streams[1].name: 'a' is taken by the entry in line 2",
    "secret-and-file": "1: http.token_file: is given beside token: remove one of them",
    "secret-file-directory": "1: http.token_file: / cannot be read: Is a directory",
    "secret-file-empty": "1: http.token_file: /dev/null is empty",
    "secret-file-endless": "1: http.token_file: /dev/zero is over 65536 bytes",
    "secret-file-missing": "1: http.token_file: /nowhere/token cannot be read: No such file or directory",
    "section-not-mapping": "1: log: must be a mapping of keys (level, format), not 'debug'",
    "tab": "2: a tab stands where YAML wants spaces",
    "tag": "1: is not YAML: the tag tag:yaml.org,2002:python/name:os.system is not allowed",
    "text-from-number": "2: streams[0].name: must be text: put it in quotes, not 101",
    "too-large": "1: http.port: must be less than or equal to 65535, not 65536",
    "too-small": "2: streams[0].stall_timeout_s: must be greater than or equal to 1, not 0",
    "truth-word": "2: streams[0].paused: must be true or false, not 'yes'",
    "two-documents": "2: holds more than one document; remove the second '---'",
    "two-urls": "4: streams[0].urls: has url and urls: give one of them",
    "unknown-catalog": "3: streams[0].catalogs[0]: there is no catalog 'jingle'; did you mean 'jingles'?",
    "unknown-embedder": "1: catalogs[0].embedder: must be 'fingerprint' or 'panns', not 'pann'",
    "unknown-key-far": "2: http.zzz: is not a key; known are host, port, token, token_file, protect_reads, hosts,"
    " import_dirs, allow_private_streams, stream_networks, max_upload_bytes, max_reference_s, max_clip_s, writes_per_minute,"
    " searches_per_minute",
    "unknown-key": "2: http.prot: is not a key; did you mean 'port'?",
    "unknown-section": "1: strems: is not a key; did you mean 'streams'?",
    "unknown-stream-key": "4: streams[0].pasued: is not a key; did you mean 'paused'?",
    "url-concat": "3: streams[0].url: has the scheme 'concat'; known are http, https, rtsp, rtsps, rtmp, rtmps, srt, udp, rtp, device:NAME or the path of a file",
    "url-device": "3: streams[0].url: names no device: give device:NAME or device:INDEX",
    "url-file-missing": "2: streams[0].url_file: /nowhere/urls cannot be read: No such file or directory",
    "url-no-host": "3: streams[0].url: names no host: write http://HOST/...",
    "url-port": "3: streams[0].url: has a port or a host that cannot be; write '/', '@' and ':' in a password as %2F, %40 and %3A",
    "url-scheme": "3: streams[0].url: has the scheme 'htp'; known are http, https, rtsp, rtsps, rtmp, rtmps, srt, udp, rtp, device:NAME or the path of a file",
    "url-space": "3: streams[0].url: holds a space or a control character; write it as %20",
    "url-without-scheme": "3: streams[0].url: is neither a file ({bad}/radio.example.com/live.mp3) nor an address with a scheme, such as http://radio.example.com/live.mp3",
    "urls-empty": "3: streams[0].urls: holds no address",
    "user-agent": "2: streams[0].user_agent: must be one line of ASCII characters, not 'x\\ny'",
    "webhook-no-states": "2: webhooks[0].states: must have at least 1 entry",
    "webhook-scheme": "2: webhooks[0].url: has the scheme 'ftp'; known are http, https",
    "webhook-secret-base64": "2: webhooks[0].secret: must be base64 after whsec_",
    "webhook-secret-few": "2: webhooks[0].secret: must have at least 16 characters",
    "webhook-secret-short": "2: webhooks[0].secret: must hold at least 16 bytes after whsec_",
    "webhook-state": "2: webhooks[0].states[0]: must be 'provisional', 'confirmed', 'ended' or 'retracted', not 'finished'",
    "webhook-without-secret": "2: webhooks[0].secret: is required: give secret or secret_file",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in BAD.glob("*.yaml")))
def test_message(name: str) -> None:
    path = BAD / f"{name}.yaml"
    with pytest.raises(ConfigError) as refused:
        load(path, environ={})
    assert str(refused.value) == f"{path}:{MESSAGES[name].format(bad=BAD)}"
    assert refused.value.exit_code == 78
    assert "hush" not in str(refused.value)


def test_every_message_has_its_file() -> None:
    assert {path.stem for path in BAD.glob("*.yaml")} == set(MESSAGES)
