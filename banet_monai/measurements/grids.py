"""The grid that a mask lies on: what one step of an index is in millimetres, and where a point lies in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import ArrayLike, NDArray

from banet_monai.metrics.masks import IN_MM, Spacing, flat_axes

__all__ = ["Grid", "grid_of", "mask_grid", "meta_grid"]

UNITS = ("mm", "px")
LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])
SAME_SPACING = 1e-3  # relative difference between a stated spacing and that of an affine
FLAT = 1e-9  # of the volume of a cell as a share of its box: below it the axes of an affine lie in one plane


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a mask lie.

    Args:
        shape: of the array, (column, row) or (column, row, slice).
        axes: those that are measured: all, but for an axis of one pixel or the axis across single slices.
        fixed: index along the axes that are not measured.
        matrix: (n, n) for n = ``len(axes)``: indices along ``axes`` to coordinates in ``unit`` whose distances and
            angles are those of the real space.
        spacing: distance between pixels along each axis of the array, in ``unit``.
        unit: ``"mm"`` or ``"px"``.
        affine: (4, 4), array indices to RAS mm; None where the place in the patient is not known.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    fixed: int
    matrix: NDArray[np.float64]
    spacing: tuple[float, ...]
    unit: str
    affine: NDArray[np.float64] | None

    @property
    def cell(self) -> float:
        """Area or volume of one pixel, in ``unit`` squared or cubed."""
        return float(abs(np.linalg.det(self.matrix)))

    @property
    def steps(self) -> NDArray[np.float64]:
        """Distance between neighbouring pixels along each measured axis."""
        return np.asarray(np.linalg.norm(self.matrix, axis=0))

    @property
    def heights(self) -> NDArray[np.float64]:
        """Distance between neighbouring rows of pixels across each measured axis; less than a step on a tilted grid."""
        return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(self.matrix), axis=1))

    def real(self, indices: NDArray[Any]) -> NDArray[np.float64]:
        """Indices ``(..., n)`` along the measured axes in coordinates of ``unit``."""
        return np.asarray(indices @ self.matrix.T, dtype=np.float64)

    def indices(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        """The way back."""
        return np.asarray(np.linalg.solve(self.matrix, real.T).T)

    def full(self, index: NDArray[Any]) -> tuple[float, ...]:
        """One index along the measured axes with all axes of the array."""
        whole = np.full(len(self.shape), float(self.fixed))
        whole[list(self.axes)] = index
        return tuple(float(value) for value in whole)

    def lps(self, index: tuple[float, ...]) -> tuple[float, ...] | None:
        """The point of the patient, mm in LPS, of one index with all axes."""
        if self.affine is None:
            return None
        point = self.affine[:3] @ np.array([*index, *(0.0,) * (3 - len(index)), 1.0])
        return tuple(float(value) + 0.0 for value in point * LPS_FROM_RAS)

    def of_slice(self, index: int) -> Grid:
        """The picture at one index along the third axis."""
        axes = (0, 1)
        matrix = _isometric(self.matrix[:, [self.axes.index(axis) for axis in axes]])
        return Grid(self.shape, axes, index, matrix, self.spacing, self.unit, self.affine)


def grid_of(
    shape: Sequence[int],
    *,
    spacing: float | Sequence[float] | Spacing | None = None,
    unit: str | None = None,
    affine: ArrayLike | None = None,
    drop_flat: bool = True,
) -> Grid:
    """The grid of a mask of the given shape; arguments and errors as for :func:`banet_monai.measurements.measure`.

    Args:
        shape: of the mask, two or three axes.
        spacing: distance between pixels.
        unit: of the spacing.
        affine: array indices to RAS mm.
        drop_flat: whether an axis of one pixel is left out, so that a volume of one slice is a picture.
    """
    shape = tuple(int(size) for size in shape)
    if isinstance(spacing, Spacing):
        unit = unit or spacing.unit
    if unit is not None and unit not in UNITS:
        raise ValueError(f"unit must be 'mm' or 'px', got {unit!r}; other units of length need converting first.")
    steps = None if spacing is None else _steps(spacing.values if isinstance(spacing, Spacing) else spacing, shape)
    matrix = None if affine is None else _affine(affine)
    if matrix is not None and steps is None and unit is None and np.array_equal(matrix, np.eye(4)):
        matrix, unit = None, "px"  # a picture without physical size
    if steps is None and matrix is None and unit == "mm":
        raise ValueError("unit 'mm' needs the spacing (mm per pixel) or an affine; without them measure in 'px'.")
    if unit is None:
        unit = "px" if steps is None and matrix is None else "mm"
    if unit == "px" or matrix is None:
        columns = np.diag(np.ones(len(shape)) if steps is None else steps)
        placed = None
    else:
        columns, placed = matrix[:3, : len(shape)], matrix
        _check_agreement(steps, columns)
    flat = flat_axes(shape) if drop_flat else []
    axes = tuple(axis for axis in range(len(shape)) if axis not in flat)
    lengths = tuple(float(length) for length in np.linalg.norm(columns, axis=0))
    return Grid(shape, axes, 0, _isometric(columns[:, list(axes)]), lengths, unit, placed)


def mask_grid(
    mask: Any,
    shape: Sequence[int],
    *,
    spacing: float | Sequence[float] | Spacing | None = None,
    unit: str | None = None,
    affine: ArrayLike | None = None,
    drop_flat: bool = True,
) -> Grid:
    """The grid of a mask; where neither spacing nor affine is given, that of its metadata, if it has any.

    Args:
        mask: as it was given; its metadata count if it is a MetaTensor.
        shape: of its label ids.
        spacing: as for :func:`grid_of`, and so all others.
        unit: ``"px"`` measures in pixels whatever the metadata say.
        affine: array indices to RAS mm.
        drop_flat: whether an axis of one pixel is left out.

    Raises:
        ValueError: for ``"mm"`` where the metadata say that no spacing is known, and as :func:`grid_of`.
    """
    if isinstance(mask, MetaTensor) and spacing is None and affine is None:
        found = meta_grid(mask, shape)
        if unit == "mm" and found["unit"] == "px":
            raise ValueError("unit 'mm' needs a spacing, and the mask's metadata say that none is known; use 'px'.")
        if unit != "px":
            spacing, affine, unit = found.get("spacing"), found.get("affine"), unit or found["unit"]
    return grid_of(shape, spacing=spacing, unit=unit, affine=affine, drop_flat=drop_flat)


def meta_grid(mask: MetaTensor, shape: Sequence[int]) -> dict[str, Any]:
    """``spacing``, ``unit`` and ``affine`` of a MetaTensor, as keyword arguments for :func:`grid_of`.

    ``meta["spacing_unit"]`` says ``"mm"`` (or ``"micron"``, ``"meter"``) or ``"px"``; without it an affine that is the
    identity means pixels. ``meta["has_place"]`` says whether the affine leads to a place in the patient.
    """
    affine = np.array(mask.affine.detach().cpu().numpy(), dtype=np.float64)  # a copy: it may be scaled
    if affine.shape != (4, 4):
        whole = np.eye(4)
        n = min(len(affine) - 1, 3)
        whole[:n, :n], whole[:n, 3] = affine[:n, :n], affine[:n, -1]
        affine = whole
    stated = mask.meta.get("spacing_unit")
    if stated is None:
        original = np.asarray(mask.meta.get("original_affine", affine), dtype=np.float64)
        stated = "px" if np.allclose(original, np.eye(len(original))) else "mm"
    if stated == "px":
        return {"unit": "px"}
    if stated not in IN_MM:
        raise ValueError(f"meta['spacing_unit'] must be 'px' or one of {', '.join(IN_MM)}, got {stated!r}.")
    affine[:3] *= IN_MM[stated]
    if not mask.meta.get("has_place", True):
        return {"spacing": np.linalg.norm(affine[:3, : len(shape)], axis=0).tolist(), "unit": "mm"}
    return {"affine": affine, "unit": "mm"}


def _steps(spacing: float | Sequence[float], shape: Sequence[int]) -> NDArray[np.float64]:
    try:
        steps = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (len(shape),))
    except ValueError:
        steps = np.array([np.nan])
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(
            f"spacing must be one positive number or one per axis of the mask {tuple(shape)}, got {spacing}; leave it "
            "out (None) where it is not known, to measure in pixels."
        )
    return steps


def _affine(affine: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"affine must be a finite matrix (4, 4) from indices to RAS mm, got the shape {matrix.shape}.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (lengths > 0).all() or abs(np.linalg.det(matrix[:3, :3])) < FLAT * np.prod(lengths):
        raise ValueError("the axes of the affine lie in one plane or have no length: it maps no volume to the patient.")
    return matrix


def _check_agreement(steps: NDArray[np.float64] | None, columns: NDArray[np.float64]) -> None:
    lengths = np.linalg.norm(columns, axis=0)
    if steps is not None and not np.allclose(steps, lengths, rtol=SAME_SPACING, atol=0):
        raise ValueError(
            f"spacing {steps.tolist()} and the affine, whose steps are {lengths.round(6).tolist()} mm, contradict each "
            "other; give one of them."
        )


def _isometric(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """A square matrix under which indices keep the distances that they have under ``columns`` (m, n)."""
    return np.asarray(np.linalg.cholesky(columns.T @ columns).T)
