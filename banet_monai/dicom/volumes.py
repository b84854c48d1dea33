"""Decoding the frames of a series into one array in MONAI's axis order, on several threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banet_monai.dicom.decoding import FrameDecoder, frame_decoder
from banet_monai.dicom.parsing import in_threads, worker_count
from banet_monai.dicom.pixels import write_frame
from banet_monai.dicom.series import SeriesObject

__all__ = ["read_frames"]

RUN = 128  # bytes along the slice axis, two cache lines, that are written at once
ROWS_AT_ONCE = 4  # rows of a block of slices that stay in the cache while they are turned
MAX_BLOCK = 64 * 2**20  # bytes of decoded frames that a thread holds
PADDING = 64  # bytes between frames of a block: at distances of a power of two they would share cache sets


def read_frames(
    objects: Sequence[SeriesObject], order: Sequence[int], ends: tuple[float, float], workers: int | None
) -> NDArray[Any]:
    """Decode all frames, each into its place.

    A frame is stored row by row, but slices are the last axis of the result. Each thread therefore decodes as many
    neighbouring slices as fill a few cache lines and writes them together.

    Args:
        objects: of one series, all grey or all colour, with frames of one size.
        order: for each slice the index of its frame, counted over all objects.
        ends: lowest and highest value of the whole, see :func:`write_frame`.
        workers: threads, by default one per core, eight at most.

    Returns:
        ``(columns, rows, slices)`` of grey, ``(columns, rows, slices, 3)`` of colour frames, contiguous; ``uint8``
        where all values fit as they are stored, else ``float32``.
    """
    form = objects[0].form
    dtype = np.dtype(np.uint8 if all(item.form.is_byte for item in objects) else np.float32)
    rows, columns = form.shape
    colour = [3] if form.channels == 3 else []
    values = np.empty((columns, rows, len(order), *colour), dtype=dtype)
    workers = min(worker_count(workers), len(order))
    size = _block_size(len(order), rows * columns * form.channels * dtype.itemsize, dtype.itemsize, workers)
    starts = range(0, len(order), size)
    source = _FrameSource(objects, workers)

    def write_blocks(worker: int) -> None:
        block = _padded((size, rows, columns, *colour), dtype)
        for start in starts[worker::workers]:
            here = order[start : start + size]
            for slot, frame in zip(block, here, strict=False):
                source.write(frame, slot, ends)
            _turn(block[: len(here)], values[:, :, start : start + len(here)])

    in_threads(write_blocks, range(workers), workers)
    return values


def _block_size(slices: int, frame_bytes: int, itemsize: int, workers: int) -> int:
    """Slices of a block: as many as fill :data:`RUN`, fewer where that gives all threads the same number of blocks."""
    size = max(1, min(RUN // itemsize, MAX_BLOCK // frame_bytes))
    blocks_of_each = math.ceil(math.ceil(slices / size) / workers)
    return math.ceil(slices / (blocks_of_each * workers))


def _padded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An empty array with :data:`PADDING` bytes after each entry of its first axis."""
    entry = math.prod(shape[1:])
    store = np.empty((shape[0], entry + PADDING // dtype.itemsize), dtype=dtype)
    return store[:, :entry].reshape(shape)  # a view


def _turn(block: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy ``(slices, rows, columns[, 3])`` to ``(columns, rows, slices[, 3])``, by way of the cache."""
    colour = (3,)[: block.ndim - 3]
    for row in range(0, block.shape[1], ROWS_AT_ONCE):
        rows = slice(row, row + ROWS_AT_ONCE)
        turned = np.ascontiguousarray(block[:, rows].transpose(1, 2, 0, *colour))
        out[:, rows] = turned.transpose(1, 0, 2, *colour)


class _FrameSource:
    """The frames of all objects under one count; objects of several frames are taken apart once."""

    def __init__(self, objects: Sequence[SeriesObject], workers: int) -> None:
        self.objects = objects
        self.places = [(k, frame) for k, item in enumerate(objects) for frame in range(item.form.frames)]
        several = [k for k, item in enumerate(objects) if item.form.frames > 1]
        decoders = in_threads(lambda k: frame_decoder(objects[k].parsed), several, workers)
        self.decoders: dict[int, FrameDecoder] = dict(zip(several, decoders, strict=True))

    def write(self, number: int, out: NDArray[Any], ends: tuple[float, float]) -> None:
        k, frame = self.places[number]
        item = self.objects[k]
        decode = self.decoders.get(k) or frame_decoder(item.parsed)
        write_frame(decode(frame), item.form, frame, out=out, ends=ends)
