"""Contours of a case as GeoJSON and SVG, in pixels and in millimetres where these are known.

Coordinates, rings and where exactly an outline runs: see :mod:`banet_monai.report.outlines`. In short, the top-left
pixel covers [0, 1] x [0, 1] with y down, so that an SVG laid over the picture fits exactly; exterior rings have a
positive area in the numbers (x, y), holes a negative one. Slices are counted from 0 along the array's third axis,
in its order.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from banet_monai.files import write_text_beside
from banet_monai.metrics.masks import IN_MM
from banet_monai.report.outlines import (
    DECIMALS,
    Polygon,
    Ring,
    filled_rings,
    outlines,
    polygons_of,
    ring_area,
    signed_field,
)
from banet_monai.report.overlays import PALETTE

__all__ = ["outlines", "read_contours", "write_contours"]

RANGE_TOLERANCE = 1e-3  # of probabilities, for rounding in lower precision
LINE_WIDTH = 1.5  # of the SVG, in pixels of the screen at any zoom
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
METADATA_NAMESPACE = "urn:banet-monai:contours"
COORDINATES = (
    "picture coordinates in pixels, not WGS84: x along the array's first axis (right), y along its second (down); the "
    "top-left pixel covers [0, 1] x [0, 1], its centre is (0.5, 0.5)"
)
RINGS = "exterior rings have a positive shoelace area in (x, y), holes a negative one"
SLICES = "property 'slice' counts from 0 along the array's third axis"
SPACES = {
    "LPS": "geometry_mm: points in the patient in mm, axes to the left, posterior and superior as in DICOM",
    "picture": "geometry_mm: mm in the picture's plane from its top-left corner, x to the right, y down",
}


def write_contours(
    stem: str | Path,
    values: torch.Tensor | NDArray[Any],
    *,
    labels: Sequence[str],
    has_place: bool,
    affine: ArrayLike | None = None,
    spacing_unit: str = "px",
    level: float = 0.5,
    tolerance: float = 0.0,
) -> list[Path]:
    """Write the outlines of one case as GeoJSON and SVG.

    Written are ``<stem>_contours.geojson`` and, of a picture, ``<stem>_contours.svg``; of a volume one SVG per slice
    that has an outline, ``<stem>_contours/slice_0012.svg`` for slice 12. Slices of an earlier run go.

    The GeoJSON holds one Feature (MultiPolygon) per label and, of a volume, per slice, with the properties ``label``,
    ``id``, ``slice``, ``area_px2`` and ``perimeter_px`` (holes are taken off the area and counted in the perimeter),
    and where millimetres are known ``area_mm2``, ``perimeter_mm``, ``space_mm`` and the member ``geometry_mm``. Areas
    are those of the outlines; the cut corners of a mask make them a little smaller than its pixels. What the
    coordinates mean, size and labels stand in the member ``banet``. File names and patient data do not occur.

    Args:
        stem: path of the result without ending; dots in its name stay.
        values: label ids, integer or bool, ``(x, y)`` or ``(x, y, z)``; or probabilities, floats in [0, 1],
            ``(C, x, y)`` or ``(C, x, y, z)``. One channel per label: each is outlined at ``level``, and classes may
            overlap. One channel more: a softmax with the background first, where a class is outlined where it and the
            best of the others are equal; that is finer than the outline of label ids and true to the class that wins,
            which need not reach ``level``. A last axis of one is a picture's.
        labels: names of the label ids 1, 2, …
        has_place: whether the affine says where the image lies in the patient; ``geometry_mm`` then holds points
            ``(x, y, z)`` in LPS mm, else ``(x, y)`` in mm from the picture's top-left corner.
        affine: array indices (of pixel centres) to RAS, 4x4. None: no millimetres.
        spacing_unit: ``"mm"`` (``"micron"``, ``"meter"``) or ``"px"`` where no size is known.
        level: of probabilities, between 0 and 1.
        tolerance: points may go as long as the line stays this close, in pixels (Douglas and Peucker); 0 keeps all.
            Structures smaller than it vanish, and lines that lie that close may cross.

    Returns:
        The files, the GeoJSON first.

    Raises:
        ValueError: when values, labels or affine do not fit each other, or an option is out of range.
        OSError: when a file cannot be written.
    """
    stem = Path(stem)
    _check_options(labels, level, tolerance)
    maps = _maps(values, labels)
    millimetres = _millimetres(affine, spacing_unit, has_place)
    size = maps.array.shape[-3:-1] if maps.is_picture else maps.array.shape[-3:]
    features: list[dict[str, Any]] = []
    pictures: list[tuple[Path, str]] = []
    folder = stem.with_name(f"{stem.name}_contours")
    for index in range(maps.array.shape[-1]):
        found = [
            _Shape(number, name, polygons)
            for number, name in enumerate(labels, start=1)
            if (polygons := polygons_of(maps.field(number, index, level), tolerance))
        ]
        features += [_feature(shape, None if maps.is_picture else index, millimetres) for shape in found]
        if found or maps.is_picture:
            path = folder.with_name(f"{folder.name}.svg") if maps.is_picture else folder / f"slice_{index:04d}.svg"
            pictures.append((path, _svg(found, size[:2], millimetres)))
    collection = {
        "type": "FeatureCollection",
        "banet": _explanation(size, labels, millimetres) | {"outline": maps.rule(level), "tolerance": tolerance},
        "features": features,
    }
    _clear(folder, is_picture=maps.is_picture)
    text = json.dumps(collection, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    files = [(folder.with_name(f"{folder.name}.geojson"), text), *pictures]
    return [write_text_beside(path, f"{content}\n") for path, content in files]


def read_contours(path: str | Path) -> NDArray[np.uint8]:
    """Label ids of a GeoJSON that :func:`write_contours` wrote.

    A pixel belongs to a label if its centre lies inside the outlines; where labels overlap the highest id wins.

    Returns:
        ``(x, y)`` of a picture, ``(x, y, z)`` of a volume.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is none of these files.
    """
    path = Path(path)
    try:
        collection = json.loads(path.read_text(encoding="utf-8"))
        size = [int(length) for length in collection["banet"]["size"]]
        ids = np.zeros(size, dtype=np.uint8)
        for feature in sorted(collection["features"], key=lambda feature: int(feature["properties"]["id"])):
            rings = [np.array(ring) for polygon in feature["geometry"]["coordinates"] for ring in polygon]
            plane = ids[..., feature["properties"]["slice"]] if len(size) == 3 else ids
            plane[filled_rings(rings, (size[0], size[1]))] = feature["properties"]["id"]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"'{path.name}' holds no contours of ours ({type(error).__name__}: {error}); a GeoJSON with the member "
            "'banet', as write_contours makes it, is needed."
        ) from error
    return ids


@dataclass(frozen=True)
class _Shape:
    """One label on one slice."""

    number: int
    name: str
    polygons: list[Polygon]


@dataclass(frozen=True)
class _Maps:
    """``array``: label ids ``(x, y, z)``, or probabilities ``(C, x, y, z)``, of all classes or with the background."""

    array: NDArray[Any]
    has_background: bool

    @property
    def is_picture(self) -> bool:
        return self.array.shape[-1] == 1

    def rule(self, level: float) -> str:
        """What the outlines run along, in words."""
        if self.array.ndim == 3:
            return "half way between the pixels of a label and others"
        if self.has_background:
            return "where the probability of a label equals the largest other one, background included"
        return f"where the probability of a label is {level:g}"

    def field(self, number: int, index: int, level: float) -> NDArray[np.float64]:
        """``(x, y)`` for one label id on one slice: above 0 inside, below 0 outside, nowhere 0."""
        plane = self.array[..., index]
        if plane.ndim == 2:
            inside = plane == number
            return signed_field(inside - 0.5, inside)
        if not self.has_background:
            chosen = plane[number - 1]
            return signed_field(chosen.astype(np.float64) - level, chosen >= level)
        others = np.delete(plane, number, axis=0).max(axis=0).astype(np.float64)
        return signed_field(plane[number] - others, plane.argmax(axis=0) == number)


@dataclass(frozen=True)
class _Millimetres:
    """``matrix`` takes ``(x, y, slice, 1)``, of picture coordinates, to mm of ``space``: 2x4 or 3x4."""

    matrix: NDArray[np.float64]
    space: str

    @property
    def pixel_size(self) -> list[float]:
        """Along x and along y, mm."""
        return [float(size) for size in np.linalg.norm(self.matrix[:, :2], axis=0)]

    @property
    def pixel_area(self) -> float:
        """Area of a pixel, mm², also of a sheared one."""
        return math.sqrt(np.linalg.det(self.matrix[:, :2].T @ self.matrix[:, :2]))

    @property
    def decimals(self) -> int:
        """Digits that are 1/1000 of a pixel."""
        return max(DECIMALS, math.ceil(DECIMALS - math.log10(min(self.pixel_size))))

    def points(self, ring: Ring, index: int) -> NDArray[np.float64]:
        """``(N, 2)`` picture coordinates on a slice to ``(N, 2)`` or ``(N, 3)`` mm."""
        moved = ring @ self.matrix[:, :2].T + index * self.matrix[:, 2] + self.matrix[:, 3]
        return np.asarray(np.round(moved, self.decimals) + 0.0)  # + 0.0: no "-0.0"


def _check_options(labels: Sequence[str], level: float, tolerance: float) -> None:
    if isinstance(labels, str) or not 1 <= len(labels) <= 255:
        raise ValueError(f"labels must be a list of 1 to 255 names for the label ids 1, 2, ..., got {labels!r}.")
    for name in labels:
        if not name or not name.isprintable():
            raise ValueError(f"every label needs a name of printable characters, got {name!r}.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise ValueError(f"tolerance must be a number of pixels from 0 on, got {tolerance}.")


def _maps(values: torch.Tensor | NDArray[Any], labels: Sequence[str]) -> _Maps:
    """Check the values against the labels; a picture gets a last axis of one."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).as_subclass(torch.Tensor).numpy()
    array = np.asarray(values)
    is_ids = array.dtype.kind in "bui"
    ranks = (2, 3) if is_ids else (3, 4)
    if array.dtype.kind not in "buif" or array.ndim not in ranks or array.size == 0:
        raise ValueError(
            f"values of shape {array.shape} and type {array.dtype} are neither label ids (x, y[, z]), integer or bool, "
            "nor probabilities (C, x, y[, z]), floats."
        )
    low, high = array.min(), array.max()
    if is_ids:
        if low < 0 or high > len(labels):
            raise ValueError(
                f"label ids range from {low} to {high}, but {len(labels)} labels are named; ids must be 0 to "
                f"{len(labels)}, or more names be given."
            )
        return _Maps(array if array.ndim == 3 else array[..., None], has_background=False)
    if array.shape[0] not in (len(labels), len(labels) + 1):
        raise ValueError(
            f"{array.shape[0]} channels do not fit {len(labels)} labels; give one channel per label, or one more with "
            "the background first (label ids must be integers)."
        )
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # so also for NaN
        raise ValueError(f"probabilities must lie in [0, 1], got {low} to {high}; apply sigmoid or softmax to logits.")
    return _Maps(array if array.ndim == 4 else array[..., None], has_background=array.shape[0] > len(labels))


