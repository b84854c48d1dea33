"""Smooth random deformation of pictures and their masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple_rep

from banet_monai.transforms.painting import keep_meta

__all__ = ["RandElasticd", "displace"]

STEEPEST = 1 / 3  # of a cell; above it neighbouring control points could pass each other


def displace(image: torch.Tensor, shift: torch.Tensor, *, mode: str = "bilinear") -> torch.Tensor:
    """Take every pixel from another place: ``result[p] = image[p + shift[p]]``; the picture is mirrored at its frame.

    Args:
        image: ``(C, x, y)``; integers only with ``"nearest"``.
        shift: ``(2, x, y)`` in pixels along x and y.
        mode: ``"bilinear"`` or ``"nearest"``.

    Returns:
        Tensor of the shape and type of ``image``.
    """
    places = []
    for axis in (1, 0):  # grid_sample wants the last axis first, in [-1, 1] between the outer borders of the pixels
        length = image.shape[1 + axis]
        centres = (2 * torch.arange(length) + 1) / length - 1
        places.append(shift[axis] * (2 / length) + (centres[:, None] if axis == 0 else centres))
    grid = torch.stack(places, dim=-1)[None].float()
    moved = F.grid_sample(image[None].float(), grid, mode=mode, padding_mode="reflection", align_corners=False)
    return moved[0].to(image.dtype)


class RandElasticd(RandomizableTransform, MapTransform):
    """Elastic deformation by random shifts of a coarse grid of points, bicubic between them.

    As MONAI's ``Rand2DElasticd`` without its affine part, in a third of its time; shares of the picture's sides in
    place of pixels.

    Args:
        keys: keys of pictures and masks ``(C, x, y)`` of one size.
        prob: chance that a case is deformed.
        cells: of the coarse grid along each axis.
        magnitude: range that the largest shift along an axis is drawn from, shares of the side, below
            ``1 / (3 * cells)``, so that nothing folds.
        mode: ``"bilinear"`` or ``"nearest"``, one for all keys or one per key.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when the magnitude would fold the picture.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.2,
        *,
        cells: int = 6,
        magnitude: Sequence[float] = (0.004, 0.02),
        mode: str | Sequence[str] = ("bilinear", "nearest"),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if cells < 1 or not 0 <= magnitude[0] <= magnitude[1] <= STEEPEST / cells:
            raise ValueError(
                f"magnitude must be two rising shares of the side, at most {STEEPEST / max(cells, 1):.3f} for "
                f"cells={cells}, got {tuple(magnitude)}; fewer cells allow more."
            )
        self.cells, self.magnitude = cells, tuple(magnitude)
        self.mode = ensure_tuple_rep(mode, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        shift: torch.Tensor | None = None
        for key, mode in self.key_iterator(result, self.mode):
            image = result[key].as_tensor() if isinstance(result[key], MetaTensor) else result[key]
            if shift is None:
                shift = self.draw((image.shape[-2], image.shape[-1]))
            result[key] = keep_meta(displace(image, shift, mode=mode), result[key])
        return result

    def draw(self, size: tuple[int, int]) -> torch.Tensor:
        """Shifts ``(2, x, y)`` in pixels for a picture of ``size``."""
        largest = self.R.uniform(self.magnitude[0], self.magnitude[1])
        points = self.R.uniform(-largest, largest, (1, 2, self.cells + 1, self.cells + 1)).astype(np.float32)
        smooth = F.interpolate(torch.from_numpy(points), size=size, mode="bicubic", align_corners=True)[0]
        return smooth * torch.tensor(size)[:, None, None]
