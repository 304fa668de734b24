"""The table of all that a webhook's receiver can do wrong, beside one that does everything right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.faults import receiver
from benchmarks.faults.certificates import Certificates, context
from benchmarks.faults.fault import Fault, Kind, Outcome
from benchmarks.faults.receiver import Answer, Receiver, Request, flood, status
from benchmarks.faults.rig import Rig, Watch
from monitor.errors import DeliveryReason

#: The receiver that does everything right.
DESK = "desk"
#: A webhook's secret for its signatures.
_SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_TIMEOUT_S = 4
#: The longest that the good receiver may wait for an event.
_PROMPT_S = 15.0
_DELAY_SQL = """
SELECT coalesce(max(extract(epoch FROM finished_at - created_at)), 0)::float8 FROM deliveries
 WHERE endpoint = %s AND state = 'delivered' AND created_at >= to_timestamp(%s)
"""


@dataclass(frozen=True, kw_only=True)
class WebhookFault(Fault):
    """A fault of one receiver."""

    #: What it answers; None where it is its certificate that is wrong.
    answer: Answer | None
    #: What an attempt is counted as; None: accepted all the same.
    reason: DeliveryReason | None
    #: What somebody has to do afterwards: words of `monitor deliveries`, none where it is tried again by itself.
    repair: tuple[tuple[str, ...], ...] = ()


def webhook_faults() -> tuple[WebhookFault, ...]:
    """All of them."""
    reason = DeliveryReason

    def row(name: str, what: str, answer: Answer | None, because: DeliveryReason | None, **others: Any) -> WebhookFault:
        return WebhookFault(name=name, kind=Kind.WEBHOOK, what=what, answer=answer, reason=because, **others)

    def replay(name: str) -> tuple[str, ...]:
        return ("replay", "--all-dead", "--endpoint", name)

    return (
        row("hook-slow", "answers after 2 s", _slow, None),
        row("hook-hangs", "takes the request and never answers", receiver.hang, reason.TIMEOUT),
        row("hook-500", "Internal Server Error", status(500), reason.SERVER_ERROR),
        row("hook-429", "Too Many Requests, with Retry-After", status(429, retry_after="3"), reason.RATE_LIMITED),
        row("hook-404", "Not Found: a dead letter", status(404), reason.CLIENT_ERROR, repair=(replay("hook-404"),)),
        row(
            "hook-410", "Gone: disabled", status(410), reason.GONE,
            repair=(("enable", "hook-410"), replay("hook-410")),
        ),
        row("hook-huge", "an answer without end", flood(500), reason.SERVER_ERROR),
        row("hook-head", "headers without end", receiver.endless_head, reason.PROTOCOL),
        row("hook-garbage", "something that is not HTTP", receiver.garbage, reason.PROTOCOL),
        row("hook-resets", "hangs up without an answer", receiver.hang_up, reason.UNREACHABLE),
        row("hook-redirects", "redirects elsewhere", status(302, location="http://127.0.0.1:9/"), reason.REDIRECT),
        row("hook-tls", "a certificate that nobody vouches for", None, reason.TLS),
    )  # fmt: skip


async def _slow(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(2)
    await status(204)(writer)


class Hooks:
    """The receivers of all endpoints."""

    def __init__(self, plain: Receiver, secure: Receiver, tls: ssl.SSLContext, identities: Certificates) -> None:
        self._plain, self._secure, self._tls, self._identities = plain, secure, tls, identities
        #: Of each endpoint, which of the requests that came to it were answered badly: from, to.
        self._refused: dict[str, range] = {}

    def definitions(self, faults: Iterable[WebhookFault]) -> list[dict[str, Any]]:
        """Entries of the configuration, the good one's first."""
        common = {"secret": _SIGNING_SECRET, "timeout_s": _TIMEOUT_S, "states": ["confirmed", "ended", "retracted"]}
        urls = {DESK: f"{self._plain.url}/{DESK}"} | {
            fault.name: f"{(self._plain if fault.answer else self._secure).url}/{fault.name}" for fault in faults
        }
        return [{"name": name, "url": url, **common} for name, url in urls.items()]

    def received(self, name: str) -> set[tuple[str, int]]:
        """The events that came to the endpoint and were answered well, each once."""
        refused = self._refused.get(name, range(0))
        bodies = [
            json.loads(request.body)["data"]
            for number, request in enumerate(self._requests(name))
            if number not in refused
        ]
        return {(body["match_id"], body["sequence"]) for body in bodies}

    @contextlib.contextmanager
    def failing(self, fault: WebhookFault) -> Iterator[None]:
        """As long as the block lasts."""
        path, first = f"/{fault.name}", len(self._requests(fault.name))
        if fault.answer is None:
            self._identities.unknown.present(self._tls)
            self._secure.hang_up()
        else:
            self._plain.answers[path] = [fault.answer]
        try:
            yield
        finally:
            self._plain.answers.pop(path, None)
            self._identities.good.present(self._tls)
            if fault.reason is not None:
                self._refused[fault.name] = range(first, len(self._requests(fault.name)))

    def _requests(self, name: str) -> list[Request]:
        return [*self._plain.at(f"/{name}"), *self._secure.at(f"/{name}")]


