"""How far frames tell a recording from another, and where an airing ends: printed, on music that nothing was chosen on.

Nothing is learned from it: levels are compared as they are. What is printed is what the constants of
`monitor.match.presence`, `monitor.match.glimpse`, `monitor.match.cover` and `monitor.match.spotting` stand on, beside
the rendered tunes of `benchmarks.false_alarms`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from monitor.embed import fingerprint
from monitor.embed.spectrogram import Spectrograph
from monitor.match.cover import covered_edges
from monitor.match.glimpse import Glimpses, glimpses
from monitor.match.line import Line
from monitor.match.presence import Presence, presence
from monitor.match.spotting import Recording, Spot
from monitor.training.conditions import conditions
from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus, Item
from monitor.training.degrade import beds
from monitor.types import Samples, Spectrogram

_QUERIES = 150
_QUERY_S, _MARGIN_S = 5.0, 0.3
_WRONG_PLACES = 10
#: A place in a whole recording is the right one within so much.
_RIGHT_S = 0.2
#: An airing of so long before its end, and what follows.
_INSIDE_S, _OUTSIDE_S = 12.0, 8.0
_LEVEL, _QUIETEST = 0.1, 1e-3
_LARGEST_GUESS_S = 1.5
#: What is over an airing's last seconds, and for how long.
_ENDS = {"cut": 0.0, "overlap": 3.0, "cross-fade, 2 s": 2.0, "cross-fade, 4 s": 4.0, "speech over it": 3.0}


def measure_frames(corpus: Corpus, models: Path, *, seed: int, threads: int, say: Callable[[str], None]) -> None:
    """Print identities of airings under each condition and of strangers, then how well ends are found."""
    embedder = fingerprint.load(models, threads=threads)
    spectrograph = Spectrograph.for_embedder(embedder)
    laid = beds(corpus, development=False, seed=seed + 6)
    items = [item for item in corpus.select(kind="music", development=False) if item.samples > 40 * SAMPLE_RATE_HZ]
    pictures = {item.path: _picture(spectrograph, corpus.floats(item)) for item in items}
    recordings = {path: Recording(picture) for path, picture in pictures.items()}
    strangers: list[float] = []
    strange_spots: list[float] = []
    strange_folds: list[float] = []
    for number, condition in enumerate(conditions(laid)):
        if condition.coded:
            continue
        dice = np.random.default_rng([seed, 6, number])
        drawn = [_draw(corpus, items, dice, 1.3 * _QUERY_S) for _ in range(_QUERIES)]
        heard = condition.degrade(np.stack([samples for _, _, samples in drawn]), dice)
        found, spots, holds = [], [], []
        for (item, start_s, _), samples in zip(drawn, heard, strict=True):
            picture = _picture(spectrograph, samples[: round(_QUERY_S * SAMPLE_RATE_HZ)])
            if condition.rate == 1.0 and condition.reading == 0:
                spots.append(_deviations(_spot(picture, recordings[item.path]), -start_s))
            ratio = embedder.pitch_ratios[condition.reading]
            if (seen := _seen(picture, pictures[item.path], start_s, condition.rate, ratio)) is not None:
                found.append((seen.agreement, seen.identity))
                held = _held(picture, pictures[item.path], seen.line, seen.pitch_ratio)
                holds += [] if held is None else [(held.exact, held.missing, held.folds)]
            other = items[int(dice.integers(len(items)))]
            if other is not item:
                strangers.append(max(_strange(picture, pictures[other.path], dice, ratio)))
                spot = _spot(picture, recordings[other.path])
                strange_spots.append(_deviations(spot))
                held = None if spot is None else _held(picture, pictures[other.path], spot.line, 1.0)
                strange_folds += [] if held is None else [held.folds]
        exact, missing, folds = np.array(holds).T
        agreement, identity = np.array(found).T
        say(
            f"{condition.name:14} agreement p05 {np.quantile(agreement, 0.05):.2f}, p50 {np.median(agreement):.2f};"
            f" identity p05 {np.quantile(identity, 0.05):.2f}, p50 {np.median(identity):.2f};"
            f" exact p50 {np.median(exact):.2f}, missing p50 {np.median(missing):.2f},"
            f" folds p05 {np.quantile(folds, 0.05):.1f}, p50 {np.median(folds):.1f}"
            + (f"; deviations p25 {np.quantile(spots, 0.25):.1f}, p50 {np.median(spots):.1f}" if spots else "")
        )
    say(
        f"strangers, best of {_WRONG_PLACES} places, {len(strangers)}: identity p50 {np.median(strangers):.2f},"
        f" p99 {np.quantile(strangers, 0.99):.2f}, highest {max(strangers):.2f}"
    )
    say(
        f"strangers, the best place of a whole recording, {len(strange_spots)}: deviations"
        f" p50 {np.median(strange_spots):.1f}, p99 {np.quantile(strange_spots, 0.99):.1f},"
        f" most {max(strange_spots):.1f}; folds p50 {np.median(strange_folds):.1f},"
        f" p99 {np.quantile(strange_folds, 0.99):.1f}, most {max(strange_folds):.1f}"
    )

    speech = laid.speech.numpy()

    def draw(dice: np.random.Generator, *, talk: bool = False) -> tuple[Spectrogram, float, Samples]:
        length_s = _INSIDE_S + _OUTSIDE_S
        if not talk:
            item, start_s, samples = _draw(corpus, items, dice, length_s)
            return pictures[item.path], start_s, samples
        first = int(dice.integers(0, len(speech) - round(length_s * SAMPLE_RATE_HZ)))
        said = speech[first : first + round(length_s * SAMPLE_RATE_HZ)]
        return _picture(spectrograph, said), 0.0, said * np.float32(_LEVEL / max(np.sqrt(np.mean(said**2)), _QUIETEST))

    for name in _ENDS:
        errors = np.array(
            [
                _end_error_s(spectrograph, draw, name, np.random.default_rng([seed, number]))
                for number in range(_QUERIES)
            ]
        )
        missed, claimed = np.fmax(-errors, 0), np.fmax(errors, 0)
        say(
            f"end, {name:15} missed {missed.mean():.2f} s, claimed too much {claimed.mean():.2f} s,"
            f" within 0.5 s {np.mean(np.abs(errors) <= 0.5):.0%}"
        )


def _picture(spectrograph: Spectrograph, samples: Samples) -> Spectrogram:
    step_s = spectrograph.step_s
    return Spectrogram(start_s=step_s, step_s=step_s, levels=spectrograph.of(samples))


def _draw(corpus: Corpus, items: list[Item], dice: np.random.Generator, length_s: float) -> tuple[Item, float, Samples]:
    """An audible stretch of a piece, with the piece and its second, at one level."""
    length = round(length_s * SAMPLE_RATE_HZ)
    while True:
        item = items[int(dice.integers(len(items)))]
        start = int(dice.integers(0, item.samples - length))
        samples = corpus.floats(item)[start : start + length]
        levels = np.sqrt(np.mean(samples[: len(samples) // 16 * 16].reshape(16, -1) ** 2, axis=1))
        if levels.min() >= _QUIETEST:
            return item, start / SAMPLE_RATE_HZ, np.asarray(samples * np.float32(_LEVEL / levels.mean()))


def _seen(heard: Spectrogram, there: Spectrogram, start_s: float, rate: float, ratio: float) -> Presence | None:
    line = Line(origin_s=-start_s / rate, tempo_ratio=rate)
    last_s = heard.start_s + heard.step_s * len(heard.levels) - _MARGIN_S
    return presence(heard, there, line, pitch_ratio=ratio, first_s=_MARGIN_S, last_s=last_s)


def _spot(heard: Spectrogram, there: Recording) -> Spot | None:
    return there.spot(heard, first_s=_MARGIN_S, last_s=heard.start_s + heard.step_s * len(heard.levels))


def _held(heard: Spectrogram, there: Spectrogram, line: Line, ratio: float) -> Glimpses | None:
    last_s = heard.start_s + heard.step_s * len(heard.levels)
    return glimpses(heard, there, line, pitch_ratio=ratio, first_s=_MARGIN_S, last_s=last_s)


def _deviations(spot: Spot | None, origin_s: float | None = None) -> float:
    """How far a place stands out; 0 of one that is not where the airing is."""
    right = spot is not None and (origin_s is None or abs(spot.line.origin_s - origin_s) <= _RIGHT_S)
    return spot.deviations if spot is not None and right else 0.0


def _strange(heard: Spectrogram, there: Spectrogram, dice: np.random.Generator, ratio: float) -> list[float]:
    end_s = there.step_s * len(there.levels) - 2 * _QUERY_S
    found = [_seen(heard, there, start_s, 1.0, ratio) for start_s in dice.uniform(0, end_s, _WRONG_PLACES)]
    return [-1.0, *(seen.identity for seen in found if seen is not None)]


def _end_error_s(
    spectrograph: Spectrograph,
    draw: Callable[..., tuple[Spectrogram, float, Samples]],
    kind: str,
    dice: np.random.Generator,
) -> float:
    """How much too late the end of an airing is found, from a guess that is as far off as windows leave it."""
    there, start_s, samples = draw(dice)
    _, _, other = draw(dice, talk=kind == "speech over it")
    seconds = np.arange(len(samples)) / SAMPLE_RATE_HZ
    overlap_s = _ENDS[kind]
    begins_s = _INSIDE_S - overlap_s
    ramp = np.clip((seconds - begins_s) / max(overlap_s, 1e-3), 0.0, 1.0)
    faded = kind.startswith("cross-fade")
    going = np.where(seconds < _INSIDE_S, 1.0 - ramp if faded else 1.0, 0.0)
    coming = np.where(seconds >= begins_s, ramp if faded else 1.0, 0.0)
    heard = _picture(spectrograph, (samples * going + other * coming).astype(np.float32))
    guess_s = _INSIDE_S - float(dice.uniform(0, _LARGEST_GUESS_S))
    line = Line(origin_s=-start_s, tempo_ratio=1.0)
    seen = presence(heard, there, line, pitch_ratio=1.0, first_s=_MARGIN_S, last_s=guess_s - _MARGIN_S)
    if seen is None:
        return 0.0
    end_s = seen.edge(guess_s, guess_s - 3.0, ending=True)
    _, end_s = covered_edges(seen, heard, there, start_s=0.0, end_s=end_s)
    return end_s - _INSIDE_S
