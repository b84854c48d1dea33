"""From the planes of single pictures to one regular volume: order, affine, and names for what is not regular.

DICOM states positions in LPS millimetres (PS3.3 section C.7.6.2); affines here are RAS millimetres, as MONAI and
NIfTI have them, for arrays in the axis order (column, row, slice).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DicomGeometryError",
    "Plane",
    "Stack",
    "has_usable_place",
    "picture_affine",
    "plane_affine",
    "slice_order",
    "stack_planes",
]

Vector = NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ROUNDING = 1e-4  # direction cosines that differ by less are the same direction, written with other digits
UNIT_TOLERANCE = 1e-3  # how far a direction cosine triple may be from unit length and a right angle
REPEATED = 0.1  # slices closer than this part of the usual distance lie at the same place
UNEVEN = 0.01  # distances may differ by this part of the usual distance ...
UNEVEN_MM = 1e-3  # ... and by one micrometre for rounded positions
TILT_DEGREES = 0.1  # angle between stacking direction and slice normal above which a stack is sheared
DRIFT_PIXELS = 0.1  # sideways displacement, in pixels, that no result can show


class DicomGeometryError(ValueError):
    """Pictures that do not form one regular volume; the message says why and what would work.

    Args:
        message: the whole message.
        kind: what is wrong in a few words without any name, such as ``missing slices``.
        slices_work: whether the pictures can still be read slice by slice.
    """

    def __init__(self, message: str, *, kind: str = "irregular", slices_work: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.slices_work = slices_work


@dataclasses.dataclass(frozen=True)
class Plane:
    """Where one picture lies in the patient.

    Args:
        name: base name of its file, for messages.
        shape: rows and columns.
        position: ImagePositionPatient, centre of the first pixel, LPS mm; () where unknown.
        orientation: ImageOrientationPatient, direction of a row, then of a column, LPS; () where unknown.
        spacing: PixelSpacing, distance between rows, then between columns, mm; () where unknown.
        frame_of_reference: UID, "" where unknown.
    """

    name: str
    shape: tuple[int, int]
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    spacing: tuple[float, ...] = ()
    frame_of_reference: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Keywords of the attributes a place in the patient needs and that are not there."""
        stated = {
            "ImagePositionPatient": self.position,
            "ImageOrientationPatient": self.orientation,
            "PixelSpacing": self.spacing,
        }
        return tuple(keyword for keyword, value in stated.items() if not value)


@dataclasses.dataclass(frozen=True)
class Stack:
    """A regular volume.

    Args:
        order: ``order[k]`` is the index of the plane that becomes slice ``k``.
        affine: (4, 4), from (column, row, slice) to RAS mm.
        repairs: what was wrong and how it was read, in words.
    """

    order: list[int]
    affine: Vector
    repairs: list[str]


def picture_affine(spacing: tuple[float, ...]) -> Vector:
    """Affine of a picture that has no place in a patient, as ITK and viewers assume it: columns to L, rows to P.

    These are the identity directions of DICOM's LPS, so both signs are negative in RAS.

    Args:
        spacing: distance between rows, then between columns, mm; () where unknown: 1 is taken.
    """
    between_rows, between_columns = spacing or (1.0, 1.0)
    return np.diag([-between_columns, -between_rows, 1.0, 1.0])


def plane_affine(plane: Plane, thickness: float) -> Vector:
    """RAS affine of one picture; its third column is the slice normal, ``thickness`` mm long."""
    _check_spacings([plane])
    _check_directions([plane])
    return _affine(plane, _normal(plane) * thickness)


def has_usable_place(plane: Plane) -> bool:
    """Whether position, orientation and spacing are stated and say where the picture lies."""
    try:
        _check_complete([plane])
        _check_spacings([plane])
        _check_directions([plane])
    except DicomGeometryError:
        return False
    return True


def stack_planes(planes: Sequence[Plane]) -> Stack:
    """Sort planes along their normal and check that they form one regular volume.

    The order is by position alone; file names and instance numbers play no part. Slices run along
    ``cross(row direction, column direction)``, so that the axes are right-handed.

    Raises:
        DicomGeometryError: missing attributes, several sizes, spacings, orientations or frames of reference,
            repeated, missing or uneven slices, gantry tilt, slices shifted sideways.
    """
    _check_complete(planes)
    _check_one_grid(planes)
    _check_directions(planes)
    repairs = _check_one_orientation(planes)
    if len(planes) == 1:
        return Stack([0], plane_affine(planes[0], thickness=1.0), repairs)

    normal = _normal(planes[0])
    positions = np.array([plane.position for plane in planes])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    _check_distances(along[order], [planes[k].name for k in order])
    _check_direction_of_stacking(positions[order], normal, min(planes[0].spacing))

    step = (positions[order[-1]] - positions[order[0]]) / (len(planes) - 1)
    first = dataclasses.replace(planes[0], position=planes[order[0]].position)
    return Stack([int(k) for k in order], _affine(first, step), repairs)


