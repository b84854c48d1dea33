"""Distances between the outlines of two masks, per image and class: MONAI's functions with a rule for misses.

MONAI returns nan or infinity where a mask is empty, and its means leave nan out, so that a missed object improves the
mean. Here:

* both masks empty: HD95 and ASSD are 0, NSD is 1;
* exactly one mask empty: HD95 and ASSD are the diagonal of the image (the largest distance it can hold), NSD is 0.

The outline of a mask are its pixels with a background neighbour along an axis; outside the image there is background.
Distances are in the unit of ``spacing``: mm where the spacing is given in mm, pixels without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

from banet_monai.metrics.masks import as_binary_pair, drop_flat_axes, flat_axes, image_diagonal, union_box

__all__ = ["assd", "hd95", "nsd"]

AxisSpacing: TypeAlias = float | Sequence[float] | None

TOLERANCE = 2.0  # of NSD, in the unit of the spacing (mm or pixels)
# relative: direction cosines come with four to six digits, and the spacing is the length of such a column
ROUNDING = 1e-4


def hd95(y_pred: torch.Tensor, y: torch.Tensor, *, spacing: AxisSpacing = None) -> torch.Tensor:
    """95th percentile of the Hausdorff distance: the larger of the two directions' percentiles.

    Args:
        y_pred: predicted masks, ``(batch, channel, *spatial)``, values 0 and 1.
        y: true masks of the same shape.
        spacing: distance between pixels, one number or one per spatial axis, for all images; ``None`` means pixels.

    Returns:
        ``float64`` tensor ``(batch, channel)``, at least 0, in the unit of ``spacing``; the image diagonal for a miss.

    Raises:
        ValueError: when the shapes differ, a value is neither 0 nor 1, or ``spacing`` does not fit or is not positive.
    """

    def distance(pred: torch.Tensor, true: torch.Tensor, steps: list[float]) -> torch.Tensor:
        return compute_hausdorff_distance(pred, true, include_background=True, percentile=95, spacing=steps)

    return _per_mask(distance, y_pred, y, spacing)


def assd(y_pred: torch.Tensor, y: torch.Tensor, *, spacing: AxisSpacing = None) -> torch.Tensor:
    """Average symmetric surface distance: mean over the outline pixels of both masks.

    Arguments, unit, rule for misses and errors as for :func:`hd95`.
    """

    def distance(pred: torch.Tensor, true: torch.Tensor, steps: list[float]) -> torch.Tensor:
        return compute_average_surface_distance(pred, true, include_background=True, symmetric=True, spacing=steps)

    return _per_mask(distance, y_pred, y, spacing)


def nsd(
    y_pred: torch.Tensor, y: torch.Tensor, *, tolerance: float = TOLERANCE, spacing: AxisSpacing = None
) -> torch.Tensor:
    """Normalised surface Dice: share of both outlines that lies within ``tolerance`` of the other one.

    A distance of ``tolerance`` itself counts as within, also where the spacing is rounded (by 1/10 000): on an oblique
    grid of 1 mm a step may be 1.0000003 mm. Arguments and errors as for :func:`hd95`.

    Args:
        y_pred: predicted masks.
        y: true masks.
        tolerance: accepted deviation in the unit of ``spacing`` (pixels without it), at least 0.
        spacing: as for :func:`hd95`.

    Returns:
        ``float64`` tensor ``(batch, channel)`` in [0, 1]; 0 for a miss.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}.")

    def agreement(pred: torch.Tensor, true: torch.Tensor, steps: list[float]) -> torch.Tensor:
        limit = tolerance * (1 + ROUNDING)
        return compute_surface_dice(pred, true, [limit], include_background=True, spacing=steps)

    return _per_mask(agreement, y_pred, y, spacing, both_empty=1.0, one_empty=0.0)


def _per_mask(
    function: Callable[[torch.Tensor, torch.Tensor, list[float]], torch.Tensor],
    y_pred: torch.Tensor,
    y: torch.Tensor,
    spacing: AxisSpacing,
    both_empty: float = 0.0,
    one_empty: float | None = None,  # the image diagonal
) -> torch.Tensor:
    """Call ``function(pred, true, spacing)`` on the box around each pair of masks that are both not empty."""
    y_pred, y = as_binary_pair(y_pred, y)
    steps = _axis_spacing(spacing, y.shape[2:])
    device = y_pred.device
    y_pred, y = drop_flat_axes(y_pred).cpu(), drop_flat_axes(y).cpu()
    if one_empty is None:
        one_empty = image_diagonal(y.shape[2:], steps)

    scores = torch.full(y.shape[:2], both_empty, dtype=torch.float64)
    for case, channel in np.ndindex(*y.shape[:2]):
        pred, true = y_pred[case, channel], y[case, channel]
        box = union_box(pred, true)
        if box is None:
            continue
        if bool(pred.any()) and bool(true.any()):
            with warnings.catch_warnings():  # MONAI's own call of a function whose argument it has deprecated
                warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
                scores[case, channel] = function(pred[box][None, None], true[box][None, None], steps)
        else:
            scores[case, channel] = one_empty
    return scores.to(device)


def _axis_spacing(spacing: AxisSpacing, shape: Sequence[int]) -> list[float]:
    """One positive number per spatial axis that :func:`drop_flat_axes` keeps."""
    if spacing is None or isinstance(spacing, int | float):
        spacing = [1.0 if spacing is None else spacing] * len(shape)
    steps = [float(step) for step in spacing]
    if len(steps) != len(shape) or not all(0 < step < float("inf") for step in steps):
        raise ValueError(
            f"spacing must be one positive number or one per spatial axis of {tuple(shape)}, got {spacing}."
        )
    flat = flat_axes(shape)
    return [step for axis, step in enumerate(steps) if axis not in flat]
