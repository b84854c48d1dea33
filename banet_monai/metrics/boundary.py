"""Boundary IoU: overlap of the inner boundary bands of two masks.

Reference:
    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021,
    https://arxiv.org/abs/2103.16562
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from banet_monai.metrics.masks import as_binary_pair, drop_flat_axes, image_diagonal, union_box

__all__ = ["band_width", "boundary_iou", "erode", "inner_band"]

DILATION_RATIO = 0.02  # of the image diagonal; Cheng et al., section 4


def band_width(shape: tuple[int, ...], dilation_ratio: float = DILATION_RATIO) -> int:
    """Width of the band in pixels, ``max(1, round(dilation_ratio * diagonal))`` for an image of ``shape`` pixels."""
    return max(1, round(dilation_ratio * image_diagonal(shape)))


def erode(mask: torch.Tensor, iterations: int) -> torch.Tensor:
    """Erode ``iterations`` times with a 3x3 square (3x3x3 cube); what lies outside the image counts as background.

    Computed in one go, axis by axis: that many erosions by 3 are one erosion by ``2 * iterations + 1``.

    Args:
        mask: ``(*spatial)``, boolean, 2 or 3 axes.
        iterations: at least 1.

    Returns:
        Boolean tensor of the shape of ``mask``.
    """
    for axis, size in enumerate(mask.shape):
        lines = mask.movedim(axis, -1)
        # The background of each line grows by `iterations` pixels; the padding is background.
        background = F.pad((~lines).float().reshape(-1, 1, size), (iterations, iterations), value=1.0)
        grown = F.max_pool1d(background, 2 * iterations + 1, stride=1).reshape(lines.shape)
        mask = (grown == 0).movedim(-1, axis)
    return mask


def inner_band(mask: torch.Tensor, width: int) -> torch.Tensor:
    """Foreground pixels within ``width`` pixels (Chebyshev distance) of the background or of the frame.

    Args:
        mask: ``(*spatial)``, boolean, 2 or 3 axes.
        width: in pixels, at least 1.

    Returns:
        Boolean tensor of the shape of ``mask``.
    """
    return mask & ~erode(mask, width)


def boundary_iou(y_pred: torch.Tensor, y: torch.Tensor, *, dilation_ratio: float = DILATION_RATIO) -> torch.Tensor:
    """Intersection over union of the inner bands of prediction and truth.

    The width of the band is counted in pixels (voxels) also where the spacing is known, as in the paper. Two empty
    masks give 1, exactly one empty mask gives 0. A picture stored as a volume of one slice is treated as a picture.

    Args:
        y_pred: predicted masks, ``(batch, channel, *spatial)``, values 0 and 1.
        y: true masks of the same shape.
        dilation_ratio: width of the band as a share of the image diagonal.

    Returns:
        ``float64`` tensor ``(batch, channel)`` in [0, 1].

    Raises:
        ValueError: when the shapes differ, a value is neither 0 nor 1, or ``dilation_ratio`` is not positive.
    """
    if not dilation_ratio > 0:
        raise ValueError(f"dilation_ratio must be positive, got {dilation_ratio}.")
    y_pred, y = (drop_flat_axes(mask) for mask in as_binary_pair(y_pred, y))
    width = band_width(tuple(y.shape[2:]), dilation_ratio)
    scores = torch.ones(y.shape[:2], dtype=torch.float64, device=y.device)
    for case, channel in np.ndindex(*y.shape[:2]):
        pred, true = y_pred[case, channel], y[case, channel]
        box = union_box(pred, true)
        if box is None:
            continue
        # There is only background outside the box, as outside the image: the band of the cut mask is that of the whole.
        pred_band, true_band = inner_band(pred[box], width), inner_band(true[box], width)
        scores[case, channel] = float((pred_band & true_band).sum()) / float((pred_band | true_band).sum())
    return scores
