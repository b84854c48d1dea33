"""Sliding windows down a picture that is never in memory as a whole: rows of windows, blended where they overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map

from banet_monai.windows import window_starts

__all__ = ["probability_strips"]


def probability_strips(
    rows: Callable[[int, int], torch.Tensor],
    predict: Callable[[torch.Tensor], torch.Tensor],
    *,
    height: int,
    window: int,
    overlap: float = 0.5,
    downscale: int = 1,
) -> Iterator[torch.Tensor]:
    """Foreground probabilities of a picture from top to bottom, as sliding windows over the whole of it give them.

    Windows lie and are weighed as :class:`banet_monai.inferers.SegmentationInferer` has it with Gaussian blending. It
    blends the windows of one row; rows are blended here, by the sum of the weights of their windows.

    Args:
        rows: gives the rows from one number to another of the picture that the network sees, ``(C, width, rows)``,
            normalised; each is asked for once or, where windows overlap, twice.
        predict: gives logits ``(1, 1, width, rows)`` of a strip ``(1, C, width, rows)``, blended along the width.
        height: rows of the picture that the network sees.
        window: side of a window in pixels.
        overlap: share of a window that the next covers, 0 <= overlap < 1.
        downscale: how many pixels of the file make one of the network's, along each side: probabilities are enlarged
            by so much, linearly.

    Yields:
        ``(width * downscale, rows * downscale)``, float32, on the CPU; one strip after the other.
    """
    depth = min(window, height)
    interval = max(1, int(window * (1 - overlap)))
    starts = window_starts(height, depth, interval)
    held = total = weights = torch.zeros(0, 0)  # of the rows that are not yet given out: weighted logits, weights
    enlarge = _Enlarging(downscale)
    for start, following in zip(starts, [*starts[1:], height], strict=True):
        logits = predict(rows(start, start + depth)[None])[0, 0].float().cpu()
        if not len(weights):
            weights = _weights(len(logits), depth, window, interval)
            held = total = logits.new_zeros(len(logits), 0)
        held = F.pad(held, (0, depth - held.shape[1])) + logits * weights
        total = F.pad(total, (0, depth - total.shape[1])) + weights
        ready = following - start
        yield from enlarge(torch.sigmoid(held[:, :ready] / total[:, :ready]), last=following == height)
        held, total = held[:, ready:], total[:, ready:]


def _weights(width: int, depth: int, window: int, interval: int) -> torch.Tensor:
    """Sum of the weights of a row of windows, ``(width, depth)``."""
    if depth < window:  # a single row of windows, which is given out as it was blended
        return torch.ones(width, depth)
    one = compute_importance_map((window, window), mode="gaussian", device=torch.device("cpu"), dtype=torch.float32)
    if width < window:  # the picture lies in the middle of a window that is filled up on both sides
        first = (window - width) // 2
        return one[first : first + width]
    weights = torch.zeros(width, depth)
    for start in window_starts(width, window, interval):
        weights[start : start + window] += one
    return weights


class _Enlarging:
    """Enlarges strips as the whole would be: each strip waits for the first row of the next one."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.above: torch.Tensor | None = None  # the last row of the strip before
        self.waiting: torch.Tensor | None = None

    def __call__(self, strip: torch.Tensor, *, last: bool) -> Iterator[torch.Tensor]:
        if self.factor == 1:
            yield strip
            return
        if self.waiting is not None:
            yield self._enlarged(self.waiting, strip[:, :1])
        self.waiting = strip
        if last:
            yield self._enlarged(strip, None)

    def _enlarged(self, strip: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        parts = [part for part in (self.above, strip, below) if part is not None]
        size = [length * self.factor for length in torch.cat(parts, dim=1).shape]
        large = F.interpolate(torch.cat(parts, dim=1)[None, None], size=size, mode="bilinear", align_corners=False)[
            0, 0
        ]
        first = 0 if self.above is None else self.factor
        self.above = strip[:, -1:]
        return large[:, first : first + strip.shape[1] * self.factor]
