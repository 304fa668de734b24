"""`python -m benchmarks.false_alarms --audio DIR --work DIR [--hours 24] [--padded 1000000]`: what is cried wolf about.

The catalog is the music of the folders that are not held out, and rendered tunes until it has 300 pieces. Listened to
are sounds that it has nothing of: the held-out folders' music and that of `--unheard`, tunes by other programs of the
sound font, voices and noise, no second twice. `monitor match` would print the same rows: both are the offline twin at
the default configuration. A run that was interrupted goes on in its `--work`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.material import SHORTEST_S, length_s
from benchmarks.false_alarms import listening, sounds, tunes
from benchmarks.false_alarms.listening import Heard
from benchmarks.false_alarms.sounds import SHARES_H, Padding
from benchmarks.false_alarms.tunes import Part
from monitor.cli.match import open_twin
from monitor.daemon.offline import Twin
from monitor.errors import InputError, MonitorError
from monitor.evaluate.scoring import poisson_bound
from monitor.training.corpus import DEVELOPMENT

LEAST_PIECES = 300
_TUNE_S = 100.0
#: Pieces of padding, so many to a load, and how long each is.
_PADDING_BATCH, _PADDING_S = 12, 1800.0
_DAY_H = 24.0


def main() -> int:
    """Load, listen, print."""
    parser = _parser()
    args = parser.parse_args()
    if not args.audio.is_dir():
        parser.error(f"{args.audio} is no folder: give one that holds a folder of music for each package")
    if args.unheard is not None and not args.unheard.is_dir():
        parser.error(f"{args.unheard} is no folder: `monitor/training/fetch-audio.sh DIR --unheard` fills one")
    args.work.mkdir(parents=True, exist_ok=True)
    # The embedded servers' user must be able to pass.
    args.work.chmod(0o711)
    try:
        told = asyncio.run(_measure(args))
    except MonitorError as error:
        print(f"benchmarks.false_alarms: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(told) if args.json else "\n\n".join(_table(each) for each in told["runs"]))
    return 0


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"[{time.strftime('%H:%M:%S', time.gmtime())}] {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.false_alarms", description=__doc__)
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="music in folders, one per package")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="catalog and answers are kept here")
    parser.add_argument(
        "--held-out", nargs="+", default=DEVELOPMENT, metavar="NAME", help="folders in neither catalog nor training"
    )
    parser.add_argument(
        "--unheard", type=Path, metavar="DIR", help="more music in folders that nothing was trained or chosen on"
    )
    parser.add_argument("--hours", type=float, default=24.0, help="of sound, shared out to the kinds as in 24")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=tuple(SHARES_H),
        default=tuple(SHARES_H),
        help="only these, as one of several runs side by side; `--only-kept` prints them together",
    )
    parser.add_argument("--only-kept", action="store_true", help="print what earlier runs have heard, and hear no more")
    parser.add_argument("--pieces", type=int, default=LEAST_PIECES, help="references; rendered tunes fill it up")
    parser.add_argument("--padded", type=int, metavar="WINDOWS", help="the same again against a catalog of so many")
    parser.add_argument("--only-padded", action="store_true", help="leave the catalog that is not padded out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


async def _measure(args: argparse.Namespace) -> dict[str, Any]:
    packages = sorted(
        path.name for path in args.audio.iterdir() if path.is_dir() and path.name not in set(args.held_out)
    )
    pieces = await asyncio.to_thread(_pieces, args, packages)
    runs = []
    catalogs = [] if args.only_padded else [("plain", None)]
    catalogs += [("padded", args.padded)] if args.padded else []
    for name, windows in catalogs:
        await asyncio.to_thread(_load, args.work, name, [args.work / "references"])
        if windows:
            await _pad(args, name, windows, [path for path in pieces if not _is_rendered(path)])
        async with _twin(args.work, name) as twin:
            runs.append(await _run(args, name, twin, pieces))
    return {"seed": args.seed, "hours": args.hours, "held_out": list(args.held_out), "runs": runs}


def _twin(work: Path, name: str) -> Any:
    return open_twin(argparse.Namespace(config=None, data_dir=work / "data", catalog=name))


def _pieces(args: argparse.Namespace, packages: Sequence[str]) -> list[Path]:
    """The catalog's pieces in one folder: real ones as they are, then tunes until there are enough."""
    folder = args.work / "references"
    folder.mkdir(exist_ok=True)
    done = args.work / "references.done"
    if not done.is_file():
        for path in sounds.music_files(args.audio, packages):
            name = path.relative_to(args.audio).as_posix().replace("/", "--")
            if length_s(path) >= SHORTEST_S and not (folder / name).exists():
                os.link(path, folder / name)
        real = sum(not _is_rendered(path) for path in folder.iterdir())
        for number in range(max(0, args.pieces - real)):
            tune = tunes.compose(args.seed, number, part=Part.CATALOG, length_s=_TUNE_S)
            if not (folder / f"{tune.name}.wav").exists():
                sounds.rendered(folder / f"{tune.name}.wav", tune)
        done.touch()
    return sorted(folder.iterdir())


def _is_rendered(path: Path) -> bool:
    return path.name.startswith(f"{Part.CATALOG.name.lower()}-")


def _load(work: Path, name: str, paths: Sequence[Path]) -> None:
    command = [sys.executable, "-m", "monitor", "catalog", "add", *map(str, paths), "--catalog", name]
    done = subprocess.run(
        [*command, "--data-dir", str(work / "data"), "--json"], capture_output=True, check=False, text=True
    )
    if done.returncode not in {os.EX_OK, InputError.exit_code}:
        raise MonitorError(f"the catalog cannot be loaded: {done.stderr.strip()[-500:]}")


