"""Small parts of a segmentation: specks beside the structure that was looked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

__all__ = ["small_parts"]


def small_parts(ids: NDArray[Any], share: float) -> NDArray[np.bool_]:
    """Where a label id has parts that are smaller than a share of its largest part.

    A part is what hangs together over sides of pixels or faces of voxels; its size is their number. MONAI's
    ``KeepLargestConnectedComponent`` keeps one part alone and its ``RemoveSmallObjects`` knows absolute sizes.

    Args:
        ids: whole numbers, 0 is background; any number of axes.
        share: between 0, which finds nothing, and 1, which finds all but the largest part (and others of its size).

    Returns:
        Of the shape of ``ids``.
    """
    found = np.zeros(ids.shape, dtype=bool)
    for number in range(1, int(ids.max(initial=0)) + 1):
        inside = ids == number
        box = _box(inside)
        parts, count = label(inside[box], connectivity=1, return_num=True)  # type: ignore[no-untyped-call]
        if count > 1:
            sizes = np.bincount(parts.ravel())[1:]
            found[box] |= np.concatenate([[False], sizes < share * sizes.max()])[parts]
    return found


def _box(inside: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box around what is inside, in which numbering the parts takes a part of the time."""
    box: list[slice] = []
    for axis in range(inside.ndim):
        places = np.flatnonzero(inside.any(axis=tuple(other for other in range(inside.ndim) if other != axis)))
        box.append(slice(places[0], places[-1] + 1) if len(places) else slice(0))
    return tuple(box)
