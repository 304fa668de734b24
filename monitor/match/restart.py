"""What an earlier life of the daemon has left open, as runs that go on."""

from __future__ import annotations

from monitor.match.line import Line
from monitor.match.options import Options
from monitor.match.run import COVERED_SHARE, Run, price_nats
from monitor.types import Match, MatchState

#: What was not believed when an earlier life ended is short of it by at least so much.
_UNSURE_NATS = 0.5
#: What a match is again that an interruption of listening had ended.
_REOPENED = {MatchState.ENDED: MatchState.CONFIRMED, MatchState.RETRACTED: MatchState.PROVISIONAL}


def restored(match: Match, *, window_s: float, hop_s: float, options: Options) -> Run:
    """The run of a row. What it has told is settled; one that was ended is `interrupted` until the airing goes on."""
    state = _REOPENED.get(match.state, match.state)
    confirmed = state is MatchState.CONFIRMED
    # Nobody has written down at what price a provisional match was not believed: more must be heard of it.
    unsure_nats = options.confirmed_nats - _UNSURE_NATS
    nats = match.evidence_nats if confirmed else min(match.evidence_nats, unsure_nats)
    return Run(
        reference_id=match.reference_id,
        line=Line(origin_s=match.origin_s, tempo_ratio=match.tempo_ratio),
        born_s=match.start_s,
        first_s=match.start_s - window_s + COVERED_SHARE * window_s + hop_s / 2,
        last_s=match.last_hit_s,
        settled_nats=nats,
        settled_plain_nats=nats,
        evidence_nats=nats,
        ceiling_nats=nats,
        owed_nats=0.0 if confirmed else price_nats(match.tempo_ratio, 0),
        settled_similarity=match.score,
        settled_hits=1,
        match_id=match.match_id,
        state=state,
        interrupted=match.state in _REOPENED,
        told_hits_until_s=match.last_hit_s,
        told_s=match.last_hit_s,
        settled_until_s=match.last_hit_s,
        known_start=(match.start_s, match.reference_start_s),
        goes_on=True,
    )
