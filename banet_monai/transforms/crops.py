"""Square crops that know where the lesion is, and where none is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from banet_monai.transforms.grid import resize_labels, resize_linear
from banet_monai.transforms.painting import keep_meta

__all__ = ["RandBackgroundCropd", "RandLesionCropd", "places_that_keep", "places_without"]

GROWTH = 1.2  # of the side, as long as no place keeps enough; one part of it, as long as no place is free


def places_that_keep(mask: NDArray[np.bool_], side: int, share: float) -> NDArray[np.intp]:
    """All places of a square window that holds at least a share of a mask.

    Args:
        mask: ``(x, y)``, where the lesion is.
        side: of the window in pixels, at most the mask's short side.
        share: in [0, 1], of the mask's pixels; an empty mask is kept by every window.

    Returns:
        ``(n, 2)`` first pixels of the windows along x and y, in rising order.
    """
    return np.argwhere(_inside(mask, side) >= np.ceil(share * np.count_nonzero(mask) - 1e-9))


def places_without(mask: NDArray[np.bool_], side: int) -> NDArray[np.intp]:
    """All places of a square window that holds nothing of a mask.

    Args:
        mask: ``(x, y)``, where the lesion is.
        side: of the window in pixels, at most the mask's short side.

    Returns:
        ``(n, 2)`` first pixels of the windows along x and y, in rising order.
    """
    return np.argwhere(_inside(mask, side) == 0)


def _inside(mask: NDArray[np.bool_], side: int) -> NDArray[np.int32]:
    """How many pixels of a mask each window holds."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int32)
    np.cumsum(np.cumsum(mask, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])
    inside: NDArray[np.int32] = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return inside


class _SquareCropd(RandomizableTransform, MapTransform):
    """A square of pictures and their mask, brought to one size; where it lies, if there is one, :meth:`draw` says.

    Args:
        keys, size, prob, scale, label_key, label_keys, allow_missing_keys: as for the classes below.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        prob: float,
        scale: Sequence[float],
        label_key: str,
        label_keys: KeysCollection,
        allow_missing_keys: bool,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two rising shares of the short side in (0, 1], got {tuple(scale)}.")
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {size}.")
        self.size, self.scale = size, tuple(scale)
        self.label_key, self.label_keys = label_key, ensure_tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        mask = _mask_of(data, self.label_key, list(self.key_iterator(data)))
        result = dict(data)
        if (drawn := self.draw(mask)) is None:
            return result
        for key in self.key_iterator(result):
            result[key] = _cut(result[key], *drawn, self.size, is_label=key in self.label_keys)
        return result

    @abstractmethod
    def draw(self, mask: NDArray[np.bool_]) -> tuple[tuple[int, int], int] | None:
        """First pixel and side of a square for a mask ``(x, y)``, or None where the picture is to stay."""


class RandLesionCropd(_SquareCropd):
    """A random square of the picture, brought to one size: part of it about the lesion, or at its outline.

    With the chance ``prob`` the square's side is drawn from ``scale``; then, with the chance ``outline_prob``, a pixel
    of the lesion's outline lies anywhere in the square; else the square is drawn among all that hold at least ``keep``
    of the lesion (a side that is too small for that grows). Otherwise, and for an empty mask with the whole side, the
    square has the picture's short side and lies anywhere, as ``RandSpatialCropd`` does for pictures whose short side is
    ``size``: this transform takes its place. The affine follows; the crop cannot be inverted.

    Args:
        keys: keys of pictures and masks ``(C, x, y)`` of one size.
        size: side of the result in pixels.
        prob: chance of a square that knows the lesion.
        scale: range of the square's side, shares of the short side.
        keep: smallest share of the lesion's pixels inside the square, in [0, 1]. Less than 1 cuts lesions, as the frame
            of real pictures does.
        outline_prob: chance, among the squares that know the lesion, of one at its outline.
        label_key: key of the mask.
        label_keys: those of ``keys`` that hold label ids.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when an option is out of range, or a key is no picture of the mask's size.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        *,
        prob: float = 0.5,
        scale: Sequence[float] = (0.6, 1.0),
        keep: float = 0.8,
        outline_prob: float = 0.25,
        label_key: str = "label",
        label_keys: KeysCollection = ("label",),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, size, prob, scale, label_key, label_keys, allow_missing_keys)
        if not 0 <= keep <= 1 or not 0 <= outline_prob <= 1:
            raise ValueError(f"keep and outline_prob must lie in [0, 1], got {keep} and {outline_prob}.")
        self.keep, self.outline_prob = keep, outline_prob

    def draw(self, mask: NDArray[np.bool_]) -> tuple[tuple[int, int], int]:
        """First pixel and side of a square for a mask ``(x, y)``."""
        self.randomize(None)
        short = min(mask.shape)
        if not self._do_transform:
            return self._anywhere(mask.shape, short), short
        side = max(1, round(short * float(self.R.uniform(self.scale[0], self.scale[1]))))
        if self.R.rand() < self.outline_prob:
            outline = _outline(mask)
            if len(outline):
                pixel = outline[int(self.R.randint(len(outline)))]
                first = [max(0, place - side + 1) for place in pixel]
                last = [min(int(place), length - side) for place, length in zip(pixel, mask.shape, strict=True)]
                x, y = (int(self.R.randint(low, high + 1)) for low, high in zip(first, last, strict=True))
                return (x, y), side
        places = places_that_keep(mask, side, self.keep)
        while not len(places) and side < short:
            side = min(short, int(np.ceil(GROWTH * side)))
            places = places_that_keep(mask, side, self.keep)
        if not len(places):  # a long picture whose lesion no square holds
            return self._anywhere(mask.shape, short), short
        x, y = (int(place) for place in places[int(self.R.randint(len(places)))])
        return (x, y), side

    def _anywhere(self, shape: Sequence[int], side: int) -> tuple[int, int]:
        x, y = (int(self.R.randint(length - side + 1)) for length in shape)
        return x, y