def slice_order(planes: Sequence[Plane], instances: Sequence[int]) -> list[int]:
    """Order for pictures that form no volume: along the normal within each orientation, as far as that is known.

    Orientations follow each other as the instance numbers do; without positions these alone decide.

    Args:
        planes: the pictures.
        instances: number of each picture in its source, 0 where unknown.

    Returns:
        Indices of ``planes``.
    """
    order = sorted(range(len(planes)), key=lambda k: (instances[k], k))
    try:
        _check_complete(planes)
        _check_directions(planes)
    except DicomGeometryError:
        return order
    groups: list[list[int]] = []
    for k in order:
        same = (g for g in groups if _same_direction(planes[g[0]], planes[k]))
        group = next(same, None)
        if group is None:
            groups.append([k])
        else:
            group.append(k)
    for group in groups:
        normal = _normal(planes[group[0]])
        group.sort(key=lambda k: float(normal @ planes[k].position))
    return [k for group in groups for k in group]


def _same_direction(one: Plane, other: Plane) -> bool:
    return float(np.abs(np.subtract(one.orientation, other.orientation)).max()) <= ROUNDING


def _normal(plane: Plane) -> Vector:
    across = np.cross(plane.orientation[:3], plane.orientation[3:])
    return across / np.linalg.norm(across)


def _affine(plane: Plane, step: Vector) -> Vector:
    """PS3.3 equation C.7.6.2.1-1, with ``step`` from slice to slice and the x and y axes turned from LPS to RAS."""
    lps = np.eye(4)
    lps[:3, 0] = np.array(plane.orientation[:3]) * plane.spacing[1]  # along a row, from column to column
    lps[:3, 1] = np.array(plane.orientation[3:]) * plane.spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = plane.position
    return LPS_TO_RAS @ lps + 0.0  # no negative zeros


def _check_complete(planes: Sequence[Plane]) -> None:
    lacking = [plane for plane in planes if plane.missing]
    if lacking:
        keywords = ", ".join(sorted({keyword for plane in lacking for keyword in plane.missing}))
        raise DicomGeometryError(
            f"{len(lacking)} of {len(planes)} images have no {keywords} (first: '{lacking[0].name}'), so they cannot "
            "be put in order as a volume; give them one file at a time to segment them as pictures.",
            kind="no positions",
        )


def _check_one_grid(planes: Sequence[Plane]) -> None:
    sizes = Counter(plane.shape for plane in planes)
    if len(sizes) > 1:
        raise DicomGeometryError(
            f"the images have {len(sizes)} sizes: {_tally(sizes, 'rows x columns')}; give the files of one size only.",
            kind="several sizes",
            slices_work=False,
        )
    _check_spacings(planes)
    spacings = np.array([plane.spacing for plane in planes])
    if not np.allclose(spacings, spacings[0], rtol=ROUNDING, atol=0):
        found = Counter(tuple(round(value, 4) for value in plane.spacing) for plane in planes)
        raise DicomGeometryError(
            f"the images have {len(found)} pixel spacings: {_tally(found, 'mm')}; give the files of one spacing only.",
            kind="several pixel spacings",
        )
    references = Counter(plane.frame_of_reference for plane in planes if plane.frame_of_reference)
    if len(references) > 1:
        raise DicomGeometryError(
            f"the images lie in {len(references)} frames of reference ({', '.join(map(str, references.values()))} "
            "images), so their positions cannot be compared; give the files of one frame of reference only.",
            kind="several frames of reference",
        )


def _check_spacings(planes: Sequence[Plane]) -> None:
    for plane in planes:
        if not (np.isfinite(plane.spacing).all() and min(plane.spacing) > 0):
            raise DicomGeometryError(
                f"'{plane.name}': PixelSpacing must be two positive numbers in mm; correct or remove the attribute.",
                kind="unusable pixel spacing",
            )


def _tally(found: Counter[tuple[int, int]] | Counter[tuple[float, ...]], unit: str) -> str:
    parts = [f"{' x '.join(map(str, value))} ({count})" for value, count in found.most_common(3)]
    return f"{', '.join(parts)}{', ...' if len(found) > 3 else ''} [{unit}]"


