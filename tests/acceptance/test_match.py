"""`monitor match` and `monitor search`: the offline twin and the retrieval that it all began with."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from monitor.demo import voice
from monitor.demo.instruments import SAMPLE_RATE_HZ
from monitor.evaluate.degrade import levelled

from .conftest import write_wav


@pytest.fixture
def clip(pieces, tmp_path):
    """20 s of a strange piece, then 25 s from second 12 of piece-1."""
    path = tmp_path / "clip.wav"
    rate = SAMPLE_RATE_HZ
    write_wav(path, np.concatenate([pieces["piece-3"][: 20 * rate], pieces["piece-1"][12 * rate : 37 * rate]]))
    return path


async def test_csv_holds_the_airing_and_nothing_else(loaded, clip):
    out, _ = await loaded.run("match", "--csv", str(clip))
    header, *rows = csv.reader(io.StringIO(out))
    columns = "query,reference_id,start_s,end_s,reference_start_s,reference_end_s,tempo_ratio,score"
    assert header == columns.split(",")
    ((query, reference_id, *numbers),) = rows
    start_s, end_s, reference_start_s, reference_end_s, tempo_ratio, score = map(float, numbers)
    assert (query, reference_id) == (str(clip), "piece-1")
    assert abs(start_s - 20) <= 1.5 and abs(end_s - 45) <= 1.5
    assert abs(reference_start_s - (start_s - 8)) <= 0.5 and abs(reference_end_s - (end_s - 8)) <= 0.5
    assert abs(tempo_ratio - 1) < 0.01 and score > 0.5


async def test_a_bed_8_db_under_talk_is_found_and_talk_alone_is_not(loaded, pieces, tmp_path):
    rate, rng = SAMPLE_RATE_HZ, np.random.default_rng(4)
    talk = voice.babble(rng, 40.0)
    bed = pieces["piece-1"][12 * rate : 32 * rate]
    loud = levelled(talk, -18.0)
    alone, both = tmp_path / "talk.wav", tmp_path / "both.wav"
    write_wav(alone, loud)
    loud[10 * rate : 30 * rate] += levelled(bed, -26.0)
    write_wav(both, loud)
    out, _ = await loaded.run("match", "--json", str(alone), str(both))
    nothing, (match,) = (query["matches"] for query in json.loads(out)["queries"])
    assert nothing == [] and match["reference_id"] == "piece-1"
    assert abs(match["start_s"] - 10) <= 2.5 and abs(match["end_s"] - 30) <= 2.5
    assert abs(match["reference_start_s"] - (match["start_s"] + 2)) <= 0.25


async def test_json_says_where_the_time_went_and_what_was_bad(loaded, clip, tmp_path):
    bad = tmp_path / "text.mp3"
    bad.write_text("this is no sound")
    out, error = await loaded.run("match", "--json", str(bad), str(clip), expect=65)
    assert str(bad) in error
    answer = json.loads(out)
    assert [query["query"] for query in answer["queries"]] == [str(bad), str(clip)]
    assert answer["queries"][0]["error"] and len(answer["queries"][1]["matches"]) == 1
    assert set(answer["timing"]) == {"audio_s", "wall_s", "decode_s", "embed_s", "search_s", "align_s"}
    assert answer["timing"]["audio_s"] == pytest.approx(45, abs=0.5)


async def test_search_names_the_most_similar_first(loaded, pieces, tmp_path):
    clip = tmp_path / "clip.wav"
    write_wav(clip, pieces["piece-2"][5 * SAMPLE_RATE_HZ : 15 * SAMPLE_RATE_HZ])
    answer = await loaded.json("search", str(clip), "-k", "2")
    assert len(answer["results"]) == 2
    first, second = answer["results"]
    assert first["reference_id"] == "piece-2" and first["similarity"] > second["similarity"]


async def test_a_clip_shorter_than_a_window_is_refused_by_name(loaded, tmp_path):
    clip = tmp_path / "blip.wav"
    write_wav(clip, np.ones(SAMPLE_RATE_HZ // 2, dtype=np.float32) * 0.1)
    out, error = await loaded.run("match", str(clip), expect=65)
    assert str(clip) in error and "shorter" in error
    assert out == ""
