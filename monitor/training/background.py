"""What a similarity is measured against: fitted to windows of the right recording and to windows of candidates.

The right ones are heard through what masks them: heard clearly they need no background. Of both only those are used
whose similarity leaves a doubt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.embed.fingerprint import Fingerprint
from monitor.match.line import Floats
from monitor.match.score import MASKED, Background, Likeness
from monitor.training.conditions import conditions
from monitor.training.corpus import SAMPLE_RATE_HZ, Corpus
from monitor.training.degrade import beds
from monitor.training.measure import Catalog, copies, draw, embedded, on_line, true_numbers

_QUERIES = 160
_LENGTH_S = 5.0
_DOUBTFUL = (0.5, 0.85)
#: Chosen on rendered tunes of drum patterns, pads and arpeggios that no catalog held, and on the toolkit's queries.
_DISTINCT, _REPEATED = 0.45, 0.85
#: Of 233,000 windows of candidates, on 6.2 hours of tunes and music that no catalog held, 319 led their rivals by 0.1,
#: 67 by 0.15, 9 by 0.2, one by 0.25: two nats for each 0.05. Most windows of clear airings lead by 0.3 and more.
_LEAD, _LEAD_NATS = 0.15, 40.0
_STEPS = 60
_RIDGE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Likenesses (Q, W) of windows with their own seconds of their recordings, of one condition."""

    condition: str
    likeness: Likeness


def listen(
    corpus: Corpus, catalog: Catalog, embedder: Fingerprint, *, seed: int, say: Callable[[str], None]
) -> list[Heard]:
    """How like development music is to itself, and to all else, under each condition."""
    laid = beds(corpus, development=True, seed=seed + 2)
    plain = draw(corpus, catalog, coded=False, count=_QUERIES, seed=seed + 4)
    alike = copies(corpus, catalog, embedder, plain, say)
    heard = []
    for number, condition in enumerate(conditions(laid)):
        dice = np.random.default_rng([seed + 4, number])
        asked = draw(corpus, catalog, coded=True, count=_QUERIES, seed=seed + 4) if condition.coded else plain
        sound = condition.degrade(asked.signals, dice)[:, : round(_LENGTH_S * SAMPLE_RATE_HZ)]
        vectors = embedded(embedder, sound, condition.reading)
        numbers = true_numbers(embedder, asked, condition.rate, vectors.shape[1])
        rival = np.empty(vectors.shape[:2])
        for row, (query, piece) in enumerate(zip(vectors, asked.piece, strict=True)):
            similarities = query @ catalog.vectors.T
            similarities[:, alike[piece][catalog.piece]] = -1.0
            rival[row] = similarities.max(axis=1)
        steps = (hops * catalog.per_hop for hops in (0, -1, 1, -2, 2))
        own, *off = (on_line(catalog, asked.piece, numbers + step, vectors) for step in steps)
        likeness = Likeness(own=own, rival=rival, beside=(off[0] + off[1]) / 2, around=(off[2] + off[3]) / 2)
        heard.append(Heard(condition=condition.name, likeness=likeness))
        say(f"{condition.name}: own {np.median(own):.2f}, beside {np.median(likeness.beside):.2f}")
    return heard


def fit(heard: Sequence[Heard], candidates: Likeness) -> Background:
    """The background that tells masked airings from candidates best (logistic regression, both weighing the same)."""
    right = joined([one.likeness for one in heard if one.condition in MASKED])
    clear = joined([one.likeness for one in heard])
    typical_rival, most_rival = np.quantile(clear.rival, (0.5, 0.99))
    samples, truths = [], []
    for likeness, truth in ((right, 1.0), (candidates, 0.0)):
        doubtful = (likeness.own > _DOUBTFUL[0]) & (likeness.own < _DOUBTFUL[1])
        # Rivals that are as near as copies say nothing of how common a sound is.
        rival = np.clip(np.nan_to_num(likeness.rival, nan=typical_rival), typical_rival, most_rival)
        features = np.stack([likeness.own, rival, likeness.beside, likeness.around, np.ones_like(rival)], axis=-1)
        features = features[doubtful & ~np.isnan(features).any(axis=-1)]
        samples.append(features)
        truths.append(np.full(len(features), truth))
    own, rival_weight, beside_weight, around_weight, offset = _logistic(samples, truths)
    background = Background(
        offset=-offset / own,
        rival_weight=-rival_weight / own,
        beside_weight=-beside_weight / own,
        around_weight=-around_weight / own,
        typical_rival=float(typical_rival),
        typical_beside=float(np.median(right.beside)),
        typical_around=float(np.median(right.around)),
        least=0.0,
        most=1.0,
        distinct=_DISTINCT,
        repeated=_REPEATED,
        lead=_LEAD,
        lead_nats=_LEAD_NATS,
    )
    # Bounds: what a fast and rare sound must reach all the same, and where what is heard clearly still stands out.
    low, high = np.quantile(background.expected(clear), (0.25, 0.9))
    return dataclasses.replace(background, least=float(low), most=float(high))


def _logistic(samples: Sequence[Floats], truths: Sequence[Floats]) -> list[float]:
    """Weights by Newton's method; the two classes weigh the same."""
    features, truth = np.concatenate(samples), np.concatenate(truths)
    weight = np.concatenate([np.full(len(one), 1 / len(one)) for one in truths])
    found = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-features @ found))
        gradient = features.T @ (weight * (truth - likely)) - _RIDGE * found
        curvature = (features.T * (weight * likely * (1 - likely))) @ features + _RIDGE * np.eye(len(found))
        found += np.linalg.solve(curvature, gradient)
    return [float(value) for value in found]


def joined(likenesses: Sequence[Likeness]) -> Likeness:
    """All of them in one, flat."""
    return Likeness(
        **{
            field.name: np.concatenate([np.empty(0), *(getattr(one, field.name).ravel() for one in likenesses)])
            for field in dataclasses.fields(Likeness)
        }
    )
