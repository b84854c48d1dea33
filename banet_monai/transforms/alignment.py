"""A mask in the order of its image's voxels, where both say where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

__all__ = ["in_order_of"]

SPATIAL = 3


def in_order_of(mask: MetaTensor, image: MetaTensor) -> MetaTensor:
    """Turn a volume's mask to the axes of its image, where the two are stored in other orientations.

    The same place in the patient may have other indices in either: a DICOM series and a NIfTI mask that was drawn on a
    conversion of it, a volume stored LPS and a mask that a tool saved as RAS. A mask with steps of 1 along the axes and
    its origin at 0, as programs write what they know no place of, says nothing of where it lies: it goes by its
    indices, and so do pictures.

    Args:
        mask: ``(1, X, Y, Z)`` with the affine of its file.
        image: ``(C, X, Y, Z)`` with the affine of its file.

    Returns:
        ``mask`` itself, or flipped and with its axes in another order, with the affine that belongs to that.

    Raises:
        ValueError: naming the files, when a mask in another orientation lies elsewhere even when it is turned.
    """
    if not (_has_place(mask) and _has_place(image)):
        return mask
    affine, goal = _affine(mask), _affine(image)
    if _is_same_place(affine, goal, mask.shape, image.shape):
        return mask  # also where rounding makes other axes the nearest ones, halfway between two
    orientation: Any = nibabel.orientations  # without types
    stored, wanted = orientation.io_orientation(affine), orientation.io_orientation(goal)
    if np.array_equal(stored, wanted, equal_nan=True):
        return mask
    turn = orientation.ornt_transform(stored, wanted)
    values = np.stack([orientation.apply_orientation(channel, turn) for channel in mask.as_tensor().cpu().numpy()])
    turned_affine = affine @ orientation.inv_ornt_aff(turn, tuple(mask.shape[1:]))
    turned = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(values)), meta=mask.meta, applied_operations=mask.applied_operations
    )
    turned.affine = torch.from_numpy(turned_affine)
    if not _is_same_place(turned_affine, goal, turned.shape, image.shape):
        raise ValueError(
            f"mask '{_name(mask)}' is stored as {_axes(affine)} and its image '{_name(image)}' as {_axes(goal)}, and "
            "they do not cover the same place: resample the mask to the grid of the image; or, if it has the voxels of "
            "the image, store it with the affine of the image."
        )
    return turned


def _has_place(volume: Any) -> bool:
    if not isinstance(volume, MetaTensor) or volume.ndim != SPATIAL + 1:
        return False
    if volume.meta.get("spacing_unit") == "px" or not volume.meta.get("has_place", True):
        return False
    affine = _affine(volume)
    is_default = affine.shape == (4, 4) and np.allclose(np.abs(affine), np.eye(4))
    return affine.shape == (4, 4) and not is_default and abs(np.linalg.det(affine)) > 0


def _affine(volume: MetaTensor) -> NDArray[np.float64]:
    return volume.affine.cpu().numpy().astype(np.float64)


def _is_same_place(
    first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...], other: tuple[int, ...]
) -> bool:
    """Whether two grids have the same number of voxels, and the same corners within half of the finest step."""
    if tuple(shape[1:]) != tuple(other[1:]):
        return False
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in shape[1:]], indexing="ij")).reshape(SPATIAL, -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
    apart = np.linalg.norm(((first - second) @ homogeneous)[:SPATIAL], axis=0)
    return bool(apart.max() <= 0.5 * np.linalg.norm(second[:SPATIAL, :SPATIAL], axis=0).min())


def _axes(affine: NDArray[np.float64]) -> str:
    return "".join(nibabel.orientations.aff2axcodes(affine))  # type: ignore[no-untyped-call]


def _name(volume: MetaTensor) -> str:
    return Path(str(volume.meta.get("filename_or_obj", "image"))).name
