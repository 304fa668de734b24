"""The training run: NT-Xent over pairs of clean and degraded windows, resumable, its schedule a share of a budget."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from monitor.embed.fingerprint import FrontEnd
from monitor.training.corpus import Corpus
from monitor.training.degrade import NARROW, WIDE, Degrader, beds
from monitor.training.network import Network, standardise
from monitor.training.pairs import NEAR_S, PER_PIECE, Batch, Pairs

#: A drawn batch, with the log power of its clean and of its degraded windows.
Prepared = tuple[Batch, Tensor, Tensor]
_TEMPERATURE = 0.05
_RATE = 2e-3
_WEIGHT_DECAY = 0.02
_WARM_UP_STEPS = 100
_AVERAGE = 0.995
#: The share of the budget that goes to the narrow reach of time and pitch, before the wide one. Each cools down.
_NARROW_SHARE = 0.6
#: Clean windows this alike (cosine of standardised log power) are taken for repeats of one sound, not for negatives.
_REPEAT = 0.93
_TELL_STEPS = 25
_KEEP_STEPS = 100
_CHECK_BATCHES = 4
#: Pairs that are degraded at once: as many as stay in the processor's cache.
_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train: a number of steps (reproducible), or minutes of wall time on a machine that others use too."""

    steps: int | None
    minutes: float | None

    def share(self, step: int, minutes: float) -> float:
        """Give the share of the budget that is spent, in [0, 1]."""
        spent = step / self.steps if self.steps else 0.0
        if self.minutes:
            spent = max(spent, minutes / self.minutes)
        return min(1.0, spent)


@dataclass(kw_only=True)
class Run:
    """All state of a run; `save` and `restore` carry it across interruptions."""

    network: Network
    average: Network
    optimiser: torch.optim.Optimizer
    step: int = 0
    minutes: float = 0.0

    def save(self, path: Path) -> None:
        """Write a checkpoint whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)  # noqa: PTH105

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        for name in ("network", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.minutes = state["step"], state["minutes"]


def new_run(front_end: FrontEnd, seed: int) -> Run:
    """Make the state that step 0 begins with."""
    torch.manual_seed(seed)
    network = Network(front_end.frames, front_end.bands).to(memory_format=torch.channels_last)
    average = Network(front_end.frames, front_end.bands)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    return Run(network=network, average=average.eval(), optimiser=optimiser)


def train(
    corpus: Corpus, place: Path, *, budget: Budget, seed: int, threads: int, say: Callable[[str], None] = print
) -> Run:
    """Train until the budget is spent; goes on from `place/checkpoint.pt`, writes `place/curve.jsonl`."""
    torch.set_num_threads(threads)
    front_end = FrontEnd()
    run = new_run(front_end, seed)
    place.mkdir(parents=True, exist_ok=True)
    checkpoint, curve = place / "checkpoint.pt", place / "curve.jsonl"
    if checkpoint.is_file():
        run.restore(checkpoint)
        say(f"goes on from step {run.step}")
    laid = beds(corpus, development=False, seed=seed)
    narrow, wide = Degrader(front_end, laid, NARROW), Degrader(front_end, laid, WIDE)
    pairs = Pairs(corpus, development=False, stretch_samples=wide.stretch_samples, seed=seed)
    check: list[tuple[Tensor, Tensor]] = []

    def prepare(step: int) -> Prepared:
        batch = pairs.batch(step)
        degrader = narrow if budget.share(step, run.minutes) < _NARROW_SHARE else wide
        return batch, *_windows(batch, degrader, torch.Generator().manual_seed(seed * 1_000_003 + step))

    losses: list[float] = []
    top1s: list[float] = []
    began = time.monotonic() - run.minutes * 60
    # The next batch is degraded on a thread of its own: thousands of small operations, each of which would wait for
    # both processors if it were split between them, which on a busy machine takes longer than the operation.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as ahead:
        coming = ahead.submit(prepare, run.step)
        while (share := budget.share(run.step, run.minutes)) < 1.0:
            rate = _RATE * min(1.0, (run.step + 1) / _WARM_UP_STEPS) * _cooled(share)
            for group in run.optimiser.param_groups:
                group["lr"] = max(rate, 1e-6)
            prepared = coming.result()
            coming = ahead.submit(prepare, run.step + 1)
            loss, top1 = _step(run, *prepared)
            run.step += 1
            run.minutes = (time.monotonic() - began) / 60
            losses.append(loss)
            top1s.append(top1)
            if run.step % _TELL_STEPS == 0:
                mean, right = sum(losses) / len(losses), sum(top1s) / len(top1s)
                say(f"step {run.step} minute {run.minutes:.1f} rate {rate:.1e} loss {mean:.3f} top-1 {right:.3f}")
                if run.step % _KEEP_STEPS != 0:
                    continue
                run.save(checkpoint)
                check = check or development_windows(corpus, front_end, seed=seed)
                found = development_top1(run.average, check)
                row = {"step": run.step, "minutes": round(run.minutes, 1), "rate": rate, "loss": round(mean, 3)}
                row |= {"train_top1": round(right, 4), "development_top1": round(found, 4)}
                with curve.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                say(f"development top-1 {found:.3f}")
                losses.clear()
                top1s.clear()
    run.save(checkpoint)
    return run


def _cooled(share: float) -> float:
    """Give the learning rate's share: half a cosine for each of the two reaches."""
    if share < _NARROW_SHARE:
        return 0.5 * (1 + math.cos(math.pi * share / _NARROW_SHARE))
    return 0.4 * (1 + math.cos(math.pi * (share - _NARROW_SHARE) / (1 - _NARROW_SHARE)))


