"""`monitor evaluate`: broadcasts of a real catalog, the running configuration, and the truth."""

from __future__ import annotations

import csv
import json

import pytest


async def test_clean_airings_are_found_and_its_own_truth_gives_the_same_figures(loaded, tmp_path):
    kept, page = tmp_path / "kept", tmp_path / "page.html"
    words = ("--only", "clean", "cover", "--lengths", "8", "--airings", "3", "--seed", "5", "--json")
    out, _ = await loaded.run("evaluate", *words, "--keep", str(kept), "--html", str(page))
    told = json.loads(out)
    assert told["airings"]["aired"] == told["airings"]["found"] == 3
    assert told["seconds"]["recall"] > 0.8 and told["seconds"]["precision"] > 0.8
    assert told["false_alarms"]["rows"] == 0 and told["false_alarms"]["upper_95_per_stream_day"] > 0
    assert told["position_error_s"]["p95_size"] < 0.5 and told["delay_s"]["median"] < 8
    assert told["covers"]["played"] == 3
    assert told["threshold"]["suggested_confirmed_evidence_nats"] >= told["threshold"]["confirmed_evidence_nats"]
    assert page.read_text().count("<svg") >= 3

    with (kept / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    covers = [row for row in rows if row["condition"] != "played anew"]
    with (kept / "plain.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(covers)
    out, _ = await loaded.run("evaluate", "--queries", str(kept / "plain.csv"), "--json")
    again = json.loads(out)
    assert again["seed"] is None and again["airings"]["found"] == 3
    for name in ("recall", "aired_s"):
        assert again["seconds"][name] == pytest.approx(told["seconds"][name], abs=2e-3)
    assert again["delay_s"] == pytest.approx(told["delay_s"], abs=2e-3)


async def test_a_wrong_truth_is_one_sentence(command, tmp_path):
    (tmp_path / "truth.csv").write_text("query,reference_id,start_s,end_s\ngone.wav,a,1,2\n")
    _, said = await command.run("evaluate", "--queries", str(tmp_path / "truth.csv"), expect=65)
    assert "line 2" in said and "gone.wav" in said
