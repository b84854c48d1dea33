"""The metrics as MONAI ``CumulativeIterationMetric``: for training loops, bundle handlers and several processes.

In a configuration::

    {"_target_": "IgniteMetricHandler", "metric_fn": {"_target_": "banet_monai.metrics.JaccardMetric"},
     "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}

Each call takes ``y_pred`` and ``y`` as lists of ``(channel, *spatial)`` tensors or as ``(batch, channel, *spatial)``
tensors of 0 and 1, computes one row of values per image and keeps it; ``aggregate()`` gathers the rows of all
processes. A missed object counts as the worst value, and no image drops out of a mean.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction

from banet_monai.metrics import boundary, distances, overlap
from banet_monai.metrics.masks import foreground_masks, grid_spacing

__all__ = ["BoundaryIoUMetric", "JaccardMetric", "OverlapMetric", "SurfaceMetric"]

OVERLAP: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "jaccard": overlap.jaccard,
    "dice": overlap.dice,
    "sensitivity": overlap.sensitivity,
    "specificity": overlap.specificity,
    "accuracy": overlap.accuracy,
}
SURFACE = ("hd95", "assd", "nsd")


class _ForegroundMetric(CumulativeIterationMetric):
    """Choice of channels, and reduction without nan, shared by all metrics.

    Args:
        include_background: count channel 0 of several; a single channel always counts.
        num_classes: when given, tensors of one channel hold label ids from 0 to ``num_classes - 1``, and each
            foreground id becomes a channel.
        reduction: of :meth:`aggregate`, one of MONAI's: ``"mean"`` (over images and classes, a scalar),
            ``"mean_batch"`` (one value per class), ``"none"`` (images x classes), and so on.
    """

    def __init__(
        self, *, include_background: bool = False, num_classes: int | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if num_classes is not None and (num_classes < 2 or include_background):
            raise ValueError(
                "num_classes counts the background, so it is at least 2, and goes without include_background; got "
                f"num_classes={num_classes}, include_background={include_background}."
            )
        self.include_background = include_background
        self.num_classes = num_classes
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Values of one batch, ``float64`` ``(batch, foreground channel)``."""
        if y is None:
            raise ValueError(f"{type(self).__name__} needs the truth: call it with y_pred and y.")
        return self.compute(self._foreground(y_pred), self._foreground(y), reference=y)

    def _foreground(self, masks: torch.Tensor) -> torch.Tensor:
        if self.num_classes is not None and masks.shape[1] == 1:
            n_classes = self.num_classes - 1
            return torch.stack([foreground_masks(mask, n_classes) for mask in masks])
        return masks[:, 1:] if masks.shape[1] > 1 and not self.include_background else masks

    @abstractmethod
    def compute(self, y_pred: torch.Tensor, y: torch.Tensor, *, reference: torch.Tensor) -> torch.Tensor:
        """Values of one batch of binary masks; ``reference`` is the truth as it came, with its meta data."""

    def aggregate(self, reduction: str | None = None) -> torch.Tensor:
        """Reduce the values of all images seen since ``reset()``, of all processes.

        The mean is one in float64: MONAI's is in float32, where it depends on the order of the images, and several
        processes share them otherwise than one.

        Raises:
            ValueError: when there was no image.
        """
        values = self.get_buffer()  # type: ignore[no-untyped-call]
        if not isinstance(values, torch.Tensor):
            raise ValueError(f"{type(self).__name__} has seen no image: call it with y_pred and y before aggregate().")
        if (reduction or self.reduction) == "mean":  # no value is nan
            return values.double().mean()
        return do_metric_reduction(values, reduction or self.reduction)[0]


