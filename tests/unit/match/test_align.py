from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.match.line import Line
from monitor.match.run import Run
from monitor.types import ABSENT, BANDS, MatchState, Neighbour, Spectrogram
from tests.unit.match.simulation import HOP_S, Airing, Catalog, Listener, Recording, rows, unit, windows


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog({f"piece-{n:02}": Recording(seed=n, duration_s=120.0) for n in range(30)})


def one_row_each(events, airings, *, edge_s=1.5):
    found = sorted(rows(events), key=lambda event: event.match.start_s)
    assert [event.match.reference_id for event in found] == [a.reference_id for a in airings]
    for event, airing in zip(found, airings, strict=True):
        match = event.match
        assert match.state is MatchState.ENDED
        assert abs(match.start_s - airing.start_s) <= edge_s
        assert abs(match.end_s - (airing.start_s + airing.length_s)) <= edge_s
        middle_s = airing.start_s + airing.length_s / 2
        expected = airing.reference_start_s + airing.length_s / 2 * airing.tempo_ratio
        assert abs(match.tempo_ratio * (middle_s - match.origin_s) - expected) <= 0.5


def test_twenty_noisy_airings_give_exactly_one_match_each(catalog):
    rng = np.random.default_rng(5)
    airings = [
        Airing(
            f"piece-{n:02}",
            start_s=10 + n * 40 + float(rng.uniform(0, 5)),
            reference_start_s=float(rng.uniform(0, 70)),
            length_s=float(rng.uniform(10, 25)),
        )
        for n in range(20)
    ]
    events = Listener(catalog).run(windows(catalog, airings, until_s=830, noise=0.9, seed=1))
    one_row_each(events, airings)


@pytest.mark.parametrize("tempo_ratio", [0.95, 0.98, 1.0, 1.02, 1.05])
def test_tempo_is_the_slope(catalog, tempo_ratio):
    airings = [Airing("piece-03", 20.0, 15.0, 40.0, tempo_ratio=tempo_ratio)]
    events = Listener(catalog).run(windows(catalog, airings, until_s=90, noise=0.6, seed=2))
    one_row_each(events, airings)
    # 0.006 is a tenth of a second at the ends of the look-back.
    assert rows(events)[0].match.tempo_ratio == pytest.approx(tempo_ratio, abs=0.006)


def test_two_references_at_once_are_two_rows(catalog):
    airings = [Airing("piece-01", 20.0, 10.0, 40.0), Airing("piece-02", 30.0, 50.0, 40.0)]
    events = Listener(catalog).run(windows(catalog, airings, until_s=100, noise=0.3, seed=3))
    one_row_each(events, airings, edge_s=2.0)


def transposed(stream, *, reading):
    """The stream as an embedder of three pitches reads one that was transposed: only one reading is like anything."""
    noise = np.random.default_rng(77)
    for start_s, vector in stream:
        readings = unit(noise.standard_normal((3, len(vector))))
        readings[reading] = vector
        yield start_s, readings


@pytest.mark.parametrize("reading", [0, 1, 2])
def test_an_airing_at_another_pitch_is_one_row_of_the_reading_that_hears_it(catalog, reading):
    airings = [Airing("piece-07", 20.0, 5.0, 25.0)]
    stream = windows(catalog, airings, until_s=70, noise=0.5, seed=11)
    events = Listener(catalog).run(transposed(stream, reading=reading))
    one_row_each(events, airings)
    assert {hit.reading for event in events for hit in event.hits} == {reading}


def test_what_hardly_any_station_does_must_be_shown_better(catalog):
    airings = [Airing("piece-07", 20.0, 5.0, 25.0)]

    def told_s(reading):
        stream = transposed(windows(catalog, airings, until_s=70, noise=0.6, seed=12), reading=reading)
        return Listener(catalog).run(stream)[0].decided_s

    assert told_s(0) < told_s(1)


@pytest.mark.parametrize("tempo", [0.8, 0.9, 1.12, 1.24])
def test_a_far_tempo_is_followed(catalog, tempo):
    airings = [Airing("piece-03", 20.0, 5.0, 30.0, tempo)]
    one_row_each(Listener(catalog).run(windows(catalog, airings, until_s=80, noise=0.4, seed=13)), airings)


