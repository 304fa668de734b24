from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.match.glimpse import Glimpses
from monitor.match.line import Line
from monitor.match.run import Run
from monitor.match.spotting import MOST_SPOT_NATS, Recording, Spot
from monitor.types import ABSENT, BANDS, MatchState, Spectrogram
from tests.unit.match.pictures import STEP_S, at, mixed, picture, sound

PIECE, OTHER = sound(120.0, 1), sound(120.0, 2)
BELIEVED_DEVIATIONS = 5.0


def drowned(db: float, length_s: float) -> Spectrogram:
    """The piece from its 40th second on, at 5 s of a stream that plays the other so much louder all the time."""
    stream = OTHER[: round(30 / STEP_S)].copy()
    there = at(stream, 5.0, 5.0 + length_s)
    first = at(PIECE, 40.0, 41.0).start
    stream[there] = mixed(PIECE[first : first + there.stop - there.start], stream[there], db)
    return picture(stream)


@pytest.mark.parametrize(("db", "length_s"), [(0.0, 4.0), (6.0, 6.0), (9.0, 12.0)])
def test_a_drowned_airing_stands_out_where_it_is(db, length_s):
    spot = Recording(picture(PIECE)).spot(drowned(db, length_s), first_s=5.0, last_s=5.0 + length_s)
    assert spot.line.reference_at(8.0) == pytest.approx(43.0, abs=STEP_S / 2)
    assert spot.line.tempo_ratio == 1.0
    assert spot.deviations > BELIEVED_DEVIATIONS
    assert spot.nats > 6.0


def test_another_piece_stands_out_nowhere():
    recording = Recording(picture(PIECE))
    spots = [
        recording.spot(picture(sound(12.0, seed)), first_s=first_s, last_s=first_s + length_s)
        for seed in range(10, 30)
        for first_s, length_s in ((1.0, 3.0), (1.0, 6.0), (2.0, 10.0))
    ]
    assert max(spot.deviations for spot in spots) < BELIEVED_DEVIATIONS


def test_what_is_alike_everywhere_stands_out_nowhere():
    bar = sound(2.048, 3)
    loop = picture(np.tile(bar, (40, 1)))
    spot = Recording(loop).spot(picture(np.tile(bar, (8, 1))), first_s=2.0, last_s=10.0)
    assert spot.correlation > 0.9
    assert spot.nats < 0.0


def test_of_two_notes_that_die_away_only_the_attack_is_alike():
    def note(seed: int, length_s: float) -> np.ndarray:
        fall = np.exp(-np.arange(round(length_s / STEP_S)) * STEP_S * 4)[:, np.newaxis]
        return 12.0 + 8.0 * fall * (1 + np.arange(BANDS) / BANDS) + 0.3 * (sound(length_s, seed) - 12.0)

    notes = np.concatenate([note(seed, 6.0) for seed in range(20)])
    spot = Recording(picture(notes)).spot(picture(note(30, 6.0)), first_s=0.0, last_s=6.0)
    assert spot.deviations < BELIEVED_DEVIATIONS


def test_too_little_heard_or_too_short_a_recording_says_nothing():
    stream = drowned(0.0, 10.0)
    recording = Recording(picture(PIECE))
    assert recording.spot(stream, first_s=6.0, last_s=8.0) is None
    assert recording.spot(stream, first_s=40.0, last_s=50.0) is None
    assert Recording(picture(PIECE[at(PIECE, 40.0, 55.0)])).spot(stream, first_s=5.0, last_s=15.0) is None
    assert Recording(picture(PIECE[:2])).spot(stream, first_s=5.0, last_s=15.0) is None
    unheard = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=np.full((300, BANDS), ABSENT, dtype=np.uint8))
    assert recording.spot(unheard, first_s=5.0, last_s=15.0) is None


def test_an_airing_may_begin_before_its_recording_was_heard_and_outlast_it():
    recording = Recording(picture(PIECE[at(PIECE, 42.0, 100.0)]))
    spot = recording.spot(drowned(0.0, 10.0), first_s=5.0, last_s=15.0)
    assert spot.line.reference_at(8.0) == pytest.approx(1.0, abs=STEP_S / 2)


