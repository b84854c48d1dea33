"""One number per case from its maps, higher for a case that is less sure; 0 where all is certain.

All functions take maps of one image, ``(*spatial)`` tensors of one size, and need no more than these maps: no sample
is kept. Which of them finds the wrong outlines is measured by ``benchmarks/uncertainty``; the first one counts by
default, because with a fitted temperature it does so best, and one probability map is enough (docs/uncertainty.md).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

__all__ = ["SCORES", "case_scores", "disagreement", "expected_error", "near_entropy", "neighbourhood"]

SCORES = ("expected_error", "near_entropy", "disagreement")
REACH = 0.02  # of the image diagonal, how far the neighbourhood of a region goes; as in Boundary IoU


def expected_error(foreground: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """1 minus the Jaccard index that the probabilities themselves lead one to expect of the mask.

    ``1 - sum_inside p / (|inside| + sum_outside p)``, with expectations in place of the random counts; the soft Dice
    confidence of Borges et al. (https://arxiv.org/abs/2402.10665) in the form of JA. An empty mask is right only when
    there is nothing: its number is the largest probability anywhere.

    Args:
        foreground: probability that a pixel is no background, 0 to 1.
        inside: the mask, boolean.

    Returns:
        0-dimensional float64 tensor, 0 to 1.
    """
    _check_sizes(foreground, inside)
    foreground = foreground.double()
    if not bool(inside.any()):
        return foreground.max()
    hit = foreground[inside].sum()
    return 1 - hit / (inside.sum() + foreground.sum() - hit)


def disagreement(agreement: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """1 minus the Jaccard index of the samples' masks with the mask of their mean.

    Mean intersection by mean union over the samples, which the share of agreeing samples at every pixel is enough for.
    An empty mask has the largest share of samples that contradict it at one pixel.

    Args:
        agreement: share of the samples that decide like their mean whether a pixel is foreground, 0 to 1.
        inside: the mask of the mean, boolean.

    Returns:
        0-dimensional float64 tensor, 0 to 1.
    """
    return expected_error(torch.where(inside, agreement, 1 - agreement), inside)


def near_entropy(entropy: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mean entropy in the mask and its neighbourhood; of an empty mask the largest entropy anywhere.

    Args:
        entropy: of every pixel, 0 to 1.
        inside: the mask, boolean.

    Returns:
        0-dimensional float64 tensor, 0 to 1.
    """
    _check_sizes(entropy, inside)
    entropy = entropy.double()
    return entropy[neighbourhood(inside)].mean() if bool(inside.any()) else entropy.max()


def neighbourhood(inside: torch.Tensor, reach: float = REACH) -> torch.Tensor:
    """The mask grown by a square (cube) that reaches so far, a share of the image diagonal, at least 1 pixel."""
    pixels = max(1, round(reach * math.hypot(*inside.shape)))
    grown = inside.float()[None, None]
    for axis in range(inside.ndim):  # one axis after the other: the same as the whole square
        lines = grown.movedim(axis + 2, -1)
        flat = F.max_pool1d(lines.reshape(1, -1, lines.shape[-1]), 2 * pixels + 1, stride=1, padding=pixels)
        grown = flat.reshape(lines.shape).movedim(-1, axis + 2)
    return grown[0, 0] > 0


def case_scores(
    foreground: torch.Tensor, inside: torch.Tensor, *, entropy: torch.Tensor, agreement: torch.Tensor
) -> dict[str, float]:
    """All of :data:`SCORES`; arguments as for the functions of these names."""
    return {
        "expected_error": float(expected_error(foreground, inside)),
        "near_entropy": float(near_entropy(entropy, inside)),
        "disagreement": float(disagreement(agreement, inside)),
    }


def _check_sizes(values: torch.Tensor, inside: torch.Tensor) -> None:
    if values.shape != inside.shape or values.numel() == 0 or inside.dtype != torch.bool:
        raise ValueError(
            f"the map {tuple(values.shape)} and the boolean mask {tuple(inside.shape)} ({inside.dtype}) must have one "
            "size and at least one pixel."
        )
