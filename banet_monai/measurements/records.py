"""What a measurement says: values with their units, end points, and where things are not defined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Comparison", "Intensity", "Line", "Measurement", "as_json", "as_plain", "finite", "from_plain"]

Point = tuple[float, ...]

AREA_UNITS = {"mm": "mm2", "px": "px2"}
VOLUME_UNITS = {"mm": "ml", "px": "px3"}


@dataclass(frozen=True)
class Line:
    """A straight line between two points of an outline.

    Args:
        length: in the unit of its measurement.
        start: array index, as fine as needed; whole numbers are centres of pixels.
        end: the same for the other end.
        start_lps: the point of the patient in mm, LPS as in DICOM; None where the place is not known.
        end_lps: the same for the other end.
    """

    length: float
    start: Point
    end: Point
    start_lps: Point | None = None
    end_lps: Point | None = None


@dataclass(frozen=True)
class Intensity:
    """Values of one channel of the image inside a label, in the unit of the image.

    Args:
        mean: over finite values; None where there is none, here and below.
        standard_deviation: of the population, ``sqrt(mean((x - mean) ** 2))``.
        minimum: smallest.
        median: middle one, or the mean of the middle two.
        maximum: largest.
        left_out: pixels whose value is NaN or infinite.
    """

    mean: float | None
    standard_deviation: float | None
    minimum: float | None
    median: float | None
    maximum: float | None
    left_out: int


@dataclass(frozen=True)
class Measurement:
    """One label of one mask, or one component of it; definitions and formulas stand in ``docs/measurements.md``.

    Where a value is not defined (no foreground, or it belongs to the other number of dimensions) it is None.

    Args:
        label: label id.
        name: what it is called.
        component: None for the whole label; 1, 2, ... for its components, the largest first.
        slice: index along the third axis, where each slice is measured as a picture of its own; else None.
        dimensions: 2 or 3.
        unit: ``"mm"`` or ``"px"``, of lengths; areas are in ``mm2`` or ``px2``, volumes in ``ml`` or ``px3``.
        spacing: distance between pixels along each axis of the array, in ``unit``.
        pixels: pixels (voxels) of the label.
        components: parts that are joined along sides or corners.
        area: 2D: pixels times the area of one.
        volume: 3D: voxels times the volume of one.
        perimeter: 2D: length of all outlines, those of holes too.
        surface: 3D: area of all surfaces, those of hollows too, in ``mm2`` or ``px2``.
        longest_diameter: the longest line between two points of the outline.
        perpendicular_diameter: the longest line in the convex hull perpendicular to the longest diameter.
        equivalent_diameter: of the circle of the same area, or the ball of the same volume.
        circularity: 2D: ``4 pi area / perimeter^2``; 1 is a circle.
        sphericity: 3D: ``pi^(1/3) (6 volume)^(2/3) / surface``; 1 is a ball.
        solidity: area or volume as a share of the convex hull's.
        border_irregularity: 2D: length of the outer outlines over that of their convex hulls, at least 1.
        asymmetry: mean of ``asymmetry_along``.
        asymmetry_along: share, 0 to 1, that finds no counterpart when mirrored along each principal axis through the
            centroid, the longest axis first.
        centroid: array index.
        centroid_lps: the point of the patient in mm, LPS; None where the place is not known.
        box_start: first index of the bounding box along each axis.
        box_stop: index behind the last one.
        box_size: edges of the bounding box, in ``unit``.
        border_distance: from the label's pixels to the picture's nearest border, in ``unit``; 0 if it touches it.
        cut_off: whether it touches the border: what lies beyond is not measured.
        intensity: one entry per channel of the image; empty without an image.
    """

    label: int
    name: str
    component: int | None
    slice: int | None
    dimensions: int
    unit: str
    spacing: Point
    pixels: int
    components: int
    area: float | None = None
    volume: float | None = None
    perimeter: float | None = None
    surface: float | None = None
    longest_diameter: Line | None = None
    perpendicular_diameter: Line | None = None
    equivalent_diameter: float | None = None
    circularity: float | None = None
    sphericity: float | None = None
    solidity: float | None = None
    border_irregularity: float | None = None
    asymmetry: float | None = None
    asymmetry_along: tuple[float, ...] = ()
    centroid: Point | None = None
    centroid_lps: Point | None = None
    box_start: tuple[int, ...] | None = None
    box_stop: tuple[int, ...] | None = None
    box_size: Point | None = None
    border_distance: float | None = None
    cut_off: bool = False
    intensity: tuple[Intensity, ...] = ()

    @property
    def area_unit(self) -> str:
        """``"mm2"`` or ``"px2"``."""
        return AREA_UNITS[self.unit]

    @property
    def volume_unit(self) -> str:
        """``"ml"`` or ``"px3"``."""
        return VOLUME_UNITS[self.unit]


@dataclass(frozen=True)
class Comparison:
    """Two outlines of one label: before and after, reader and model.

    Args:
        label: label id.
        name: what it is called.
        dimensions: 2 or 3.
        unit: ``"mm"`` or ``"px"``, of distances.
        tolerance: of ``nsd``, in ``unit``.
        pixels_one: pixels of the first mask.
        pixels_other: pixels of the second mask.
        hd95: 95th percentile of the Hausdorff distance; 0 if both are empty, the diagonal of the image if one is.
        assd: average symmetric surface distance, with the same rule.
        nsd: share of both outlines within ``tolerance`` of the other one; 1 if both are empty, 0 if one is.
        dice: overlap.
        jaccard: overlap.
        size_one: area or volume of the first.
        size_other: area or volume of the second.
        size_unit: of both, and of ``change``.
        change: second less first.
        relative_change: ``change / size_one``; None if the first is empty.
    """

    label: int
    name: str
    dimensions: int
    unit: str
    tolerance: float
    pixels_one: int
    pixels_other: int
    hd95: float
    assd: float
    nsd: float
    dice: float
    jaccard: float
    size_one: float
    size_other: float
    size_unit: str
    change: float
    relative_change: float | None


def as_json(measurement: Measurement) -> dict[str, Any]:
    """A measurement as what JSON can hold: each quantity with its unit, null where it is not defined or not finite."""
    m = measurement
    lengths = {name: getattr(m, name) for name in ("perimeter", "equivalent_diameter", "border_distance")}
    return {
        "label": m.label,
        "name": m.name,
        "component": m.component,
        "slice": m.slice,
        "dimensions": m.dimensions,
        "spacing": {"value": numbers(m.spacing), "unit": m.unit},
        "pixels": m.pixels,
        "components": m.components,
        "area": quantity(m.area, m.area_unit),
        "volume": quantity(m.volume, m.volume_unit),
        "perimeter": quantity(lengths["perimeter"], m.unit),
        "surface": quantity(m.surface, m.area_unit),
        "longest_diameter": _line(m.longest_diameter, m.unit),
        "perpendicular_diameter": _line(m.perpendicular_diameter, m.unit),
        "equivalent_diameter": quantity(lengths["equivalent_diameter"], m.unit),
        **{
            name: finite(getattr(m, name))
            for name in ("circularity", "sphericity", "solidity", "border_irregularity", "asymmetry")
        },
        "asymmetry_along": numbers(m.asymmetry_along),
        "centroid": {"index": numbers(m.centroid), "lps_mm": numbers(m.centroid_lps)},
        "bounding_box": {
            "start_index": numbers(m.box_start),
            "stop_index": numbers(m.box_stop),
            "size": {"value": numbers(m.box_size), "unit": m.unit},
        },
        "border_distance": quantity(lengths["border_distance"], m.unit),
        "cut_off": m.cut_off,
        "intensity": [
            {name: finite(value) for name, value in vars(channel).items()} | {"left_out": channel.left_out}
            for channel in m.intensity
        ],
    }


def as_plain(measurement: Measurement) -> dict[str, Any]:
    """All fields as lists and dictionaries, for :func:`from_plain`."""
    return asdict(measurement)


def from_plain(plain: dict[str, Any]) -> Measurement:
    """The measurement that :func:`as_plain` took apart, lists in the place of tuples allowed."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    for name in ("longest_diameter", "perpendicular_diameter"):
        if line := fields[name]:
            ends: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in line.items()}
            fields[name] = Line(**ends)
    fields["intensity"] = tuple(Intensity(**channel) for channel in fields["intensity"])
    return Measurement(**fields)


def quantity(value: float | None, unit: str) -> dict[str, Any] | None:
    """A value with its unit, or None."""
    return None if finite(value) is None else {"value": value, "unit": unit}


def finite(value: float | None) -> float | None:
    """The value, or None for NaN and infinity, which JSON has no words for."""
    return value if value is not None and math.isfinite(value) else None


def numbers(values: Sequence[float] | None) -> list[float | None] | None:
    """Several of them."""
    return None if values is None else [finite(value) for value in values]


def _line(line: Line | None, unit: str) -> dict[str, Any] | None:
    if line is None:
        return None
    return {
        "value": finite(line.length),
        "unit": unit,
        "start_index": numbers(line.start),
        "end_index": numbers(line.end),
        "start_lps_mm": numbers(line.start_lps),
        "end_lps_mm": numbers(line.end_lps),
    }
