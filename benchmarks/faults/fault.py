"""What is done to the daemon, what it must make of that, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace


class Kind(enum.StrEnum):
    """What fails."""

    STREAM = "stream"
    TLS = "TLS"
    HLS = "HLS"
    SOUND = "sound"
    NETWORK = "network"
    FFMPEG = "ffmpeg"
    WEBHOOK = "webhook"
    POSTGRES = "PostgreSQL"
    MILVUS = "Milvus"
    KEEPER = "keeper"
    DISK = "disk"
    DAEMON = "daemon"
    CLOCK = "clock"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One row of the table: each kind of subject adds how the fault is done to it and what shows that it was."""

    #: Unique in the table; also the stream's or endpoint's name.
    name: str
    kind: Kind
    #: What happens, in a few words.
    what: str
    #: The longest that the daemon may take to notice, and to be well again once the fault is over.
    notice_s: float = 150.0
    recover_s: float = 240.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One fault, injected once."""

    fault: Fault
    #: What the daemon must make of it, such as `backing_off: timeout`.
    expected: str
    #: From the injection until the daemon said so; None: it never did.
    noticed_s: float | None = None
    #: From the fault's end until all was well again; None: it never was.
    recovered_s: float | None = None
    #: Airings, or webhooks, that must have been there and were not.
    lost: int = 0
    #: What is wrong, one sentence each.
    problems: tuple[str, ...] = ()

    @property
    def survived(self) -> bool:
        """Noticed, over in time, recorded as it must be, and nothing lost."""
        return not self.problems and not self.lost and self.noticed_s is not None and self.recovered_s is not None

    @property
    def described(self) -> str:
        """In one line."""
        fault = self.fault
        if not self.survived or self.noticed_s is None or self.recovered_s is None:
            why = "; ".join(self.problems) or ("not well again" if self.recovered_s is None else "something was lost")
            return f"{fault.kind}, {fault.name}: FAILED: {why}"
        times = f"noticed after {self.noticed_s:.1f} s, well {self.recovered_s:.1f} s after its end"
        return f"{fault.kind}, {fault.name}: {self.expected}; {times}"


@dataclass(frozen=True, kw_only=True)
class Control:
    """What became of the healthy stream beside the faults."""

    scene: str
    airings: int
    lost: int
    problems: tuple[str, ...] = ()

    def with_problems(self, problems: Iterable[str]) -> Control:
        """With more of them."""
        return replace(self, problems=(*self.problems, *problems))
