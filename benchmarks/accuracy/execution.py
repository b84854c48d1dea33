"""One run: the bundle's own training and evaluation as processes, in a folder that an interrupted run takes up again.

The folder of a run holds ``train.json`` and ``evaluate.json``, the overlays laid over the bundle's configurations;
``start.pt``, the mean of several runs' weights where it goes on from that; ``training/``, the bundle's own output with
its state; ``segments.json``, time, memory, code and machine of every start; ``last.pt``, the weights that are judged;
``evaluation/``; and the logs of both commands.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from banet_monai.files import write_beside
from benchmarks.accuracy.definitions import ROOT, Run
from benchmarks.accuracy.sources import machine_of, training_digest

__all__ = ["Places", "RunError", "Workplace", "evaluate", "lay_over", "overrides", "train", "write_json", "write_mean"]

LOG_LINES = 15  # of a failed command, shown
MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
ON_LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None) if ON_LINUX else None  # loaded before a fork, after which little is allowed
PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent ends
WEIGHTS = "last.pt"
START = "run:"  # before the names of runs whose weights another begins with
SEED = re.compile(r"/seed\d+$")
EVALUATION_KEYS = ("encoder", "image_size", "scale", "spacing", "intensity", "amp", "device")


class RunError(RuntimeError):
    """A command of a run ended with an error; its state stays for the next attempt."""


@dataclass(frozen=True)
class Places:
    """Where things lie on this machine; none of it enters a result.

    Attributes:
        data: folder that holds the data sets.
        weights: folder of encoder weights, ``<encoder>_imagenet.pt``.
        runs: folder of the runs.
        results: folder of the results.
    """

    data: Path | None
    weights: Path | None
    runs: Path
    results: Path

    def dataset(self, run: Run) -> Path | None:
        """Folder or list of the run's data set, None for the bundle's demonstration data.

        Raises:
            FileNotFoundError: when it is not there, naming it.
        """
        if taught := run.data.get("taught"):
            if not (listed := self.taught(taught)).is_file():
                command = f"python -m benchmarks.accuracy teach RUN ... --dataset {taught}"
                raise FileNotFoundError(f"it needs the masks that other runs draw: {command}")
            return listed.resolve()
        folder = run.data["folder"]
        if folder is None:
            return None
        if self.data is None:
            raise FileNotFoundError(f"it needs the data set '{folder}': say where by --data or BANET_DATA.")
        if not (self.data / folder).is_dir():
            raise FileNotFoundError(f"it needs the data set '{folder}', which is not in '{self.data}'.")
        return (self.data / folder).resolve()

    def taught(self, dataset: str) -> Path:
        """List of a data set with second masks, which :mod:`benchmarks.accuracy.teach` writes."""
        return self.runs / "taught" / f"{dataset}.csv"

    def encoder_weights(self, run: Run, encoder: str) -> Path | None:
        """File of the encoder's ImageNet weights where the run starts from them.

        Raises:
            FileNotFoundError: when it is not there, naming it.
        """
        if run.settings.get("init") != "imagenet":
            return None
        name = f"{encoder}_imagenet.pt"
        if self.weights is None or not (self.weights / name).is_file():
            where = "no folder was given" if self.weights is None else f"it is not in '{self.weights}'"
            raise FileNotFoundError(f"it starts from '{name}', but {where}: use --weights or BANET_WEIGHTS.")
        return (self.weights / name).resolve()

    def starts(self, run: Run) -> list[Path]:
        """Judged weights of the runs that this one goes on from, several for their mean.

        ``init`` is then ``run:BUDGET/DATASET/EXPERIMENT``, which stands for the run of the same seed, or
        ``run:BUDGET/DATASET/EXPERIMENT/seedN``; several stand with ``+`` between.

        Raises:
            FileNotFoundError: when one of them has not been finished here.
        """
        init = str(run.settings.get("init", ""))
        if not init.startswith(START):
            return []
        files = []
        for name in init.removeprefix(START).split("+"):
            if not SEED.search(name):
                name = f"{name}/seed{run.seed}"
            if not (weights := self.runs / name / WEIGHTS).is_file():
                raise FileNotFoundError(f"it goes on from the run '{name}', which is not finished in '{self.runs}'.")
            files.append(weights.resolve())
        return files

    def result(self, run: Run) -> Path:
        """File of the run's result."""
        return self.results / f"{run.name}.json"


