"""Runs of a step side by side, each by the accuracy harness, until the time is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.accuracy.definitions import ROOT, Run
from benchmarks.accuracy.execution import Places, Workplace
from benchmarks.accuracy.run import DIFFERENT, DONE, PARTLY, status
from benchmarks.gpu.placing import relocate
from benchmarks.gpu.steps import Step, Workspace

__all__ = ["Outcome", "epochs_done", "queue", "work"]

PAUSE = 0.5  # seconds between two looks at the lanes
PATIENCE = 25.0  # seconds that a stopped run has to end by itself


@dataclass
class Outcome:
    """Names of the runs that ended in this call, by how they ended."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)


def queue(step: Step, places: Places, *, finish: bool = False) -> list[Run]:
    """What waits: interrupted runs that can be taken up, then those that have not begun, most wanted first.

    Args:
        step: the step.
        places: of the workspace.
        finish: leave out those that have not begun.
    """
    waiting = [run for run in step.runs if status(run, places) not in (DONE, DIFFERENT)]
    begun = [run for run in waiting if status(run, places) == PARTLY and relocate(run, places)]
    return begun if finish else [*begun, *(run for run in waiting if run not in begun)]


def epochs_done(run: Run, places: Places) -> int | None:
    """Epochs in the state of a run, None where it has no state."""
    state = Workplace(run, places).state
    if not state.is_file():
        return None
    return int(torch.load(state, map_location="cpu", weights_only=True, mmap=True)["progress"]["epoch"])


def work(
    step: Step,
    workspace: Workspace,
    seconds: float,
    *,
    finish: bool = False,
    after_each: Callable[[Outcome], object] = lambda outcome: None,
) -> Outcome:
    """Keep the lanes full until nothing waits or the time is over; what still runs then stops at its last epoch.

    Args:
        step: the step.
        workspace: where data, runs and results lie.
        seconds: from now to the moment when what runs is stopped.
        finish: take up interrupted runs only.
        after_each: called when a run has finished.
    """
    end, outcome = time.monotonic() + seconds, Outcome()
    waiting = queue(step, workspace.places, finish=finish)
    lanes: dict[str, subprocess.Popen[bytes]] = {}
    workspace.logs.mkdir(parents=True, exist_ok=True)
    try:
        while (waiting or lanes) and time.monotonic() < end:
            while waiting and len(lanes) < step.lanes:
                run = waiting.pop(0)
                lanes[run.name] = _start(run, step, workspace)
                print(f"begins   {run.name}", flush=True)
            for name in [name for name, process in lanes.items() if process.poll() is not None]:
                _ended(name, lanes.pop(name).returncode, outcome, workspace)
                after_each(outcome)
            time.sleep(PAUSE)
    finally:
        _stop(lanes)
    for name, process in lanes.items():
        if process.returncode == 0:
            _ended(name, 0, outcome, workspace)
        else:
            outcome.interrupted.append(name)
            print(f"stopped  {name}", flush=True)
    return outcome


def _start(run: Run, step: Step, workspace: Workspace) -> subprocess.Popen[bytes]:
    places = workspace.places
    options = {"budget": run.budget, "only": run.name, "experiments": step.experiments}
    options |= {"data": places.data, "weights": places.weights, "runs": places.runs, "results": places.results}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    threads = str(max(1, (os.cpu_count() or 1) // (2 * step.lanes)))
    with _log(run.name, workspace).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.accuracy", "run", *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _log(name: str, workspace: Workspace) -> Path:
    return workspace.logs / f"{name.replace('/', '.')}.log"


def _ended(name: str, code: int, outcome: Outcome, workspace: Workspace) -> None:
    lines = _log(name, workspace).read_text(errors="replace").splitlines()
    if code == 0 and (workspace.places.results / f"{name}.json").is_file():
        outcome.finished.append(name)
        print(f"finished {name}: {lines[-1].strip()}", flush=True)
    else:
        outcome.failed.append(name)
        print(f"FAILED   {name}, exit code {code}:\n" + "\n".join(lines[-8:]), flush=True)


def _stop(lanes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ask all to end, which lets the harness end its own command; what does not is killed."""
    for process in lanes.values():
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    for process in lanes.values():
        try:
            process.wait(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
