"""Corruptions of an image on the network's grid, between resampling and normalisation, as dictionary transforms.

Values are taken to [0, 1] first: by the range of the stored type where the reader knows one (``value_range`` in the
meta, as of pictures), else by the percentiles 0.5 and 99.5 of the image. A picture saturates there, as its file would;
a volume does not. Lengths are pixels of the network's grid, so that a strength means the same for every camera.
"""

from __future__ import annotations

import io
import math
import zlib
from abc import abstractmethod
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import GaussianSmooth, MapTransform
from PIL import Image

from banet_monai.transforms.grid import resize_linear
from banet_monai.transforms.painting import keep_meta

__all__ = [
    "AddNoised",
    "Blurd",
    "Brightnessd",
    "Contrastd",
    "Corruptiond",
    "Jpegd",
    "Resolutiond",
    "plain",
    "value_range",
]

PERCENTILES = (0.5, 99.5)  # of an image whose type says nothing about its range
WHITE = 255.0
COLOURS = 3  # a fourth channel of a picture is its alpha


def plain(image: torch.Tensor) -> torch.Tensor:
    """The tensor alone; MONAI's transforms give one with meta data whatever they are given."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def value_range(image: torch.Tensor) -> tuple[float, float, bool]:
    """What is black and white in an image ``(C, *spatial)``, and whether its file can hold nothing beyond.

    A picture has the range of its type, a volume that of its values: no scanner fills the type that it stores.
    """
    meta = image.meta if isinstance(image, MetaTensor) else {}
    low, high = (float(value) for value in meta.get("value_range", (math.nan, math.nan)))
    is_volume = image.ndim == 4 and image.shape[-1] > 1
    if not is_volume and low >= 0 and math.isfinite(high) and high > low:  # nan is not
        return low, high, True
    low, high = (float(value) for value in np.percentile(plain(image).cpu().numpy(), PERCENTILES))
    return (low, high, False) if high > low else (low, low + 1.0, False)


class Corruptiond(MapTransform):
    """A corruption of known strength.

    What it draws depends on ``seed``, its own kind and the ``"name"`` of the case alone: not on the strength, so that
    strengths of one case are compared under one pattern, and not on the order of cases.

    Args:
        keys: keys of images ``(C, *spatial)`` in stored values, on the network's grid.
        amount: the strength in physical terms; what it means is each corruption's own.
        seed: of what is drawn.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: for an amount out of range.
    """

    least, most = 0.0, math.inf  # the amounts that make sense

    def __init__(self, keys: KeysCollection, amount: float, *, seed: int = 0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not self.least <= amount <= self.most:
            raise ValueError(f"{type(self).__name__} takes {self.least:g} to {self.most:g}, got {amount:g}.")
        self.amount = amount
        self.seed = seed

    @abstractmethod
    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Corrupt ``(C, *spatial)`` float32 values, 0 black and 1 white."""

    def undo(self, pred: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """A prediction ``(C, *spatial)`` for the corrupted image, put on the ``size`` of the image before."""
        return pred

    def seen(self, size: tuple[int, ...]) -> torch.Tensor | None:
        """Which pixels of the image the network was shown, bool of ``size``; None for all of them."""
        return None

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        d = dict(data)
        for key in self.key_iterator(d):
            image: torch.Tensor = d[key]  # type: ignore[assignment]
            low, high, saturates = value_range(image)
            values = plain(image).float()
            values = values[:COLOURS] if values.ndim == 3 and values.shape[0] == COLOURS + 1 else values  # no alpha
            result = plain(self.corrupt((values - low) / (high - low), self.generator(str(d.get("name", "")))))
            result = result.clamp(0, 1) if saturates else result
            d[key] = keep_meta(result * (high - low) + low, image)
        return d

    def generator(self, name: str) -> np.random.Generator:
        """Random numbers of one case."""
        return np.random.default_rng([self.seed, zlib.crc32(type(self).__name__.encode()), zlib.crc32(name.encode())])


class AddNoised(Corruptiond):
    """Gaussian noise, independent in every pixel and channel; ``amount``: its standard deviation, a share of white."""

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return image + self.amount * torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))


class Blurd(Corruptiond):
    """Gaussian blur in the plane of the picture or slice; ``amount``: its standard deviation in pixels."""

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        if self.amount == 0:
            return image
        planes = image if image.ndim == 3 else image.movedim(-1, 1).flatten(0, 1)
        margin = math.ceil(4 * self.amount)  # with the edge repeated, so that the frame does not darken
        padded = torch.nn.functional.pad(planes[None], [margin] * 4, mode="replicate")[0]
        smooth = plain(GaussianSmooth(self.amount)(padded))[:, margin:-margin, margin:-margin]
        if image.ndim == 3:
            return smooth
        return smooth.reshape(image.shape[0], image.shape[-1], *image.shape[1:3]).movedim(1, -1)


class Contrastd(Corruptiond):
    """Contrast about the image's mean; ``amount``: the factor, below 1 for less."""

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return image.mean() + self.amount * (image - image.mean())


class Brightnessd(Corruptiond):
    """Brightness; ``amount``: the factor, below 1 for darker."""

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return self.amount * image


class Jpegd(Corruptiond):
    """JPEG of a picture with 1 or 3 channels, 8 bits, colour at half resolution; ``amount``: the quality, 1 to 100.

    Raises:
        ValueError: for a volume or another number of channels.
    """

    least, most = 1.0, 100.0

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        if image.ndim != 3 or image.shape[0] not in (1, COLOURS):
            raise ValueError(f"JPEG holds pictures with 1 or 3 channels, got shape {tuple(image.shape)}.")
        pixels = (image.clamp(0, 1) * WHITE).round().byte().permute(2, 1, 0).numpy()  # (y, x, C)
        file = io.BytesIO()
        picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
        picture.save(file, "JPEG", quality=round(self.amount), subsampling="4:2:0")
        with Image.open(file) as decoded:
            array = np.asarray(decoded, dtype=np.float32)
        array = array[..., None] if array.ndim == 2 else array
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 1, 0))) / WHITE


class Resolutiond(Corruptiond):
    """Fewer pixels in the plane, brought back to the size; ``amount``: how many times fewer along each side."""

    least = 1.0

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        size = list(image.shape[1:])
        fewer = [max(1, round(length / self.amount)) for length in size[:2]]
        return resize_linear(resize_linear(image, [*fewer, *size[2:]]), size)
