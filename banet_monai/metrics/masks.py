"""What every metric needs from a pair of masks: checks, classes, spacing, diagonal, the smallest box around both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor

__all__ = [
    "IN_MM",
    "Spacing",
    "as_binary_pair",
    "drop_flat_axes",
    "flat_axes",
    "foreground_masks",
    "grid_spacing",
    "image_diagonal",
    "union_box",
]


IN_MM = {"mm": 1.0, "micron": 1e-3, "meter": 1e3}
"""NIfTI's units of length, in millimetres."""


class Spacing(NamedTuple):
    """Distance between neighbouring pixels: ``values`` per spatial axis, in ``unit`` ``"mm"`` or ``"px"``."""

    values: tuple[float, ...]
    unit: str


def as_binary_pair(y_pred: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both masks as plain boolean tensors.

    Args:
        y_pred: predicted masks, ``(batch, channel, *spatial)`` with 2 or 3 spatial axes, values 0 and 1, any dtype.
        y: true masks of the same shape.

    Raises:
        ValueError: when the shapes differ, are empty or have not 4 or 5 axes, or a value is neither 0 nor 1.
    """
    if y_pred.shape != y.shape:
        raise ValueError(f"prediction and truth must have one shape, got {tuple(y_pred.shape)} and {tuple(y.shape)}.")
    if y.ndim not in (4, 5) or y.numel() == 0:
        raise ValueError(
            f"masks must be (batch, channel, *spatial) with 4 or 5 axes and not empty, got shape {tuple(y.shape)}."
        )
    return _as_bool(y_pred, "prediction"), _as_bool(y, "truth").to(y_pred.device)


def _as_bool(mask: torch.Tensor, name: str) -> torch.Tensor:
    mask = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
    if mask.dtype == torch.bool:
        return mask
    strange = (mask != 0) & (mask != 1)
    if bool(strange.any()):
        values = sorted(set(mask[strange].tolist()))[:5]
        raise ValueError(
            f"{name} must hold 0 and 1 only, got also {values}; threshold probabilities and turn label ids into one "
            "channel per class first (MONAI's AsDiscrete with threshold= or to_onehot=)."
        )
    return mask.bool()


def foreground_masks(mask: torch.Tensor, n_classes: int) -> torch.Tensor:
    """One boolean mask per foreground class.

    Args:
        mask: one of ``(1, *spatial)`` label ids from 0 (background) to ``n_classes``; ``(n_classes, *spatial)`` binary
            masks; ``(n_classes + 1, *spatial)`` one-hot with the background first. Any dtype.
        n_classes: number of foreground classes.

    Returns:
        Boolean tensor ``(n_classes, *spatial)``.

    Raises:
        ValueError: for another number of channels, or values that are no label ids or not 0 and 1.
    """
    mask = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
    if mask.shape[0] == 1:
        classes = torch.arange(1, n_classes + 1, device=mask.device).view(-1, *(1,) * (mask.ndim - 1))
        masks = mask == classes
        strange = ~(masks.any(dim=0, keepdim=True) | (mask == 0))
        if bool(strange.any()):
            values = sorted(set(mask[strange].tolist()))[:5]
            raise ValueError(f"label ids must be whole numbers from 0 to {n_classes}, got also {values}.")
        return masks
    if mask.shape[0] not in (n_classes, n_classes + 1):
        raise ValueError(
            f"a mask of {n_classes} foreground classes has 1 channel of label ids, {n_classes} binary channels or "
            f"{n_classes + 1} with the background first, got shape {tuple(mask.shape)}."
        )
    return _as_bool(mask, "mask")[mask.shape[0] - n_classes :]


def image_diagonal(shape: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """Length of the image's diagonal, ``sqrt(sum((pixels * spacing) ** 2))``, in pixels without ``spacing``."""
    return float(np.linalg.norm(np.asarray(shape, dtype=float) * (1.0 if spacing is None else np.asarray(spacing))))


def drop_flat_axes(mask: torch.Tensor) -> torch.Tensor:
    """``(batch, channel, *spatial)`` without the spatial axes of :func:`flat_axes`."""
    for axis in reversed(flat_axes(mask.shape[2:])):
        mask = mask.squeeze(axis + 2)
    return mask


def flat_axes(shape: Sequence[int]) -> list[int]:
    """Axes of one pixel, last ones first chosen, that may be dropped so that at least two axes remain.

    A picture stored as a volume of one slice is a picture: across the slice it has neither surface nor boundary.
    """
    flat = [axis for axis, size in enumerate(shape) if size == 1]
    return flat[max(0, len(flat) - max(0, len(shape) - 2)) :]


def union_box(*masks: torch.Tensor) -> tuple[slice, ...] | None:
    """Smallest box that holds the foreground of all ``masks`` (each ``(*spatial)``, boolean), None if all are empty.

    Nothing outside the box is foreground, so surfaces, erosions with a background frame, and the distances between
    foreground pixels are the same inside the box as in the whole image.
    """
    union = torch.stack(masks).any(dim=0)
    if not bool(union.any()):
        return None
    box = []
    for axis in range(union.ndim):
        hits = union.movedim(axis, 0).flatten(1).any(dim=1).nonzero()
        box.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(box)


def grid_spacing(mask: torch.Tensor) -> Spacing:
    """Spacing of a channel-first mask ``(channel, *spatial)`` from its meta data, and whether it is known in mm.

    ``meta["spacing_unit"]``, where a reader has written it, says ``"mm"``, ``"micron"``, ``"meter"`` or ``"px"``.
    Otherwise an affine that is the identity (of the file, before any resampling) means a picture without physical
    size, and anything else mm. A plain tensor has spacing 1 px.

    Raises:
        ValueError: when the affine is not one matrix for the axes of the mask, or the unit is another one.
    """
    n_axes = mask.ndim - 1
    pixels = Spacing((1.0,) * n_axes, "px")
    if not isinstance(mask, MetaTensor):
        return pixels
    affine = np.asarray(mask.affine, dtype=float)
    if affine.ndim != 2 or affine.shape[1] <= n_axes:
        raise ValueError(
            f"the affine of a mask with {n_axes} spatial axes must be one matrix with more than {n_axes} columns, "
            f"got shape {affine.shape}; decollate a batch before asking for the spacing of its masks."
        )
    unit = _unit(mask.meta, affine)
    if unit == "px":
        return pixels
    lengths = np.linalg.norm(affine[:-1, :n_axes], axis=0) * IN_MM[unit]
    return Spacing(tuple(float(length) for length in lengths), "mm")


def _unit(meta: Mapping[str, Any], affine: npt.NDArray[np.float64]) -> str:
    unit = meta.get("spacing_unit")
    if unit == "px" or unit in IN_MM:
        return str(unit)
    if unit is not None:
        raise ValueError(f"meta['spacing_unit'] must be {', '.join(map(repr, IN_MM))} or 'px', got {unit!r}.")
    original = np.asarray(meta.get("original_affine", affine), dtype=float)
    return "px" if np.allclose(original, np.eye(original.shape[0])) else "mm"