def test_a_spotted_airing_is_followed_to_its_end_even_if_its_line_drifts():
    recording, starts_s = Recording(picture(PIECE)), np.arange(0.0, 24.0, 0.5)
    for drift_s in (0.0, 0.05):
        line = Line(origin_s=-35.0 + drift_s, tempo_ratio=1.0)
        found = recording.follow(drowned(3.0, 12.0), line, starts_s, lag_s=0.0, span_s=0.5)
        on_air = (starts_s >= 5.0) & (starts_s + 0.5 <= 17.0)
        off_air = (starts_s + 0.5 <= 5.0) | (starts_s >= 17.0)
        assert found[on_air].mean() > 0.4
        assert abs(found[off_air].mean()) < 0.1


def test_what_was_not_heard_or_is_not_in_the_recording_is_not_followed():
    levels = drowned(3.0, 12.0).levels.copy()
    levels[at(levels, 9.0, 9.7)] = ABSENT
    stream = Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=levels)
    known = picture(PIECE[: round(50 / STEP_S)]).levels.copy()
    known[at(known, 44.9, 45.7)] = ABSENT
    ends = Recording(Spectrogram(start_s=STEP_S, step_s=STEP_S, levels=known))
    starts_s = np.array([-1.0, 8.0, 9.1, 10.05, 16.0, 40.0, 12.0])
    found = ends.follow(stream, Line(origin_s=-35.0, tempo_ratio=1.0), starts_s, lag_s=0.0, span_s=0.5)
    # 10 s is 45 s of the recording, too quiet to be kept; 12 s is another of its seconds.
    assert np.isnan(found).tolist() == [True, False, True, True, True, True, False]
    nothing = Spectrogram(start_s=0.0, step_s=STEP_S, levels=levels[:0])
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    assert np.isnan(ends.follow(nothing, line, starts_s, lag_s=0.0, span_s=0.5)).all()
    assert np.isnan(Recording(nothing).follow(stream, line, starts_s, lag_s=0.0, span_s=0.5)).all()


def spot(deviations: float, *, last_s: float = 15.0, origin_s: float = 0.0) -> Spot:
    line = Line(origin_s=origin_s, tempo_ratio=1.0)
    return Spot(line=line, first_s=10.0, last_s=last_s, correlation=0.4, deviations=deviations)


def test_evidence_is_what_chance_does_not_reach():
    assert [spot(deviations).nats for deviations in (2.0, 3.0, 5.0, 6.0)] == [-3.0, 0.0, 6.0, 9.0]
    assert spot(30.0).nats == MOST_SPOT_NATS
    assert spot(6.0, last_s=13.0).nats == pytest.approx(6.0)  # three seconds may be one pattern


MIDDLES_S = np.array([10.0, 12.0, 13.0, 14.0, 15.5])


def test_the_windows_of_a_spot_say_together_what_it_says():
    nothing = np.zeros(5)
    said = spot(6.0).weigh(nothing, np.array([0.4, 0.4, 0.0, np.nan, 0.5]), MIDDLES_S, hop_s=1.0)
    assert said == pytest.approx([4.5, 4.5, -4.5, 0.0, 4.5])
    # Half-way up a window says nothing, and none says more than another.
    said = spot(6.0).weigh(nothing, np.array([1.0, 0.4, 0.2, 0.3, -1.0]), MIDDLES_S, hop_s=1.0)
    assert said == pytest.approx([3.6, 3.6, 0.0, 1.8, -3.6])
    # Where hardly a window is what the spot was, it is no longer believed for all that.
    assert spot(6.0).weigh(nothing, np.array([0.4, 0.0, 0.0, 0.0, 0.0]), MIDDLES_S, hop_s=1.0)[0] == pytest.approx(4.5)
    # What windows say for it by themselves stays.
    said = spot(6.0).weigh(
        np.array([9.0, 9.0, -1.0, 0.5, 0.0]), np.array([0.4, 0.0, 0.4, 0.4, 0.4]), MIDDLES_S, hop_s=1.0
    )
    assert said == pytest.approx([9.0, 9.0, 3.0, 3.0, 3.0])