def development_windows(corpus: Corpus, front_end: FrontEnd, *, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Draw the same pairs of clean and degraded development windows for every check of a run."""
    degrader = Degrader(front_end, beds(corpus, development=True, seed=seed + 1), WIDE)
    pairs = Pairs(corpus, development=True, stretch_samples=degrader.stretch_samples, seed=seed + 1)
    return [
        _windows(pairs.batch(number), degrader, torch.Generator().manual_seed(number))
        for number in range(_CHECK_BATCHES)
    ]


def development_top1(network: Network, check: list[tuple[Tensor, Tensor]]) -> float:
    """Give the share of degraded windows whose nearest of all clean windows is their own."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        clean = torch.cat([network(pair[0]).float() for pair in check])
        heard = torch.cat([network(pair[1]).float() for pair in check])
    return float((heard @ clean.T).argmax(1).eq(torch.arange(len(clean))).float().mean())


def _windows(batch: Batch, degrader: Degrader, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    anchors, sources = torch.from_numpy(batch.anchors), torch.from_numpy(batch.sources)
    with torch.no_grad():
        made = [
            degrader.pairs(anchors[start : start + _ROWS], sources[start : start + _ROWS], PER_PIECE, dice)
            for start in range(0, len(anchors), _ROWS)
        ]
    return torch.cat([clean for clean, _ in made]), torch.cat([heard for _, heard in made])


def _step(run: Run, batch: Batch, clean: Tensor, heard: Tensor) -> tuple[float, float]:
    standard = standardise(torch.cat([clean, heard]))
    out = alike(batch, standard[: len(clean)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = run.network.raw(standard)
    vectors = functional.normalize(raw.float())
    loss, top1 = nt_xent(vectors, out)
    run.optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimiser.step()
    with torch.no_grad():
        for kept, now in zip(run.average.state_dict().values(), run.network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now, 1 - min(_AVERAGE, (1 + run.step) / (10 + run.step)))
    return float(loss.detach()), top1


def alike(batch: Batch, clean: Tensor) -> Tensor:
    """Mark pairs of pairs that are neither the same nor different: near in time, or repeats of one sound.

    `clean` is (B, frames, bands), standardised; gives (B, B) bool.
    """
    pieces, times = torch.from_numpy(batch.pieces), torch.from_numpy(batch.times_s)
    near = (pieces[:, None] == pieces) & ((times[:, None] - times).abs() < NEAR_S)
    flat = functional.normalize(clean.flatten(1))
    return near | (flat @ flat.T > _REPEAT)


def nt_xent(vectors: Tensor, left_out: Tensor) -> tuple[Tensor, float]:
    """Give the normalised temperature-scaled cross entropy (Chen et al., SimCLR, 2020) and the share of right top-1.

    `vectors` is (2B, dimension): B clean, then their B degraded partners. `left_out` (B, B) takes negatives out.
    """
    count = len(left_out)
    partner = torch.cat([torch.arange(count, 2 * count), torch.arange(count)])
    out = left_out.repeat(2, 2)
    out[torch.arange(2 * count), partner] = False
    out.fill_diagonal_(True)
    logits = (vectors @ vectors.T / _TEMPERATURE).masked_fill(out, -1e9)
    right = logits[count:, :count].argmax(1).eq(torch.arange(count)).float().mean()
    return functional.cross_entropy(logits, partner), float(right)
