"""On the machine that does the work: what was carried is unpacked, and states go where the harness takes them up."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.accuracy.definitions import Run
from benchmarks.accuracy.execution import Places, Workplace, lay_over, write_json
from benchmarks.accuracy.run import DONE, status
from benchmarks.gpu.packing import PICTURES
from benchmarks.gpu.steps import RESULTS, Step, Workspace, state_pieces

__all__ = ["how_packed", "place", "relocate", "require_packed_for"]

PATHS = ("dataset_dir", "val_ids", "output_dir", "encoder_weights", "measured")  # entries that hold paths
BEST = (
    "model.pt"  # stays behind: an empty one stands in, for the next better epoch to delete; the last weights are judged
)


def place(carry: Path, workspace: Workspace, runs: Sequence[Run], *, results: Path = RESULTS) -> list[str]:
    """Unpack data sets, weights, states and results that the workspace does not hold yet.

    A state is left in its archive where the run has one here already: the one on the machine is the later one. One
    whose pieces have not all come waits. A result of an earlier machine is taken where it is of the same definition,
    so that its run is not repeated.

    Args:
        carry: the carried folder; parts of it may be missing when an earlier call brought them.
        workspace: where things go.
        runs: whose states and results are wanted.
        results: those that travelled with the working tree.

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
    known = replace(workspace.places, results=results)
    for run in runs:
        result, goal = workspace.places.result(run), Workplace(run, workspace.places)
        if not result.is_file() and status(run, known) == DONE:
            result.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(known.result(run), result)
            done.append(f"result of {run.name}")
        pieces = state_pieces(carry, run.name)
        if _all_here(pieces) and not goal.state.is_file() and not result.is_file():
            _unpack(b"".join(piece.read_bytes() for piece in pieces), goal.folder)
            done.append(f"state of {run.name}")
    return done


def _all_here(pieces: Sequence[Path]) -> bool:
    """Whether there are as many pieces as the name of each says."""
    return bool(pieces) and len(pieces) == int(pieces[0].name.rpartition("of")[2])


def require_packed_for(step: Step, workspace: Workspace) -> None:
    """Refuse data that were not packed for this step: what it is judged on may have shrunk.

    Raises:
        ValueError: naming the data set.
    """
    for folder in step.folders():
        if (note := how_packed(folder, workspace)) is None:
            raise ValueError(f"the data set '{folder}' was not carried: pack it and name its folder among the carried.")
        if step.name not in (served := note["steps"]):
            raise ValueError(f"'{folder}' was packed for {served}: pack it for '{step.name}' too, all in one command.")


def how_packed(folder: str, workspace: Workspace) -> dict[str, Any] | None:
    """The note of a data set that lies here, None of one that does not."""
    mark = workspace.root / "placed" / f"{folder}.json"
    if not mark.is_file():
        return None
    note: dict[str, Any] = json.loads(json.loads(mark.read_text(encoding="utf-8"))[1])
    return note


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
    _unpack(archive.read_bytes(), workspace.root / "data")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(known, encoding="utf-8")
    return f"data set {folder.name}"


def _unpack(archive: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
