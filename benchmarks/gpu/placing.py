"""On the machine that does the work: what was carried is unpacked, and states go where the harness takes them up."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.definitions import Run
from benchmarks.accuracy.execution import Places, Workplace, lay_over, write_json
from benchmarks.gpu.packing import PICTURES
from benchmarks.gpu.steps import Step, Workspace, state_name

__all__ = ["place", "relocate", "require_packed_for"]

PATHS = ("dataset_dir", "val_ids", "output_dir", "encoder_weights", "measured")  # entries that hold paths
BEST = (
    "model.pt"  # stays behind: an empty one stands in, for the next better epoch to delete; the last weights are judged
)


def place(carry: Path, workspace: Workspace, runs: Sequence[Run]) -> list[str]:
    """Unpack data sets, weights and states that the workspace does not hold yet.

    A state is left in its archive where the run has one here already: the one on the machine is the later one.

    Args:
        carry: the carried folder; parts of it may be missing when an earlier call brought them.
        workspace: where things go.
        runs: whose states are wanted.

    Returns:
        A line about each thing that was done.
    """
    done = [line for folder in sorted(carry.glob("*")) if (line := _place_dataset(folder, workspace))]
    for file in sorted((carry / "base" / "weights").glob("*.pt")):
        target = workspace.root / "weights" / file.name
        if not target.is_file() or target.stat().st_size != file.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            done.append(f"weights {file.name}")
    for run in runs:
        archive, goal = carry / "states" / state_name(run.name), Workplace(run, workspace.places)
        if archive.is_file() and not goal.state.is_file() and not workspace.places.result(run).is_file():
            goal.folder.mkdir(parents=True, exist_ok=True)
            _unpack(archive, goal.folder)
            done.append(f"state of {run.name}")
    return done


def require_packed_for(step: Step, workspace: Workspace) -> None:
    """Refuse data that were not packed for this step: what it is judged on may have shrunk.

    Raises:
        ValueError: naming the data set.
    """
    for folder in step.folders():
        mark = workspace.root / "placed" / f"{folder}.json"
        if not mark.is_file():
            raise ValueError(f"the data set '{folder}' was not carried: pack it and name its folder among the carried.")
        served = json.loads(json.loads(mark.read_text(encoding="utf-8"))[1])["steps"]
        if step.name not in served:
            raise ValueError(f"'{folder}' was packed for {served}: pack it for '{step.name}' too, all in one command.")


def relocate(run: Run, places: Places) -> bool:
    """Let a state from another folder or machine be taken up: its overlay gets this machine's paths.

    Nothing is done where anything but paths differs; the harness then starts the run anew.

    Returns:
        Whether the run has a state that will be taken up.
    """
    place_of_run = Workplace(run, places)
    if not (place_of_run.state.is_file() and place_of_run.train_overlay.is_file()):
        return False
    before = json.loads(place_of_run.train_overlay.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(lay_over(run, places)[0]))
    if {k: v for k, v in before.items() if k not in PATHS} != {k: v for k, v in now.items() if k not in PATHS}:
        return False
    if before != now:
        write_json(place_of_run.train_overlay, now)
    (place_of_run.training / BEST).touch()
    return True


def _place_dataset(folder: Path, workspace: Workspace) -> str | None:
    archive = folder / PICTURES
    if not archive.is_file():
        return None
    mark = workspace.root / "placed" / f"{folder.name}.json"
    known = json.dumps([archive.stat().st_size, (folder / "note.json").read_text(encoding="utf-8")])
    if mark.is_file() and mark.read_text(encoding="utf-8") == known:
        return None
    shutil.rmtree(workspace.root / "data" / folder.name, ignore_errors=True)
    _unpack(archive, workspace.root / "data")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(known, encoding="utf-8")
    return f"data set {folder.name}"


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
