"""What a folder of results says of itself: manifest, table of cases, summary. No image is opened here."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from banet_monai.files import MANIFEST

__all__ = ["CaseResult", "FailedCase", "NotResultsError", "Results", "read_results"]

MASK_ENDS = ("_mask.png", "_mask.nii.gz", "_mask.dcm", "_mask.tif", "_contours.geojson")
TEXT_COLUMNS = ("case", "class", "unit")
NEEDED = f"the folder that 'banet segment -o OUT' or 'banet evaluate -o OUT' wrote, with {MANIFEST} in it, is needed"


class NotResultsError(ValueError):
    """The folder is not there or holds no results of a run."""


@dataclass(frozen=True)
class CaseResult:
    """One case with results.

    Attributes:
        name: name of the case: path of its results without ``_mask`` and suffix.
        path: its file or series, relative to the root of the inputs, as the manifest has it.
        files: its results relative to the folder, the most important one first.
        warnings: what the run said about it.
        classes: class name to the row of ``cases.csv``: figures by column; empty without truth.
        unit: of the distances in these rows, ``"mm"``, ``"px"`` or "".
        uncertainty: the case's number, NaN where it is no number, None where the run has none.
    """

    name: str
    path: str
    files: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unit: str = ""
    uncertainty: float | None = None


@dataclass(frozen=True)
class FailedCase:
    """A case without a result, or a file that is no case, and why."""

    path: str
    fate: str
    reason: str


@dataclass(frozen=True)
class Results:
    """A folder of results.

    Attributes:
        folder: where it lies.
        manifest: content of ``manifest.json``.
        cases: cases with results, in the order of the manifest.
        failed: cases without.
        summary: content of ``summary.json``; empty without truth.
        notes: what could not be read, in words.
    """

    folder: Path
    manifest: Mapping[str, Any]
    cases: tuple[CaseResult, ...]
    failed: tuple[FailedCase, ...]
    summary: Mapping[str, Any]
    notes: tuple[str, ...]


def read_results(folder: str | Path) -> Results:
    """Read a folder that a run of inference or evaluation has left.

    Raises:
        NotResultsError: when it is not there, is no folder, is empty, or has no manifest that can be read.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    notes: list[str] = []
    rows = _rows(folder / "cases.csv", notes)
    summary = _summary(folder / "summary.json", notes)
    cases, failed = [], []
    entries = manifest["files"]
    for entry in entries:
        if entry.get("fate") == "result" and entry.get("result"):
            cases.append(_case(entry, rows))
        elif entry.get("fate") in ("failed", "skipped"):
            failed.append(FailedCase(str(entry.get("path", "")), str(entry["fate"]), str(entry.get("reason", ""))))
    left = sorted(set(rows) - {_in_table(case.name) for case in cases})
    if left:
        notes.append(f"cases.csv has {len(left)} cases that the manifest does not have, among them '{left[0]}'.")
    return Results(folder, manifest, tuple(cases), tuple(failed), summary, tuple(notes))


def _manifest(folder: Path) -> Mapping[str, Any]:
    if not folder.exists():
        raise NotResultsError(f"'{folder}' does not exist; {NEEDED}.")
    if not folder.is_dir():
        raise NotResultsError(f"'{folder}' is a file; {NEEDED}.")
    path = folder / MANIFEST
    if not path.is_file():
        content = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
        held = (
            f"it holds {', '.join(content[:3])}{' and more' if len(content) > 3 else ''}" if content else "it is empty"
        )
        raise NotResultsError(f"'{folder}' has no {MANIFEST} ({held}); {NEEDED}.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotResultsError(
            f"'{path}' cannot be read ({type(error).__name__}): damaged or of another program; run the segmentation "
            "again."
        ) from error
    entries = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise NotResultsError(f"'{path}' lists no files: it is of another program; {NEEDED}.")
    return manifest


def _case(entry: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, str]]]) -> CaseResult:
    also = entry.get("also")
    stated = [str(name) for name in (entry["result"], *(also if isinstance(also, list) else ()))]
    files = tuple(name for name in stated if _is_inside(name))
    name = _case_name(files or (PurePosixPath(stated[0]).name,))
    warnings = entry.get("warnings", ())
    own = rows.get(_in_table(name), ())
    classes = {row.get("class", ""): _figures(row) for row in own}
    units = {row.get("unit", "") for row in own}
    return CaseResult(
        name,
        str(entry.get("path", name)),
        files,
        tuple(str(text) for text in warnings) if isinstance(warnings, list) else (),
        classes,
        units.pop() if len(units) == 1 else "",
        _uncertainty(entry.get("uncertainty")),
    )


def _uncertainty(stated: object) -> float | None:
    """The number of a case: itself, or under ``score`` of what the run noted."""
    value = stated.get("score") if isinstance(stated, Mapping) else stated
    return None if stated is None else _number(value)


def _is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder: a manifest from elsewhere shall not open other files."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _case_name(files: Sequence[str]) -> str:
    for file in files:
        for end in MASK_ENDS:
            if file.endswith(end):
                return file[: -len(end)]
    return str(PurePosixPath(files[0]).with_suffix(""))


def _in_table(name: str) -> str:
    """How ``cases.csv`` writes the name of a case: as it is, with escapes for bytes that are no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _figures(row: Mapping[str, str]) -> dict[str, float]:
    return {name: _number(text) for name, text in row.items() if name and name not in TEXT_COLUMNS}


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan


def _rows(path: Path, notes: list[str]) -> dict[str, list[dict[str, str]]]:
    """Rows of ``cases.csv`` by case; none where there is no such file."""
    rows: dict[str, list[dict[str, str]]] = {}
    if not path.is_file():
        return rows
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["case"], []).append(row)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        notes.append(f"cases.csv cannot be read ({type(error).__name__}): there are no figures against truth here.")
        return {}
    return rows


def _summary(path: Path, notes: list[str]) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        _check_summary(summary)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"summary.json cannot be read ({type(error).__name__}): means and intervals are missing here.")
        return {}
    return summary


def _check_summary(summary: Mapping[str, Any]) -> None:
    """Raise what a missing or wrong entry provokes, so that the page may rely on all that it shows."""
    numbers = [summary["interval"]["level"], summary.get("low_ja", 0), summary.get("nsd_tolerance", 0)]
    for group in (summary["overall"], *summary["classes"].values()):
        numbers += [group[name] for name in ("n", "misses", "false_alarms", "ja_below_low")]
        for figures in group["metrics"].values():
            if figures is not None:  # cases in mm and in pixels
                low, high = figures["interval"] or (0.0, 0.0)  # one case alone has none
                numbers += [figures["mean"], figures["median"], low, high]
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
        raise TypeError("no summary of a table of cases")