async def _pad(args: argparse.Namespace, name: str, windows: int, music: Sequence[Path]) -> None:
    """Load pieces of padding until the catalog has so many windows."""
    folder = args.work / "padding"
    padding: Padding | None = None
    before = -1
    while True:
        async with _twin(args.work, name) as twin:
            there = sum(reference.windows for reference in twin.references.values())
            number = sum(reference.startswith("padding-") for reference in twin.references)
            hop_s = 0.256 if not there else sum(r.duration_s for r in twin.references.values()) / there
        say(f"catalog {name}: {there} windows")
        if there >= windows:
            return
        if there == before:
            raise MonitorError(f"catalog {name} stays at {there} windows; see what `monitor catalog add` says")
        before = there
        padding = padding or await asyncio.to_thread(Padding, music, args.seed)
        folder.mkdir(exist_ok=True)
        batch = min(_PADDING_BATCH, int((windows - there) * hop_s / _PADDING_S) + 1)
        for each in range(number, number + batch):
            await asyncio.to_thread(padding.write, folder / f"padding-{each:04d}.wav", each, _PADDING_S)
        await asyncio.to_thread(_load, args.work, name, [folder])
        for path in folder.iterdir():
            path.unlink()


async def _run(args: argparse.Namespace, name: str, twin: Twin, pieces: Sequence[Path]) -> dict[str, Any]:
    began_s = time.perf_counter()
    kept = args.work / f"heard-{name}-{args.seed}-{args.hours:g}-{twin.model_id}.jsonl"
    if args.only_kept:
        if not kept.is_file():
            raise InputError(f"{kept} is not there: no earlier run of this seed, these hours and this model was begun")
        heard = list(listening.read(kept))
    else:
        say(f"listening to {args.hours:g} h against {len(twin.references)} references")
        wanted = {"unheard": args.unheard, "hours": args.hours, "kinds": args.kinds, "seed": args.seed}
        heard = await listening.listen(twin, sounds.strangers(args.audio, packages=args.held_out, **wanted), kept)
    windows = sum(reference.windows for reference in twin.references.values())
    own = [path for path in pieces if not _is_rendered(path)]
    return {
        "catalog": name,
        "references": len(twin.references),
        "windows": windows,
        "real_pieces": len(own),
        "rendered_pieces": len(pieces) - len(own),
        "model_id": twin.model_id,
        "provisional_nats": twin.options.provisional_nats,
        "confirmed_nats": twin.options.confirmed_nats,
        "wall_s": time.perf_counter() - began_s,
        "kinds": {kind: _figures([each for each in heard if each.kind == kind]) for kind in SHARES_H},
        "all": _figures(heard),
        "wanted_hours": {kind: share_h * args.hours / _DAY_H for kind, share_h in SHARES_H.items()},
    }


def _figures(heard: Sequence[Heard]) -> dict[str, Any]:
    hours = sum(each.audio_s for each in heard) / 3600
    false = [row for each in heard for row in each.false]
    strongest = max(heard, key=lambda each: each.strongest_nats, default=None)
    return {
        "hours": hours,
        "files": len(heard),
        "false": len(false),
        "upper_95_per_day": poisson_bound(len(false)) / hours * _DAY_H if hours else None,
        "told_and_taken_back": sum(len(each.taken_back) for each in heard),
        "provisional_s": listening.told_s(heard),
        "strongest_nats": strongest.strongest_nats if strongest else None,
        "strongest_in": strongest.name if strongest else None,
        "each": [_words(row) for row in false],
        "copies": [_words(row) for each in heard for row in each.copies],
    }


def _words(row: Any) -> str:
    span = f"{row.query} {row.start_s:.1f} to {row.end_s:.1f} s"
    return f"{span} is not {row.reference_id} from {row.reference_start_s:.1f} s ({row.evidence_nats:.1f} nats)"


def _table(run: dict[str, Any]) -> str:
    made_of = f"{run['real_pieces']} real (of the training packages), {run['rendered_pieces']} rendered"
    size = f"{run['references']} references, {run['windows']} windows"
    told = f"{'provisional':>13s}{'taken back':>12s}  strongest in"
    lines = [
        f"catalog {run['catalog']}: {size}; {made_of}; {run['model_id']}",
        f"told of at {run['provisional_nats']:g} nats, believed at {run['confirmed_nats']:g}",
        "",
        f"{'kind':8s}{'hours':>8s}{'files':>7s}{'false':>7s}{'below, a day':>14s}{'strongest':>11s}{told}",
    ]
    for kind, row in (*run["kinds"].items(), ("all", run["all"])):
        if not row["files"]:
            lines.append(f"{kind:8s} nothing")
            continue
        wanted = run["wanted_hours"].get(kind, 0.0)
        short = f" (of {wanted:.1f} h wanted)" if row["hours"] < 0.8 * wanted else ""
        lines.append(
            f"{kind:8s}{row['hours']:8.2f}{row['files']:7d}{row['false']:7d}{row['upper_95_per_day']:14.1f}"
            f"{row['strongest_nats']:11.1f}{row['provisional_s']:11.1f} s{row['told_and_taken_back']:12d}"
            f"  {row['strongest_in']}{short}"
        )
    lines += ["", "false:", *(f"  {words}" for words in run["all"]["each"] or ["none"])]
    if run["all"]["copies"]:
        lines += ["left out, the same sound by cross-correlation of waveforms:"]
        lines += [f"  {words}" for words in run["all"]["copies"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
