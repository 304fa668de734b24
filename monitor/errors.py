"""One tree of errors with their exit codes, and the enums of failure kinds that exception, log and metric share."""

from __future__ import annotations

import enum


class StreamReason(enum.StrEnum):
    """Why a stream is not being heard."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    AUTH = "auth"
    NOT_FOUND = "not_found"
    HTTP_ERROR = "http_error"
    REDIRECT_LOOP = "redirect_loop"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    NO_AUDIO = "no_audio"
    UNDECODABLE = "undecodable"
    PROTOCOL_DENIED = "protocol_denied"
    ADDRESS_DENIED = "address_denied"
    ENDED = "ended"
    DEVICE_MISSING = "device_missing"
    #: The machine's clock was set forward: stream time has a hole where nothing was missed.
    CLOCK = "clock"
    OVERLOAD = "overload"
    BUG = "bug"
    SHUTDOWN = "shutdown"


class DropReason(enum.StrEnum):
    """Why a window or an embedding was thrown away."""

    OVERLOAD = "overload"
    BACKLOG_FULL = "backlog_full"
    SHUTDOWN = "shutdown"


class ServerReason(enum.StrEnum):
    """Why a call to Milvus or PostgreSQL failed."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REJECTED = "rejected"
    BAD_DATA = "bad_data"
    CORRUPT = "corrupt"
    STALE_EPOCH = "stale_epoch"


class DeliveryReason(enum.StrEnum):
    """Why a webhook was not accepted."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    REDIRECT = "redirect"
    CLIENT_ERROR = "client_error"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    GONE = "gone"
    UNSENDABLE = "unsendable"


class CanaryReason(enum.StrEnum):
    """Why a self-test failed."""

    #: All its windows were searched, and the canary was not recognised.
    MISSED = "missed"
    #: It was recognised, but at another place of the reference than was played.
    MISPLACED = "misplaced"
    #: What was played did not get through in time.
    LATE = "late"
    #: Windows of it were thrown away.
    DROPPED = "dropped"
    #: Its vectors were gone from Milvus, or damaged.
    LOST = "lost"
    UNREACHABLE = "unreachable"


class MonitorError(Exception):
    """An error whose message is one sentence for the person who can mend it: what, where, and what to do."""

    exit_code = 1


class UsageError(MonitorError):
    """The command's words are wrong."""

    exit_code = 2


class InputError(MonitorError):
    """Some input (a file, a manifest row) cannot be used."""

    exit_code = 65


class UnreachableError(MonitorError):
    """A server that is needed does not answer."""

    exit_code = 69

    def __init__(self, message: str, reason: ServerReason = ServerReason.UNREACHABLE) -> None:
        super().__init__(message)
        self.reason = reason


class StorageError(MonitorError):
    """The data directory is not writable, or the disk is full."""

    exit_code = 73


class InUseError(MonitorError):
    """Another daemon uses the data directory."""

    exit_code = 75


class ConfigError(MonitorError):
    """The configuration is wrong, or the model does not fit the catalog."""

    exit_code = 78


class MissingPartError(MonitorError):
    """An optional part (torch, PortAudio, a checkpoint) is not installed; the message says how to install it."""

    exit_code = 78


class StaleEpochError(MonitorError):
    """Another listener has taken the stream over; this one's writes are refused."""

    reason = ServerReason.STALE_EPOCH

    def __init__(self, message: str, streams: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.streams = streams


class SourceError(MonitorError):
    """A source gave up; `reason` says why, the message gives the masked address and ffmpeg's last words."""

    def __init__(self, reason: StreamReason, message: str, *, last_words: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.last_words = last_words


class DeliveryError(MonitorError):
    """An endpoint did not accept a webhook; `reason` says why, the message what it said or what went wrong."""

    def __init__(
        self,
        reason: DeliveryReason,
        message: str,
        *,
        status_code: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        #: None where no answer came.
        self.status_code = status_code
        #: How long the endpoint asked to be left alone.
        self.retry_after_s = retry_after_s