@contextlib.asynccontextmanager
async def receiving(identities: Certificates) -> AsyncIterator[Hooks]:
    """All receivers, each of them good."""
    tls = context(identities.good)
    async with receiver.receiving() as plain, receiver.receiving(tls=tls) as secure:
        yield Hooks(plain, secure, tls, identities)


async def suffer(fault: WebhookFault, hooks: Hooks, watch: Watch, rig: Rig) -> Outcome:
    """Inject, wait until it is counted, end it, wait until all that the good receiver has got has come here too."""
    name, expected = fault.name, fault.reason or "accepted all the same"
    injected_s = time.time()

    def counted() -> bool:
        if fault.reason is None:
            return watch.metric("monitor_deliveries_total", endpoint=name) > accepted
        failed = watch.metric("monitor_deliveries_failed_total", endpoint=name, reason=fault.reason)
        dead = watch.metric("monitor_deliveries_dead_total", endpoint=name, reason=fault.reason)
        disabled = watch.metric("monitor_endpoint_state", endpoint=name, state="disabled")
        match fault.reason:
            case DeliveryReason.GONE:
                return bool(failed and disabled)
            case DeliveryReason.CLIENT_ERROR:
                return bool(failed and dead)
        return bool(failed)

    with hooks.failing(fault):
        accepted = watch.metric("monitor_deliveries_total", endpoint=name)
        noticed = await watch.until(counted, fault.notice_s)
        noticed_s = time.time() - injected_s
        problems = [] if noticed else [f"{name}: no attempt was counted as {expected}"]
    healed_s = time.time()
    wanted = hooks.received(DESK)
    for words in fault.repair:
        await rig.program.run("deliveries", *words, "--json")
    recovered = await watch.until(lambda: wanted <= hooks.received(name), fault.recover_s)
    return Outcome(
        fault=fault,
        expected=str(expected),
        noticed_s=noticed_s if noticed else None,
        recovered_s=time.time() - healed_s if recovered else None,
        lost=len(wanted - hooks.received(name)),
        problems=tuple(problems),
    )


async def punctuality(rig: Rig, since_s: float) -> list[str]:
    """What is wrong with the good receiver: others' trouble must not have delayed it."""
    async with await psycopg.AsyncConnection.connect(rig.dsn, autocommit=True) as connection:
        ((delay_s,),) = await (await connection.execute(_DELAY_SQL, (DESK, since_s))).fetchall()
    return [f"{DESK}: an event waited {delay_s:.1f} s"] if delay_s > _PROMPT_S else []
