"""`python -m monitor.training`: decode the corpus, train, export, calibrate and measure the shipped fingerprint.

Without a step's name all steps run in turn; each finds what the one before left in the work directory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitor.embed.fingerprint import MODELS, FrontEnd
from monitor.errors import MonitorError
from monitor.training import corpus, edges, export, frames, lines, measure, train

_STEPS = ("corpus", "train", "export", "measure", "lines", "edges", "frames")


def main() -> int:
    """Run the steps asked for."""
    parser = argparse.ArgumentParser(prog="python -m monitor.training", description=__doc__)
    parser.add_argument("steps", nargs="*", default=[], metavar="STEP", help=f"any of {', '.join(_STEPS)}; default all")
    parser.add_argument("--audio", type=Path, default=Path("corpus"), help="what fetch-audio.sh fetched")
    parser.add_argument("--work", type=Path, default=Path("training"), help="decoded audio and checkpoint")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the model is written and read")
    parser.add_argument("--budget-steps", type=int, help="train this many steps: reproducible")
    parser.add_argument("--budget-minutes", type=float, help="train this long, at whatever speed the machine gives")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chosen = arguments.steps or list(_STEPS)
    if unknown := [step for step in chosen if step not in _STEPS]:
        parser.error(f"there is no step {unknown[0]!r}; steps are {', '.join(_STEPS)}")
    minutes, steps = arguments.budget_minutes, arguments.budget_steps
    budget = train.Budget(steps=steps, minutes=minutes if minutes or steps else 100.0)
    cache, seed = arguments.work / "cache", arguments.seed
    try:
        if "corpus" in chosen:
            corpus.build(arguments.audio, cache, seed=seed, parallel=arguments.threads)
        if "train" in chosen:
            audio = corpus.load(cache)
            train.train(audio, arguments.work, budget=budget, seed=seed, threads=arguments.threads, say=_say)
        if "export" in chosen:
            run = train.new_run(FrontEnd(), seed)
            run.restore(arguments.work / "checkpoint.pt")
            _say(f"step {run.step}, weights {export.export(run.average, arguments.models, steps=run.step)}")
        if "measure" in chosen:
            measure.measure(corpus.load(cache), arguments.models, seed=seed, threads=arguments.threads, say=_say)
        if "lines" in chosen:
            lines.measure_lines(corpus.load(cache), arguments.models, seed=seed, threads=arguments.threads, say=_say)
        if "edges" in chosen:
            edges.measure_edges(corpus.load(cache), arguments.models, seed=seed, threads=arguments.threads, say=_say)
        if "frames" in chosen:
            frames.measure_frames(corpus.load(cache), arguments.models, seed=seed, threads=arguments.threads, say=_say)
    except MonitorError as error:
        sys.stderr.write(f"monitor.training: {error}\n")
        return error.exit_code
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
