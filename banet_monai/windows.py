"""Sliding windows over pictures and volumes: what MONAI's ``sliding_window_inference`` computes, in fewer operations.

Windows lie where MONAI places them and weigh what MONAI's importance map says, so that results are equal but for
rounding. What differs is the work around the network: windows of a row that do not touch each other are added in one
operation instead of one each, without a weighted copy, and the sum of the weights is built axis by axis instead of
window by window. On a CPU that is little beside a network; on a GPU every operation that is not started counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map
from tqdm import tqdm

__all__ = ["PADDING_MODES", "Grid", "blend_windows", "pad_to_window", "window_starts"]

PADDING_MODES = ("constant", "reflect", "replicate", "circular")

Predict = Callable[[torch.Tensor], torch.Tensor]


class Grid(NamedTuple):
    """How windows lie: their size, the share of one that the next covers, and how they are blended.

    Attributes:
        roi_size: pixels or voxels of a window along each axis.
        overlap: 0 <= overlap < 1.
        mode: ``"gaussian"`` or ``"constant"`` weights.
        padding_mode: of ``torch.nn.functional.pad``, for images that are smaller than a window.
    """

    roi_size: tuple[int, ...]
    overlap: float
    mode: str
    padding_mode: str = "constant"

    def interval(self, axis: int) -> int:
        """Pixels from one window to the next."""
        return max(1, int(self.roi_size[axis] * (1 - self.overlap)))


def window_starts(length: int, window: int, interval: int) -> list[int]:
    """First pixels of the windows along an axis of ``length >= window``; the last window ends with the image."""
    count = math.ceil((length - window) / interval) + 1
    return [min(number * interval, length - window) for number in range(count)]


def blend_windows(
    images: torch.Tensor,
    predict: Predict,
    *,
    grid: Grid,
    batch: int,
    sw_device: torch.device | None = None,
    device: torch.device | None = None,
    progress: bool = False,
) -> torch.Tensor:
    """Logits of images from overlapping windows.

    Args:
        images: ``(B, C, *spatial)``, one axis per entry of ``grid.roi_size``. Smaller ones are padded on both sides.
        predict: gives logits ``(N, out_channels, *roi_size)`` for windows ``(N, C, *roi_size)``.
        grid: how the windows lie.
        batch: windows per call of ``predict``; they may belong to different images.
        sw_device: where ``predict`` gets them. None: where the images lie.
        device: where they are blended and the result lies. None: where the images lie.
        progress: show a progress bar.

    Returns:
        float32 ``(B, out_channels, *spatial)``.

    Raises:
        TypeError: when ``predict`` returns no tensor.
        ValueError: when it returns another size than that of the windows, or the padding does not suit the image.
    """
    padded, inside = pad_to_window(images, grid)
    sw_device, device = sw_device or images.device, device or images.device
    size = padded.shape[2:]
    if tuple(size) == grid.roi_size:  # one window per image: nothing to blend
        parts = [_predicted(predict, part.to(sw_device), device) for part in torch.split(padded, batch)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[inside]

    starts = [window_starts(size[axis], window, grid.interval(axis)) for axis, window in enumerate(grid.roi_size)]
    places = list(product(range(len(padded)), *starts))  # image, then first pixel along each axis
    weights = _importance(grid.roi_size, grid.mode, device)
    result: torch.Tensor | None = None
    for first in tqdm(range(0, len(places), batch), unit="batch", disable=not progress):
        some = places[first : first + batch]
        windows = torch.stack([padded[_box(place, grid.roi_size)] for place in some])
        logits = _predicted(predict, windows.to(sw_device), device)
        if result is None:
            result = logits.new_zeros((len(padded), logits.shape[1], *size))
        _add_windows(result, logits, weights, some, grid.interval(-1))
    if result is None:
        raise ValueError(f"images of shape {tuple(images.shape)} hold nothing to predict.")
    return result.div_(_sum_of_weights(weights, starts, size))[inside]


def pad_to_window(images: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """Images of at least a window's size, and where the original lies in them; padding is centred as in MONAI."""
    sizes = images.shape[2:]
    missing = [max(window - size, 0) for window, size in zip(grid.roi_size, sizes, strict=True)]
    inside = (slice(None), slice(None), *(slice(m // 2, m // 2 + size) for m, size in zip(missing, sizes, strict=True)))
    if not any(missing):
        return images, inside
    try:
        pad = [side for m in reversed(missing) for side in (m // 2, m - m // 2)]
        return F.pad(images, pad, mode=grid.padding_mode), inside
    except RuntimeError as error:
        raise ValueError(
            f"an image of {tuple(sizes)} cannot be padded to windows of {grid.roi_size} by '{grid.padding_mode}', "
            "which takes the padding out of the image; padding_mode='constant' or 'replicate' works for every size."
        ) from error


def _predicted(predict: Predict, windows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Float32 logits of windows, checked, where they are needed."""
    logits = predict(windows)
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"the network must return a tensor or a dict with 'mask', got {type(logits).__name__}.")
    if logits.shape[2:] != windows.shape[2:]:
        raise ValueError(
            f"the network must return maps of its window's size {tuple(windows.shape[2:])}, got "
            f"{tuple(logits.shape[2:])}; resize them inside the network."
        )
    return logits.to(device=device, dtype=torch.float32)


def _box(place: Sequence[int], roi_size: Sequence[int]) -> tuple[int | slice, ...]:
    """Index of one window, all its channels, in ``(B, C, *spatial)``."""
    image, *corner = place
    return (image, slice(None), *(slice(s, s + window) for s, window in zip(corner, roi_size, strict=True)))


def _add_windows(
    result: torch.Tensor, logits: torch.Tensor, weights: torch.Tensor, places: Sequence[Sequence[int]], interval: int
) -> None:
    """Add weighted logits of windows, which are ``interval`` apart along the last axis, at their places.

    Of a row, every ``apart``-th window touches no other: ``unfold`` shows their places as one tensor. The last window
    of a row is moved inwards where the image ends and goes alone.
    """
    width = weights.shape[-1]
    apart = math.ceil(width / interval)
    for _, members in groupby(range(len(places)), key=lambda number: places[number][:-1]):
        row = list(members)
        in_step = [number for number in row if places[number][-1] % interval == 0]
        for group in (*(in_step[first::apart] for first in range(apart)), row[len(in_step) :]):
            if not group:
                continue
            begin, end = places[group[0]][-1], places[group[-1]][-1] + width
            strip = result[_box(places[group[0]], weights.shape)[:-1]].narrow(-1, begin, end - begin)
            there = strip.unfold(-1, width, apart * interval)  # (out_channels, ..., windows, width)
            there.addcmul_(logits[group[0] : group[-1] + 1 : apart].movedim(0, -2), weights.unsqueeze(-2))


def _sum_of_weights(weights: torch.Tensor, starts: Sequence[Sequence[int]], size: Sequence[int]) -> torch.Tensor:
    """What the windows at all places weigh together at each pixel: a sum over the starts of one axis, then the next."""
    total = weights
    for axis, window in reversed(list(enumerate(weights.shape))):
        shape = list(total.shape)
        shape[axis] = size[axis]
        grown = total.new_zeros(shape)
        for start in starts[axis]:
            grown.narrow(axis, start, window).add_(total)
        total = grown
    return total


@lru_cache(maxsize=8)
def _importance(roi_size: tuple[int, ...], mode: str, device: torch.device) -> torch.Tensor:
    """MONAI's weights of the pixels of a window, kept for the next image."""
    with torch.inference_mode(False):  # usable where gradients are wanted, too
        return compute_importance_map(roi_size, mode=mode, sigma_scale=0.125, device=device, dtype=torch.float32)
