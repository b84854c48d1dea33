"""Run the experiments of a budget: ``python -m benchmarks.accuracy run --help``.

Every run is the bundle's own training with overrides, then the bundle's own evaluation, then one JSON file of results.
A run whose file is there is skipped; one that was interrupted is taken up after its last epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.accuracy.checking import check
from benchmarks.accuracy.collecting import collect, definition
from benchmarks.accuracy.definitions import EXPERIMENTS, ROOT, Run, load_definitions, plan
from benchmarks.accuracy.execution import Places, RunError, Workplace, evaluate, train, write_json

__all__ = ["main", "status"]

DONE, PARTLY, TO_DO, DIFFERENT = "done", "interrupted", "to do", "done, but of another definition"

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line; ``--quick`` stands for the budget of that name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy run", description=__doc__)
    parser.add_argument("--budget", default="cpu", help="one of the budgets in the file of experiments")
    parser.add_argument("--quick", action="store_true", help="two tiny runs on synthetic pictures, in runs/ alone")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="experiments, or beginnings of run names")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="only these seeds")
    parser.add_argument("--data", type=Path, default=_folder("BANET_DATA"), help="folder of the data sets")
    parser.add_argument("--weights", type=Path, default=_folder("BANET_WEIGHTS"), help="of ENCODER_imagenet.pt files")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "accuracy", help="folder of the runs' states")
    parser.add_argument("--results", type=Path, default=None, help="folder of the results")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS, help="file of experiments")
    parser.add_argument("--minutes", type=float, default=None, help="start no further run after so many minutes")
    parser.add_argument("--dry-run", action="store_true", help="check and list, but run nothing")
    parser.add_argument("--replace", action="store_true", help="run again what was done with another definition")
    options = parser.parse_args(arguments)
    if options.quick:
        options.budget = "quick"
    if options.results is None:
        kept = ROOT / "benchmarks" / "accuracy" / "results"
        options.results = options.runs / "results" if options.budget == "quick" else kept
    return options


def _folder(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None


def status(run: Run, places: Places) -> str:
    """Whether the run's result is there, was begun, or waits."""
    result = places.result(run)
    if result.is_file():
        known = json.loads(result.read_text(encoding="utf-8"))["definition"]
        return DONE if known == json.loads(json.dumps(definition(run))) else DIFFERENT
    return PARTLY if Workplace(run, places).state.is_file() else TO_DO


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not done: 0 when all went well, 1 when a run failed or cannot start, 2 for a wrong file or name."""
    options = parse_arguments(arguments)
    places = Places(options.data, options.weights, options.runs, options.results)
    try:
        runs = plan(load_definitions(options.experiments), options.budget, only=options.only, seeds=options.seeds)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    states = {run.name: status(run, places) for run in runs}
    left_alone = (DONE,) if options.replace else (DONE, DIFFERENT)
    waiting = [run for run in runs if states[run.name] not in left_alone]
    impossible = _impossible(waiting, places)
    for run in runs:
        print(f"{'cannot run' if run.name in impossible else states[run.name]:11} {run.name}")
    for name, reason in impossible.items():
        print(f"cannot run {name}: {reason}", file=sys.stderr)
    if DIFFERENT in states.values() and not options.replace:
        print("Results of another definition stay as they are; --replace runs them again.")
    failed: list[str] = []
    if not options.dry_run:
        signal.signal(signal.SIGTERM, _interrupt)  # so that a stopped harness stops its command too
        try:
            failed = _run_all([run for run in waiting if run.name not in impossible], places, options.minutes)
        except KeyboardInterrupt:
            print("Interrupted: the same command goes on after the last complete epoch.", file=sys.stderr)
            return INTERRUPTED
    return 1 if failed or impossible else 0


def _impossible(runs: Sequence[Run], places: Places) -> dict[str, str]:
    """Names of the runs that cannot start, and why; seeds of one experiment are checked once."""
    reasons: dict[tuple[str, str], str] = {}
    for run in runs:
        key = (run.dataset, run.experiment)
        if key not in reasons:
            try:
                check(run, places)
                reasons[key] = ""
            except (ValueError, FileNotFoundError) as error:
                reasons[key] = str(error)
    return {run.name: why for run in runs if (why := reasons[run.dataset, run.experiment])}


def _run_all(runs: Sequence[Run], places: Places, minutes: float | None) -> list[str]:
    """Run one after the other; a failure leaves its state and the others go on. Returns the names of the failed."""
    began, failed = time.monotonic(), []
    for number, run in enumerate(runs, start=1):
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            print(f"{minutes:g} minutes are over, {len(runs) - number + 1} runs wait")
            break
        print(f"[{number}/{len(runs)}] {run.name}", flush=True)
        try:
            print(f"    {_run_one(run, places)}", flush=True)
        except RunError as error:
            print(f"    FAILED: {error}", file=sys.stderr, flush=True)
            failed.append(run.name)
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}", file=sys.stderr)
    return failed


def _run_one(run: Run, places: Places) -> str:
    """Train, evaluate and write the result; a line about it."""
    with Workplace(run, places).claim() as mine:
        if not mine:
            return "another process is at it"
        train(run, places)
        result = collect(run, places, evaluate(run, places))
        write_json(places.result(run), result)
    metrics = result["summary"]["overall"]["metrics"]
    seconds = result["training"]["seconds"] + result["evaluation"]["seconds"]
    return f"JA {metrics['ja']['mean']:.4f}, Boundary IoU {metrics['boundary_iou']['mean']:.4f}, {seconds / 60:.1f} min"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