def test_what_a_spot_says_of_each_window_stays_as_its_own_leave_the_look_back():
    share, middles_s = np.full(20, 0.4), np.arange(20.0) + 10.0
    whole = spot(6.0).weigh(np.zeros(20), share, middles_s, hop_s=1.0)
    for gone in (2, 5, 15):
        settled_s = middles_s[gone - 1]
        left = spot(6.0).weigh(np.zeros(20 - gone), share[gone:], middles_s[gone:], hop_s=1.0, settled_s=settled_s)
        assert left == pytest.approx(whole[gone:])


def test_what_is_seen_of_a_recording_is_evidence_beside_how_far_it_stands_out():
    seen = [replace(spot(5.0), glimpses=Glimpses(exact=exact, missing=missing)) for exact, missing in
            ((0.6, 0.0), (0.4, 0.1), (0.3, 0.18), (0.2, 0.25))]  # fmt: skip
    assert seen[0].nats == pytest.approx(6.0 + 8.0)
    assert 6.0 + 3.0 < seen[1].nats < 6.0 + 5.0
    assert 4.0 < seen[2].nats < 6.5
    assert seen[3].nats == 0.0
    assert [one.is_clear for one in seen] == [True, True, False, False]
    assert not replace(seen[0], deviations=2.9).is_clear
    assert not spot(30.0).is_clear


def test_of_equal_turns_the_one_that_windows_point_at_is_spotted():
    turn = sound(24.0, 5)
    twice = Recording(picture(np.concatenate([sound(20.0, 6), turn, sound(20.0, 7), turn, sound(20.0, 8)])))
    heard = picture(turn[: round(10 / STEP_S)])
    for origin_s in (-20.0, -64.0):
        spot = twice.spot(heard, first_s=1.0, last_s=8.0, origins_s=[origin_s], off_s=0.5)
        assert spot.line.origin_s == pytest.approx(origin_s, abs=2 * STEP_S)
        assert spot.nats > 6.0
    beside = twice.spot(heard, first_s=1.0, last_s=8.0, origins_s=[-20.9], off_s=0.5)  # on the peak's slope
    assert -21.4 - STEP_S <= beside.line.origin_s <= -20.4 + STEP_S
    assert beside.nats < 0.0
    nowhere = twice.spot(heard, first_s=1.0, last_s=8.0, origins_s=[-40.0], off_s=0.5)
    assert nowhere.nats <= 0.0
    assert twice.spot(heard, first_s=1.0, last_s=8.0, origins_s=[500.0], off_s=0.5) is None


def candidate(**told: object) -> Run:
    line = Line(origin_s=0.3, tempo_ratio=1.0)
    return Run(reference_id="bed", line=line, born_s=10.0, first_s=10.0, last_s=14.0, evidence_nats=14.0, **told)


def clearly(spotted: Spot) -> Spot:
    return replace(spotted, glimpses=Glimpses(exact=0.4, missing=0.05))


def test_what_was_seen_clearly_once_is_believed_though_it_has_ended_since():
    run = candidate()
    run.sight(clearly(spot(6.0)))
    assert run.spot == clearly(spot(6.0))
    run.sight(spot(3.5, last_s=16.0))
    assert run.spot == clearly(spot(6.0))


def test_a_match_is_followed_by_what_has_made_it_one():
    for sightings in ([clearly(spot(6.0)), spot(2.0, last_s=16.0)], [spot(6.0), spot(5.5, last_s=16.0)]):
        run = candidate(state=MatchState.PROVISIONAL)
        for spotted in sightings:
            run.sight(spotted)
        before = run.spot
        run.believe()
        assert run.state is MatchState.CONFIRMED
        assert run.spot == before
        run.state = MatchState.ENDED
        assert run.spot == before


def test_a_match_that_is_seen_better_as_soon_as_it_is_believed_keeps_its_spot():
    run = candidate(state=MatchState.PROVISIONAL)
    run.sight(spot(6.0))
    run.sight(spot(5.5, last_s=16.0))
    run.believe()
    run.sight(spot(9.0, last_s=16.5))
    assert run.spot == spot(9.0, last_s=16.5)