def _check_directions(planes: Sequence[Plane]) -> None:
    for plane in planes:
        row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
        measured = np.array([row @ row - 1, column @ column - 1, row @ column, *plane.position])
        if not np.isfinite(measured).all() or np.abs(measured[:3]).max() > 2 * UNIT_TOLERANCE:
            raise DicomGeometryError(
                f"'{plane.name}': ImageOrientationPatient must hold two unit vectors at a right angle, and "
                "ImagePositionPatient finite numbers; correct or remove both attributes (without them the file is "
                "read as a picture).",
                kind="unusable orientation",
            )


def _check_one_orientation(planes: Sequence[Plane]) -> list[str]:
    groups: list[tuple[Vector, int]] = []
    exact = True
    for plane in planes:
        direction = np.array(plane.orientation)
        for k, (known, count) in enumerate(groups):
            if np.abs(known - direction).max() <= ROUNDING:
                groups[k] = (known, count + 1)
                exact = exact and bool((known == direction).all())
                break
        else:
            groups.append((direction, 1))
    if len(groups) > 1:
        raise DicomGeometryError(
            f"the images have {len(groups)} orientations ({', '.join(str(count) for _, count in groups[:6])} images); "
            "a volume needs one: give the files of one orientation only.",
            kind="several orientations",
        )
    return [] if exact else ["ImageOrientationPatient differs by rounding: the first image's is used"]


def _check_distances(along: Vector, names: Sequence[str]) -> None:
    """Name repeated, missing and uneven slices; ``along`` are the sorted positions on the normal, mm."""
    gaps = np.diff(along)
    least = min(1e-4, REPEATED / len(gaps)) * (along[-1] - along[0])  # a smaller gap is not the usual one
    distinct = np.sort(gaps[gaps > least])
    step = float(distinct[(len(distinct) - 1) // 2]) if len(distinct) else 0.0
    repeated = np.flatnonzero(gaps <= REPEATED * step)
    if len(repeated):
        k = int(repeated[0])
        raise DicomGeometryError(
            f"repeated slices: {len(repeated)} of {len(along)} images lie where another one lies (first: '{names[k]}' "
            f"and '{names[k + 1]}'), as in copies, phases, echoes or time points; give the files of one of them only.",
            kind="repeated slices",
        )
    # A gap of a whole number of steps is a hole, any other is uneven.
    steps = np.round(gaps / step)
    uneven = np.flatnonzero(np.abs(gaps - steps * step) > UNEVEN * step + UNEVEN_MM)
    if len(uneven):
        k = int(uneven[0])
        raise DicomGeometryError(
            f"uneven slices: distances range from {gaps.min():.4g} to {gaps.max():.4g} mm (first odd one between "
            f"'{names[k]}' and '{names[k + 1]}', usual: {step:.4g} mm); resample the series to even slices, or give "
            "the files one at a time to segment them as pictures.",
            kind="uneven slices",
        )
    if missing := int((steps - 1).sum()):
        k = int(np.flatnonzero(steps > 1)[0])
        raise DicomGeometryError(
            f"missing slices: {missing} of {len(along) + missing} (first gap of {gaps[k]:.4g} mm between '{names[k]}' "
            f"and '{names[k + 1]}', usual: {step:.4g} mm); export the series again in full, or give one unbroken part.",
            kind="missing slices",
        )


def _check_direction_of_stacking(positions: Vector, normal: Vector, pixel: float) -> None:
    """Name gantry tilt and slices that are shifted sideways; ``positions`` are sorted, LPS mm."""
    span = positions[-1] - positions[0]
    drift = span - (span @ normal) * normal
    angle = float(np.degrees(np.arctan2(np.linalg.norm(drift), span @ normal)))
    if angle > TILT_DEGREES and np.linalg.norm(drift) > DRIFT_PIXELS * pixel:
        raise DicomGeometryError(
            f"gantry tilt: slices are stacked at {angle:.2f} degrees to their normal; resample the series to an "
            "upright grid first (dcm2niix does and writes NIfTI), or give the files one at a time to segment them as "
            "pictures.",
            kind="gantry tilt",
        )
    offsets = positions - positions[0]
    share = (offsets @ normal) / (span @ normal)
    sideways = np.linalg.norm(offsets - share[:, None] * span, axis=1)
    if sideways.max() > DRIFT_PIXELS * pixel:
        raise DicomGeometryError(
            f"the slices are shifted sideways by up to {sideways.max():.4g} mm against each other; give the files one "
            "at a time to segment them as pictures.",
            kind="slices shifted sideways",
        )
