"""Sizes and diameters of what was outlined: those that the run has written, else measured here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from banet_monai.report.page.figures import written
from banet_monai.report.page.loading import CaseArrays
from banet_monai.report.page.panels import Chord

__all__ = ["Measured", "measured", "stored_figures"]

QUANTITIES = ("area", "volume", "perimeter", "surface", "equivalent_diameter", "border_distance")
DIAMETERS = ("longest_diameter", "perpendicular_diameter")
RATIOS = ("circularity", "sphericity", "solidity", "border_irregularity", "asymmetry", "components")
CUT_OFF = "The outline touches the border of the image: what lies beyond is not measured."


@dataclass(frozen=True)
class Measured:
    """Figures of a case, lengths in ``unit``, its diameters, and what to know about them."""

    figures: Mapping[str, float] = field(default_factory=dict)
    unit: str = "px"
    chords: tuple[Chord, ...] = ()
    notes: tuple[str, ...] = ()


def measured(folder: Path, name: str, case: CaseArrays) -> Measured:
    """Figures of a case: of its one label, or of all labels together."""
    if case.labels is None:
        return stored_figures(folder, name)
    stored, problem = _stored(folder, name)
    if len(stored) == 1:
        return stored[0]
    if case.labels.ndim == 3 and case.affine is None:  # frames or slices without a place: no axis to measure along
        return Measured(notes=problem)
    own = _from_entry(_measure(case))
    return replace(own, notes=(*problem, *own.notes))


def stored_figures(folder: Path, name: str) -> Measured:
    """Figures of a case from its ``<name>_measurements.json`` alone; none where there is no such file.

    Of several labels only areas and volumes can be put together, as sums.
    """
    parts, problem = _stored(folder, name)
    if len(parts) <= 1:
        return parts[0] if parts else Measured(notes=problem)
    sums = {key: sum(part.figures[key] for part in parts if key in part.figures) for key in ("area", "volume")}
    known = {key: value for key, value in sums.items() if any(key in part.figures for part in parts)}
    return Measured(known, parts[0].unit, notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)))


def _stored(folder: Path, name: str) -> tuple[list[Measured], tuple[str, ...]]:
    """Whole labels of the case's file of measurements, without components and single slices; and why it has none."""
    path = folder / f"{name}_measurements.json"
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        entries = [entry for case in cases for entry in case["measurements"]]
        return [_from_entry(e) for e in entries if e["component"] is None and e["slice"] is None], ()
    except FileNotFoundError:
        return [], ()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [], (f"'{path.name}' cannot be read ({type(error).__name__}): damaged, or of another program.",)


def _measure(case: CaseArrays) -> Mapping[str, Any]:
    from banet_monai.measurements import measure
    from banet_monai.measurements.records import as_json

    if case.labels is None:
        raise ValueError("there is no mask to measure.")
    is_placed = case.affine is not None and case.unit == "mm"
    found = measure(
        (case.labels > 0).astype("uint8"),
        labels=["foreground"],
        spacing=None if is_placed or case.unit != "mm" else case.spacing,
        affine=case.affine if is_placed else None,
        unit=case.unit,
    )
    entry = as_json(found[0])
    return {**entry, "border_distance": None, "cut_off": None} if case.is_part else entry


def _from_entry(entry: Mapping[str, Any]) -> Measured:
    """One measurement as it stands in JSON, see ``docs/measurements.md``."""
    unit = str(entry["spacing"]["unit"])
    figures = {key: float(entry[key]["value"]) for key in QUANTITIES if entry.get(key)}
    figures |= {key: float(entry[key]) for key in RATIOS if entry.get(key) is not None}
    chords = []
    for key in DIAMETERS:
        line = entry.get(key)
        if not line or line["value"] is None:
            continue
        figures[key] = float(line["value"])
        start, end = (tuple(float(value) for value in line[side]) for side in ("start_index", "end_index"))
        chords.append(Chord(start, end, f"{written(figures[key], None)} {unit}", key == DIAMETERS[0]))
    is_cut = bool(entry.get("cut_off")) and not math.isclose(figures.get("area", figures.get("volume", 0.0)), 0.0)
    return Measured(figures, unit, tuple(chords), (CUT_OFF,) if is_cut else ())
