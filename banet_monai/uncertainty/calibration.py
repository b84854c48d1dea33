"""Do pixels called 80 % turn out to be foreground in 80 % of the cases: bins, their error, and the Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["CalibrationBins", "ReliabilityRow", "brier_score", "calibration_error"]


@dataclass(frozen=True)
class ReliabilityRow:
    """One bin of a reliability diagram.

    Attributes:
        low: lower end of the bin, a probability.
        high: upper end.
        pixels: how many fell into it.
        confidence: their mean probability, nan without pixels.
        frequency: the share of them that is foreground, nan without pixels.
    """

    low: float
    high: float
    pixels: int
    confidence: float
    frequency: float


class CalibrationBins:
    """Collects probabilities and truths of any number of images in bins of equal width, those of MONAI.

    MONAI's ``CalibrationErrorMetric`` gives every image a calibration error of its own and takes their mean. Here the
    pixels of all images share the bins, as in a reliability diagram, and memory does not grow with the images. Sums are
    kept in float64: MONAI's ``calibration_binning`` counts in float32, which ends at 2**24 pixels.

    Args:
        bins: how many.

    Raises:
        ValueError: for less than one.
    """

    def __init__(self, bins: int = 20) -> None:
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}.")
        self.bins = bins
        self.pixels = np.zeros(bins, dtype=np.int64)
        self._confidence: NDArray[np.float64] = np.zeros(bins)
        self._foreground: NDArray[np.float64] = np.zeros(bins)

    def add(self, probability: torch.Tensor, truth: torch.Tensor) -> None:
        """Take the pixels of one image.

        Args:
            probability: of the foreground, any shape, 0 to 1.
            truth: 0 and 1, the same shape.

        Raises:
            ValueError: when the shapes differ, a probability lies outside 0 to 1 (or is NaN), or the truth holds
                anything but 0 and 1.
        """
        if probability.shape != truth.shape:
            raise ValueError(f"probability {tuple(probability.shape)} and truth {tuple(truth.shape)} must be one size.")
        if probability.numel() and not bool(((probability >= 0) & (probability <= 1)).all()):
            raise ValueError("probabilities must lie between 0 and 1; NaN or logits were given.")
        if not bool(((truth == 0) | (truth == 1)).all()):
            raise ValueError(
                f"the truth must hold 0 and 1 alone, got {float(truth.min())} to {float(truth.max())}; truth > 0 works "
                "for a mask of 0 and 255."
            )
        values = probability.detach().float().reshape(-1).cpu()
        foreground = truth.detach().reshape(-1).cpu().numpy()
        ends = torch.linspace(0.0, 1.0 + torch.finfo(torch.float32).eps, self.bins + 1)[1:]
        places = torch.bucketize(values, ends).clamp(max=self.bins - 1).numpy()
        self.pixels += np.bincount(places, minlength=self.bins)
        self._confidence += np.bincount(places, values.numpy(), self.bins)
        self._foreground += np.bincount(places, foreground, self.bins)

    def sums(self) -> NDArray[np.float64]:
        """What the bins hold, ``(3, bins)``: pixels, sum of their probabilities, how many are foreground.

        Those of several images add up: :func:`calibration_error` of the sum is the error of all of them together.
        """
        return np.stack([self.pixels.astype(np.float64), self._confidence, self._foreground])

    def rows(self) -> list[ReliabilityRow]:
        """The reliability diagram, from low to high."""
        edges = np.linspace(0, 1, self.bins + 1)
        count = np.where(self.pixels > 0, self.pixels, np.nan)
        means = zip(self._confidence / count, self._foreground / count, strict=True)
        return [
            ReliabilityRow(float(edges[k]), float(edges[k + 1]), int(self.pixels[k]), float(confidence), float(share))
            for k, (confidence, share) in enumerate(means)
        ]

    def errors(self) -> dict[str, Any]:
        """``ece`` (weighted by pixels), ``ace`` (mean over the bins in use) and ``mce`` (the largest one).

        Raises:
            ValueError: without a pixel.
        """
        used = self.pixels > 0
        if not used.any():
            raise ValueError("there is no pixel to measure calibration on; add() comes first.")
        gaps = np.abs(self._confidence[used] - self._foreground[used]) / self.pixels[used]
        return {"ece": float(calibration_error(self.sums())), "ace": float(gaps.mean()), "mce": float(gaps.max())}


def calibration_error(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error of bins: the mean distance of probability and frequency, weighted by pixels.

    Args:
        sums: ``(..., 3, bins)``, see :meth:`CalibrationBins.sums`; any number of them at once.

    Returns:
        ``(...)``, 0 to 1; nan without a pixel.
    """
    pixels, confidence, foreground = (sums[..., part, :] for part in range(3))
    total = pixels.sum(axis=-1)
    gaps = np.abs(confidence - foreground).sum(axis=-1)
    return np.divide(gaps, total, out=np.full_like(total, np.nan), where=total > 0)


def brier_score(probability: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean squared distance of probability and truth, 0 (always right and sure) to 1; 0.25 for 0.5 everywhere."""
    if probability.shape != truth.shape or probability.numel() == 0:
        raise ValueError(f"probability {tuple(probability.shape)} and truth {tuple(truth.shape)} must be one size.")
    return float((probability.double() - truth.double()).square().mean())
