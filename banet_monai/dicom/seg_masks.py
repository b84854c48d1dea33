"""The mask of a segmentation: checked against its source, then handed over plane by plane."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from banet_monai.dicom.seg_sources import SegSource
from banet_monai.dicom.segments import Segment

__all__ = ["Mask", "checked_mask"]

BLOCK = 16  # slices turned at a time: what the processor's cache holds
OVERSHOOT = 1e-4  # how far interpolated probabilities may leave 0 to 1
LEVELS = 255  # steps of a stored probability (MaximumFractionalValue)
OFF_GRID = 0.01  # how far, in voxels, the corners of mask and source may lie apart


@dataclasses.dataclass(frozen=True)
class Mask:
    """A mask that fits its source.

    Args:
        values: (channel, column, row, slice): one channel of label ids, or one channel per segment.
        is_fractional: whether values are probabilities.
    """

    values: NDArray[Any]
    is_fractional: bool

    def slices_with_content(self) -> list[int]:
        """Slices in which something of a segment would be stored."""
        if self.is_fractional:
            return [int(k) for k in np.flatnonzero(_levels(self.values.max(axis=(0, 1, 2))))]
        return [int(k) for k in np.flatnonzero(self.values.any(axis=(0, 1, 2)))]

    def planes(self, slices: Sequence[int]) -> NDArray[Any]:
        """The given slices as highdicom wants them.

        Returns:
            Unsigned integers: (slice, row, column) of label ids, or (slice, row, column, segment) of 0 and 1, or of
            probabilities in steps of 1/255.
        """
        turned = self.values.transpose(3, 2, 1, 0)
        is_small = self.is_fractional or turned.max(initial=0) < 256
        planes = np.zeros((len(slices), *turned.shape[1:]), dtype=np.uint8 if is_small else np.uint16)
        # Only the box around the content is turned, a few slices at a time: memory is read in its own order.
        rows, columns = (_extent(np.any(self.values, axis=axes)) for axes in ((0, 1, 3), (0, 2, 3)))
        for start in range(0, len(slices), BLOCK):
            block = slices[start : start + BLOCK]
            is_run = block[-1] - block[0] == len(block) - 1
            near = turned[block[0] : block[-1] + 1] if is_run else turned[list(block)]
            picked = near[:, rows, columns]
            planes[start : start + len(block), rows, columns] = _levels(picked) if self.is_fractional else picked
        return planes if self.is_fractional or planes.shape[-1] > 1 else planes[..., 0]


def _levels(probabilities: NDArray[Any]) -> NDArray[Any]:
    return np.rint(probabilities.astype(np.float32).clip(0, 1) * np.float32(LEVELS))


def _extent(has_content: Any) -> slice:
    """From the first to the last true entry."""
    found = np.flatnonzero(has_content)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def checked_mask(mask: Any, source: SegSource, segments: Sequence[Segment], kind: str) -> Mask:
    """Check size, place and values of a mask; see :func:`banet_monai.dicom.write_seg` for what it may be.

    Raises:
        ValueError: says what came, what is needed and what would work.
    """
    if isinstance(mask, MetaTensor):
        _check_place(mask, source)
    values = _with_channel(_array(mask), source)
    if kind == "fractional":
        _check_probabilities(values, segments)
    else:
        _check_ids(values, segments, kind)
    return Mask(values, is_fractional=kind == "fractional")


def _array(mask: Any) -> NDArray[Any]:
    if isinstance(mask, torch.Tensor):
        plain = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
        plain = plain.detach().cpu()
        values: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    else:
        values = np.asarray(mask)
    if values.dtype.kind not in "buif":
        raise ValueError(f"a mask must hold numbers, got an array of {values.dtype}.")
    return values


def _with_channel(values: NDArray[Any], source: SegSource) -> NDArray[Any]:
    """(channel, column, row, slice), without a copy."""
    shape = source.shape
    if len(shape) == 2 and values.shape[-3:] == (*shape, 1):  # a picture as a volume of one slice
        values = values[..., 0]
    if values.shape[-len(shape) :] != shape or values.ndim - len(shape) not in (0, 1):
        axes = "(column, row)" if len(shape) == 2 else "(column, row, slice)"
        hint = "; rows and columns seem to be exchanged: transpose it" if _exchanged(values.shape, shape) else ""
        raise ValueError(
            f"the mask has the shape {values.shape}, its source {shape} {axes}{hint}; give it on the source's own "
            "grid, as SeriesReader returns images, with at most one channel axis in front."
        )
    if values.ndim == len(shape):
        values = values[None]
    return values[..., None] if len(shape) == 2 else values


def _exchanged(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    tail = found[-len(wanted) :]
    return tail in ((wanted[1], wanted[0], *wanted[2:]), wanted[::-1])


def _check_place(mask: MetaTensor, source: SegSource) -> None:
    """Corners of the mask's grid against those of the source's; an identity matrix says nothing."""
    stated = mask.affine.detach().cpu().numpy().astype(np.float64)
    if source.affine is None or not source.frames[0].plane.position or np.array_equal(stated, np.eye(len(stated))):
        return
    ends = [(0, size - 1) for size in (*source.shape, 1)[:3]]
    corners = np.array([(*corner, 1) for corner in itertools.product(*ends)]).T
    apart = np.linalg.inv(source.affine) @ stated @ corners - corners if stated.shape == (4, 4) else np.inf
    if not np.abs(apart).max() <= OFF_GRID:
        raise ValueError(
            "the mask does not lie on the grid of its source (its affine is another one); take it back to the image's "
            "own grid first, as RestoreGridd does."
        )


def _check_ids(values: NDArray[Any], segments: Sequence[Segment], kind: str) -> None:
    count, names = len(segments), ", ".join(segment.label for segment in segments)
    channels = values.shape[0]
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and not _are_whole(values):
        raise ValueError(
            f"kind '{kind}' needs label ids, got numbers that are not whole; probabilities need kind='fractional' or a "
            "threshold."
        )
    if channels > 1 and (kind == "labelmap" or channels != count or low < 0 or high > 1):
        raise ValueError(
            f"a mask with {channels} channels from {low} to {high} does not fit kind '{kind}' and {count} segments "
            f"({names}); what works: one channel of label ids 0 to {count}"
            f"{'' if kind == 'labelmap' else f', or {count} channels of 0 and 1'}."
        )
    if low < 0 or (channels == 1 and high > count):
        raise ValueError(
            f"the mask holds label ids from {low:g} to {high:g}, but the task describes {count} segments ({names}); "
            f"ids must be 0 (background) to {count}."
        )


def _are_whole(values: NDArray[Any]) -> bool:
    return all(bool((values[..., k] == np.floor(values[..., k])).all()) for k in range(values.shape[-1]))


def _check_probabilities(values: NDArray[Any], segments: Sequence[Segment]) -> None:
    if values.shape[0] != len(segments):
        raise ValueError(
            f"kind 'fractional' needs one channel of probabilities per segment, got {values.shape[0]} channels for "
            f"{len(segments)} segments ({', '.join(segment.label for segment in segments)}); leave the background out."
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        raise ValueError(f"kind 'fractional' needs probabilities from 0 to 1, got {low:g} to {high:g}.")
