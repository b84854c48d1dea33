"""A dataset in which a case that cannot be read is reported and skipped, while the others are done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset, MetaTensor

from banet_monai.data.failures import failure_reason

__all__ = ["CaseDataset"]

logger = logging.getLogger(__name__)

STAND_IN_SIDE = 32  # pixels; the smallest input that the networks take


class CaseDataset(Dataset):
    """Cases and their transforms; a case whose transforms raise gives a stand-in instead of an exception.

    A stock evaluator stops at the first broken file. Here such a case comes out as a small black image with the reason
    under ``"failure"``, in one line with file names but without paths or anything that the file holds. Good cases carry
    an empty ``"failure"``, so that batches have the same keys. Whoever writes results looks at that key.

    Args:
        data: data dictionaries with the path (or list of paths) of the image under ``"image"``, where there is one the
            mask's under ``"label"``, and a ``"name"`` (default: the image's file name without suffix).
        transform: takes and returns a data dictionary, or returns a list of them.
        channels: channels of the stand-in, as many as the network takes.
        spatial_dims: spatial dimensions of the stand-in, 2 or 3.

    Raises:
        ValueError: when ``channels`` or ``spatial_dims`` is out of range.

    Shapes:
        - item["image"]: what ``transform`` gives; ``(channels, 32, 32[, 32])`` of a stand-in, ``float32`` zeros.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable[[dict[str, Any]], Any],
        *,
        channels: int = 3,
        spatial_dims: int = 2,
    ) -> None:
        if channels < 1 or spatial_dims not in (2, 3):
            raise ValueError(f"need channels >= 1 and spatial_dims 2 or 3, got {channels} and {spatial_dims}.")
        super().__init__(data, transform)
        self.channels = channels
        self.spatial_dims = spatial_dims

    def _transform(self, index: int) -> Any:
        item = dict(self.data[index])
        item.setdefault("name", _name(item.get("image"), index))
        try:
            result = self.transform(dict(item))
            if isinstance(result, list):
                return [{**sample, "failure": ""} for sample in result]
            return {**result, "failure": ""}
        except Exception as error:  # readers and transforms raise what they like
            reason = failure_reason(error, item)
        logger.debug("skipped: %s", reason)  # whoever writes results reports it, without paths where that is wished
        image = MetaTensor(torch.zeros((self.channels, *[STAND_IN_SIDE] * self.spatial_dims)))
        return {"image": image, "name": item["name"], "failure": reason}


def _name(image: object, index: int) -> str:
    first = image[0] if isinstance(image, list | tuple) and image else image
    if not isinstance(first, str | Path):
        return f"case_{index}"
    file_name = Path(first).parent.name if first is not image else Path(first).name
    return file_name[:-7] if file_name.lower().endswith(".nii.gz") else Path(file_name).stem
