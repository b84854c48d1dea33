"""Histogram equalisation of small neighbourhoods (CLAHE), fast enough for augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from banet_monai.transforms.intensity import IMAGENET_MEAN, IMAGENET_STD, LUMINANCE
from banet_monai.transforms.painting import keep_meta

__all__ = ["RandHistogramEqualized", "equalize_locally"]

BINS = 64


def equalize_locally(grey: torch.Tensor, *, tiles: int = 8, clip_limit: float = 2.0) -> torch.Tensor:
    """Contrast-limited adaptive histogram equalisation.

    Every tile has a histogram whose bins are cut at ``clip_limit`` times their mean, what is cut off being spread over
    all bins; its cumulated sum is the tile's tone curve. A pixel takes the curves of the four tiles around it, linearly
    weighted. Values between bins are interpolated, so that there are no steps.

    Args:
        grey: ``(x, y)``, values in [0, 1].
        tiles: along each axis, at least 1.
        clip_limit: at least 1, which changes least; 2 to 4 are usual.

    Returns:
        Tensor of the same shape, float32 in [0, 1].

    Raises:
        ValueError: when an option is out of range or the picture has fewer pixels than tiles along an axis.

    Source:
        Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994.
        ``skimage.exposure.equalize_adapthist`` takes twice the time, stretches the whole picture to [0, 1] first and
        makes an even picture white; this one leaves it about as it is, within ``clip_limit / 64``.
    """
    if tiles < 1 or clip_limit < 1 or min(grey.shape) < tiles:
        raise ValueError(
            f"need tiles >= 1, clip_limit >= 1 and a picture of at least as many pixels as tiles, got tiles={tiles}, "
            f"clip_limit={clip_limit} and a picture of {tuple(grey.shape)}."
        )
    grey = grey.float()
    rows, columns = (torch.arange(length) * tiles // length for length in grey.shape)
    tile = rows[:, None] * tiles + columns
    values = (grey * BINS).long().clamp_(0, BINS - 1)
    counts = torch.bincount((tile * BINS + values).flatten(), minlength=tiles * tiles * BINS)
    counts = counts.reshape(tiles * tiles, BINS).float()
    shares = counts / counts.sum(dim=1, keepdim=True)
    limited = shares.clamp_max(clip_limit / BINS)
    limited = limited + (1 - limited.sum(dim=1, keepdim=True)) / BINS
    # BINS + 1 borders of the bins, from 0 to 1
    curves = F.pad(limited.cumsum(dim=1), (1, 0)).reshape(1, 1, tiles, tiles, BINS + 1)

    # A look-up in a small volume (tile row, tile column, value): the borders are the centres of its voxels.
    depth = (2 * grey - 1) * (BINS / (BINS + 1))
    across, along = ((2 * torch.arange(length) + 1) / length - 1 for length in grey.shape)
    places = torch.stack([depth, along.expand_as(grey), across[:, None].expand_as(grey)], dim=-1)
    result = F.grid_sample(curves, places[None, :, :, None], padding_mode="border", align_corners=False)
    return result[0, 0, :, :, 0].clamp(0.0, 1.0)


class RandHistogramEqualized(RandomizableTransform, MapTransform):
    """Local histogram equalisation of the luminance of normalised pictures, by a random amount; colours stay.

    Args:
        keys: keys of pictures ``(1 or 3, x, y)``, normalised by ImageNet's mean and standard deviation.
        prob: chance that a case is changed.
        clip_limit: range that the limit is drawn from, see :func:`equalize_locally`.
        strength: range of the share of the equalised luminance, the rest being the picture's own.
        tiles: along each axis.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: for a volume or another number of channels.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.15,
        *,
        clip_limit: Sequence[float] = (1.0, 3.0),
        strength: Sequence[float] = (0.3, 1.0),
        tiles: int = 8,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.clip_limit, self.strength, self.tiles = tuple(clip_limit), tuple(strength), tiles

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        limit, strength = (float(self.R.uniform(low, high)) for low, high in (self.clip_limit, self.strength))
        for key in self.key_iterator(result):
            picture = result[key].as_tensor() if isinstance(result[key], MetaTensor) else result[key]
            result[key] = keep_meta(self._equalized(picture, limit, strength), result[key])
        return result

    def _equalized(self, picture: torch.Tensor, limit: float, strength: float) -> torch.Tensor:
        channels = picture.shape[0]
        if picture.ndim != 3 or channels not in (1, 3):
            raise ValueError(f"only pictures (1 or 3, x, y) can be equalised, got shape {tuple(picture.shape)}.")
        mean, std = (torch.tensor(numbers, dtype=torch.float32) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
        weights = torch.tensor(LUMINANCE)
        if channels == 1:
            mean, std, weights = mean.mean().reshape(1), std.mean().reshape(1), torch.ones(1)
        # luminance of the picture in [0, 1] straight from its normalised values
        grey = (torch.tensordot(weights * std, picture.float(), dims=1) + (weights * mean).sum()).clamp_(0.0, 1.0)
        change = strength * (equalize_locally(grey, tiles=self.tiles, clip_limit=limit) - grey)
        low, high = (((value - mean) / std)[:, None, None] for value in (0.0, 1.0))
        return (picture + change / std[:, None, None]).clamp(low, high).to(picture.dtype)
