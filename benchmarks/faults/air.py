"""The first scene: every fault of streams and webhooks at once, in one run of the daemon, beside a healthy stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from benchmarks.faults import certificates, feeds, station, streams, webhooks
from benchmarks.faults.control import Programme
from benchmarks.faults.fault import Control, Fault, Outcome
from benchmarks.faults.feeds import Feed
from benchmarks.faults.rig import Rig, Watch
from benchmarks.faults.streams import StreamFault
from benchmarks.faults.webhooks import Hooks, WebhookFault
from monitor.demo import station as radio
from monitor.types import StreamState

SCENE = "on the air"
_CONTROL = "control"
#: Until a feed is heard.
_SOUND_S = 120.0
#: Streams that fail at the same time.
_AT_ONCE = 12


async def play(rig: Rig, faults: Sequence[Fault]) -> tuple[list[Outcome], Control]:
    """Inject them all; what became of each, and of the healthy stream."""
    of_streams = [fault for fault in faults if isinstance(fault, StreamFault)]
    of_webhooks = [fault for fault in faults if isinstance(fault, WebhookFault)]
    folder = rig.place / "certificates"
    folder.mkdir(exist_ok=True)
    identities = await asyncio.to_thread(certificates.make, folder)
    control = Programme(rig, _CONTROL)
    async with contextlib.AsyncExitStack() as stack:
        shared = await stack.enter_async_context(station.on_air())
        heard = {
            fault.name: await stack.enter_async_context(
                feeds.opened(fault.venue, fault.name, station=shared, sounds=rig.sounds, identities=identities)
            )
            for fault in of_streams
        }
        for fault in of_streams:
            heard[fault.name].settings |= fault.settings
        address = await stack.enter_async_context(radio.on_air([control.station]))
        hooks = await stack.enter_async_context(webhooks.receiving(identities))
        rig.configure(
            streams=[
                {"name": _CONTROL, "url": address + control.station.path},
                *(feed.definition | {"paused": True} for feed in heard.values()),
            ],
            webhooks=hooks.definitions(of_webhooks),
        )
        trusted = {"SSL_CERT_FILE": str(identities.authorities)}
        watch = await stack.enter_async_context(rig.running(environment=trusted))
        control.begin()
        rig.say(f"{SCENE}: {len(faults)} faults, {_AT_ONCE} at a time")
        began_s = time.time()
        room = asyncio.Semaphore(_AT_ONCE)
        outcomes = await asyncio.gather(
            *(_stream(one, heard[one.name], watch, rig, room) for one in of_streams),
            *(_webhook(one, hooks, watch, rig) for one in of_webhooks),
        )
        verdict = await control.judge(watch, SCENE)
        problems = [*await webhooks.punctuality(rig, began_s), *await watch.end()]
        problems += [f"ffmpeg is left of {feed.name}" for feed in heard.values() if feed.decoders()]
    return list(outcomes), verdict.with_problems(problems)


async def _stream(fault: StreamFault, feed: Feed, watch: Watch, rig: Rig, room: asyncio.Semaphore) -> Outcome:
    """The stream is listened to only while its fault is looked at: a small machine bears a few of them at a time."""
    async with room:
        await watch.change(fault.name, "resume")
        try:
            if await watch.until(lambda: _receives(watch, fault.name), _SOUND_S) is None:
                problem = f"{fault.name}: not heard before its fault: {watch.state(fault.name)}"
                outcome = Outcome(fault=fault, expected=fault.sign.text, problems=(problem,))
            else:
                outcome = await streams.suffer(fault, feed, watch)
        finally:
            if not watch.daemon.has_ended:
                await watch.change(fault.name, "pause")
    rig.say(outcome.described)
    return outcome


async def _webhook(fault: WebhookFault, hooks: Hooks, watch: Watch, rig: Rig) -> Outcome:
    outcome = await webhooks.suffer(fault, hooks, watch, rig)
    rig.say(outcome.described)
    return outcome


def _receives(watch: Watch, name: str) -> bool:
    now = watch.state(name)
    return now is not None and now.state is StreamState.RECEIVING
