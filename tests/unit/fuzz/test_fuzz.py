"""What others wrote may be anything: a fixed corpus of what once broke something, and mutations by a fixed seed.

`python -m benchmarks.fuzz` looks for more; what it finds goes to `corpus/TARGET/`.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import station, targets
from benchmarks.fuzz.mutation import mutated
from benchmarks.fuzz.targets import Target
from monitor.config.schema import Config, Stream, Webhook

CORPUS = Path(__file__).parent / "corpus"
PLAIN = {target.name: target for target in targets.plain_targets()}
RELAY = station.relay_target()
ALL = {**PLAIN, "relay": RELAY}
CASES = 120


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_broke_something_breaks_nothing(path: Path, tmp_path: Path) -> None:
    targets.outcome(ALL[path.parent.name], path.read_bytes(), tmp_path)


@pytest.mark.parametrize("name", PLAIN)
def test_mutations_earn_an_error_of_ours_or_none(name: str, tmp_path: Path) -> None:
    target, chance = PLAIN[name], random.Random(name)
    for number in range(CASES):
        place = tmp_path / str(number)
        place.mkdir()
        targets.outcome(target, mutated(chance.choice(target.seeds), target.seeds, chance), place)


@pytest.mark.parametrize("seed", range(len(RELAY.seeds)))
def test_the_relay_passes_on_whatever_is_answered(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    targets.outcome(RELAY, RELAY.seeds[seed], tmp_path)
    targets.outcome(RELAY, mutated(RELAY.seeds[seed], RELAY.seeds, chance), tmp_path)


def test_a_stream_of_mutated_titles_goes_through_ffmpeg_or_ends_with_a_reason(tmp_path: Path) -> None:
    target, chance = station.stream_target(), random.Random(5)
    targets.outcome(target, target.seeds[0], tmp_path)
    targets.outcome(target, mutated(target.seeds[0], target.seeds, chance), tmp_path)


def test_an_error_that_says_nothing_is_found() -> None:
    with pytest.raises(targets.UnclearError):
        targets.check_sentence("<Station object at 0x7f>")


# -- what mutation of bytes seldom reaches: the right form with the wrong content --------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
COLUMNS = st.sampled_from(["path", "id", "title", "artist", "isrc", "owner", "label", "mood"]) | st.text(max_size=8)


def refused(target: Target, data: bytes, directories: pytest.TempPathFactory) -> None:
    targets.outcome(target, data, directories.mktemp("fuzz"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.lists(st.dictionaries(COLUMNS, VALUES, max_size=5), max_size=4))
def test_any_json_is_a_manifest_or_is_refused(rows: list[object], tmp_path_factory: pytest.TempPathFactory) -> None:
    refused(PLAIN["manifest-jsonl"], "\n".join(map(json.dumps, rows)).encode(), tmp_path_factory)


def section(model: type[Config | Stream | Webhook]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(sorted(model.model_fields)) | st.text(max_size=5), VALUES, max_size=4)


CONFIGS = st.builds(
    lambda top, streams, webhooks: {**top, "streams": streams, "webhooks": webhooks},
    section(Config),
    st.lists(section(Stream), max_size=3),
    st.lists(section(Webhook), max_size=2),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=CONFIGS)
def test_any_yaml_is_a_configuration_or_is_refused(
    data: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    refused(PLAIN["config"], yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "replace"), tmp_path_factory)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["event", "status", "gap", "heard"]) | st.text(max_size=5),
    epoch=VALUES,
    entry=st.dictionaries(st.sampled_from(["stream", "until_s", "start_s", "end_s", "reason"]), VALUES, max_size=5),
)
def test_any_line_of_the_journal_is_a_fact_or_is_laid_aside(
    kind: str, epoch: object, entry: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    line = json.dumps({"kind": kind, "epoch": epoch, "entry": entry}).encode()
    refused(PLAIN["journal-sealed"], bytes(8) + line + b"\n", tmp_path_factory)