@pytest.mark.parametrize("duration_s", [None, 120.0])
@pytest.mark.parametrize("tempo", [0.72, 1.3, 1.4])
def test_an_airing_that_goes_on_at_another_tempo_is_one_match(catalog, tempo, duration_s):
    airings = [Airing("piece-03", 20.0, 5.0, 22.0), Airing("piece-03", 42.0, 27.0, 20.0, tempo_ratio=tempo)]
    listener = Listener(catalog, duration_s=lambda _reference_id: duration_s)
    events = listener.run(windows(catalog, airings, until_s=90, noise=0.4, seed=13))
    (last,) = rows(events)
    assert last.match.state is MatchState.ENDED
    assert (last.match.start_s, last.match.end_s) == (pytest.approx(20.0, abs=1.0), pytest.approx(62.0, abs=1.0))
    assert last.match.tempo_ratio == pytest.approx(tempo, abs=0.03)
    assert last.match.reference_start_s == pytest.approx(5.0, abs=1.5)


def test_two_airings_of_one_jingle_are_two_rows():
    catalog = Catalog(
        {"jingle": Recording(seed=1, duration_s=6.0)}
        | {f"piece-{n}": Recording(seed=50 + n, duration_s=60.0) for n in range(10)}
    )
    airings = [Airing("jingle", 20.0, 0.0, 6.0), Airing("jingle", 26.0, 0.0, 6.0), Airing("jingle", 60.0, 0.0, 6.0)]
    events = Listener(catalog).run(windows(catalog, airings, until_s=90, noise=0.3, seed=4))
    one_row_each(events, airings)


def test_a_long_airing_under_a_passage_that_drowns_it_stays_one_row(catalog):
    airings = [Airing("piece-04", 20.0, 0.0, 100.0)]
    loud = list(windows(catalog, airings, until_s=150, noise=0.5, seed=6))
    drowned = list(windows(catalog, [], until_s=150, noise=1.0, seed=7))
    stream = [drowned[i] if 60 <= start < 68 else (start, vector) for i, (start, vector) in enumerate(loud)]
    one_row_each(Listener(catalog).run(iter(stream)), airings)


def test_a_repeated_chorus_is_followed_to_where_the_piece_goes_on():
    piece = Recording(seed=1, duration_s=120.0)
    piece._latent[700:900] = piece._latent[200:400]  # the chorus at 20 s comes again, note for note, at 70 s
    catalog = Catalog({"song": piece} | {f"piece-{n}": Recording(seed=50 + n, duration_s=60.0) for n in range(10)})
    airings = [Airing("song", 20.0, 72.0, 40.0)]
    events = Listener(catalog).run(windows(catalog, airings, until_s=90, noise=0.3, seed=8))
    one_row_each(events, airings)


def test_a_piece_that_repeats_itself_is_one_row_while_it_plays():
    piece = Recording(seed=1, duration_s=120.0)
    for bar in range(1, 15):  # a loop of eight seconds, each time a little different
        variation = np.random.default_rng(500 + bar).standard_normal((80, 128))
        piece._latent[bar * 80 : bar * 80 + 80] = piece._latent[:80] + 0.6 * variation
    catalog = Catalog({"loop": piece} | {f"piece-{n}": Recording(seed=50 + n, duration_s=60.0) for n in range(10)})
    airings = [Airing("loop", 20.0, 42.0, 50.0)]
    for seed in range(3):
        found = rows(Listener(catalog).run(windows(catalog, airings, until_s=100, noise=0.6, seed=seed)))
        # Which of the loop's turns is playing may stay open; that it is one airing may not.
        assert [event.match.reference_id for event in found] == ["loop"]
        assert abs(found[0].match.start_s - 20) <= 1.5
        assert abs(found[0].match.end_s - 70) <= 1.5


