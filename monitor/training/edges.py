"""Where airings end, learned from transitions whose place is known: the network by which edges are placed.

Pieces that the fingerprint was trained on end and begin as on air (cut, overlapped, cross-faded, faded by themselves,
talked over) beside other music, speech, noise, effects and silence, half of it under something else all the time. What
is learned from is what the aligner has: how like each window is to what the recording holds there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from monitor.audio.window import level_dbfs
from monitor.embed import fingerprint
from monitor.embed.fingerprint import Fingerprint
from monitor.match.edge import EdgeModel, Floats, around, features, place_edge
from monitor.match.line import along, make_plane
from monitor.match.run import reached
from monitor.match.score import Calibration, load_calibration
from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus, Item
from monitor.training.degrade import beds
from monitor.types import Samples

_INWARDS, _OUTWARDS = 14, 14
_LOW_S, _HIGH_S, _STEP_S = -4.096, 7.168, 0.128
_HIDDEN = 48
_INSIDE_S, _OUTSIDE_S = 17, 14
#: How often pieces go on air in which way, and how long it takes (uniform); drawn after what stations do.
_WAYS = {"cut": 0.35, "overlap": 0.21, "fade": 0.21, "power": 0.07, "alone": 0.07, "talk": 0.09}
_LENGTH_S = (0.5, 5.5)
_BESIDE = {"music": 0.6, "speech": 0.16, "noise": 0.06, "effects": 0.08, "silence": 0.1}
_OVER = {"": 0.5, "noise": 0.34, "speech": 0.16}
_LEVEL, _QUIET = 0.1, 1e-4
_LOUDER_DB, _UNDER_DB, _DUCKED_DB = 5.0, 15.0, (6.0, 12.0)
_SILENCE_DBFS = -70.0
#: Share of examples that have not yet heard what follows, and of those that began shortly before.
_CUT_SHORT = 0.3
#: Share of windows that were not heard, and of those in which something short drowned the airing.
_MISSING, _SPOILT = 0.01, 0.02
_STEPS, _BATCH, _RATE, _DECAY, _SOFT_PLACES = 4000, 256, 2e-3, 1e-3, 1.0
_HELD_OUT = 5


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One edge of one airing, ordered outwards from well inside it."""

    piece: int
    way: str
    ending: bool
    #: Places of the windows' inner ends and their similarities, (W,); those of silence are left out.
    places_s: Floats
    similarities: Floats
    edge_s: float
    #: Seconds before the edge in which something else is heard too.
    length_s: float


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What the network is shown, (N, windows), and the places of the edges from the outermost window, (N,)."""

    seen: Floats
    places_s: Floats


def measure_edges(
    corpus: Corpus, models: Path, *, seed: int, threads: int, say: Callable[[str], None], transitions: int = 6000
) -> None:
    """Add "edge" to `fingerprint.calibration.json` in `models`; what it places on held-out pieces is told."""
    embedder = fingerprint.load(models, threads=threads)
    path = models / "fingerprint.calibration.json"
    calibration = load_calibration(path, model_id=embedder.model_id)
    drawn = draw(corpus, embedder, seed=seed, count=transitions, say=say)
    learned_from = [each for each in drawn if each.piece % _HELD_OUT]
    model = learn(
        examples(learned_from, calibration, embedder.window_s, embedder.hop_s),
        embedder.window_s,
        embedder.hop_s,
        seed=seed,
    )
    for line in _judged([each for each in drawn if each.piece % _HELD_OUT == 0], calibration, embedder, model):
        say(line)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["edge"] = _content(model)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


# -- transitions -----------------------------------------------------------------------------------------------------


def draw(
    corpus: Corpus, embedder: Fingerprint, *, seed: int, count: int, say: Callable[[str], None]
) -> list[Transition]:
    """So many transitions, each by its own dice."""
    laid = beds(corpus, development=False, seed=seed + 4)
    others = {"speech": laid.speech.numpy(), "noise": laid.noise.numpy(), "effects": laid.effects.numpy()}
    least = (_INSIDE_S + _OUTSIDE_S + 1) * SAMPLE_RATE_HZ
    pieces = [item for item in corpus.select(kind="music", development=False) if item.samples > least]
    drawn = []
    for number in range(count):
        drawn.append(_transition(np.random.default_rng([seed, 77, number]), corpus, embedder, pieces, others))
        if len(drawn) % 500 == 0:
            say(f"{len(drawn)} transitions heard")
    return drawn


def _transition(
    dice: np.random.Generator,
    corpus: Corpus,
    embedder: Fingerprint,
    pieces: Sequence[Item],
    others: dict[str, Samples],
) -> Transition:
    number, ending, way = int(dice.integers(len(pieces))), bool(dice.integers(2)), _chosen(dice, _WAYS)
    piece = corpus.floats(pieces[number])
    length = (_INSIDE_S + _OUTSIDE_S) * SAMPLE_RATE_HZ
    inside = _INSIDE_S * SAMPLE_RATE_HZ - int(dice.integers(embedder.hop_samples))
    shared = 0 if way == "cut" else int(dice.uniform(*_LENGTH_S) * SAMPLE_RATE_HZ)
    first = int(dice.integers(len(piece) - length))
    # Composed outwards: a beginning is composed backwards and turned round.
    airing = piece[first : first + inside] if ending else piece[first + length - inside : first + length][::-1]
    beside = "speech" if way == "talk" else _chosen(dice, _BESIDE)
    if beside == "music":
        other = corpus.floats(pieces[(number + int(dice.integers(1, len(pieces)))) % len(pieces)])
    else:
        other = others.get(beside, np.zeros(length + 1, dtype=np.float32))
    heard = _composed(dice, _level(airing), _stretch(dice, other, length - inside + shared), way, shared)
    heard = heard if ending else heard[::-1]
    if over := _chosen(dice, _OVER):
        heard = heard + _stretch(dice, others[over], length) * _gain(-dice.uniform(0, _UNDER_DB))
    edge = inside if ending else length - inside
    return _heard(
        embedder,
        heard,
        piece[first - first % embedder.hop_samples :][: length + 2 * embedder.hop_samples],
        into_s=first % embedder.hop_samples / SAMPLE_RATE_HZ,
        of=Transition(
            piece=number,
            way=way,
            ending=ending,
            places_s=np.empty(0),
            similarities=np.empty(0),
            edge_s=(1 if ending else -1) * edge / SAMPLE_RATE_HZ,
            length_s=shared / SAMPLE_RATE_HZ,
        ),
    )


def _composed(dice: np.random.Generator, airing: Samples, other: Samples, way: str, shared: int) -> Samples:
    """The airing, and what follows it, which begins `shared` samples before its end."""
    airing, other = airing.copy(), other * _gain(dice.uniform(-_LOUDER_DB, _LOUDER_DB))
    part = np.linspace(0, 1, shared, dtype=np.float32)
    last = airing[len(airing) - shared :]
    if way in ("fade", "alone"):
        last *= 1 - part
        other[:shared] *= part if way == "fade" else 0
    elif way == "power":
        last *= np.cos(part * np.pi / 2)
        other[:shared] *= np.sin(part * np.pi / 2)
    elif way == "talk":
        last *= _gain(-dice.uniform(*_DUCKED_DB))
    heard = np.concatenate([airing, np.zeros(len(other) - shared, dtype=np.float32)])
    heard[len(airing) - shared :] += other
    return heard


def _heard(embedder: Fingerprint, heard: Samples, piece: Samples, *, into_s: float, of: Transition) -> Transition:
    """The transition with its windows: those that are not silent, on the line of the piece."""
    windows, there = embedder.embed_span(heard), embedder.embed_span(piece)
    starts_s = np.arange(len(windows), dtype=np.float64) * np.float64(embedder.hop_s)
    plane = make_plane(
        reference_id="piece",
        window_starts_s=starts_s,
        window_vectors=windows,
        reference_starts_s=np.arange(len(there), dtype=np.float64) * np.float64(embedder.hop_s),
        reference_vectors=there,
        reference_hop_s=embedder.hop_s,
    )
    if plane is None:
        raise ValueError("a transition is longer than a window")
    columns = (starts_s + np.float64(into_s)) / np.float64(embedder.hop_s)
    similarities = along(plane, np.arange(len(windows)), columns)
    first = np.rint(starts_s * SAMPLE_RATE_HZ).astype(int)
    sounds = [level_dbfs(heard[at : at + embedder.window_samples]) > _SILENCE_DBFS for at in first]
    known = ~np.isnan(similarities) & np.array(sounds)
    places_s = starts_s if of.ending else -starts_s - embedder.window_s
    order = slice(None) if of.ending else slice(None, None, -1)
    return replace(of, places_s=places_s[known][order], similarities=similarities[known][order])


def _chosen(dice: np.random.Generator, shares: dict[str, float]) -> str:
    return str(dice.choice(list(shares), p=list(shares.values())))


def _gain(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _level(samples: Samples) -> Samples:
    """At one level near its end, where it is heard beside others."""
    last = samples[-6 * SAMPLE_RATE_HZ :]
    return np.asarray(samples * np.float32(_LEVEL / max(float(np.sqrt(np.mean(last**2))), _QUIET)))


def _stretch(dice: np.random.Generator, samples: Samples, length: int) -> Samples:
    """Any so many samples, at one level."""
    start = int(dice.integers(0, len(samples) - length))
    return _level(samples[start : start + length])


# -- learning --------------------------------------------------------------------------------------------------------


def _outermost(transition: Transition, calibration: Calibration, window_s: float) -> int | None:
    """The number of the window up to which the piece is heard, found outwards as the aligner does."""
    clear = np.flatnonzero(transition.places_s <= transition.edge_s - transition.length_s - window_s - 0.5)
    if not len(clear):
        return None
    windows = list(zip(transition.places_s.tolist(), transition.similarities.tolist(), strict=True))
    last_s = reached(windows[clear[-1] + 1 :], windows[clear[-1]][0], calibration)
    return int(np.argmin(np.abs(transition.places_s - last_s)))


def examples(transitions: Sequence[Transition], calibration: Calibration, window_s: float, hop_s: float) -> Examples:
    """The windows of each as the network is shown them; what cannot be placed is left out."""
    seen, places = [], []
    for transition in transitions:
        number = _outermost(transition, calibration, window_s)
        if number is None:
            continue
        windows = list(zip(transition.places_s.tolist(), transition.similarities.tolist(), strict=True))
        seen.append(around(windows, number, model_windows=(_INWARDS, _OUTWARDS), hop_s=hop_s))
        places.append(transition.edge_s - windows[number][0])
    return Examples(seen=np.array(seen), places_s=np.array(places))


def learn(shown: Examples, window_s: float, hop_s: float, *, seed: int) -> EdgeModel:
    """A network trained on the examples (cross entropy with a softened place, AdamW, cosine schedule)."""
    torch.manual_seed(seed)
    dice = np.random.default_rng([seed, 78])
    count = round((_HIGH_S - _LOW_S) / _STEP_S)
    network = nn.Sequential(
        nn.Linear(2 * (_INWARDS + 1 + _OUTWARDS) + 1, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, count),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    middles = np.arange(count) + 0.5
    for _ in range(_STEPS):
        chosen = dice.integers(len(shown.seen), size=_BATCH)
        seen, places_s = _cut_short(dice, shown.seen[chosen].copy(), shown.places_s[chosen], window_s, hop_s)
        places = np.clip((places_s - _LOW_S) / _STEP_S, 0, count)
        wanted = torch.from_numpy(-(((middles - places[:, None]) / _SOFT_PLACES) ** 2) / 2).float().softmax(dim=1)
        given = network(torch.from_numpy(features(seen, inwards=_INWARDS)).float()).log_softmax(dim=1)
        loss = -(wanted * given).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layers = tuple(
        (layer.weight.detach().numpy().T.astype(np.float64), layer.bias.detach().numpy().astype(np.float64))
        for layer in network
        if isinstance(layer, nn.Linear)
    )
    return EdgeModel(inwards=_INWARDS, outwards=_OUTWARDS, low_s=_LOW_S, step_s=_STEP_S, layers=layers)


def _cut_short(
    dice: np.random.Generator, seen: Floats, places_s: Floats, window_s: float, hop_s: float
) -> tuple[Floats, Floats]:
    """Some as while the airing goes on, whose edge is where what was heard ends, or soon after it began."""
    rows = len(seen)
    offsets = np.arange(-_INWARDS, _OUTWARDS + 1)
    until = np.where(dice.random(rows) < _CUT_SHORT, dice.integers(0, _OUTWARDS, rows), _OUTWARDS)
    since = np.where(dice.random(rows) < _CUT_SHORT, -dice.integers(2, _INWARDS, rows), -_INWARDS)
    seen[(offsets > until[:, None]) | (offsets < since[:, None])] = np.nan
    seen[(dice.random(seen.shape) < _MISSING) & (offsets != 0)] = np.nan
    seen *= np.where(dice.random(seen.shape) < _SPOILT, dice.random(seen.shape), 1.0)
    last = np.max(np.where(np.isnan(seen), -np.inf, offsets), axis=1)
    return seen, np.minimum(places_s, last * hop_s + window_s)


def _judged(
    transitions: Sequence[Transition], calibration: Calibration, embedder: Fingerprint, model: EdgeModel
) -> Iterator[str]:
    """How far off the edges of held-out pieces are placed, by way."""
    errors: dict[str, list[float]] = {}
    for each in transitions:
        number = _outermost(each, calibration, embedder.window_s)
        if number is None:
            continue
        windows = list(zip(each.places_s.tolist(), each.similarities.tolist(), strict=True))
        placed_s = place_edge(
            windows,
            outermost_s=windows[number][0],
            window_s=embedder.window_s,
            hop_s=embedder.hop_s,
            model=model,
            ending=True,
        )
        errors.setdefault(each.way, []).append(placed_s - each.edge_s)
    for way, found in {**errors, "all": [error for some in errors.values() for error in some]}.items():
        off_s = np.array(found)
        missed_s, claimed_s = np.maximum(-off_s, 0).mean(), np.maximum(off_s, 0).mean()
        yield (
            f"{way}: {len(off_s)}, missed {missed_s:.2f} s, claimed too much {claimed_s:.2f} s,"
            f" within a second {np.mean(np.abs(off_s) < 1):.1%}"
        )


def _content(model: EdgeModel) -> dict[str, Any]:
    return {
        "inwards": model.inwards,
        "outwards": model.outwards,
        "low_s": model.low_s,
        "step_s": model.step_s,
        "layers": [
            {"weights": np.round(weights, 4).tolist(), "biases": np.round(biases, 4).tolist()}
            for weights, biases in model.layers
        ],
    }