class OverlapMetric(_ForegroundMetric):
    """One of the paper's five figures per image; rules for empty masks in :mod:`banet_monai.metrics.overlap`.

    Args:
        metric_name: ``"jaccard"``, ``"dice"``, ``"sensitivity"``, ``"specificity"`` or ``"accuracy"``.
        include_background: count channel 0 of several; a single channel always counts.
        num_classes: when given, tensors of one channel hold label ids from 0 to ``num_classes - 1``.
        reduction: of ``aggregate()``, MONAI's names.

    Raises:
        ValueError: for an unknown ``metric_name``.
    """

    def __init__(
        self,
        metric_name: str = "jaccard",
        *,
        include_background: bool = False,
        num_classes: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(include_background=include_background, num_classes=num_classes, reduction=reduction)
        if metric_name not in OVERLAP:
            raise ValueError(f"metric_name must be one of {tuple(OVERLAP)}, got '{metric_name}'.")
        self.metric_name = metric_name

    def compute(self, y_pred: torch.Tensor, y: torch.Tensor, *, reference: torch.Tensor) -> torch.Tensor:
        return OVERLAP[self.metric_name](y_pred, y)


class JaccardMetric(OverlapMetric):
    """Jaccard index (JA) per image: a miss is 0, two empty masks are 1.

    Args:
        include_background: count channel 0 of several; a single channel always counts.
        num_classes: when given, tensors of one channel hold label ids from 0 to ``num_classes - 1``.
        reduction: of ``aggregate()``, MONAI's names.
    """

    def __init__(
        self, *, include_background: bool = False, num_classes: int | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__("jaccard", include_background=include_background, num_classes=num_classes, reduction=reduction)


class BoundaryIoUMetric(_ForegroundMetric):
    """Boundary IoU per image, see :func:`banet_monai.metrics.boundary_iou`.

    Args:
        dilation_ratio: width of the boundary band as a share of the image diagonal.
        include_background: count channel 0 of several; a single channel always counts.
        num_classes: when given, tensors of one channel hold label ids from 0 to ``num_classes - 1``.
        reduction: of ``aggregate()``, MONAI's names.
    """

    def __init__(
        self,
        *,
        dilation_ratio: float = boundary.DILATION_RATIO,
        include_background: bool = False,
        num_classes: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(include_background=include_background, num_classes=num_classes, reduction=reduction)
        self.dilation_ratio = dilation_ratio

    def compute(self, y_pred: torch.Tensor, y: torch.Tensor, *, reference: torch.Tensor) -> torch.Tensor:
        return boundary.boundary_iou(y_pred, y, dilation_ratio=self.dilation_ratio)


class SurfaceMetric(_ForegroundMetric):
    """Distance between outlines per image; the rule for misses is in :mod:`banet_monai.metrics.distances`.

    Args:
        metric_name: ``"hd95"``, ``"assd"`` or ``"nsd"``.
        tolerance: of ``"nsd"``, in the unit of ``spacing``.
        spacing: one number or one per spatial axis, for all images; ``"meta"`` takes the spacing of each true mask from
            its meta data (mm where the file carries it, else pixels); ``None`` measures in pixels.
        include_background: count channel 0 of several; a single channel always counts.
        num_classes: when given, tensors of one channel hold label ids from 0 to ``num_classes - 1``.
        reduction: of ``aggregate()``, MONAI's names.

    Raises:
        ValueError: for an unknown ``metric_name`` or ``spacing``.
    """

    def __init__(
        self,
        metric_name: str = "hd95",
        *,
        tolerance: float = distances.TOLERANCE,
        spacing: float | Sequence[float] | Literal["meta"] | None = None,
        include_background: bool = False,
        num_classes: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(include_background=include_background, num_classes=num_classes, reduction=reduction)
        if metric_name not in SURFACE:
            raise ValueError(f"metric_name must be one of {SURFACE}, got '{metric_name}'.")
        if isinstance(spacing, str) and spacing != "meta":
            raise ValueError(f"spacing must be a number, one per axis, 'meta' or None, got '{spacing}'.")
        self.metric_name = metric_name
        self.tolerance = tolerance
        self.spacing = spacing

    def compute(self, y_pred: torch.Tensor, y: torch.Tensor, *, reference: torch.Tensor) -> torch.Tensor:
        rows = []
        for index, mask in enumerate(reference):
            spacing = grid_spacing(mask).values if isinstance(self.spacing, str) else self.spacing
            pair = y_pred[index : index + 1], y[index : index + 1]
            rows.append(self._measure(*pair, spacing))
        return torch.cat(rows)

    def _measure(self, y_pred: torch.Tensor, y: torch.Tensor, spacing: distances.AxisSpacing) -> torch.Tensor:
        if self.metric_name == "nsd":
            return distances.nsd(y_pred, y, tolerance=self.tolerance, spacing=spacing)
        return (distances.hd95 if self.metric_name == "hd95" else distances.assd)(y_pred, y, spacing=spacing)