@pytest.mark.parametrize(("after_s", "length_s"), [(10.5, 1.2), (11.0, 1.2), (11.5, 2.5)])
def test_an_airing_that_has_ended_is_not_told_again_for_a_sound_on_its_line(catalog, after_s, length_s):
    airing = Airing("piece-07", 5.0, 20.0, 15.0)
    echo = Airing("piece-07", 20.0 + after_s, 35.0 + after_s, length_s, gain=0.8)
    events = Listener(catalog).run(windows(catalog, [airing, echo], until_s=45, noise=0.5, seed=22))
    one_row_each(events, [airing])


@pytest.mark.parametrize("likeness", [0.5, 0.8])
@pytest.mark.parametrize("aired", ["original", "remix"])
def test_of_two_versions_of_a_piece_the_nearer_has_the_row(aired, likeness):
    original, remix = Recording(seed=1, duration_s=120.0), Recording(seed=2, duration_s=120.0)
    remix._latent = likeness**0.5 * original._latent + (1 - likeness) ** 0.5 * remix._latent
    others = {f"piece-{n}": Recording(seed=50 + n, duration_s=60.0) for n in range(10)}
    airings = [Airing(aired, 20.0, 30.0, 30.0)]
    for seed in range(2):
        stream = windows(
            Catalog({"original": original, "remix": remix} | others), airings, until_s=90, noise=0.5, seed=seed
        )
        one_row_each(Listener(Catalog({"original": original, "remix": remix} | others)).run(stream), airings)


def test_life_of_a_match_has_one_id_and_rising_sequence(catalog):
    airings = [Airing("piece-05", 20.0, 5.0, 30.0)]
    events = Listener(catalog).run(windows(catalog, airings, until_s=80, noise=0.5, seed=9))
    assert len({event.match.match_id for event in events}) == 1
    assert [event.sequence for event in events] == list(range(len(events)))
    told = [event.match.state for event in events if event.changed]
    assert told == [MatchState.PROVISIONAL, MatchState.CONFIRMED, MatchState.ENDED]
    hits = [hit.window_start_s for event in events for hit in event.hits]
    assert hits == sorted(set(hits))


def test_a_match_is_told_soon_after_it_begins(catalog):
    airings = [Airing("piece-06", 20.0, 30.0, 30.0)]
    events = Listener(catalog).run(windows(catalog, airings, until_s=70, noise=0.3, seed=10))
    assert events[0].decided_s - 20.0 <= 6.0


def test_nothing_is_found_in_what_is_not_in_the_catalog(catalog):
    foreign = Catalog({"foreign": Recording(seed=999, duration_s=300.0)})
    airings = [Airing("foreign", 0.0, 0.0, 300.0)]
    events = Listener(catalog).run(windows(foreign, airings, until_s=300, noise=0.1, seed=1))
    assert events == []


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_shuffled_hits_never_start_a_match(catalog, seed):
    rng = np.random.default_rng(seed)
    listener = Listener(catalog)
    for start_s, vector in windows(catalog, [Airing("piece-07", 0.0, 0.0, 60.0)], until_s=60, noise=0.5, seed=seed):
        other = catalog.vectors["piece-08"][rng.integers(100)]
        del vector
        listener.hear(start_s, other, shuffle=rng)
    assert [event for event in listener.events if event.match.reference_id != "piece-08"] == []


@settings(max_examples=4, deadline=None)
@given(shift_s=st.integers(-1_000_000, 2_000_000_000))
def test_shifting_time_shifts_matches(catalog, shift_s):
    airings = [Airing("piece-09", 10.0, 20.0, 20.0)]

    def at(epoch_s):
        listener = Listener(catalog, epoch_s=epoch_s)
        return listener.run(windows(catalog, airings, until_s=50, noise=0.5, seed=11))

    here, there = at(0.0), at(float(shift_s))
    assert [(e.sequence, e.match.state) for e in here] == [(e.sequence, e.match.state) for e in there]
    for a, b in zip(here, there, strict=True):
        assert b.match.start_s - a.match.start_s == pytest.approx(shift_s, abs=1e-3)
        assert b.match.reference_start_s == pytest.approx(a.match.reference_start_s, abs=1e-3)


