"""Two outlines of the same thing: before and after, reader and model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import ArrayLike, NDArray

from banet_monai.measurements.grids import SAME_SPACING, Grid, mask_grid, meta_grid
from banet_monai.measurements.masks import Labels, as_mask, named_labels
from banet_monai.measurements.measuring import MM3_PER_ML
from banet_monai.measurements.records import AREA_UNITS, VOLUME_UNITS, Comparison
from banet_monai.metrics import Spacing, assd, dice, hd95, jaccard, nsd
from banet_monai.metrics.distances import TOLERANCE

__all__ = ["compare_outlines"]


def compare_outlines(
    one: Any,
    other: Any,
    *,
    spacing: float | Sequence[float] | Spacing | None = None,
    unit: str | None = None,
    labels: Labels | None = None,
    affine: ArrayLike | None = None,
    tolerance: float = TOLERANCE,
) -> list[Comparison]:
    """Compare two masks on the same grid, label by label, with the metrics of :mod:`banet_monai.metrics`.

    Args:
        one: label ids (column, row) or (column, row, slice), as :func:`measure` takes them; the change counts from it.
        other: label ids of the same shape.
        spacing: as for :func:`measure`.
        unit: as for :func:`measure`.
        labels: as for :func:`measure`; by default the ids that occur in either mask.
        affine: as for :func:`measure`; on tilted grids distances count along the axes.
        tolerance: of NSD, in the unit of the spacing.

    Returns:
        One comparison per label. A label that one mask lacks counts as missed: HD95 and ASSD are the diagonal of the
        image, NSD is 0.

    Raises:
        ValueError: masks of different shapes, places or sizes of pixels, and as for :func:`measure`.
    """
    first, second = as_mask(one, "the first mask"), as_mask(other, "the second mask")
    if first.shape != second.shape:
        raise ValueError(
            f"the masks must have one shape, got {first.shape} and {second.shape}; bring one to the grid of the other "
            "first."
        )
    grid = mask_grid(one, first.shape, spacing=spacing, unit=unit, affine=affine)
    if isinstance(one, MetaTensor) and isinstance(other, MetaTensor) and spacing is None and affine is None:
        _check_same_grid(meta_grid(one, first.shape), meta_grid(other, first.shape), first.ndim)
    present = np.union1d(np.unique(first), np.unique(second))
    names = named_labels(labels, [int(number) for number in present if number])
    return [
        _comparison(first == number, second == number, grid, tolerance, number, name) for number, name in names.items()
    ]


def _check_same_grid(one: dict[str, Any], other: dict[str, Any], n_axes: int) -> None:
    """Refuse masks whose metadata say that they lie elsewhere or have other pixels."""
    if "affine" in one and "affine" in other and not np.allclose(one["affine"], other["affine"], atol=1e-3):
        raise ValueError(
            "the two masks lie at different places of the patient (their affines differ); bring one to the grid of the "
            "other first."
        )
    steps, others = (_steps(grid, n_axes) for grid in (one, other))
    if steps and others and not np.allclose(steps, others, rtol=SAME_SPACING):
        raise ValueError(
            f"the two masks have pixels of different size, {steps} and {others} mm; bring one to the grid of the other "
            "first."
        )


def _steps(grid: dict[str, Any], n_axes: int) -> list[float]:
    """Distance between pixels along each axis; none where it is not known."""
    if "affine" in grid:
        return [float(step) for step in np.linalg.norm(grid["affine"][:3, :n_axes], axis=0)]
    return list(grid.get("spacing", ()))


def _comparison(
    one: NDArray[np.bool_], other: NDArray[np.bool_], grid: Grid, tolerance: float, number: int, name: str
) -> Comparison:
    pair = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (other, one)]
    n_one, n_other = int(np.count_nonzero(one)), int(np.count_nonzero(other))
    is_2d = len(grid.axes) == 2
    cell = grid.cell / (1.0 if is_2d or grid.unit == "px" else MM3_PER_ML)
    return Comparison(
        label=number,
        name=name,
        dimensions=len(grid.axes),
        unit=grid.unit,
        tolerance=float(tolerance),
        pixels_one=n_one,
        pixels_other=n_other,
        hd95=hd95(*pair, spacing=grid.spacing).item(),
        assd=assd(*pair, spacing=grid.spacing).item(),
        nsd=nsd(*pair, tolerance=tolerance, spacing=grid.spacing).item(),
        dice=dice(*pair).item(),
        jaccard=jaccard(*pair).item(),
        size_one=n_one * cell,
        size_other=n_other * cell,
        size_unit=(AREA_UNITS if is_2d else VOLUME_UNITS)[grid.unit],
        change=(n_other - n_one) * cell,
        relative_change=(n_other - n_one) / n_one if n_one else None,
    )
