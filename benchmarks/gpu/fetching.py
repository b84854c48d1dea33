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
from benchmarks.gpu.packing import name_sources
from benchmarks.gpu.sending import SMALL
from benchmarks.gpu.steps import state_pieces
from benchmarks.reporting import RESULTS as SPEED

__all__ = ["NOTE", "Fetched", "fetch"]

NOTE = "packed_from.note"  # commit and version, beside the reports of speed
STATE_PIECE_BYTES = 8_000_000  # small, to fill the room that a call has beside working tree and pictures


@dataclass
class Fetched:
    """What a call brought: names of results, weights, states and reports of speed; what went wrong in words."""

    results: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    speed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


def fetch(
    folder: Path,
    *,
    results: Path,
    runs: Path,
    carry: Path,
    experiments: Path = EXPERIMENTS,
    speed: Path = SPEED,
    replace: bool = False,
) -> Fetched:
    """Take in what came back. Nothing that is here already and says something else is overwritten unless asked for.

    Args:
        folder: the files that came back.
        results: folder of the results that tables are made of.
        runs: folder of the runs; judged weights go to ``runs/NAME/last.pt``.
        carry: folder of what travels; states go to ``carry/states`` in pieces, and those of finished runs are removed.
        experiments: file of experiments, which knows the data set of a result.
        speed: folder of the reports of ``speed.sh``.
        replace: overwrite results of the same name that differ.

    Raises:
        FileNotFoundError: when neither the archive of results nor a report of speed is there.
    """
    folder, fetched = Path(folder), Fetched()
    _take_speed(folder, speed, fetched, replace=replace)
    small = folder / SMALL
    if not small.is_file():
        if fetched.speed or fetched.problems:
            return fetched
        raise FileNotFoundError(f"'{SMALL}' is not in '{folder}': nothing came back, or this is another folder.")
    files = _read_all(small.read_bytes())
    fetched.report = json.loads(files["report.json"])
    definitions = load_definitions(experiments)
    for name, content in files.items():
        if name.startswith("results/"):
            result = _named(json.loads(content), fetched.report, definitions["datasets"])
            _take_result(result, results, fetched, replace=replace)
        elif name.startswith("logs/"):
            _write(carry.parent / "logs" / Path(name).name, content)
    _take_large(folder, runs, carry, fetched)
    for name in fetched.results:
        for piece in state_pieces(carry, name):
            piece.unlink()
    return fetched


def _take_speed(folder: Path, speed: Path, fetched: Fetched, *, replace: bool) -> None:
    """Reports of ``speed.sh`` with the commit: those in archives, and loose ones of a part that was killed."""
    files: dict[str, bytes] = {}
    for path in sorted(folder.glob("speed_*.tar.gz")):
        files |= _read_all(path.read_bytes())
    files |= {path.name: path.read_bytes() for kind in ("*.json", "*.md") for path in sorted(folder.glob(kind))}
    note = json.loads((folder / NOTE).read_text(encoding="utf-8")) if (folder / NOTE).is_file() else {}
    for name, data in files.items():
        if name.endswith(".json"):
            report = json.loads(data)
            name_sources(report["machine"], note)
            data = (json.dumps(report, indent=2) + "\n").encode()
        elif note.get("commit"):
            data = data.replace(b"commit None", f"commit {note['commit']}".encode())
        path = speed / Path(name).name
        if path.is_file() and path.read_bytes() != data and not replace:
            fetched.problems.append(f"report {path.name}: another one is here; --replace overwrites it")
            continue
        _write(path, data)
        fetched.speed.append(path.name)


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


def _named(result: dict[str, Any], report: Mapping[str, Any], datasets: Mapping[str, Any]) -> dict[str, Any]:
    """The result with what only the call knew: commit, version of the package, how pictures were packed."""
    for machine in (result["machine"], *result.get("training", {}).get("machines", [])):
        name_sources(machine, report["packed_from"])
    folder = datasets.get(result["definition"]["dataset"], {}).get("folder")
    return {**result, "packed": None if folder is None else report["packed"].get(Path(folder).parts[0])}


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
        if kind == "weights":
            _write(goal / rest, data)
            fetched.weights.append(rest)
        else:
            _write_pieces(goal / rest, data)
            fetched.states.append(rest)


def _write_pieces(path: Path, data: bytes) -> None:
    """In place of earlier pieces, which may have been more."""
    for old in path.parent.glob(f"{path.name}.*of*"):
        old.unlink()
    parts = [data[at : at + STATE_PIECE_BYTES] for at in range(0, len(data), STATE_PIECE_BYTES)]
    for number, part in enumerate(parts, start=1):
        _write(path.with_name(f"{path.name}.{number:02d}of{len(parts):02d}"), part)


def _read_all(archive: bytes) -> dict[str, bytes]:
    """Plain files of an archive by name; links and devices are passed over."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files: Iterable[tarfile.TarInfo] = (member for member in tar if member.isfile())
        return {member.name: tar.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def _write(path: Path, content: bytes) -> None:
    write_beside(path, lambda partial: partial.write_bytes(content))
