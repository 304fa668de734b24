"""The whole of it: a catalog and its twin in, a verdict out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.audio.ffmpeg import FfmpegProgram
from monitor.daemon.offline import Twin
from monitor.errors import InputError
from monitor.evaluate import broadcast, scoring, truth
from monitor.evaluate.broadcast import Library, Plan
from monitor.evaluate.scoring import Row, Suggestion, Verdict
from monitor.evaluate.truth import Broadcast

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was heard, how it was judged, and what it was heard with."""

    verdict: Verdict
    suggestion: Suggestion
    rows: Mapping[str, Sequence[Row]]
    broadcasts: Sequence[Broadcast]
    #: Seed and amount; None for the user's own queries.
    plan: Plan | None
    catalog: str
    references: int
    model_id: str
    provisional_nats: float
    confirmed_nats: float
    #: The most evidence that anything had, whatever became of it.
    strongest_nats: float
    #: References whose files could not be read, and why.
    unreadable: Mapping[str, str]


async def of_catalog(
    twin: Twin, plan: Plan, *, catalog: str, folder: Path, ffmpeg: FfmpegProgram, say: Say
) -> Evaluation:
    """Broadcasts of the catalog's own recordings, written with their truth to `folder`.

    Raises InputError if there is nothing to air.
    """
    if not twin.references:
        raise InputError(f"catalog {catalog} is empty; load recordings with `monitor catalog add PATH`")
    library = Library(list(twin.references.values()), ffmpeg)
    trials = len(plan.degradations) * len(plan.lengths_s) * plan.airings
    say(f"making broadcasts of {trials} airings from {len(twin.references)} references")
    broadcasts = await broadcast.write(library, plan, folder, ffmpeg)
    # Before they are heard: what is interrupted can be heard again.
    await asyncio.to_thread(truth.write, broadcasts, folder / truth.FILE_NAME)
    return await _heard(twin, broadcasts, plan=plan, catalog=catalog, unreadable=library.unreadable, say=say)


async def of_queries(twin: Twin, broadcasts: Sequence[Broadcast], *, catalog: str, say: Say) -> Evaluation:
    """The user's own recordings of broadcasts. Raises InputError if the catalog does not hold what was aired."""
    known = set(twin.references)
    strange = {airing.reference_id for each in broadcasts for airing in each.airings if airing.reference_id} - known
    if strange:
        raise InputError(f"catalog {catalog} does not hold {min(strange)}, which the truth names ({len(strange)} such)")
    return await _heard(twin, broadcasts, plan=None, catalog=catalog, unreadable={}, say=say)


async def _heard(
    twin: Twin,
    broadcasts: Sequence[Broadcast],
    *,
    plan: Plan | None,
    catalog: str,
    unreadable: Mapping[str, str],
    say: Say,
) -> Evaluation:
    rows: dict[str, list[Row]] = {}
    durations_s: dict[str, float] = {}
    for number, each in enumerate(broadcasts, start=1):
        before_s = twin.timing.audio_s
        rows[str(each.path)] = scoring.rows_of(each.path.name, await twin.events(each.path))
        durations_s[str(each.path)] = each.duration_s or twin.timing.audio_s - before_s
        minutes = durations_s[str(each.path)] / 60
        say(f"heard {number} of {len(broadcasts)}: {minutes:.1f} minutes, {len(rows[str(each.path)])} rows")
    verdict = scoring.judge(broadcasts, rows, durations_s)
    options = twin.options
    return Evaluation(
        verdict=verdict,
        suggestion=scoring.suggest(verdict, confirmed_nats=options.confirmed_nats),
        rows=rows,
        broadcasts=broadcasts,
        plan=plan,
        catalog=catalog,
        references=len(twin.references),
        model_id=twin.model_id,
        provisional_nats=options.provisional_nats,
        confirmed_nats=options.confirmed_nats,
        strongest_nats=twin.strongest_nats if math.isfinite(twin.strongest_nats) else 0.0,
        unreadable=dict(unreadable),
    )
