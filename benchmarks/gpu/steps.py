"""The steps of the full budget: which runs belong together, how many go at a time, what of them comes back."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.definitions import EXPERIMENTS, ROOT, Run, load_definitions, plan
from benchmarks.accuracy.execution import Places

__all__ = ["CARRY", "RESULTS", "STEPS", "Step", "Workspace", "load_step", "state_name", "state_pieces", "step_names"]

STEPS = Path(__file__).with_name("steps.json")
CARRY = ROOT / "runs" / "gpu" / "carry"  # what travels to the machine; git ignores it
RESULTS = ROOT / "benchmarks" / "accuracy" / "results"  # travels too, with the working tree
STEP_KEYS = {"about", "budget", "runs", "lanes", "weights", "calls"}


@dataclass(frozen=True)
class Step:
    """Runs that are worked on together.

    Attributes:
        name: of the step.
        runs: of one budget, most wanted first.
        lanes: runs at a time.
        weights: whether the judged weights come back.
        calls: estimate of the calls of under ten minutes that it takes.
        experiments: file of experiments.
    """

    name: str
    runs: tuple[Run, ...]
    lanes: int
    weights: bool
    calls: float
    experiments: Path

    def folders(self) -> list[str]:
        """First parts of the folders of its data sets, each once."""
        return sorted({Path(run.data["folder"]).parts[0] for run in self.runs if run.data["folder"] is not None})


class Workspace:
    """Folder on the machine that does the work: data, weights, runs, results, logs. It outlives a single call.

    Args:
        root: the folder; ``BANET_GPU_ROOT`` or ``banet_gpu`` below the temporary folder when None.
    """

    def __init__(self, root: Path | None = None) -> None:
        default = os.environ.get("BANET_GPU_ROOT") or Path(tempfile.gettempdir(), "banet_gpu")
        self.root = Path(root or default).resolve()
        self.logs = self.root / "logs"
        self.places = Places(self.root / "data", self.root / "weights", self.root / "runs", self.root / "results")


def step_names(path: Path = STEPS) -> list[str]:
    """Names of the steps, most wanted first."""
    return list(json.loads(path.read_text(encoding="utf-8"))["steps"])


def load_step(name: str, *, steps: Path = STEPS, experiments: Path = EXPERIMENTS) -> Step:
    """One step with its runs.

    Raises:
        ValueError: when there is no such step, it has an unknown key, or it names runs that the budget lacks.
    """
    known = json.loads(steps.read_text(encoding="utf-8"))["steps"]
    if name not in known:
        raise ValueError(f"there is no step '{name}', there are: {', '.join(known)}.")
    definition = known[name]
    if unknown := sorted(definition.keys() - STEP_KEYS):
        raise ValueError(f"step '{name}': unknown keys {unknown}, allowed are {sorted(STEP_KEYS)}.")
    runs = plan(load_definitions(experiments), definition.get("budget", "gpu"), only=definition["runs"])
    return Step(
        name=name,
        runs=tuple(runs),
        lanes=int(definition["lanes"]),
        weights=bool(definition.get("weights", False)),
        calls=float(definition.get("calls", 1)),
        experiments=experiments,
    )


def state_name(run_name: str) -> str:
    """File name of a run's packed state: letters, digits, ``.``, ``_`` and ``-`` alone."""
    return f"{run_name.replace('/', '.')}.tar.gz"


def state_pieces(carry: Path, run_name: str) -> list[Path]:
    """The pieces of a run's packed state, ``NAME.01of06`` and so on; empty where it has none."""
    return sorted((carry / "states").glob(f"{state_name(run_name)}.*of*"))