def test_a_restart_goes_on_with_the_same_match(catalog):
    airings = [Airing("piece-10", 10.0, 0.0, 60.0)]
    stream = list(windows(catalog, airings, until_s=100, noise=0.5, seed=12))
    first = Listener(catalog)
    for start_s, vector in stream[:60]:
        first.hear(start_s, vector)
    (row,) = [event.match for event in first.events][-1:]
    second = Listener(catalog)
    second.aligner.restore([row])
    second.aligner.resume_sequences({row.match_id: first.events[-1].sequence + 1})
    events = first.events + second.run(iter(stream[72:]))
    one_row_each(events, airings)
    assert [event.sequence for event in events] == list(range(len(events)))


def test_a_gap_with_a_clock_anchored_anew_stays_one_row(catalog):
    airings = [Airing("piece-11", 10.0, 0.0, 80.0)]
    listener = Listener(catalog)
    for start_s, vector in windows(catalog, airings, until_s=120, noise=0.5, seed=13):
        if start_s < 40:
            listener.hear(start_s, vector)
        elif start_s >= 52:
            listener.hear(start_s + 3.0, vector)
    events = listener.events + listener.aligner.flush()
    (only,) = rows(events)
    assert abs(only.match.start_s - 10.0) <= 1.5
    assert abs(only.match.end_s - 93.0) <= 1.5


def test_a_gap_longer_than_the_longest_ends_the_match_at_its_last_hit(catalog):
    airings = [Airing("piece-12", 10.0, 0.0, 30.0)]
    listener = Listener(catalog)
    for start_s, vector in windows(catalog, airings, until_s=30, noise=0.5, seed=14):
        listener.hear(start_s, vector)
    assert listener.aligner.unheard(45.0) == []
    (event,) = listener.aligner.unheard(75.0)
    assert event.match.state is MatchState.ENDED
    assert event.match.end_s == pytest.approx(31.5, abs=1.5)