def test_a_match_that_windows_alone_have_made_has_no_spot():
    run = candidate(state=MatchState.PROVISIONAL)
    run.believe()
    assert run.spot is None


def test_a_recording_that_is_seen_better_soon_after_is_seen_once():
    run = candidate()
    run.sight(spot(5.0))
    run.sight(spot(9.0, last_s=15.5))
    assert run.sightings == (spot(9.0, last_s=15.5),)
    run.sight(spot(5.5, last_s=16.0))  # another second than that of the first look, not than of the better one
    assert run.spot is None
    run.sight(spot(5.5, last_s=16.5))
    assert run.spot == spot(5.5, last_s=16.5)
    run.sight(spot(6.0, last_s=17.2))
    run.sight(spot(9.5, last_s=17.6))  # a second after that look began nothing is a part of it any more
    assert run.spot == spot(6.0, last_s=17.2)


def test_frames_must_find_a_recording_twice_and_the_less_clear_time_counts():
    run = candidate()
    run.sight(spot(9.0))
    run.sight(spot(8.0, last_s=15.5))  # nearly the same seconds once more
    assert run.spot is None
    run.sight(spot(5.5, last_s=16.0, origin_s=0.1))
    assert run.spot == spot(5.5, last_s=16.0, origin_s=0.1)
    run.sight(spot(7.0, last_s=17.0))
    assert run.spot == spot(7.0, last_s=17.0)
    assert run.told_nats == 12.0  # of a candidate its windows and frames together say no more than one of them
    run.plain_nats = 13.0
    assert run.told_nats == 13.0
    run.lose_sight()
    assert run.spot is None
    run.sight(spot(9.0, last_s=18.0))
    assert run.spot is None


def test_frames_lead_a_line_where_windows_say_less():
    led, leading = candidate(), candidate()
    led.evidence_nats, leading.evidence_nats = 1.0, 20.0
    for run in (led, leading):
        run.sight(spot(7.0))
    assert (led.line.origin_s, leading.line.origin_s) == (0.0, 0.3)


def test_a_candidate_that_frames_have_not_seen_is_led_by_its_windows():
    run = candidate()
    run.evidence_nats = -0.3
    assert not run.is_led_by_frames
    assert run.promise_nats == -0.3


def test_what_settles_while_frames_are_asked_is_not_what_windows_say_by_themselves():
    run = candidate(state=MatchState.PROVISIONAL)
    run.recent = {10.0: (2.0, None), 10.5: (4.0, None)}
    run.settle(10.5)
    run.sight(spot(7.0))
    run.sight(spot(7.0, last_s=16.0))
    run.settle(11.0)
    assert (run.settled_nats, run.settled_plain_nats) == (6.0, 2.0)


def test_what_is_hardly_there_any_more_does_not_say_how_a_match_sounds():
    run = candidate(state=MatchState.CONFIRMED)
    for spotted in (spot(9.0), spot(8.0, last_s=16.0), spot(3.5, last_s=17.0)):
        run.sight(spotted)
    assert run.spot == spot(8.0, last_s=16.0)


def test_faint_frames_are_evidence_only_of_a_match_that_is_believed():
    for state, evidence in ((None, False), (MatchState.PROVISIONAL, False), (MatchState.CONFIRMED, True)):
        run = candidate(state=state)
        run.sight(spot(4.5))
        run.sight(spot(4.5, last_s=16.0))
        assert (run.spot is not None) is evidence


def test_a_match_that_is_believed_is_followed_as_it_sounds_now():
    run = candidate(state=MatchState.CONFIRMED)
    for spotted in (spot(9.0), spot(8.0, last_s=16.0), spot(4.0, last_s=17.0)):
        run.sight(spotted)
    assert run.spot == spot(4.0, last_s=17.0)


def test_a_place_that_lacks_more_of_the_recording_than_it_holds_is_no_evidence():
    there = Recording(picture(PIECE)).spot(drowned(6.0, 6.0), first_s=5.0, last_s=11.0)
    assert there.glimpses.exact > there.glimpses.missing
    assert there.nats > 6.0
    lacking = replace(there, glimpses=Glimpses(exact=0.2, missing=0.25))
    assert lacking.nats == 0.0
