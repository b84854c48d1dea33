"""Random transforms that MONAI lacks. Random choice (``randomize``) and computation (functions) live apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from banet_monai.transforms.painting import keep_meta

__all__ = ["RandColorJitterd", "jitter_color"]


def jitter_color(
    picture: torch.Tensor, *, brightness: float, contrast: float, saturation: float, gains: torch.Tensor
) -> torch.Tensor:
    """Change the look of a picture by one linear map per pixel; geometry stays as it is.

    Args:
        picture: ``(C, *spatial)``, normalised (about zero mean, unit variance).
        brightness: added to every value, in standard deviations; 0 changes nothing.
        contrast: factor on the distance from the picture's mean; 1 changes nothing.
        saturation: factor on the distance of a channel from the grey value of its pixel; 1 changes nothing. Without
            effect on one channel.
        gains: ``(C,)`` factor per channel (colour of the light); 1 changes nothing.

    Returns:
        Tensor of the same shape and type.
    """
    grey = picture.mean(dim=0, keepdim=True)
    level = grey.mean()
    out = grey + saturation * (picture - grey) if picture.shape[0] > 1 else picture
    out = level + contrast * (out - level) + brightness
    return out * gains.to(out).reshape(-1, *([1] * (picture.ndim - 1)))


class RandColorJitterd(RandomizableTransform, MapTransform):
    """Random brightness, contrast, saturation and colour of the light, for normalised pictures and volumes.

    Args:
        keys: keys of the pictures.
        prob: chance that a case is changed.
        brightness: largest shift, in standard deviations.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation.
        gain: largest relative change of a channel.
        allow_missing_keys: as in every MONAI dictionary transform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        *,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.3,
        gain: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.gain = gain
        self.drawn: dict[str, Any] = {}

    def draw(self, channels: int) -> None:
        """Draw the parameters of one case."""
        super().randomize(None)
        if self._do_transform:
            self.drawn = {
                "brightness": float(self.R.uniform(-self.brightness, self.brightness)),
                "contrast": float(self.R.uniform(1 - self.contrast, 1 + self.contrast)),
                "saturation": float(self.R.uniform(1 - self.saturation, 1 + self.saturation)),
                "gains": torch.from_numpy(self.R.uniform(1 - self.gain, 1 + self.gain, size=channels)),
            }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for number, key in enumerate(self.key_iterator(result)):
            picture = result[key]
            if number == 0:
                self.draw(picture.shape[0])
            if not self._do_transform:
                break
            plain = picture.as_tensor() if isinstance(picture, MetaTensor) else picture
            jittered = jitter_color(plain, **self.drawn)
            result[key] = keep_meta(jittered, picture)
        return result
