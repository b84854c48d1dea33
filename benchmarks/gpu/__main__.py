"""Full-budget runs on a rented machine: ``python -m benchmarks.gpu list | pack | place | step | fetch``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.definitions import EXPERIMENTS, ROOT
from benchmarks.gpu.fetching import fetch
from benchmarks.gpu.packing import LIMIT, pack_base, pack_dataset, travelling_bytes
from benchmarks.gpu.placing import place, require_packed_for
from benchmarks.gpu.sending import send_results, send_states
from benchmarks.gpu.steps import CARRY, STEPS, Step, Workspace, load_step, step_names
from benchmarks.gpu.working import work

__all__ = ["main"]

SENDING = 40.0  # seconds kept for stopping what runs and for packing it
MEGABYTE = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all went well, 1 when a run failed or something is missing, 2 for a wrong name."""
    options = parse_arguments(arguments)
    try:
        return int(options.command(options))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    commands = parser.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--steps", type=Path, default=STEPS, help="file of steps")
    shared.add_argument("--experiments", type=Path, default=EXPERIMENTS, help="file of experiments")
    shared.add_argument("--carry", type=Path, default=CARRY, help="folder of what travels")

    listing = commands.add_parser("list", parents=[shared], help="steps and their runs, most wanted first")
    listing.set_defaults(command=_list)

    packing = commands.add_parser("pack", parents=[shared], help="here: pack what the steps need")
    packing.add_argument("names", nargs="+", metavar="STEP")
    packing.add_argument("--data", type=Path, default=os.environ.get("BANET_DATA"), help="folder of the data sets")
    packing.add_argument("--weights", type=Path, default=os.environ.get("BANET_WEIGHTS"), help="of the encoders")
    packing.add_argument("--wheels", type=Path, default=None, help="of packages that the machine lacks")
    packing.set_defaults(command=_pack)

    placing = commands.add_parser("place", parents=[shared], help="there: unpack what was carried, and no more")
    placing.add_argument("name", metavar="STEP")
    placing.add_argument("--root", type=Path, default=None, help="workspace")
    placing.set_defaults(command=_place)

    working = commands.add_parser("step", parents=[shared], help="there: work on one step")
    working.add_argument("name", metavar="STEP")
    working.add_argument("--minutes", type=float, default=9.4, help="for all of it, from --began")
    working.add_argument("--began", type=float, default=None, help="when it began, in seconds since the epoch")
    working.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="folder that comes back")
    working.add_argument("--finish", action="store_true", help="take up interrupted runs, begin no other")
    working.add_argument("--again", action="store_true", help="send weights that an earlier call has sent")
    working.add_argument("--root", type=Path, default=None, help="workspace")
    working.set_defaults(command=_step)

    fetching = commands.add_parser("fetch", parents=[shared], help="here: take in what came back")
    fetching.add_argument("folder", type=Path, help="of the files that came back")
    fetching.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "accuracy" / "results")
    fetching.add_argument("--runs", type=Path, default=ROOT / "runs" / "accuracy")
    fetching.add_argument("--replace", action="store_true", help="overwrite results that differ")
    fetching.set_defaults(command=_fetch)
    return parser.parse_args(arguments)


def _list(options: argparse.Namespace) -> int:
    for name in step_names(options.steps):
        step = load_step(name, steps=options.steps, experiments=options.experiments)
        print(f"{name}: {len(step.runs)} runs, {step.lanes} at a time, about {step.calls:g} calls (estimate)")
        for run in step.runs:
            print(f"    {run.name}")
    return 0


def _pack(options: argparse.Namespace) -> int:
    if options.data is None:
        raise ValueError("say where the data sets lie: --data or BANET_DATA.")
    steps = [load_step(name, steps=options.steps, experiments=options.experiments) for name in options.names]
    base = pack_base(options.carry, _encoders(steps, options.weights), _wheels(options.wheels))
    for name in sorted({folder for step in steps for folder in step.folders()}):
        note = pack_dataset(name, options.data, steps, options.carry)
        print(f"{name}: {_size(options.carry / name):.1f} MB, {note}")
    too_much = False
    for step in steps:
        carried = [base, *(options.carry / name for name in step.folders())]
        too_much |= _show_call(step, carried, options.carry)
    return int(too_much)


