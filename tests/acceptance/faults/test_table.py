"""A few faults of each scene, injected for real into a real daemon: `python -m benchmarks.faults` injects them all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.faults import network, table
from benchmarks.faults.feeds import Venue
from benchmarks.faults.rig import Rig, rigged
from benchmarks.faults.streams import StreamFault
from benchmarks.faults.table import SCENES, Scene
from monitor.errors import MissingPartError

pytestmark = [pytest.mark.timeout(1500), pytest.mark.asyncio(loop_scope="module")]

#: Of each kind, what is over soon; the scene of the clock waits half a minute for each leap, and is the command's.
FEW = {
    "on the air": (
        *("stall", "cut", "404", "to-a-file", "codec", "unknown-authority", "lost-playlist", "silence", "black-hole"),
        *("ffmpeg-SIGKILL", "hook-hangs", "hook-500", "hook-410", "hook-huge", "hook-resets", "hook-tls"),
    ),
    "servers": ("postgres-SIGKILL", "milvus-SIGKILL"),
    "daemon": ("second-daemon", "aligning-SIGKILL"),
    "disk": ("disk-full",),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with rigged(print) as rig:
        yield rig


async def test_the_table_has_what_the_few_are_taken_from(rig: Rig) -> None:
    names = {scene.name: [fault.name for fault in scene.faults(rig.sounds)] for scene in SCENES}
    every = [name for scene in names.values() for name in scene]
    assert len(every) == len(set(every)) >= 40
    assert all(set(few) <= set(names[scene]) for scene, few in FEW.items())


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.name in FEW], ids=lambda scene: scene.name)
async def test_a_few_faults_are_noticed_and_survived_and_nothing_is_lost(rig: Rig, scene: Scene) -> None:
    faults = [fault for fault in scene.faults(rig.sounds) if fault.name in FEW[scene.name]]
    lacking = ""
    if any(_needs_network(fault) for fault in faults):
        try:
            with network.wire():
                pass
        except MissingPartError as missing:
            lacking = str(missing)
            faults = [fault for fault in faults if not _needs_network(fault)]
    try:
        outcomes, control = await scene.play(rig, faults)
    except MissingPartError as missing:
        pytest.skip(str(missing))
    print(table.text(outcomes, [control]))
    assert table.problems(outcomes, [control]) == []
    assert [one.fault.name for one in outcomes] == [fault.name for fault in faults]
    assert control.airings
    if lacking:
        pytest.skip(f"all but the faults of the network: {lacking}")


def _needs_network(fault: object) -> bool:
    return isinstance(fault, StreamFault) and fault.venue is Venue.WIRE
