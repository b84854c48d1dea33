"""Full-budget runs on a rented machine: ``python -m benchmarks.gpu list | pack | calls | place | step | fetch``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.definitions import EXPERIMENTS, ROOT
from benchmarks.gpu.fetching import NOTE, fetch
from benchmarks.gpu.packing import LIMIT, pack_base, pack_dataset, packed_from, share_out
from benchmarks.gpu.placing import place, require_packed_for
from benchmarks.gpu.sending import names_sent, send
from benchmarks.gpu.steps import CARRY, RESULTS, STEPS, Step, Workspace, load_step, state_pieces, step_names
from benchmarks.gpu.working import Outcome, work

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

    calls = commands.add_parser("calls", parents=[shared], help="here: what each call of the steps carries")
    calls.add_argument("names", nargs="+", metavar="STEP")
    calls.set_defaults(command=_calls)

    placing = commands.add_parser("place", parents=[shared], help="there: unpack what was carried, and no more")
    placing.add_argument("names", nargs="*", metavar="STEP", help="steps whose states are wanted too")
    placing.add_argument("--root", type=Path, default=None, help="workspace")
    placing.add_argument("--note", type=Path, default=None, help="folder for a note of the commit")
    placing.set_defaults(command=_place)

    working = commands.add_parser("step", parents=[shared], help="there: work on one step")
    working.add_argument("name", metavar="STEP")
    working.add_argument(
        "--minutes", type=float, required=True, help="for all of it, from --began: less than the call may take"
    )
    working.add_argument("--began", type=float, default=None, help="when it began, in seconds since the epoch")
    working.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="folder that comes back")
    working.add_argument("--finish", action="store_true", help="take up interrupted runs, begin no other")
    working.add_argument("--again", action="store_true", help="send weights that an earlier call has sent")
    working.add_argument("--root", type=Path, default=None, help="workspace")
    working.set_defaults(command=_step)

    fetching = commands.add_parser("fetch", parents=[shared], help="here: take in what came back")
    fetching.add_argument("folder", type=Path, help="of the files that came back")
    fetching.add_argument("--results", type=Path, default=RESULTS)
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
    pack_base(options.carry, _encoders(steps, options.weights), _wheels(options.wheels))
    for name in sorted({folder for step in steps for folder in step.folders()}):
        note = pack_dataset(name, options.data, steps, options.carry)
        print(f"{name}: {_size(options.carry / name):.1f} MB, {note}")
    return _calls(options)


def _calls(options: argparse.Namespace) -> int:
    steps = [load_step(name, steps=options.steps, experiments=options.experiments) for name in options.names]
    return int(any([_show_calls(step, options.carry) for step in steps]))


def _show_calls(step: Step, carry: Path) -> bool:
    """Print what the calls up to the first one of a step carry; whether one of them carries too much."""
    states = [piece for run in step.runs for piece in state_pieces(carry, run.name)]
    carried = [carry / "base", *(carry / name for name in step.folders())]
    if missing := [path.name for path in carried if not path.is_dir()]:
        raise FileNotFoundError(f"{missing} are not in '{carry}': python -m benchmarks.gpu pack {step.name}")
    calls = share_out([*carried, *states], LIMIT)
    print(f"\n{step.name}: {len(calls)} calls, each with the working tree, of {LIMIT / MEGABYTE:.1f} MB at most")
    for number, call in enumerate(calls, start=1):
        names = [str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path) for path in call.paths]
        words = f"place {step.name}" if number < len(calls) else f"{step.name} --minutes MINUTES"
        print(f"    bash benchmarks/gpu/step.sh {words}\n        carry {names}, {call.size / MEGABYTE:.1f} MB")
        if call.size > LIMIT:
            print("    TOO MUCH: pack fewer data sets at a time", file=sys.stderr)
    return any(call.size > LIMIT for call in calls)


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
    steps = [load_step(name, steps=options.steps, experiments=options.experiments) for name in options.names]
    _show_placed(options.carry, Workspace(options.root), steps)
    if options.note is not None:
        (options.note / NOTE).write_text(json.dumps(packed_from(options.carry)), encoding="utf-8")
    return 0


def _show_placed(carry: Path, workspace: Workspace, steps: Sequence[Step]) -> None:
    for line in place(carry, workspace, [run for step in steps for run in step.runs]):
        print(f"placed   {line}", flush=True)


def _step(options: argparse.Namespace) -> int:
    began = time.time() if options.began is None else options.began
    if options.out is None:
        raise ValueError("say where to write what comes back: --out or OUT.")
    workspace = Workspace(options.root)
    step = load_step(options.name, steps=options.steps, experiments=options.experiments)
    _show_placed(options.carry, workspace, [step])
    require_packed_for(step, workspace)
    sent = [] if options.again else names_sent(workspace)

    def send_back(outcome: Outcome, *, states: bool) -> dict[str, Any]:
        return send(step, workspace, options.out, outcome, carry=options.carry, sent=sent, states=states)

    seconds = began + 60 * options.minutes - SENDING - time.time()
    outcome = work(
        step,
        workspace,
        seconds,
        finish=options.finish,
        after_each=lambda so_far: send_back(so_far, states=False),
    )
    for name in send_back(outcome, states=True)["left_behind"]:
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
    if report := fetched.report:
        print(f"step {report['step']} on {report['machine']['gpu'] or report['machine']['processor']}")
    kinds = {"result": fetched.results, "weights": fetched.weights, "state": fetched.states, "speed": fetched.speed}
    for kind, names in kinds.items():
        for name in names:
            print(f"{kind:8} {name}")
    for name, how_far in report.get("runs", {}).items():
        print(f"         {name}: {how_far}")
    for problem in fetched.problems:
        print(f"PROBLEM  {problem}", file=sys.stderr)
    return int(bool(fetched.problems))


if __name__ == "__main__":
    sys.exit(main())