def _show_call(step: Step, carried: list[Path], carry: Path) -> bool:
    """Print what the call of a step carries; whether that is too much."""
    total, states = travelling_bytes(carried), carry / "states"
    waiting = sorted(states.glob("*.tar.gz"))
    names = [str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path) for path in carried]
    print(f"\n{step.name}: carry {names}, {total / MEGABYTE:.1f} of {LIMIT / MEGABYTE:.1f} MB with the working tree")
    print(f"    bash benchmarks/gpu/step.sh {step.name}")
    if waiting:
        print(f"    {len(waiting)} states wait in '{states}': place them first, see benchmarks/gpu/README.md")
    if total > LIMIT:
        print("    TOO MUCH: pack fewer data sets at a time", file=sys.stderr)
    return total > LIMIT


def _encoders(steps: Sequence[Step], folder: Path | None) -> list[Path]:
    names = {f"{r.settings.get('encoder', 'mobilenet_v2')}_imagenet.pt" for step in steps for r in step.runs
             if r.settings.get("init") == "imagenet"}  # fmt: skip
    if names and folder is None:
        raise ValueError(f"say where {sorted(names)} lie: --weights or BANET_WEIGHTS.")
    files = [Path(str(folder), name) for name in sorted(names)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{missing} are not in '{folder}'.")
    return files


def _wheels(folder: Path | None) -> list[Path]:
    files = [] if folder is None else sorted(folder.glob("*.whl"))
    if folder is not None and not files:
        raise FileNotFoundError(f"no wheel (*.whl) in '{folder}'.")
    return files


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MEGABYTE


def _place(options: argparse.Namespace) -> int:
    step = load_step(options.name, steps=options.steps, experiments=options.experiments)
    workspace = Workspace(options.root)
    for line in place(options.carry, workspace, step.runs):
        print(f"placed   {line}", flush=True)
    require_packed_for(step, workspace)
    return 0


def _step(options: argparse.Namespace) -> int:
    began = time.time() if options.began is None else options.began
    if options.out is None:
        raise ValueError("say where to write what comes back: --out or OUT.")
    _place(options)
    workspace = Workspace(options.root)
    step = load_step(options.name, steps=options.steps, experiments=options.experiments)
    seconds = began + 60 * options.minutes - SENDING - time.time()
    outcome = work(
        step,
        workspace,
        seconds,
        finish=options.finish,
        after_each=lambda so_far: send_results(step, workspace, options.out, so_far, {}),
    )
    large = send_states(step, workspace, options.out, again=options.again)
    send_results(step, workspace, options.out, outcome, large)
    for name in large["left_behind"]:
        print(f"no room  {name}: it stays on the machine", flush=True)
    print(f"{len(outcome.finished)} finished, {len(outcome.interrupted)} interrupted, {len(outcome.failed)} failed; "
          f"{time.time() - began:.0f} s")  # fmt: skip
    return int(bool(outcome.failed))


def _fetch(options: argparse.Namespace) -> int:
    fetched = fetch(
        options.folder,
        results=options.results,
        runs=options.runs,
        carry=options.carry,
        experiments=options.experiments,
        replace=options.replace,
    )
    machine = fetched.report["machine"]
    print(f"step {fetched.report['step']} on {machine['gpu'] or machine['processor']}")
    for kind in ("results", "weights", "states"):
        for name in getattr(fetched, kind):
            print(f"{kind[:-1] if kind != 'weights' else kind:8} {name}")
    for name, how_far in fetched.report["runs"].items():
        print(f"         {name}: {how_far}")
    for problem in fetched.problems:
        print(f"PROBLEM  {problem}", file=sys.stderr)
    return int(bool(fetched.problems))


if __name__ == "__main__":
    sys.exit(main())