def _millimetres(affine: ArrayLike | None, unit: str, has_place: bool) -> _Millimetres | None:
    if unit == "px" and not has_place:
        return None
    if unit not in IN_MM:
        raise ValueError(
            f"spacing_unit '{unit}' does not fit an image with has_place={has_place}; units are "
            f"{', '.join(IN_MM)}, and 'px' for images without a place in the patient."
        )
    if affine is None:
        if has_place:
            raise ValueError("an image with a place in the patient needs an affine, got None.")
        return None
    ras = np.asarray(affine, dtype=np.float64)
    if ras.shape != (4, 4) or not np.isfinite(ras).all():
        raise ValueError(f"affine must be 4x4 finite numbers (array indices to RAS), got the shape {ras.shape}.")
    ras = ras[:3] * IN_MM[unit]
    if has_place:
        ras[:, 3] -= 0.5 * (ras[:, 0] + ras[:, 1])  # the affine counts from pixel centres, we from the corner
        result = _Millimetres(np.diag([-1.0, -1.0, 1.0]) @ ras, "LPS")
    else:
        result = _Millimetres(np.eye(2, 4) * np.append(np.linalg.norm(ras[:, :2], axis=0), [0, 0]), "picture")
    if not result.pixel_area > 0:
        raise ValueError(f"the affine gives pixels without an area: {np.asarray(affine).tolist()}.")
    return result


