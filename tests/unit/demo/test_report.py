from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from monitor.demo.programme import Airing, Condition
from monitor.demo.report import Found, Outcome, as_json, judge, read_found, summary, table

ON_AIR_S = 1_800_000_000.0


def airing(reference_id: str | None, start_s: float, length_s: float = 12.0, **changes: object) -> Airing:
    made = Airing(
        station="one",
        condition=Condition.PLAIN if reference_id else Condition.NOISE,
        reference_id=reference_id,
        title=reference_id or "",
        start_s=start_s,
        end_s=start_s + length_s,
        reference_start_s=20.0,
        tempo_ratio=1.0,
    )
    return replace(made, **changes)


def found(truth: Airing, *, latency_s: float = 0.7, **changes: object) -> Found:
    row = Found(
        match_id=uuid4(),
        stream=truth.station,
        catalog="demo",
        reference_id=str(truth.reference_id),
        state="ended",
        score=0.8,
        tempo_ratio=truth.tempo_ratio,
        reference_start_s=truth.reference_start_s,
        reference_end_s=truth.position_s(truth.end_s),
        start_s=ON_AIR_S + latency_s + truth.start_s,
        end_s=ON_AIR_S + latency_s + truth.end_s,
        recorded_s=ON_AIR_S + truth.start_s + 4.0,
    )
    return replace(row, **changes)


TRUTH = [
    airing("a", 0),
    airing(None, 12),
    airing("b", 24, tempo_ratio=1.02, condition=Condition.TEMPO),
    airing("a", 40, reference_start_s=3.0),
]


def verdict(rows: list[Found], truth: list[Airing] = TRUTH):
    return judge(truth, rows, on_air_s={"one": ON_AIR_S})


def perfect() -> list[Found]:
    return [found(truth) for truth in TRUTH if truth.reference_id]


def test_everything_found_once_in_place_passes() -> None:
    report = verdict(perfect())
    assert report.passed
    assert [line.outcome for line in report.lines] == [Outcome.FOUND, Outcome.QUIET, Outcome.FOUND, Outcome.FOUND]
    assert report.latency_s == {"one": pytest.approx(0.7, abs=1e-3)}
    assert report.median_delay_s == pytest.approx(4.0)
    assert "3 of 3 airings found once" in summary(report)
    assert "PASSED" in summary(report)


def test_nothing_found_at_all_fails() -> None:
    report = verdict([])
    assert not report.passed
    assert [line.outcome for line in report.lines if line.airing.reference_id] == [Outcome.MISSED] * 3
    assert "0 of 3" in summary(report)


def test_one_airing_in_two_rows_fails() -> None:
    rows = perfect()
    rows += [replace(rows[0], match_id=uuid4(), start_s=rows[0].start_s + 6, reference_start_s=26.0)]
    report = verdict(rows)
    assert not report.passed
    assert report.lines[0].outcome is Outcome.REPEATED


def test_a_row_of_what_was_not_aired_fails_even_on_another_station() -> None:
    stray = found(airing("c", 12))
    elsewhere = replace(found(TRUTH[0]), stream="two")
    for extra in (stray, elsewhere):
        report = verdict([*perfect(), extra])
        assert not report.passed
        assert report.strays == (extra,)
        assert "NEVER AIRED" in table(report)


def test_a_row_of_an_aired_reference_at_a_time_when_it_was_not_aired_is_never_aired() -> None:
    report = verdict([*perfect(), found(airing("b", 3))])
    assert len(report.strays) == 1


def test_a_retracted_row_counts_neither_as_found_nor_as_false() -> None:
    rows = perfect()
    assert verdict([*rows, replace(found(airing("c", 12)), state="retracted")]).passed
    assert not verdict([replace(rows[0], state="retracted"), *rows[1:]]).passed


@pytest.mark.parametrize(
    "changes",
    [
        {"start_s": ON_AIR_S + 0.7 + 24 + 1.6, "reference_start_s": 20 + 1.6 * 1.02},
        {"end_s": ON_AIR_S + 0.7 + 36 - 1.6},
        {"reference_start_s": 20.6},
        {"tempo_ratio": 0.9},
    ],
    ids=["starts late", "ends early", "another position", "another tempo"],
)
def test_an_inexact_row_fails(changes: dict[str, float]) -> None:
    rows = perfect()
    rows[1] = replace(rows[1], **changes)
    report = verdict(rows)
    assert [line.outcome for line in report.lines] == [Outcome.FOUND, Outcome.QUIET, Outcome.INEXACT, Outcome.FOUND]
    assert not report.passed


def test_sound_that_is_later_than_any_transmission_fails() -> None:
    assert not verdict([found(truth, latency_s=9.0) for truth in TRUTH if truth.reference_id]).passed


def test_json_and_table_tell_the_same() -> None:
    report = verdict(perfect()[:-1])
    told = json.loads(json.dumps(as_json(report)))
    assert told["passed"] is False
    assert [entry["outcome"] for entry in told["airings"]] == ["found", "nothing, rightly", "found", "MISSED"]
    assert told["airings"][0]["start"] == "2027-01-15T08:00:00.000+00:00"
    text = table(report)
    assert text.count("\n") == 1 + len(TRUTH)
    assert "MISSED" in text


async def test_rows_are_read_from_the_match_log(database: str) -> None:
    match_id = UUID(int=7)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO matches (match_id, stream, catalog, reference_id, state, start_at, end_at, reference_start_s,"
            " reference_end_s, origin_at, tempo_ratio, evidence_nats, score, last_hit_at, model_id, epoch, sequence,"
            " decided_at) VALUES (%(id)s, 'one', 'demo', 'a', 'ended', to_timestamp(%(at)s), to_timestamp(%(at)s + 12),"
            " 20, 32, to_timestamp(%(at)s - 20), 1, 50, 0.8, to_timestamp(%(at)s + 12), 'm', 1, 1, now())",
            {"id": match_id, "at": ON_AIR_S},
        )
        await connection.execute(
            "INSERT INTO match_events (match_id, sequence, state, decided_at, start_at, end_at, reference_start_s,"
            " reference_end_s, evidence_nats, score, recorded_at)"
            " SELECT %s, sequence, 'confirmed', now(), now(), now(),"
            " 0, 0, 0, 0, to_timestamp(%s + sequence) FROM generate_series(0, 1) AS sequence",
            (match_id, ON_AIR_S + 3),
        )
        (row,) = await read_found(connection, catalog="demo", since_s=ON_AIR_S + 5)
        assert (row.match_id, row.start_s, row.end_s) == (match_id, ON_AIR_S, ON_AIR_S + 12)
        assert row.recorded_s == ON_AIR_S + 3
        assert await read_found(connection, catalog="demo", since_s=ON_AIR_S + 13) == []
        assert await read_found(connection, catalog="other", since_s=0) == []
