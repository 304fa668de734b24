"""The configuration as records: every key with its unit, default and bounds. JSON Schema and the example follow it."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

from monitor import masking
from monitor.config.address import postgres_password
from monitor.types import MatchState

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
MIN_SECRET_LENGTH = 16


_Text = TypeVar("_Text", str, SecretStr)


def _one_line(value: _Text) -> _Text:
    text = value if isinstance(value, str) else value.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be one line of ASCII characters")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"must be a network such as 10.1.0.0/16 ({error})") from error
    return value


HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
Headers = Mapping[HeaderName, Annotated[SecretStr, AfterValidator(_one_line)]]


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Lines for people, or one JSON object a line for programs."""

    TEXT = "text"
    JSON = "json"


class EmbedderName(StrEnum):
    """Which model turns windows of sound into vectors."""

    FINGERPRINT = "fingerprint"
    PANNS = "panns"


class TempoAndPitch(StrEnum):
    """How much faster, slower, higher or lower a recording may be played and still be found."""

    WIDE = "wide"
    EXACT = "exact"


class Section(BaseModel):
    """A mapping of the configuration file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Log(Section):
    """What the daemon writes to standard error."""

    level: LogLevel = Field(default=LogLevel.INFO, title="Level", description="Least severe messages that are written.")
    format: LogFormat = Field(
        default=LogFormat.TEXT, title="Format", description="`text` for people, `json` one object a line."
    )


class Ffmpeg(Section):
    """The program that fetches and decodes."""

    path: Path | None = Field(
        default=None, title="Path", description="ffmpeg program; without it the system's, else the one of the package."
    )


class Postgres(Section):
    """A PostgreSQL server of your own. Without this section an embedded one runs in the data directory."""

    dsn: SecretStr = Field(title="DSN", description="Connection string, such as postgresql://user@host/database.")
    dsn_file: Path | None = Field(default=None, title="DSN file", description="File that holds the connection string.")


class Milvus(Section):
    """A Milvus server of your own. Without this section Milvus Lite runs in the data directory."""

    uri: str = Field(title="URI", repr=False, description="Address, such as http://host:19530.")
    token: SecretStr | None = Field(default=None, title="Token", description="API key, or user:password.")
    token_file: Path | None = Field(default=None, title="Token file", description="File that holds the token.")


class Http(Section):
    """The one HTTP server: metrics, health, reload, API and page."""

    host: str = Field(default="127.0.0.1", title="Host", min_length=1, description="Address to listen on.")
    port: int = Field(
        default=8710, title="Port", ge=0, le=65535, description="TCP port to listen on; 0 takes any free one."
    )
    token: SecretStr | None = Field(
        default=None, title="Token", min_length=MIN_SECRET_LENGTH, description="Bearer token that requests must carry."
    )
    token_file: Path | None = Field(default=None, title="Token file", description="File that holds the token.")
    protect_reads: bool = Field(
        default=False, title="Protect reads", description="True: reading the API needs a token too."
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        title="Hosts",
        description="Further names by which a daemon that listens on loopback alone may be asked, as behind a proxy.",
    )
    import_dirs: tuple[Path, ...] = Field(
        default=(), title="Import directories", description="Directories from which the API may load references."
    )
    allow_private_streams: bool = Field(
        default=False,
        title="Allow private streams",
        description="True: streams added through the API may be at private addresses.",
    )
    stream_networks: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(),
        title="Stream networks",
        description="Networks that streams added through the API may reach though they are private: 10.1.0.0/16.",
    )
    max_upload_bytes: int = Field(
        default=1 << 30, title="Largest upload", ge=1 << 10, le=1 << 40, description="Bytes of one upload, all files."
    )
    max_reference_s: float = Field(
        default=6 * 3600,
        title="Longest upload",
        ge=1,
        le=72 * 3600,
        description="Seconds of sound that an uploaded reference may hold.",
    )
    max_clip_s: float = Field(
        default=600, title="Longest clip", ge=1, le=6 * 3600, description="Seconds of sound that a search may hold."
    )
    writes_per_minute: float = Field(
        default=600, title="Writes", gt=0, le=1e6, description="Changes that one address may ask for in the long run."
    )
    searches_per_minute: float = Field(
        default=60, title="Searches", gt=0, le=1e6, description="Searches that one address may ask for in the long run."
    )


class Catalog(Section):
    """A set of references, embedded by one model."""

    name: Name = Field(title="Name", description="Letters, digits, '.', '_' and '-'; unique.")
    embedder: EmbedderName = Field(
        default=EmbedderName.FINGERPRINT,
        title="Embedder",
        description="`fingerprint` finds the same recording; `panns` finds similar sound.",
    )
    folders: tuple[Path, ...] = Field(
        default=(), title="Folders", description="Directories whose audio files are kept loaded."
    )
    rescan_interval_s: float = Field(
        default=3600, title="Rescan interval", ge=10, description="Seconds between two scans of the folders."
    )


class Stream(Section):
    """Something that plays for ever. Exactly one of url, urls and url_file says where."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [key]} for key in ("url", "urls", "url_file")]})

    name: Name = Field(title="Name", description="Letters, digits, '.', '_' and '-'; unique.")
    url: str | None = Field(
        default=None,
        title="URL",
        repr=False,
        description="Address (http, https, rtsp, rtsps, rtmp, rtmps, srt, udp, rtp), device:NAME, or a file's path.",
    )
    urls: tuple[str, ...] = Field(default=(), title="URLs", repr=False, description="Several addresses, tried in turn.")
    url_file: Path | None = Field(
        default=None, title="URL file", description="File that holds the addresses, one a line."
    )
    catalogs: tuple[Name, ...] = Field(
        default=(),
        title="Catalogs",
        description="Catalogs that the stream is watched against; without it the first one.",
    )
    headers: Headers = Field(default={}, title="Headers", description="HTTP request headers.")
    headers_file: Path | None = Field(
        default=None, title="Headers file", description="File that holds further headers, one 'Name: value' a line."
    )
    user_agent: Annotated[str, AfterValidator(_one_line)] | None = Field(
        default=None, title="User agent", description="User-Agent of HTTP and RTSP requests."
    )
    paused: bool = Field(
        default=False, title="Paused", description="True: keep the stream configured, but do not listen."
    )
    stall_timeout_s: float = Field(
        default=20, title="Stall timeout", ge=1, le=600, description="Seconds without audio after which to reconnect."
    )
    connect_timeout_s: float = Field(
        default=15,
        title="Connect timeout",
        ge=1,
        le=600,
        description="Seconds to wait for the first audio of a connection.",
    )
    silence_after_s: float = Field(
        default=10,
        title="Silence after",
        ge=1,
        le=3600,
        description="Seconds of quiet after which the state is `silent`.",
    )
    silence_dbfs: float = Field(
        default=-60,
        title="Silence level",
        ge=-120,
        le=0,
        description="Level in dB relative to full scale that counts as quiet.",
    )
    blip_s: float = Field(
        default=10,
        title="Blip",
        ge=0,
        le=3600,
        description="Seconds not heard that are history and no alarm.",
    )
    flapping_failures: int = Field(
        default=6,
        title="Flapping",
        ge=2,
        le=1000,
        description="More failures than this within flapping_window_s are one alarm, and not many.",
    )
    flapping_window_s: float = Field(
        default=600, title="Flapping window", ge=10, le=86400, description="Seconds over which failures are counted."
    )
    tls_verify: bool = Field(default=True, title="Verify TLS", description="False: accept any server certificate.")
    ca_file: Path | None = Field(
        default=None,
        title="CA file",
        description="Certificate authorities (PEM) that are trusted, instead of the machine's.",
    )
    protocols: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*$")], ...] | None = Field(
        default=None,
        title="Protocols",
        description="ffmpeg protocols that may be used, instead of what the address needs.",
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where to listen, in the order in which to try."""
        return self.urls or ((self.url,) if self.url else ())

    @property
    def request_headers(self) -> dict[str, str]:
        """The headers unmasked."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}