def test_events_are_frozen(catalog):
    events = Listener(catalog).run(
        windows(catalog, [Airing("piece-13", 5.0, 0.0, 20.0)], until_s=40, noise=0.5, seed=15)
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        events[0].sequence = 3


def test_a_candidate_that_little_speaks_for_is_looked_at_every_third_window(catalog):
    aligner = Listener(catalog).aligner
    asked = []
    for number in range(8):
        start_s = number * HOP_S
        # Two windows agree on a line, faintly; the others say nothing of it.
        near = [Neighbour(reference_id="piece-01", reference_start_s=20 + start_s, similarity=0.3)]
        aligner.observe(start_s, near if number < 2 else [])
        asked.append(len(aligner.wanted()))
        aligner.advance({})
    assert asked == [0, 1, 1, 0, 0, 1, 0, 0]


@pytest.fixture
def followed(catalog):
    """An aligner that follows a confirmed match of piece-01, and the window that comes next."""
    listener = Listener(catalog)
    heard = list(windows(catalog, [Airing("piece-01", 5.0, 10.0, 60.0)], until_s=30, noise=0.3, seed=21))
    for start_s, vector in heard:
        listener.hear(start_s, vector)
    assert [match.state for match in listener.aligner.open_matches] == [MatchState.CONFIRMED]
    return listener.aligner, heard[-1][0] + HOP_S


def _near(reference_id, reference_start_s, similarity):
    return Neighbour(reference_id=reference_id, reference_start_s=reference_start_s, similarity=similarity)


def test_beside_a_match_that_is_followed_a_candidate_is_looked_at_every_third_window(followed):
    aligner, now_s = followed
    asked = []
    for number in range(8):
        start_s = now_s + number * HOP_S
        beside = _near("piece-02", 20 + number * HOP_S, 0.9)
        aligner.observe(start_s, [_near("piece-01", start_s + 5.0, 0.95), beside])
        for run in aligner._runs:
            run.last_s = start_s if run.state is not None else run.last_s
        asked.append({stretch.reference_id for stretch in aligner.wanted()})
        aligner.advance({})
    assert all("piece-01" in names for names in asked)
    looked_at = ["piece-02" in names for names in asked]
    assert looked_at[looked_at.index(True) :][:6] == [True, True, False, False, True, False]


@pytest.mark.parametrize(("similarity", "suspected"), [(0.3, False), (0.6, True)])
def test_beside_a_match_that_is_followed_only_what_is_likelier_than_not_is_suspected(followed, similarity, suspected):
    aligner, now_s = followed
    for number in range(2):
        start_s = now_s + number * HOP_S
        beside = _near("piece-02", 20 + number * HOP_S, similarity)
        aligner.observe(start_s, [_near("piece-01", start_s + 5.0, 0.95), beside])
        for run in aligner._runs:
            run.last_s = start_s  # it is heard on
    assert ("piece-02" in {run.reference_id for run in aligner._runs}) is suspected


@pytest.mark.parametrize(("similarity", "suspected"), [(0.8, False), (0.97, True)])
def test_elsewhere_in_what_is_followed_only_what_is_nearer_is_suspected(followed, similarity, suspected):
    aligner, now_s = followed
    before = len(aligner._runs)
    for number in range(2):
        start_s = now_s + number * HOP_S
        elsewhere = _near("piece-01", 90 + number * HOP_S, similarity)
        aligner.observe(start_s, [_near("piece-01", start_s + 5.0, 0.95), elsewhere])
    assert (len(aligner._runs) > before) is suspected


def test_a_run_that_frames_move_is_judged_in_the_same_window(catalog, monkeypatch):
    listener = Listener(catalog)
    stream = list(windows(catalog, [Airing("piece-03", 20.0, 5.0, 20.0)], until_s=34, noise=0.4, seed=13))
    for start_s, vector in stream[:-1]:
        listener.hear(start_s, vector)
    (run,) = [run for run in listener.aligner._runs if run.state is not None]

    def seek(runs, *_args, **_kwargs):
        for each in runs:
            each.line = dataclasses.replace(each.line, origin_s=each.line.origin_s + 0.3)
        return []

    monkeypatch.setattr(listener.aligner._seeking, "seek", seek)
    nothing = Spectrogram(start_s=0.0, step_s=0.064, levels=np.full((1, BANDS), ABSENT, dtype=np.uint8))
    monkeypatch.setattr(listener.aligner, "advance", functools.partial(listener.aligner.advance, heard=nothing))
    start_s, vector = stream[-1]
    listener.hear(start_s, vector)
    assert run.looked_s == run.last_s == start_s
    assert run.latest.own[0] > 0.8


def test_frames_of_what_a_match_has_told_are_no_evidence_of_another_airing(catalog):
    listener = Listener(catalog)
    for start_s, vector in windows(catalog, [Airing("piece-03", 20.0, 5.0, 20.0)], until_s=34, noise=0.4, seed=13):
        listener.hear(start_s, vector)
    (match,) = [run for run in listener.aligner._runs if run.state is not None]
    line = dataclasses.replace(match.line, origin_s=match.line.origin_s + 20.0)
    other = Run(reference_id="piece-03", line=line, born_s=24.0, first_s=24.0, last_s=31.0, frame_nats=9.5)
    other.evidence_nats = other.ceiling_nats = 6.0
    listener.aligner._runs.append(other)
    listener.aligner._spend(match)
    assert other.belief_nats == 0.0


@pytest.mark.parametrize(
    ("state", "settled_nats", "before_nats", "latest_nats", "clearly"),
    [
        (MatchState.CONFIRMED, 0.0, 1.0, 0.6, True),
        (MatchState.CONFIRMED, 0.0, 0.1, 0.6, False),  # windows alone would not be believed
        (MatchState.CONFIRMED, 8.0, 0.1, 0.6, True),
        (MatchState.CONFIRMED, 8.0, 1.0, 0.4, False),  # it goes on to drown
        (MatchState.PROVISIONAL, 8.0, 1.0, 0.6, False),
    ],
)
def test_a_match_whose_windows_alone_are_believed_needs_no_frames(
    catalog, state, settled_nats, before_nats, latest_nats, clearly
):
    aligner = Listener(catalog).aligner
    line = Line(origin_s=0.0, tempo_ratio=1.0)
    run = Run(reference_id="bed", line=line, born_s=0.0, first_s=0.0, last_s=9.0, state=state)
    run.settled_plain_nats = settled_nats
    nats = np.array([before_nats] * 10 + [latest_nats] * 6)
    assert aligner._is_heard_clearly(run, nats) is clearly