class Workplace:
    """Folder of a run and the files in it.

    Args:
        run: the run.
        places: where runs lie.
    """

    def __init__(self, run: Run, places: Places) -> None:
        self.folder = (places.runs / run.name).resolve()
        self.training = self.folder / "training"
        self.state = self.training / "state.pt"
        self.evaluation = self.folder / "evaluation"
        self.weights = self.folder / WEIGHTS
        self.mean = self.folder / "start.pt"
        self.train_overlay = self.folder / "train.json"
        self.evaluate_overlay = self.folder / "evaluate.json"
        self.segments = self.folder / "segments.json"
        self.gpu_peak = self.folder / "gpu.json"

    @contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the folder; False when another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            os.set_inheritable(lock.fileno(), True)  # workers that outlive a killed harness go on holding it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def overrides(run: Run) -> dict[str, Any]:
    """What the run lays over the training configuration, but for the paths of this machine."""
    network = dict(run.network)
    if "_target_" not in network:
        network = {**_merged(run.training_files())["network_def"], **network}
    content = {"seed": run.seed, **run.settings, "network_def": network}
    if run.curve_cases is not None:
        content["validate::dataset::data::limit"] = run.curve_cases
    return content


def lay_over(run: Run, places: Places) -> tuple[dict[str, Any], dict[str, Any]]:
    """The overlays of training and evaluation, with the paths of this machine.

    Raises:
        FileNotFoundError: when the data set, the encoder's weights or the run to go on from are not there.
    """
    base, content, place = _merged(run.training_files()), overrides(run), Workplace(run, places)
    folder, names = places.dataset(run), run.data.get("val_ids")
    weights = places.encoder_weights(run, content.get("encoder", base["encoder"]))
    if starts := places.starts(run):
        content["init"] = str(starts[0] if len(starts) == 1 else place.mean)
    where = {} if folder is None else {"dataset_dir": str(folder)}
    if names is not None:
        where["val_ids"] = str(ROOT / names)
    training = {
        **where,
        "output_dir": str(place.training),
        "encoder_weights": None if weights is None else str(weights),
        **content,
        "measured": {"_target_": "benchmarks.accuracy.memory.write_gpu_peak", "path": str(place.gpu_peak)},
        "run": [*base["run"], "@measured"],
    }
    evaluation = {
        **where,
        "output_dir": str(place.evaluation),
        "checkpoint": str(place.weights),
        "smallest_part": 0,  # networks are compared by all that they outline
        **{key: value for key, value in run.settings.items() if key in EVALUATION_KEYS},
        "network_def": content["network_def"],
        **run.evaluation,
    }
    if "out_channels" not in content["network_def"]:  # the bundle looks for it there
        evaluation["out_channels"] = _out_channels(content["network_def"])
    return training, evaluation


def _out_channels(definition: Mapping[str, Any]) -> int:
    """Channels of the network that a definition wraps, however deep."""
    return int(definition["out_channels"] if "out_channels" in definition else _out_channels(definition["network"]))


def train(run: Run, places: Places) -> None:
    """Run the bundle's training, or take it up where it was interrupted, and write the weights that are judged.

    Nothing is done where these weights exist already, and nothing is trained where the state is that of the last epoch,
    as of a run that came back before it was judged. A state that another overlay made is not taken up: the bundle then
    moves the old folder aside and starts anew.

    Raises:
        RunError: when the command ends with an error.
    """
    place = Workplace(run, places)
    overlay = lay_over(run, places)[0]
    before = _read(place.train_overlay)
    resume = before == overlay and place.state.is_file()
    if resume and place.weights.is_file():
        return
    segments = _read(place.segments) or [] if resume else []
    for segment in segments:  # a start that was killed reached its last state at least
        if segment.get("seconds") is None:
            segment["seconds"] = round(max(0.0, place.state.stat().st_mtime - segment["started"]), 1)
    if resume and _is_complete(place.state, run):
        write_json(place.segments, segments)
        _write_averaged(place.state, place.weights)
        return
    unknown = dict.fromkeys(("seconds", "cpu_seconds", "peak_memory_mib"))
    code = {"sources": training_digest(run), "machine": machine_of(run)}
    segments.append({"started": round(time.time(), 1), **unknown, **code})
    if not resume:
        for file in (place.weights, place.gpu_peak):
            file.unlink(missing_ok=True)
    if len(starts := places.starts(run)) > 1:
        write_mean(starts, place.mean)
    write_json(place.train_overlay, overlay)
    write_json(place.segments, segments)
    files = [*run.training_files(), place.train_overlay]
    usage = _bundle(["run", "training"], files, place.folder / "training.log", ["--resume", str(resume).lower()])
    segments[-1].update(usage)
    write_json(place.segments, segments)
    _write_averaged(place.state, place.weights)


