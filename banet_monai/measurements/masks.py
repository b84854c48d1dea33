"""Masks and images as they are measured: checked label ids, named labels, images of the same size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

__all__ = ["Labels", "as_image", "as_mask", "named_labels"]

Labels = Sequence[str] | Mapping[int, str]

SHOWN = 5  # ids named in a message
LARGEST_FLOAT_ID = 2**53


def as_mask(mask: Any, name: str = "the mask") -> NDArray[Any]:
    """Label ids (x, y) or (x, y, z), as bool or integers.

    Args:
        mask: array or tensor of whole numbers from 0 on, in any dtype; a MetaTensor may have one channel in front.
        name: what a message calls it.

    Raises:
        ValueError: for another shape, numbers that are not whole, negative or not finite.
    """
    values = plain_array(mask, name)
    if isinstance(mask, MetaTensor) and values.ndim > 2:  # channel first, as MONAI has it
        if values.shape[0] != 1:
            raise ValueError(
                f"{name} is a MetaTensor with {values.shape[0]} channels; one channel of label ids is needed: measure "
                "classes that overlap one by one."
            )
        values = values[0]
    if values.ndim not in (2, 3) or values.size == 0:
        raise ValueError(
            f"{name} must be (column, row) or (column, row, slice) and not empty, got the shape {values.shape}; take a "
            "channel axis away first."
        )
    if values.dtype.kind == "b":
        return values
    if values.dtype.kind == "f" and not _are_whole(values):
        raise ValueError(
            f"{name} must hold label ids, got numbers that are not whole or not finite; put a threshold to "
            "probabilities first."
        )
    if values.min() < 0:
        raise ValueError(f"{name} must hold label ids from 0 (background) on, got {values.min():g}.")
    if values.dtype.kind == "f" and values.max() > LARGEST_FLOAT_ID:
        raise ValueError(f"{name} must hold label ids, got {values.max():g}, which no float holds exactly.")
    return values.astype(np.int64) if values.dtype.kind == "f" else values


def as_image(image: Any, shape: Sequence[int]) -> NDArray[Any]:
    """An image as (channel, *shape).

    Args:
        image: array or tensor of the mask's shape, also with channels in front.
        shape: of the mask.

    Raises:
        ValueError: for another shape, or values that are no real numbers.
    """
    values = plain_array(image, "the image")
    shape = tuple(shape)
    if values.shape == shape:
        values = values[None]
    if values.ndim != len(shape) + 1 or values.shape[1:] != shape:
        exchanged = (shape[1], shape[0], *shape[2:])
        is_turned = shape[0] != shape[1] and values.shape in (exchanged, (values.shape[0], *exchanged))
        hint = "; rows and columns seem to be exchanged: transpose it" if is_turned else ""
        raise ValueError(
            f"the image has the shape {values.shape}, the mask {shape}{hint}; intensities need an image on the mask's "
            "own grid, with channels, if any, in front."
        )
    return values


def named_labels(labels: Labels | None, present: Sequence[int]) -> dict[int, str]:
    """Label ids and their names, in the order in which they are measured.

    Args:
        labels: names of the ids 1, 2, ..., or ids with names. None: the ids that are present, named by their numbers.
        present: ids that occur, without 0.

    Raises:
        ValueError: when an id that occurs has no name, or a name's id is not a positive whole number.
    """
    if labels is None:
        return {number: str(number) for number in present}
    if isinstance(labels, str):
        raise ValueError(
            f"labels must be a list of names, or ids with names, got the text '{labels}'; put it in a list."
        )
    pairs = labels.items() if isinstance(labels, Mapping) else enumerate(labels, start=1)
    named: dict[Any, str] = {number: str(name) for number, name in pairs}
    if wrong := [number for number in named if not isinstance(number, (int, np.integer)) or number < 1]:
        raise ValueError(f"label ids must be whole numbers from 1 on, got {wrong[:SHOWN]}.")
    if unnamed := [number for number in present if number not in named]:
        raise ValueError(
            f"the mask holds the label ids {unnamed[:SHOWN]}, but labels names {sorted(named)}; name every id, or "
            "leave labels out."
        )
    return named


def plain_array(values: Any, name: str) -> NDArray[Any]:
    """An array of real numbers, without a copy where that is possible."""
    if isinstance(values, torch.Tensor):
        plain = values.as_tensor() if isinstance(values, MetaTensor) else values
        plain = plain.detach().cpu()
        array: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    else:
        array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must be an array or tensor of numbers, got {array.dtype}.")
    return array


def _are_whole(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all())