def _feature(shape: _Shape, index: int | None, millimetres: _Millimetres | None) -> dict[str, Any]:
    rings = [ring for polygon in shape.polygons for ring in polygon]
    steps = [np.diff(ring, axis=0) for ring in rings]
    area = sum(map(ring_area, rings))
    properties: dict[str, Any] = {"label": shape.name, "id": shape.number}
    if index is not None:
        properties["slice"] = index
    properties |= {"area_px2": round(area, DECIMALS), "perimeter_px": round(_length(steps), DECIMALS)}
    feature: dict[str, Any] = {
        "type": "Feature",
        "properties": properties,
        "geometry": _multi_polygon([[ring.tolist() for ring in polygon] for polygon in shape.polygons]),
    }
    if millimetres is not None:
        lengths = [step @ millimetres.matrix[:, :2].T for step in steps]
        properties["area_mm2"] = round(area * millimetres.pixel_area, 2 * millimetres.decimals)
        properties["perimeter_mm"] = round(_length(lengths), millimetres.decimals)
        properties["space_mm"] = millimetres.space
        feature["geometry_mm"] = _multi_polygon(
            [[millimetres.points(ring, index or 0).tolist() for ring in polygon] for polygon in shape.polygons]
        )
    return feature


def _length(steps: Sequence[NDArray[np.float64]]) -> float:
    return float(sum(np.linalg.norm(step, axis=1).sum() for step in steps))


