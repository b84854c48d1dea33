"""Measure the labels of a mask: size, outline, diameters, shape, place, and the intensities inside."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects
from skimage.measure import label as components_of

from banet_monai.measurements.grids import Grid, mask_grid
from banet_monai.measurements.masks import Labels, as_image, as_mask, named_labels
from banet_monai.measurements.outlines import outline_lengths, surface_area
from banet_monai.measurements.records import Intensity, Line, Measurement
from banet_monai.measurements.shapes import Ends, Hull, asymmetry, diameters, hull_of
from banet_monai.metrics.masks import Spacing

__all__ = ["measure"]

MM3_PER_ML = 1000.0


def measure(
    mask: Any,
    *,
    spacing: float | Sequence[float] | Spacing | None = None,
    unit: str | None = None,
    labels: Labels | None = None,
    image: Any | None = None,
    affine: ArrayLike | None = None,
    components: bool = False,
    by_slice: bool = False,
) -> list[Measurement]:
    """Measure every label of a mask.

    Values are in mm, mm2 and ml where the spacing is known, else in pixels, and each measurement says which. What is
    not known is never guessed: a plain array without spacing and affine has pixels.

    Args:
        mask: label ids in MONAI's axis order, (column, row) or (column, row, slice), array or tensor; bool counts as
            the id 1. A MetaTensor may have one channel in front, and its metadata give unit, spacing and place unless
            arguments do. A volume of one slice is a picture.
        spacing: distance between pixels, one number or one per axis of the mask, in ``unit``; also a
            :class:`banet_monai.metrics.Spacing`, which brings its unit.
        unit: ``"mm"`` or ``"px"``. By default mm where a spacing or an affine is given, else pixels.
        labels: names of the ids 1, 2, ..., or ids with names: each gets a measurement, absent ones one with 0 pixels.
            None: the ids that occur, named by their numbers.
        image: what the mask lies on, the same shape, also with channels in front: intensities inside are measured.
            NaN and infinity are left out and counted.
        affine: (4, 4), array indices to RAS mm: points are then also given in the patient, in LPS mm as DICOM has them,
            and distances are right on tilted grids. The identity, without a spacing, means no millimetres.
        components: also measure each part of a label that has several, the largest first.
        by_slice: each index along the third axis is a picture of its own, as with video frames or slices that form no
            volume; labels are measured where they occur.

    Returns:
        One measurement per label in the order of ``labels`` (ids ascending by default), each followed by its
        components; with ``by_slice`` per slice. None for an empty mask without ``labels``.

    Raises:
        ValueError: a mask of another shape, with numbers that are not whole, negative or NaN; a spacing that is not
            positive and finite or contradicts the affine; ``"mm"`` without spacing; an image of another size; an id
            without a name.
    """
    ids = as_mask(mask)
    grid = mask_grid(mask, ids.shape, spacing=spacing, unit=unit, affine=affine, drop_flat=not by_slice)
    values = None if image is None else as_image(image, ids.shape)
    names = named_labels(labels, [int(number) for number in np.unique(ids) if number])
    if not by_slice:
        return list(_measured(ids, grid, values, names, components=components))
    if ids.ndim != 3:
        raise ValueError(f"by_slice needs a mask (column, row, slice), got the shape {ids.shape}.")
    found_in_slices: list[Measurement] = []
    for k in range(ids.shape[2]):
        here = {number: name for number, name in names.items() if (ids[:, :, k] == number).any()}
        for item in _measured(ids[:, :, k : k + 1], grid.of_slice(k), _cut(values, k), here, components=components):
            found_in_slices.append(dataclasses.replace(item, slice=k))
    return found_in_slices


def _cut(values: NDArray[Any] | None, k: int) -> NDArray[Any] | None:
    return None if values is None else values[..., k : k + 1]


def _measured(
    ids: NDArray[Any], grid: Grid, image: NDArray[Any] | None, names: dict[int, str], *, components: bool
) -> Iterator[Measurement]:
    """Measurements of one picture or volume, given with all axes of its array."""
    flat = tuple(axis for axis in range(len(grid.shape)) if axis not in grid.axes)
    plane = ids.squeeze(flat)
    channels = None if image is None else image.squeeze(tuple(axis + 1 for axis in flat))
    for number, name in names.items():
        parts = _parts_of(plane == number)
        whole = Measurement(
            label=number,
            name=name,
            component=None,
            slice=None,
            dimensions=len(grid.axes),
            unit=grid.unit,
            spacing=grid.spacing,
            pixels=sum(int(np.count_nonzero(inside)) for inside, _ in parts),
            components=len(parts),
        )
        yield _filled(whole, parts, grid, channels)
        if not components or len(parts) < 2:
            continue
        parts.sort(key=lambda part: -int(np.count_nonzero(part[0])))  # stable: equal ones in the order of their places
        for k, part in enumerate(parts, start=1):
            alone = dataclasses.replace(whole, component=k, components=1, pixels=int(np.count_nonzero(part[0])))
            yield _filled(alone, [part], grid, channels)


Part = tuple[NDArray[np.bool_], tuple[slice, ...]]  # a component in its bounding box, and where that is


def _parts_of(inside: NDArray[np.bool_]) -> list[Part]:
    """The components of a label, in the order of their first pixels; looked for in the label's box alone."""
    found = find_objects(inside.view(np.uint8))
    if not found:
        return []
    (box,) = found
    numbered = components_of(inside[box])  # type: ignore[no-untyped-call]
    places = enumerate(find_objects(numbered), start=1)
    return [(numbered[place] == k, _shifted(place, box)) for k, place in places]


