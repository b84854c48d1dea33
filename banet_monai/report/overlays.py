"""Pictures for people: the outline of a mask on its image, and several of them in one sheet.

A fill would hide what matters here, where exactly the outline runs, so outlines are lines between pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.measure import find_contours

__all__ = ["PALETTE", "as_hung", "contact_sheet", "draw_outline", "overlay_picture", "overlay_volume", "to_grey_levels"]

# RGB per label id, from 1 on: told apart on skin, mucosa and grey images, and by colour-blind eyes (Okabe and Ito 2008)
PALETTE = (
    (0, 255, 160),
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
HALO = (0, 0, 0)
OVERSAMPLING = 4  # lines are drawn at four times the size and scaled down, which smooths them ...
LARGEST_CANVAS = 4096  # ... as far as this side in pixels allows
SHEET_GREY = 32
SLICE_SIDE = 256  # smaller slices are enlarged about to this side in pixels

Rgb = NDArray[np.uint8]


def draw_outline(
    image: Rgb, mask: NDArray[Any], *, color: Sequence[int] | None = None, width: float | None = None
) -> Rgb:
    """Draw the outline of every label of a mask as a line with a thin dark rim.

    Args:
        image: ``(rows, columns, 3)`` uint8.
        mask: label ids ``(rows, columns)``; 0 is background.
        color: RGB of the line. None: a colour per label id.
        width: width of the line in pixels. None: 1/250 of the longer side, at least 1.

    Returns:
        A new ``(rows, columns, 3)`` uint8 array.

    Raises:
        ValueError: when image and mask differ in size or the image is no uint8 RGB.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (rows, columns, 3) uint8, got {image.shape} {image.dtype}.")
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask must be {image.shape[:2]} like the image, got {mask.shape}.")
    rows, columns = mask.shape
    width = max(1.0, max(rows, columns) / 250) if width is None else width
    fine = max(1, min(OVERSAMPLING, LARGEST_CANVAS // max(rows, columns)))
    layer = Image.new("RGBA", (columns * fine, rows * fine), (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    labels = [int(label) for label in np.unique(mask) if label != 0]
    lines = {label: _outlines(mask == label, fine) for label in labels}
    rim = max(1.0, width / 2)
    for stroke, halo in ((width + rim, True), (width, False)):
        for label in labels:
            line_color = HALO if halo else tuple(color or PALETTE[(label - 1) % len(PALETTE)])
            for line in lines[label]:
                pen.line(line, fill=(*line_color, 140 if halo else 255), width=round(stroke * fine), joint="curve")
    drawn = np.asarray(layer.resize((columns, rows), Image.Resampling.BOX), dtype=np.float32)
    alpha = drawn[..., 3:] / 255
    return np.rint(image * (1 - alpha) + drawn[..., :3] * alpha).astype(np.uint8)


def _outlines(region: NDArray[np.bool_], fine: int) -> list[list[tuple[float, float]]]:
    """Closed lines half way between pixel centres, as (x, y) in pixel indices of a picture ``fine`` times as large."""
    padded = np.pad(region, 1).astype(np.float32)  # a region at the frame is closed along the frame
    lines = find_contours(padded, 0.5)  # type: ignore[no-untyped-call]
    return [[tuple((point - 0.5) * fine - 0.5) for point in line[:, ::-1]] for line in lines]


def to_grey_levels(image: torch.Tensor | NDArray[Any], *, bounds: tuple[float, float] | None = None) -> Rgb:
    """Channel-first values of any range as ``(rows, columns[, slices], 3)`` uint8, x along columns.

    Args:
        image: ``(C, W, H)`` or ``(C, W, H, D)`` with one or three channels (of others the first is shown).
        bounds: values shown as black and white. None: the percentiles 0.5 and 99.5 of each channel.
    """
    values = np.asarray(image, dtype=np.float32)
    values = values if values.shape[0] == 3 else values[:1]
    ends = [np.percentile(channel, (0.5, 99.5)) if bounds is None else bounds for channel in values]
    low, high = np.asarray(ends, dtype=np.float32).T.reshape(2, -1, *[1] * (values.ndim - 1))
    scaled = np.clip((values - low) / np.maximum(high - low, 1e-6), 0, 1) * 255
    turned = np.moveaxis(np.swapaxes(scaled, 1, 2), 0, -1)  # (C, W, H, ...) -> (H, W, ..., C)
    return np.repeat(np.rint(turned).astype(np.uint8), 3 // turned.shape[-1], axis=-1)


def overlay_picture(
    image: torch.Tensor | NDArray[Any], mask: torch.Tensor | NDArray[Any], *, bounds: tuple[float, float] | None = None
) -> Rgb:
    """Outline on a picture, both channel-first as MONAI holds them.

    Args:
        image: ``(C, W, H)``.
        mask: label ids ``(1, W, H)``.
        bounds: see :func:`to_grey_levels`.

    Returns:
        ``(H, W, 3)`` uint8, as the picture is looked at.
    """
    return draw_outline(to_grey_levels(image, bounds=bounds), np.asarray(mask)[0].T)


def overlay_volume(
    image: torch.Tensor | NDArray[Any],
    mask: torch.Tensor | NDArray[Any],
    *,
    affine: NDArray[Any],
    slices: int = 5,
    bounds: tuple[float, float] | None = None,
) -> Rgb:
    """A row of slices with outlines, evenly spread over the slices that hold a label (over all where none does).

    Slices are taken across the axis of a single voxel, else that of the largest spacing (of equal ones, the
    feet-to-head axis), and shown as radiologists hang them: the patient's left on the right, front or head on top.

    Args:
        image: ``(C, X, Y, Z)``.
        mask: label ids ``(1, X, Y, Z)``.
        affine: voxel to RAS millimetres, 4x4.
        slices: how many, at most.
        bounds: values shown as black and white; by default percentiles of the whole volume.

    Returns:
        ``(rows, columns, 3)`` uint8.
    """
    volume, spacing = as_hung(np.asarray(image), affine)
    labels, _ = as_hung(np.asarray(mask), affine)
    axis = max(range(3), key=lambda index: (volume.shape[index + 1] == 1, round(spacing[index], 2), index))
    volume, labels = np.moveaxis(volume, axis + 1, -1), np.moveaxis(labels, axis + 1, -1)[0]
    shown = to_grey_levels(volume, bounds=bounds)  # (rows, columns, D, 3)
    present = np.flatnonzero(labels.any(axis=(0, 1)))
    first, last = (int(present[0]), int(present[-1])) if present.size else (0, labels.shape[-1] - 1)
    chosen = sorted({round(index) for index in np.linspace(first, last, slices).tolist()})
    width, height = [step for index, step in enumerate(spacing) if index != axis]
    pictures = [
        draw_outline(*_square_pixels(shown[:, :, index], labels[..., index].T, height / width)) for index in chosen
    ]
    return contact_sheet(pictures, columns=len(pictures), cell=max(max(picture.shape[:2]) for picture in pictures))


def as_hung(values: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], list[float]]:
    """Channel-first values turned so that axes run to left, posterior and inferior, and the spacing of these axes."""
    stored = nibabel.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    wanted = nibabel.orientations.axcodes2ornt(("L", "P", "I"))  # type: ignore[no-untyped-call]
    turn = nibabel.orientations.ornt_transform(stored, wanted)  # type: ignore[no-untyped-call]
    turned = [nibabel.orientations.apply_orientation(channel, turn) for channel in values]  # type: ignore[no-untyped-call]
    steps = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return np.stack(turned), [float(steps[int(np.flatnonzero(turn[:, 0] == axis)[0])]) for axis in range(3)]


def _square_pixels(picture: Rgb, labels: NDArray[Any], aspect: float) -> tuple[Rgb, NDArray[Any]]:
    """A slice with pixels as high as wide, small ones enlarged. ``aspect``: height by width of a stored pixel."""
    rows, columns = labels.shape
    width, height = (columns, rows * aspect) if aspect >= 1 else (columns / aspect, rows)
    zoom = max(1, round(SLICE_SIDE / max(width, height)))
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    stretched = Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BILINEAR)
    ids = Image.fromarray(labels.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(stretched), np.asarray(ids)


def contact_sheet(pictures: Sequence[Rgb], *, columns: int = 4, cell: int = 256, gap: int = 4) -> Rgb:
    """Several pictures in one, each scaled to fit a square cell.

    Args:
        pictures: ``(rows, columns, 3)`` uint8 each, of any size.
        columns: cells per row.
        cell: side of a cell in pixels.
        gap: space between cells in pixels.

    Raises:
        ValueError: without any picture.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture, got none.")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * (cell + gap) - gap, rows * (cell + gap) - gap), (SHEET_GREY,) * 3)
    for index, picture in enumerate(pictures):
        scale = cell / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        tile = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
        left, top = (index % columns) * (cell + gap), (index // columns) * (cell + gap)
        sheet.paste(tile, (left + (cell - size[0]) // 2, top + (cell - size[1]) // 2))
    return np.asarray(sheet)
