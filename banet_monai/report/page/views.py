"""What is shown of a case: panels of a picture, or slices and three projections of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from banet_monai.report.overlays import as_hung, to_grey_levels
from banet_monai.report.page.loading import CaseArrays
from banet_monai.report.page.panels import (
    Chord,
    Panel,
    Plane,
    drawing_panel,
    fitted_picture,
    image_panel,
    map_panel,
)

__all__ = ["Strip", "strips_of"]

LONGEST_SIDE = 640  # pixels of an embedded picture; outlines are lines and stay sharp
SLICE_SIDE = 384
SLICES = 5
PLANES = ((2, "Axial"), (1, "Coronal"), (0, "Sagittal"))  # across which of the axes left, posterior, inferior
FAINTEST = 0.02  # highest value of an edge map that is brightened


@dataclass(frozen=True)
class Strip:
    """Panels that stand in one row."""

    title: str
    panels: tuple[Panel, ...]


def strips_of(case: CaseArrays, name: str, chords: Sequence[Chord] = ()) -> list[Strip]:
    """What to show of a case; nothing where there is no mask, no overlay of the run and no picture.

    Args:
        case: its arrays.
        name: of the case, for the texts read aloud.
        chords: diameters in array indices.
    """
    if case.labels is None:
        return _without_mask(case, name)
    if case.labels.ndim == 2:
        return [Strip("", tuple(_picture_panels(case, case.labels, name, chords)))]
    return _volume_strips(_hung(case), name, _hung_chords(chords, case))


def _without_mask(case: CaseArrays, name: str) -> list[Strip]:
    """The overlay of the run, else the picture alone."""
    if case.drawn is not None:
        shown, caption = case.drawn, "Outline, as drawn by the run"
    elif case.image is not None and case.image[0].squeeze().ndim == 2:
        plane = case.image.reshape(len(case.image), *case.image[0].squeeze().shape)
        shown, caption = to_grey_levels(plane, bounds=case.bounds), "Image without outline"
    else:
        return []
    picture, size = fitted_picture(shown, (shown.shape[1], shown.shape[0]), LONGEST_SIDE)
    return [Strip("", (Panel(caption, f"{name}: {caption.lower()}", "image", size, picture),))]


def _told(name: str, what: str, labels: NDArray[Any], truth: NDArray[Any] | None) -> str:
    """A panel for those who cannot see it."""
    lines = "prediction" if truth is None else "prediction solid, truth dashed"
    return f"{name}: {what}, {lines if labels.any() else 'no foreground predicted'}"


def _map_scale(key: str, values: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """Title and values of a map: uncertainty from 0 to 1, an edge map from 0 to its own highest value."""
    if key == "uncertainty":
        return "Uncertainty", values
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    if not FAINTEST < top < 1:
        return "Boundary map", values
    return f"Boundary map, 0 to {top:.2g}", values / top


# ---- pictures --------------------------------------------------------------------------------------------------------


def _picture_panels(case: CaseArrays, labels: NDArray[np.uint8], name: str, chords: Sequence[Chord]) -> list[Panel]:
    picture, caption = None, "Outline"
    if case.image is not None:
        picture = to_grey_levels(case.image, bounds=case.bounds)
    elif case.drawn is not None and case.drawn.shape[:2] == labels.T.shape:
        picture, caption = case.drawn, "Outline, as drawn by the run"
    steps = (case.spacing[0], case.spacing[1])
    plane = Plane(labels, steps, picture, case.truth, tuple(chords))
    panels = [image_panel(plane, caption, _told(name, "outline", labels, case.truth), longest=LONGEST_SIDE)]
    for key, values in case.maps.items():
        title, shown = _map_scale(key, values)
        panels.append(map_panel(shown, steps, title, f"{name}: {title.lower()}"))
    if labels.any():
        told = ", ".join(chord.text for chord in chords)
        alt = f"{name}: shape of the prediction{f' with its diameters, {told}' if told else ''}"
        panels.append(drawing_panel(plane, "Measurements" if chords else "Shape", alt))
    return panels


# ---- volumes ---------------------------------------------------------------------------------------------------------


def _hung(case: CaseArrays) -> CaseArrays:
    """The case turned to the axes left, posterior, inferior; as it is where it has no place in the patient."""
    if case.affine is None or case.labels is None:
        return case
    affine = case.affine

    def turned(values: NDArray[Any]) -> NDArray[Any]:
        volume: NDArray[Any] = as_hung(values[None], affine)[0][0]
        return volume

    return replace(
        case,
        labels=turned(case.labels),
        truth=None if case.truth is None else turned(case.truth),
        image=None if case.image is None else as_hung(case.image, affine)[0],
        maps={key: turned(values) for key, values in case.maps.items()},
        spacing=tuple(as_hung(case.labels[None], affine)[1]),
    )


def _hung_chords(chords: Sequence[Chord], case: CaseArrays) -> list[Chord]:
    """Chords in the indices of the turned arrays."""
    if case.affine is None or case.labels is None:
        return list(chords)
    stored = nibabel.orientations.io_orientation(case.affine)  # type: ignore[no-untyped-call]
    wanted = nibabel.orientations.axcodes2ornt(("L", "P", "I"))  # type: ignore[no-untyped-call]
    turn = nibabel.orientations.ornt_transform(stored, wanted)  # type: ignore[no-untyped-call]
    there = np.linalg.inv(nibabel.orientations.inv_ornt_aff(turn, case.labels.shape))  # type: ignore[no-untyped-call]

    def point(place: Sequence[float]) -> tuple[float, ...]:
        return tuple((there @ [*place, 1.0])[:3].tolist())

    return [replace(chord, start=point(chord.start), end=point(chord.end)) for chord in chords]


def _volume_strips(case: CaseArrays, name: str, chords: Sequence[Chord]) -> list[Strip]:
    """Slices across the axis of the largest spacing, maps on the same slices, and projections along three axes."""
    if case.labels is None:
        raise ValueError("slices need a mask.")
    labels, spacing = case.labels, case.spacing
    axis = 2 if case.affine is None else max(range(3), key=lambda index: (round(spacing[index], 2), index))
    steps = _steps(spacing, axis)
    chosen = _chosen_slices(labels, case.truth, axis)
    shown = None if case.image is None else np.swapaxes(to_grey_levels(case.image, bounds=case.bounds), 0, 1)
    panels = []
    for index in chosen:
        truth = None if case.truth is None else _cut(case.truth, axis, index)
        picture = None if shown is None else np.swapaxes(_cut(shown, axis, index), 0, 1)
        plane = Plane(_cut(labels, axis, index), steps, picture, truth)
        caption = f"Slice {index + 1}" if case.is_part else f"Slice {index + 1} of {labels.shape[axis]}"
        told = _told(name, caption.lower(), plane.labels, truth)
        panels.append(image_panel(plane, caption, told, longest=SLICE_SIDE))
    strips = [Strip("Slices", tuple(panels))]
    for key, whole in case.maps.items():
        title, values = _map_scale(key, whole)
        maps = [
            map_panel(_cut(values, axis, n), steps, f"Slice {n + 1}", f"{name}: {title.lower()}, slice {n + 1}")
            for n in chosen
        ]
        strips.append(Strip(title, tuple(maps)))
    if case.affine is not None:
        strips.append(
            Strip("Projections: mean of the image, shadow of the mask", tuple(_projections(case, name, chords)))
        )
    return strips


def _chosen_slices(labels: NDArray[Any], truth: NDArray[Any] | None, axis: int) -> list[int]:
    """Evenly over the slices that hold a label, over all where none does."""
    others = tuple(index for index in range(3) if index != axis)
    present = labels.any(axis=others)
    present = present if truth is None else present | truth.any(axis=others)
    found = np.flatnonzero(present)
    first, last = (int(found[0]), int(found[-1])) if found.size else (0, labels.shape[axis] - 1)
    return sorted({round(index) for index in np.linspace(first, last, SLICES).tolist()})


def _cut(values: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """One slice across an axis; further axes stay."""
    plane: NDArray[Any] = np.take(values, index, axis=axis)
    return plane


def _steps(spacing: Sequence[float], axis: int) -> tuple[float, float]:
    first, second = [step for index, step in enumerate(spacing) if index != axis]
    return first, second


def _projections(case: CaseArrays, name: str, chords: Sequence[Chord]) -> list[Panel]:
    """Mean of the image and shadow of the masks along each axis, with the diameters."""
    panels: list[Panel] = []
    if case.labels is None:
        return panels
    for axis, title in PLANES:
        kept = [index for index in range(3) if index != axis]
        shown = None
        if case.image is not None:
            shown = to_grey_levels(case.image.mean(axis=axis + 1, dtype=np.float32), bounds=case.bounds)
        flat = tuple(replace(chord, start=_kept(chord.start, kept), end=_kept(chord.end, kept)) for chord in chords)
        truth = None if case.truth is None else case.truth.max(axis=axis)
        plane = Plane(case.labels.max(axis=axis), _steps(case.spacing, axis), shown, truth, flat)
        told = _told(name, f"{title.lower()} projection", plane.labels, truth)
        panels.append(image_panel(plane, title, told, longest=SLICE_SIDE, kind="projection"))
    return panels


def _kept(point: Sequence[float], axes: Sequence[int]) -> tuple[float, ...]:
    return tuple(point[axis] for axis in axes)