class MatchRules(Section):
    """When agreeing hits are an airing. Changes apply to a running daemon on reload."""

    top_k: int = Field(
        default=15, title="Top k", ge=1, le=100, description="Neighbours asked of the catalog for each window."
    )
    provisional_evidence_nats: float | None = Field(
        default=None,
        title="Provisional evidence",
        gt=0,
        description="Nats at which a match is announced; null: the model's own.",
    )
    confirmed_evidence_nats: float | None = Field(
        default=None,
        title="Confirmed evidence",
        gt=0,
        description="Nats at which a match is certain; null: the model's own.",
    )
    min_length_s: float = Field(
        default=2, title="Least length", ge=0, le=600, description="Seconds that an airing must last to be a match."
    )
    max_gap_s: float = Field(
        default=30,
        title="Longest gap",
        ge=0,
        le=3600,
        description="Seconds without a hit, heard or not, within one airing; also across a restart.",
    )
    end_after_s: float = Field(
        default=10, title="End after", ge=1, le=600, description="Heard seconds without a hit that end an airing."
    )
    tempo_and_pitch: TempoAndPitch = Field(
        default=TempoAndPitch.WIDE,
        title="Tempo and pitch",
        description="`wide` finds tempo, pitch and speed changed by up to 45 %; `exact`, 2 %, takes a third of the "
        "embedding and searching.",
    )


