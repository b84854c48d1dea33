"""Measurements as JSON and as CSV, of one case or of many."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from banet_monai import __version__
from banet_monai.files import NOTICE, write_text_beside
from banet_monai.measurements.records import (
    Comparison,
    Intensity,
    Measurement,
    as_json,
    as_plain,
    finite,
    from_plain,
)
from banet_monai.processes import gather, process_rank

__all__ = ["MeasurementTable", "comparison_rows", "measurement_rows", "write_comparisons", "write_measurements"]

Cases = Mapping[str, Sequence[Measurement]]

FORMULA_STARTS = ("=", "+", "-", "@")  # spreadsheets run a cell that begins so
AXES = "xyz"
STATISTICS = tuple(field.name for field in fields(Intensity))
DIAMETERS = ("longest_diameter", "perpendicular_diameter")


def write_measurements(path: str | Path, measurements: Sequence[Measurement] | Cases, *, case: str = "") -> Path:
    """Write measurements as ``.json`` or ``.csv``; a reader never sees half a file.

    JSON holds every quantity with its unit; what is not defined or not finite is null. CSV has one row per measurement
    and always the same columns in the same order (intensities of as many channels as there are come last): lengths are
    in ``length_unit``, areas in ``area_unit``, volumes in ``volume_unit``, points are array indices or LPS mm. A cell
    that is not defined is empty. Text stands on one line, and what a spreadsheet would take for a formula gets an
    apostrophe in front.

    Args:
        path: ends in ``.json`` or ``.csv``; its folder is made.
        measurements: of one case, or case names with theirs.
        case: name of the case, where there is one.

    Returns:
        ``path``.

    Raises:
        ValueError: for another ending.
        OSError: when the file cannot be written.
    """
    path = Path(path)
    cases = measurements if isinstance(measurements, Mapping) else {case: measurements}
    if path.suffix.lower() == ".csv":
        return write_text_beside(path, _csv_text(*measurement_rows(cases)))
    _check_json(path)
    content = {
        "notice": NOTICE,
        "version": __version__,
        "cases": [{"case": name, "measurements": [as_json(item) for item in found]} for name, found in cases.items()],
    }
    return write_text_beside(path, _json_text(content))


def write_comparisons(path: str | Path, comparisons: Mapping[str, Sequence[Comparison]]) -> Path:
    """Write what :func:`compare_outlines` found, as :func:`write_measurements` does.

    Args:
        path: ends in ``.json`` or ``.csv``.
        comparisons: case names with theirs.
    """
    path = Path(path)
    columns, rows = comparison_rows(comparisons)
    if path.suffix.lower() == ".csv":
        return write_text_beside(path, _csv_text(columns, rows))
    _check_json(path)
    cases = [
        {"case": name, "comparisons": [{key: _plain(value) for key, value in vars(item).items()} for item in found]}
        for name, found in comparisons.items()
    ]
    return write_text_beside(path, _json_text({"notice": NOTICE, "version": __version__, "cases": cases}))


def measurement_rows(cases: Cases) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns in their order, and one row per measurement with a value, or None, for each of them."""
    channels = max((len(item.intensity) for found in cases.values() for item in found), default=0)
    rows = [{"case": name, **_row(item, channels)} for name, found in cases.items() for item in found]
    columns = ["case", *_row(EMPTY, channels)]
    return columns, rows


def comparison_rows(comparisons: Mapping[str, Sequence[Comparison]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The same for comparisons."""
    rows = [{"case": name, **vars(item)} for name, found in comparisons.items() for item in found]
    return ["case", *(field.name for field in fields(Comparison))], rows


class MeasurementTable:
    """Collects the measurements of a run and writes one CSV at its end.

    Args:
        path: of the CSV, or of a JSON.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.cases: dict[str, list[Measurement]] = {}

    def add(self, case: str, measurements: Sequence[Measurement]) -> None:
        """Keep the measurements of a case; those of an earlier one of the same name are replaced."""
        self.cases[case] = list(measurements)

    def write(self, order: Iterable[str] = ()) -> Path | None:
        """Write the table; without any case nothing is written, and None comes back.

        Under several processes all of them call it, and rank 0 alone writes the cases of all, ordered by name.

        Args:
            order: names of cases, which come first and in this order; the others as they were added.

        Raises:
            OSError: when the file cannot be written.
        """
        gathered = gather({name: [as_plain(item) for item in found] for name, found in self.cases.items()})
        if len(gathered) > 1:
            self.cases = {
                name: [from_plain(item) for item in found] for part in gathered for name, found in part.items()
            }
            self.cases = dict(sorted(self.cases.items()))
        # threads may have measured them in any order
        self.cases = {name: self.cases[name] for name in dict.fromkeys([*order, *self.cases]) if name in self.cases}
        return write_measurements(self.path, self.cases) if self.cases and process_rank() == 0 else None


EMPTY = Measurement(
    label=0, name="", component=None, slice=None, dimensions=0, unit="px", spacing=(), pixels=0, components=0
)


def _row(m: Measurement, channels: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "label": m.label,
        "name": m.name,
        "component": m.component,
        "slice": m.slice,
        "dimensions": m.dimensions,
        "length_unit": m.unit,
        "area_unit": m.area_unit,
        "volume_unit": m.volume_unit,
        **_point("spacing", m.spacing),
        "pixels": m.pixels,
        "components": m.components,
        "cut_off": int(m.cut_off),
    }
    for name in (
        "area",
        "volume",
        "perimeter",
        "surface",
        "longest_diameter",
        "perpendicular_diameter",
        "equivalent_diameter",
        "circularity",
        "sphericity",
        "solidity",
        "border_irregularity",
        "asymmetry",
        "border_distance",
    ):
        value = getattr(m, name)
        row[name] = value.length if name in DIAMETERS and value is not None else value
    for place, share in zip(range(1, 4), (*m.asymmetry_along, None, None, None), strict=False):
        row[f"asymmetry_along_{place}"] = share
    row |= _point("centroid", m.centroid) | _point("centroid_lps_mm", m.centroid_lps)
    row |= _point("box_start", m.box_start) | _point("box_stop", m.box_stop) | _point("box_size", m.box_size)
    for name in DIAMETERS:
        line = getattr(m, name)
        for end in ("start", "end"):
            row |= _point(f"{name}_{end}", getattr(line, end, None))
            row |= _point(f"{name}_{end}_lps_mm", getattr(line, f"{end}_lps", None))
    for channel in range(channels):
        found = m.intensity[channel] if channel < len(m.intensity) else None
        row |= {f"intensity_{channel + 1}_{name}": getattr(found, name, None) for name in STATISTICS}
    return row


def _point(name: str, values: Sequence[float] | None) -> dict[str, Any]:
    padded = (*(values or ()), None, None, None)
    return {f"{name}_{axis}": value for axis, value in zip(AXES, padded, strict=False)}


def _csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        line = " ".join(value.splitlines()).replace("\t", " ")
        return f"'{line}" if line.lstrip().startswith(FORMULA_STARTS) else line
    value = _plain(value)
    return "" if value is None else value


def _plain(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def _json_text(content: Any) -> str:
    return json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False) + "\n"


def _check_json(path: Path) -> None:
    if path.suffix.lower() != ".json":
        raise ValueError(f"measurements are written as .json or .csv, got '{path.name}'; give it one of these endings.")