def _multi_polygon(coordinates: list[Any]) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _explanation(size: Sequence[int], labels: Sequence[str], millimetres: _Millimetres | None) -> dict[str, Any]:
    """The member ``banet`` of the GeoJSON."""
    result: dict[str, Any] = {"coordinates": COORDINATES, "rings": RINGS, "size": list(size)}
    result["labels"] = [{"id": number, "label": name} for number, name in enumerate(labels, start=1)]
    if len(size) == 3:
        result["slices"] = SLICES
    if millimetres is not None:
        result |= {"millimetres": SPACES[millimetres.space], "pixel_size_mm": millimetres.pixel_size}
    return result


def _svg(shapes: Sequence[_Shape], size: Sequence[int], millimetres: _Millimetres | None) -> str:
    """One ``<path>`` per label, on a view box that is the picture."""
    width, height = (str(length) for length in size)
    root = ElementTree.Element("svg", {"xmlns": SVG_NAMESPACE, "version": "1.1", "width": width, "height": height})
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("preserveAspectRatio", "none")  # laid over a picture with oblong pixels it is stretched as that one is
    picture = ElementTree.SubElement(ElementTree.SubElement(root, "metadata"), "picture", xmlns=METADATA_NAMESPACE)
    picture.attrib |= {"width_px": width, "height_px": height}
    if millimetres is not None:
        for name, length, pixel in zip(("width", "height"), size, millimetres.pixel_size, strict=True):
            picture.attrib |= {f"{name}_mm": f"{length * pixel:.6g}", f"pixel_{name}_mm": f"{pixel:.6g}"}
    for shape in shapes:
        color = "#{:02x}{:02x}{:02x}".format(*PALETTE[(shape.number - 1) % len(PALETTE)])
        path = ElementTree.SubElement(root, "path", {"id": f"label-{shape.number}", "fill": "none", "stroke": color})
        path.attrib |= {"fill-rule": "evenodd", "stroke-width": str(LINE_WIDTH), "vector-effect": "non-scaling-stroke"}
        path.set("d", "".join(_path_data(ring) for polygon in shape.polygons for ring in polygon))
        ElementTree.SubElement(path, "title").text = shape.name
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _path_data(ring: Ring) -> str:
    return "M" + "L".join(f"{x:.10g} {y:.10g}" for x, y in ring[:-1].tolist()) + "Z"


def _clear(folder: Path, *, is_picture: bool) -> None:
    """Take away what an earlier run wrote and this one would leave: its slices would pass for ours."""
    if folder.is_dir():
        for old in folder.iterdir():
            if re.fullmatch(r"slice_\d{4,}\.svg", old.name):
                old.unlink()
        with suppress(OSError):  # other files in it stay
            folder.rmdir()
    if not is_picture:
        folder.with_name(f"{folder.name}.svg").unlink(missing_ok=True)