class Webhook(Section):
    """An address that is told about matches, signed as Standard Webhooks 1.0 asks."""

    name: Name = Field(title="Name", description="Letters, digits, '.', '_' and '-'; unique.")
    url: SecretStr = Field(title="URL", description="Address (http or https) that receives POST requests.")
    url_file: Path | None = Field(default=None, title="URL file", description="File that holds the address.")
    secret: SecretStr = Field(title="Secret", description="Signing key: whsec_ and base64, or at least 16 characters.")
    secret_file: Path | None = Field(default=None, title="Secret file", description="File that holds the signing key.")
    previous_secret: SecretStr | None = Field(
        default=None, title="Previous secret", description="Second signing key, valid while keys are changed."
    )
    previous_secret_file: Path | None = Field(
        default=None, title="Previous secret file", description="File that holds the second signing key."
    )
    states: tuple[MatchState, ...] = Field(
        default=tuple(MatchState), title="States", min_length=1, description="States of a match that are told."
    )
    timeout_s: float = Field(default=10, title="Timeout", ge=0.1, le=120, description="Seconds to wait for an answer.")
    rate_per_s: float = Field(
        default=10, title="Rate", ge=0.01, le=1000, description="Most requests a second, on average."
    )
    headers: Headers = Field(default={}, title="Headers", description="Further HTTP request headers.")
    headers_file: Path | None = Field(
        default=None, title="Headers file", description="File that holds further headers, one 'Name: value' a line."
    )

    @field_validator("secret", "previous_secret")
    @classmethod
    def _signing_key(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value() if value else ""
        if key.startswith("whsec_"):
            try:
                size = len(base64.b64decode(key.removeprefix("whsec_"), validate=True))
            except binascii.Error as error:
                raise ValueError("must be base64 after whsec_") from error
            if size < MIN_SECRET_LENGTH:
                raise ValueError(f"must hold at least {MIN_SECRET_LENGTH} bytes after whsec_")
        elif value is not None and len(key) < MIN_SECRET_LENGTH:
            raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters")
        return value

    @property
    def secrets(self) -> tuple[str, ...]:
        """The signing keys: the current one, then the previous one."""
        return tuple(key.get_secret_value() for key in (self.secret, self.previous_secret) if key)

    @property
    def request_headers(self) -> dict[str, str]:
        """The headers unmasked."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}


class Retention(Section):
    """How long what was recorded is kept. Matches are kept for ever."""

    hits_days: int = Field(default=30, title="Hits", ge=1, le=36500, description="Days that single hits are kept.")
    history_days: int = Field(
        default=90, title="History", ge=1, le=36500, description="Days that states and gaps are kept."
    )
    deliveries_days: int = Field(
        default=30, title="Deliveries", ge=1, le=36500, description="Days that sent webhooks are kept."
    )


class Pipeline(Section):
    """Bounds of the queues between the stages, and what the model may use."""

    batch_windows: int = Field(
        default=64, title="Batch", ge=1, le=4096, description="Most windows that go through the model at once."
    )
    windows_capacity: int = Field(
        default=1024,
        title="Windows",
        ge=1,
        le=1_000_000,
        description="Windows that may wait; then the oldest is dropped.",
    )
    backlog_s: float = Field(
        default=600, title="Backlog", ge=1, le=86400, description="Seconds of embeddings kept while Milvus is away."
    )
    search_interval_s: float = Field(
        default=0.5,
        title="Search interval",
        ge=0,
        le=10,
        description="Seconds between searches, each for all streams at once.",
    )
    model_threads: int = Field(
        default=1, title="Model threads", ge=1, le=64, description="Processor threads of the model."
    )
    align_processes: int | None = Field(
        default=None,
        title="Aligning processes",
        ge=0,
        le=256,
        description="Most processes that align beside the daemon's own; 0: it aligns itself; null: by the cores.",
    )


class Canary(Section):
    """The self-test: a song that only the daemon knows is played to each catalog, and must be recognised."""

    interval_s: float = Field(
        default=3600, title="Interval", ge=0, le=604_800, description="Seconds between two self-tests; 0: none."
    )
    alarm_after: int = Field(
        default=3,
        title="Alarm after",
        ge=1,
        le=1000,
        description="Self-tests failed in a row after which the daemon is not ready.",
    )


class Config(Section):
    """The whole configuration of a deployment."""

    data_dir: Path | None = Field(
        default=None,
        title="Data directory",
        description="Where state lives; --data-dir and MONITOR_DATA_DIR come first.",
    )
    log: Log = Log()
    ffmpeg: Ffmpeg = Ffmpeg()
    postgres: Postgres | None = None
    milvus: Milvus | None = None
    http: Http = Http()
    catalogs: tuple[Catalog, ...] = Field(default=(Catalog(name="default"),), title="Catalogs", min_length=1)
    streams: tuple[Stream, ...] = Field(default=(), title="Streams")
    match: MatchRules = MatchRules()
    webhooks: tuple[Webhook, ...] = Field(default=(), title="Webhooks")
    retention: Retention = Retention()
    pipeline: Pipeline = Pipeline()
    canary: Canary = Canary()

    def catalogs_of(self, stream: Stream) -> tuple[Catalog, ...]:
        """The catalogs that the stream is watched against, in its own order."""
        by_name = {catalog.name: catalog for catalog in self.catalogs}
        return tuple(by_name[name] for name in stream.catalogs) or self.catalogs[:1]

    @property
    def secrets(self) -> frozenset[str]:
        """Every text that must not be shown: feed it to the log's mask."""
        found: set[str] = set()
        for section in (self.postgres, self.milvus, self.http, *self.webhooks, *self.streams):
            for name, value in section or ():
                if isinstance(value, SecretStr):
                    secret = value.get_secret_value()
                    found |= masking.url_secrets(secret) if "://" in secret else {secret}
                elif name == "headers":
                    sensitive = [v.get_secret_value() for key, v in value.items() if masking.is_sensitive_name(key)]
                    found |= {part for text in sensitive for part in (text, text.rpartition(" ")[2])}
        for stream in self.streams:
            found |= {secret for address in stream.addresses for secret in masking.url_secrets(address)}
        if self.milvus:
            found |= masking.url_secrets(self.milvus.uri)
        if self.postgres:
            found.add(postgres_password(self.postgres.dsn.get_secret_value()))
        return frozenset(secret for secret in found if len(secret) >= 4)
