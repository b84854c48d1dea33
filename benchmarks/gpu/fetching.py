"""Here again: pieces are put together, results enter the tables' folder, weights and states lie where they are used."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from benchmarks.accuracy.definitions import EXPERIMENTS, load_definitions
from benchmarks.accuracy.execution import write_json
from benchmarks.gpu.sending import SMALL
from benchmarks.gpu.steps import state_name

__all__ = ["Fetched", "fetch"]


@dataclass
class Fetched:
    """What a call brought: names of results, weights and states, and what went wrong in words."""

    results: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


def fetch(
    folder: Path, *, results: Path, runs: Path, carry: Path, experiments: Path = EXPERIMENTS, replace: bool = False
) -> Fetched:
    """Take in what came back. Nothing that is here already and says something else is overwritten unless asked for.

    Args:
        folder: the files that came back.
        results: folder of the results that tables are made of.
        runs: folder of the runs; judged weights go to ``runs/NAME/last.pt``.
        carry: folder of what travels; states go to ``carry/states``, and those of finished runs are removed.
        experiments: file of experiments, which knows the data set of a result.
        replace: overwrite results of the same name that differ.

    Raises:
        FileNotFoundError: when the archive of results is not there.
    """
    small = Path(folder) / SMALL
    if not small.is_file():
        raise FileNotFoundError(f"'{SMALL}' is not in '{folder}': nothing came back, or this is another folder.")
    fetched = Fetched()
    files = _read_all(small.read_bytes())
    fetched.report = json.loads(files["report.json"])
    definitions = load_definitions(experiments)
    for name, content in files.items():
        if name.startswith("results/"):
            result = _named(json.loads(content), fetched.report, carry, definitions["datasets"])
            _take_result(result, results, fetched, replace=replace)
        elif name.startswith("logs/"):
            _write(carry.parent / "logs" / Path(name).name, content)
    _take_large(Path(folder), runs, carry, fetched)
    for name in fetched.results:
        (carry / "states" / state_name(name)).unlink(missing_ok=True)
    return fetched


def _take_result(result: dict[str, Any], results: Path, fetched: Fetched, *, replace: bool) -> None:
    path = results / f"{result['name']}.json"
    if not path.resolve().is_relative_to(results.resolve()):
        fetched.problems.append(f"result {result['name']}: its name leaves the folder of results")
        return
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != result and not replace:
        fetched.problems.append(f"result {result['name']}: another one is here; --replace overwrites it")
        return
    write_json(path, result)
    fetched.results.append(result["name"])


def _named(
    result: dict[str, Any], report: Mapping[str, Any], carry: Path, datasets: Mapping[str, Any]
) -> dict[str, Any]:
    """The result with what the other machine could not know: commit, version of the package, how pictures were packed.

    The commit gets a plus sign where the sources there were not those that were packed.
    """
    base = _read_note(carry / "base")
    machine = result["machine"]
    if machine.get("commit") is None and base.get("commit"):
        same = report.get("sources") == base.get("sources")
        machine["commit"] = base["commit"] if same else f"{base['commit'].removesuffix('+')}+"
    if machine["packages"].get("banet-monai") is None:
        machine["packages"]["banet-monai"] = base.get("version")
    folder = datasets.get(result["definition"]["dataset"], {}).get("folder")
    packed = None if folder is None else _read_note(carry / Path(folder).parts[0])
    return {**result, "packed": packed or None}


def _take_large(folder: Path, runs: Path, carry: Path, fetched: Fetched) -> None:
    pieces = fetched.report.get("large", {}).get("pieces", [])
    parts = [path.read_bytes() if (path := folder / piece["name"]).is_file() else b"" for piece in pieces]
    wrong = [
        f"{piece['name']} {'is damaged' if part else 'did not come back'}, so no weights and no state were taken"
        for piece, part in zip(pieces, parts, strict=True)
        if hashlib.sha256(part).hexdigest() != piece["sha256"]
    ]
    fetched.problems += wrong
    for name, data in (_read_all(b"".join(parts)) if pieces and not wrong else {}).items():
        kind, _, rest = name.partition("/")
        goal = {"weights": runs, "states": carry / "states"}.get(kind)
        if goal is None or not (goal / rest).resolve().is_relative_to(goal.resolve()):
            fetched.problems.append(f"'{name}' belongs nowhere")
            continue
        if kind == "weights" and Path(rest).parent.as_posix() not in fetched.results:
            fetched.problems.append(f"{name}: not taken, because its result was not")
            continue
        _write(goal / rest, data)
        (fetched.weights if kind == "weights" else fetched.states).append(rest)


def _read_all(archive: bytes) -> dict[str, bytes]:
    """Plain files of an archive by name; links and devices are passed over."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files: Iterable[tarfile.TarInfo] = (member for member in tar if member.isfile())
        return {member.name: tar.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def _read_note(folder: Path) -> dict[str, Any]:
    path = folder / "note.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write(path: Path, content: bytes) -> None:
    write_beside(path, lambda partial: partial.write_bytes(content))