def evaluate(run: Run, places: Places) -> dict[str, Any]:
    """Judge the weights with the bundle's evaluation; return its seconds and peak memory.

    Raises:
        RunError: when the command ends with an error.
    """
    place = Workplace(run, places)
    shutil.rmtree(place.evaluation, ignore_errors=True)
    write_json(place.evaluate_overlay, lay_over(run, places)[1])
    files = [*run.evaluation_files(), place.evaluate_overlay]
    return _bundle(["run"], files, place.folder / "evaluation.log", [])


def write_json(path: Path, content: Any) -> None:
    """Write beside and rename; lists of plain values stand on one line."""
    write_beside(path, lambda partial: partial.write_text(_format(content) + "\n", encoding="utf-8"))


def write_mean(files: Sequence[Path], path: Path) -> None:
    """The mean of several networks' weights, as one file; what is not a floating-point number is taken from the first.

    Networks that went on from the same weights lie near enough to each other for that.

    Raises:
        ValueError: when a file holds other tensors than the first.
    """
    states = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if other := [file for file, shape in zip(files, shapes, strict=True) if shape != shapes[0]]:
        raise ValueError(f"'{other[0]}' holds other tensors than '{files[0]}': they have no mean.")
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }
    write_beside(path, lambda partial: torch.save(mean, partial))


def _format(content: Any, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(content, Mapping) and content:
        items = [f"{inner}{json.dumps(str(key))}: {_format(value, inner)}" for key, value in content.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(content, list) and any(isinstance(value, list | Mapping) for value in content):
        return "[\n" + ",\n".join(inner + _format(value, inner) for value in content) + f"\n{indent}]"
    return json.dumps(content)


def _merged(files: list[Path]) -> dict[str, Any]:
    """Top-level entries of configuration files, the later ones winning; enough for what is read here."""
    return {key: value for file in files for key, value in json.loads(file.read_text(encoding="utf-8")).items()}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _bundle(words: list[str], files: list[Path], log: Path, options: list[str]) -> dict[str, Any]:
    """``python -m monai.bundle`` in the root of the clone, its words added to ``log``; seconds and peak memory."""
    listed = str([os.fspath(file) for file in files])
    command = [sys.executable, "-m", "monai.bundle", *words, "--config_file", listed, *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    began = time.monotonic()
    with log.open("a") as words_of_it:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=words_of_it,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=False,
            preexec_fn=_end_with_parent if ON_LINUX else None,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _stop(process)
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise RunError(f"exit code {process.returncode}, see {log}:\n{tail}")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mib": _mebibytes(usage),
    }


def _end_with_parent() -> None:
    """In the command, before it begins: a harness that is killed, as at the limit of a rented machine, takes it along.

    It would train on in its own session otherwise, hold the folder, and let every later start of the run fail.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # type: ignore[union-attr]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and its workers, which share its process group."""
    try:
        os.killpg(process.pid, 15)
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
    except ProcessLookupError:
        pass


def _mebibytes(usage: resource.struct_rusage) -> float:
    return round(usage.ru_maxrss * MEMORY_UNIT / 2**20, 1)


def _is_complete(state: Path, run: Run) -> bool:
    """Whether a state is that of the run's last epoch."""
    progress = torch.load(state, map_location="cpu", weights_only=True, mmap=True)["progress"]
    last: int = {**_merged(run.training_files()), **run.settings}["max_epochs"]
    return int(progress["epoch"]) >= last


def _write_averaged(state: Path, weights: Path) -> None:
    """The averaged weights of the last epoch as a flat state dictionary; the trained ones where there is no average."""
    content = torch.load(state, map_location="cpu", weights_only=True)
    prefix = "module."
    averaged = {k.removeprefix(prefix): v for k, v in content["averaging"].items() if k.startswith(prefix)}
    write_beside(weights, lambda partial: torch.save(averaged or content["network"], partial))