class RandBackgroundCropd(_SquareCropd):
    """Now and then a square without any lesion, brought to one size: so a network learns that there may be none.

    The square's side is drawn from ``scale`` and shrinks until a place is free of the mask and of ``margin`` around it,
    at least to the lower end of ``scale``; a picture that has no such place stays as it is, as do all others. The
    affine follows; the crop cannot be inverted.

    Args:
        keys: keys of pictures and masks ``(C, x, y)`` of one size.
        size: side of the result in pixels.
        prob: chance of such a square.
        scale: range of the square's side, shares of the short side.
        margin: share of the short side that is kept free around the lesion, whose rim often reaches beyond its mask.
        label_key: key of the mask.
        label_keys: those of ``keys`` that hold label ids.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when an option is out of range, or a key is no picture of the mask's size.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        *,
        prob: float = 0.05,
        scale: Sequence[float] = (0.2, 0.6),
        margin: float = 0.03,
        label_key: str = "label",
        label_keys: KeysCollection = ("label",),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, size, prob, scale, label_key, label_keys, allow_missing_keys)
        if not 0 <= margin < 1:
            raise ValueError(f"margin must be a share of the short side in [0, 1), got {margin}.")
        self.margin = margin

    def draw(self, mask: NDArray[np.bool_]) -> tuple[tuple[int, int], int] | None:
        """First pixel and side of a square for a mask ``(x, y)``, or None where the picture is to stay."""
        self.randomize(None)
        if not self._do_transform:
            return None
        short = min(mask.shape)
        side = max(1, round(short * float(self.R.uniform(self.scale[0], self.scale[1]))))
        smallest = max(1, round(short * self.scale[0]))
        grown = maximum_filter(mask, 2 * round(short * self.margin) + 1, mode="constant", cval=0)
        places = places_without(grown, side)
        while not len(places) and side > smallest:
            side = max(smallest, int(side / GROWTH))
            places = places_without(grown, side)
        if not len(places):
            return None
        x, y = (int(place) for place in places[int(self.R.randint(len(places)))])
        return (x, y), side


def _mask_of(data: Mapping[Hashable, Any], label_key: str, keys: Sequence[Hashable]) -> NDArray[np.bool_]:
    """Where the lesion is, ``(x, y)``, once all keys are found to be pictures of its size."""
    label = data[label_key]
    if label.ndim != 3:
        raise ValueError(f"'{label_key}' must be the mask of a picture, (1, x, y), got {tuple(label.shape)}.")
    for key in keys:
        if data[key].shape[1:] != label.shape[1:]:
            raise ValueError(f"'{key}' is {tuple(data[key].shape)}, its mask {tuple(label.shape)}; same size needed.")
    mask: NDArray[np.bool_] = ((label.as_tensor() if isinstance(label, MetaTensor) else label)[0] > 0).numpy()
    return mask


def _cut(image: torch.Tensor, start: Sequence[int], side: int, size: int, *, is_label: bool) -> torch.Tensor:
    """A square of a picture, resized; the affine follows."""
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    square = plain[:, start[0] : start[0] + side, start[1] : start[1] + side]
    resize = resize_labels if is_label else resize_linear
    result = keep_meta(resize(square, [size, size]).contiguous(), image)
    if isinstance(result, MetaTensor):
        step, factor = torch.eye(4, dtype=torch.float64), side / size
        for axis in range(2):
            step[axis, axis] = factor
            step[axis, 3] = start[axis] + 0.5 * factor - 0.5
        result.meta = {**result.meta, "affine": result.affine.double() @ step}
    return result


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """``(n, 2)`` pixels of the mask with a neighbour outside it along an axis; the picture's frame is no outline."""
    rim = np.zeros_like(mask)
    for axis in range(2):
        one, other = np.moveaxis(mask, axis, 0), np.moveaxis(rim, axis, 0)
        other[:-1] |= one[:-1] & ~one[1:]
        other[1:] |= one[1:] & ~one[:-1]
    return np.argwhere(rim)
