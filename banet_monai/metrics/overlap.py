"""Overlap of two masks, per image and class: the five figures of the paper.

All functions take binary masks ``(batch, channel, *spatial)`` and return ``float64`` ``(batch, channel)`` in [0, 1].
No value is ever nan, so a missed object cannot drop out of a mean. Rules where the fraction would be 0 / 0:

* Jaccard and Dice of two empty masks are 1 (nothing to find, nothing found); with exactly one empty mask they are 0.
* sensitivity without a true foreground pixel is 1: there was nothing to miss. False alarms show in the specificity.
* specificity without a true background pixel is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from banet_monai.metrics.masks import as_binary_pair

__all__ = ["Counts", "accuracy", "confusion_counts", "dice", "jaccard", "sensitivity", "specificity"]


class Counts(NamedTuple):
    """Pixels per image and class, ``int64`` ``(batch, channel)``."""

    tp: torch.Tensor
    fp: torch.Tensor
    fn: torch.Tensor
    tn: torch.Tensor


def confusion_counts(y_pred: torch.Tensor, y: torch.Tensor) -> Counts:
    """Count true and false positives and negatives.

    Args:
        y_pred: predicted masks, ``(batch, channel, *spatial)``, values 0 and 1.
        y: true masks of the same shape.

    Raises:
        ValueError: when the shapes differ or a value is neither 0 nor 1.
    """
    y_pred, y = (mask.flatten(2) for mask in as_binary_pair(y_pred, y))
    tp = (y_pred & y).sum(dim=2)
    n_pred, n_true = y_pred.sum(dim=2), y.sum(dim=2)
    return Counts(tp, n_pred - tp, n_true - tp, y.shape[2] - n_pred - n_true + tp)


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """``part / whole``, and 1 where both are 0."""
    return torch.where(whole == 0, 1.0, part.double() / whole.clamp_min(1))


def jaccard(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Jaccard index (JA, intersection over union) ``tp / (tp + fp + fn)``; 1 when both masks are empty."""
    tp, fp, fn, _ = confusion_counts(y_pred, y)
    return _ratio(tp, tp + fp + fn)


def dice(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Dice coefficient ``2 tp / (2 tp + fp + fn)``; 1 when both masks are empty."""
    tp, fp, fn, _ = confusion_counts(y_pred, y)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def sensitivity(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Share of the true foreground that was found, ``tp / (tp + fn)``; 1 when there is none."""
    tp, _, fn, _ = confusion_counts(y_pred, y)
    return _ratio(tp, tp + fn)


def specificity(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Share of the true background that was left out, ``tn / (tn + fp)``; 1 when there is none."""
    _, fp, _, tn = confusion_counts(y_pred, y)
    return _ratio(tn, tn + fp)


def accuracy(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Share of all pixels that are right, ``(tp + tn) / (tp + fp + fn + tn)``."""
    tp, fp, fn, tn = confusion_counts(y_pred, y)
    return _ratio(tp + tn, tp + fp + fn + tn)
