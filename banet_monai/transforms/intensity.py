"""From stored values to what the network was trained on, and from mask values to label ids."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from banet_monai.transforms.alignment import in_order_of

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "MaskToIdsd", "NormalizeImaged", "window_to_unit"]

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1], as torchvision's encoders were trained
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's mode "L"
INTENSITIES = ("rgb", "grey", "ct_window", "percentiles")


def window_to_unit(image: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Map ``[low, high]`` linearly to ``[0, 1]`` and clip; a window without width gives zeros."""
    if not high > low:
        return torch.zeros_like(image)
    return ((image - low) / (high - low)).clamp(0.0, 1.0)


def _file_name(image: torch.Tensor) -> str:
    return Path(str(image.meta.get("filename_or_obj", "image"))).name if isinstance(image, MetaTensor) else "image"


class NormalizeImaged(MapTransform):
    """Bring an image to the values and channels that the network was trained on. One rule for the whole image.

    First to ``[0, 1]``, by ``intensity``:

    * ``"rgb"``: by the range of the stored type (8-bit / 255, 16-bit / 65535, 12-bit DICOM / 4095). Where that says
      nothing (float volumes, and signed values such as Hounsfield units) the DICOM window of the file is used, else
      the percentiles of the whole volume, with a warning that names the rule.
    * ``"grey"``: as ``"rgb"``, and colour becomes its luminance (for networks with one channel).
    * ``"ct_window"``: ``window`` in stored units (Hounsfield for CT), clipped.
    * ``"percentiles"``: the percentiles of the whole volume, per channel, clipped.

    Then grey is repeated to ``in_channels``, and ``(x - mean) / std``. A constant image gives a constant result.

    Args:
        keys: keys of channel-first images ``(C, *spatial)``; the result is float32 ``(in_channels, *spatial)``.
        intensity: the rule above.
        in_channels: channels of the network.
        window: centre and width, for ``"ct_window"``.
        percentiles: lower and upper percentile in percent.
        mean: per channel, of values in [0, 1]. None: ImageNet's for three channels, their average for any other number.
        std: like ``mean``.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: when the image has NaN, or channels that do not fit the network, or the options disagree.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        intensity: str = "rgb",
        in_channels: int = 3,
        window: Sequence[float] | None = None,
        percentiles: Sequence[float] = (0.5, 99.5),
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if intensity not in INTENSITIES:
            raise ValueError(f"intensity must be one of {INTENSITIES}, got '{intensity}'.")
        if intensity == "ct_window" and (window is None or len(window) != 2 or window[1] <= 0):
            raise ValueError(f"intensity 'ct_window' needs window=(centre, width > 0), got {window}.")
        if intensity == "grey" and in_channels != 1:
            raise ValueError(f"intensity 'grey' is for networks with one channel, got in_channels={in_channels}.")
        if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles must be two rising numbers in 0..100, got {tuple(percentiles)}.")
        self.intensity = intensity
        self.in_channels = in_channels
        self.window = None if window is None else (float(window[0]), float(window[1]))
        self.percentiles = (float(percentiles[0]), float(percentiles[1]))
        self.mean = self._per_channel(mean, IMAGENET_MEAN)
        self.std = self._per_channel(std, IMAGENET_STD)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.normalize(d[key])
        return d

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """One channel-first image; a ``MetaTensor`` keeps its meta."""
        values = image.as_tensor() if isinstance(image, MetaTensor) else image
        values = values.float()
        # the sum is finite only where all values are, and quick; a sum that overflows is looked at value by value
        if not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
            raise ValueError(f"'{_file_name(image)}' holds NaN or infinite values; replace them before use.")
        values = self._fit_channels(self._to_unit(values, image), image)
        column = (-1, *[1] * (values.ndim - 1))
        mean, std = (torch.tensor(numbers, device=values.device).view(column) for numbers in (self.mean, self.std))
        values = (values - mean) / std
        if not isinstance(image, MetaTensor):
            return values
        return MetaTensor(values, meta=image.meta, applied_operations=image.applied_operations)

    def _per_channel(self, values: Sequence[float] | None, imagenet: tuple[float, ...]) -> tuple[float, ...]:
        if values is None:
            average = sum(imagenet) / len(imagenet)
            return imagenet if self.in_channels == len(imagenet) else (average,) * self.in_channels
        if len(values) != self.in_channels:
            raise ValueError(f"mean and std need {self.in_channels} values, one per channel, got {tuple(values)}.")
        return tuple(float(value) for value in values)

    def _to_unit(self, values: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        if self.intensity == "ct_window" and self.window is not None:
            return _by_window(values, self.window)
        if self.intensity == "percentiles":
            return self._by_percentiles(values)
        meta = image.meta if isinstance(image, MetaTensor) else {}
        low, high = (float(value) for value in meta.get("value_range", (math.nan, math.nan)))
        if low >= 0 and math.isfinite(high):  # nan is not
            return window_to_unit(values, low, high)
        window = [float(value) for value in meta.get("window", ())]
        if len(window) == 2 and all(math.isfinite(value) for value in window) and window[1] > 0:
            logger.warning(
                "'%s': no fixed value range, mapped to [0, 1] by the file's own window (centre %g, width %g).",
                _file_name(image), *window,
            )  # fmt: skip
            return _by_window(values, (window[0], window[1]))
        logger.warning(
            "'%s': no fixed value range, mapped to [0, 1] by the percentiles %g to %g of the whole image.",
            _file_name(image), *self.percentiles,
        )  # fmt: skip
        return self._by_percentiles(values)

    def _by_percentiles(self, values: torch.Tensor) -> torch.Tensor:
        # a copy in the order that the values lie in, which the search for the percentiles may then change
        flat = [channel.numpy().flatten(order="K") for channel in values.cpu()]
        limits = [np.percentile(channel, self.percentiles, overwrite_input=True) for channel in flat]
        return torch.stack([window_to_unit(c, *map(float, limit)) for c, limit in zip(values, limits, strict=True)])

    def _fit_channels(self, values: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        channels = values.shape[0]
        if channels == 4 and self.in_channels in (1, 3) and self.intensity in ("rgb", "grey"):
            values, channels = values[:3], 3  # alpha
        if channels == 3 and self.intensity == "grey":
            return torch.einsum("c,c...->...", torch.tensor(LUMINANCE, device=values.device), values)[None]
        if channels == self.in_channels:
            return values
        if channels == 1:
            return values.expand(self.in_channels, *values.shape[1:])
        hint = "use intensity 'grey', which takes the luminance" if self.in_channels == 1 else "convert the image"
        raise ValueError(
            f"'{_file_name(image)}' has {channels} channels, but the network takes {self.in_channels}; {hint}."
        )


def _by_window(values: torch.Tensor, window: tuple[float, float]) -> torch.Tensor:
    centre, width = window
    return window_to_unit(values, centre - width / 2, centre + width / 2)


class MaskToIdsd(MapTransform):
    """Mask values to label ids 0, 1, 2, … as uint8; {0, 1} and {0, 255} mean the same, JPEG noise is forgiven.

    A volume's mask that is stored in another orientation than its image is turned to it
    (:func:`banet_monai.transforms.alignment.in_order_of`), so that the two have the same voxels.

    Args:
        keys: keys of channel-first masks ``(1, *spatial)``.
        num_classes: foreground classes.
        image_key: the image that the mask must fit; passed over when a record lacks it.
        allow_missing_keys: pass over keys that a record lacks.

    Raises:
        ValueError: naming the file, when the mask has another size or another place than its image, several channels,
            or values that are no label ids.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        num_classes: int = 1,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.num_classes = num_classes
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        from banet_monai.data.masks import mask_ids  # the data package reads files through these transforms

        d = dict(data)
        for key in self.key_iterator(d):
            mask = d[key]
            name = _file_name(mask)
            if mask.shape[0] != 1:
                raise ValueError(f"mask '{name}' has {mask.shape[0]} channels; a mask of label ids has one.")
            image = d.get(self.image_key)
            if isinstance(mask, MetaTensor) and isinstance(image, MetaTensor):
                mask = in_order_of(mask, image)
            if isinstance(image, torch.Tensor) and image.shape[1:] != mask.shape[1:]:
                raise ValueError(
                    f"mask '{name}' is {_size(mask)}, but its image '{_file_name(image)}' is {_size(image)}; "
                    "both need the same size in pixels."
                )
            array: NDArray[Any] = mask.as_tensor().cpu().numpy() if isinstance(mask, MetaTensor) else np.asarray(mask)
            try:
                ids = torch.from_numpy(np.ascontiguousarray(mask_ids(array, num_classes=self.num_classes)))
            except ValueError as error:
                raise ValueError(f"mask '{name}': {error}") from error
            ids = ids.to(torch.uint8)
            is_meta = isinstance(mask, MetaTensor)
            d[key] = MetaTensor(ids, meta=mask.meta, applied_operations=mask.applied_operations) if is_meta else ids
        return d


def _size(image: torch.Tensor) -> str:
    return "x".join(str(size) for size in image.shape[1:])