def _shifted(place: tuple[slice, ...], box: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(p.start + b.start, p.stop + b.start) for p, b in zip(place, box, strict=True))


def _filled(empty: Measurement, parts: list[Part], grid: Grid, image: NDArray[Any] | None) -> Measurement:
    """The measurement of all ``parts`` together."""
    if not parts:
        is_2d = empty.dimensions == 2
        return dataclasses.replace(empty, area=0.0 if is_2d else None, volume=None if is_2d else 0.0)
    box = tuple(
        slice(min(place[axis].start for _, place in parts), max(place[axis].stop for _, place in parts))
        for axis in range(empty.dimensions)
    )
    start = np.array([side.start for side in box])
    mask = np.zeros([side.stop - side.start for side in box], dtype=bool)
    for inside, place in parts:
        mask[tuple(slice(s.start - o, s.stop - o) for s, o in zip(place, start, strict=True))] |= inside
    hull = hull_of(mask, grid, start)
    shape = _shape_2d if empty.dimensions == 2 else _shape_3d
    return dataclasses.replace(
        empty,
        **shape(empty.pixels * grid.cell, hull.size, [inside for inside, _ in parts], grid),
        **_diameters(hull, grid),
        **_symmetry(mask, grid),
        **_place(mask, box, grid),
        intensity=() if image is None else tuple(_intensity(channel[box][mask]) for channel in image),
    )


def _shape_2d(area: float, hull: float, parts: list[NDArray[np.bool_]], grid: Grid) -> dict[str, Any]:
    total, outer, hulls = np.sum([outline_lengths(part, grid) for part in parts], axis=0).tolist()
    return {
        "area": area,
        "perimeter": total,
        "equivalent_diameter": math.sqrt(4 * area / math.pi),
        "circularity": min(1.0, 4 * math.pi * area / total**2),
        "solidity": min(1.0, area / hull),
        "border_irregularity": max(1.0, outer / hulls),
    }


def _shape_3d(volume: float, hull: float, parts: list[NDArray[np.bool_]], grid: Grid) -> dict[str, Any]:
    surface = float(np.sum([surface_area(part, grid) for part in parts]))
    return {
        "volume": volume / MM3_PER_ML if grid.unit == "mm" else volume,
        "surface": surface,
        "equivalent_diameter": (6 * volume / math.pi) ** (1 / 3),
        "sphericity": min(1.0, math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface),
        "solidity": min(1.0, volume / hull),
    }


def _diameters(hull: Hull, grid: Grid) -> dict[str, Any]:
    longest, across = diameters(hull)
    return {"longest_diameter": _line(longest, grid), "perpendicular_diameter": _line(across, grid)}


def _line(ends: Ends, grid: Grid) -> Line:
    start, end = (grid.full(index) for index in grid.indices(np.stack(ends)).round(9) + 0.0)
    return Line(float(np.linalg.norm(ends[1] - ends[0])), start, end, grid.lps(start), grid.lps(end))


def _symmetry(mask: NDArray[np.bool_], grid: Grid) -> dict[str, Any]:
    along = asymmetry(mask, grid)
    return {"asymmetry": float(np.mean(along)), "asymmetry_along": along}


def _place(mask: NDArray[np.bool_], box: tuple[slice, ...], grid: Grid) -> dict[str, Any]:
    start, stop = (np.array([getattr(side, end) for side in box]) for end in ("start", "stop"))
    shape = np.array([grid.shape[axis] for axis in grid.axes])
    axes = range(mask.ndim)
    counts = [mask.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    centroid = grid.full(start + [count @ np.arange(len(count)) / count.sum() for count in counts])
    distance = float((np.minimum(start, shape - stop) * grid.heights).min())
    full_start = tuple(int(value) for value in grid.full(start))
    full_stop = [value + 1 for value in full_start]
    for axis, end in zip(grid.axes, stop, strict=True):
        full_stop[axis] = int(end)
    sizes = np.subtract(full_stop, full_start) * np.array(grid.spacing)
    return {
        "centroid": centroid,
        "centroid_lps": grid.lps(centroid),
        "box_start": full_start,
        "box_stop": tuple(full_stop),
        "box_size": tuple(float(size) for size in sizes),
        "border_distance": distance,
        "cut_off": distance == 0.0,
    }


def _intensity(values: NDArray[Any]) -> Intensity:
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    left_out = len(numbers) - len(finite)
    if not len(finite):
        return Intensity(None, None, None, None, None, left_out)
    return Intensity(
        mean=float(finite.mean()),
        standard_deviation=float(finite.std()),
        minimum=float(finite.min()),
        median=float(np.median(finite)),
        maximum=float(finite.max()),
        left_out=left_out,
    )
