"""Hair, rulers and ink over a picture: the artefacts of training, in stated numbers and by a seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor

from banet_monai.robustness.corruptions import Corruptiond
from banet_monai.transforms.artefacts import RandHaird, RandInkd, RandRulerd
from banet_monai.transforms.intensity import IMAGENET_MEAN, IMAGENET_STD
from banet_monai.transforms.painting import Layer, paint

__all__ = ["Haird", "Inkd", "Rulerd"]


class _Paintedd(Corruptiond):
    """A number of marks painted over a picture ``(1 or 3, x, y)``; fewer marks are the first ones of more.

    Args:
        keys: keys of pictures.
        amount: how many marks.
        label_key: key of the mask ``(1, x, y)`` on the same grid, for marks that lie about the lesion.
        seed: of where they lie.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        amount: float,
        *,
        label_key: str = "label",
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, amount, seed=seed, allow_missing_keys=allow_missing_keys)
        self.label_key = label_key
        self._mask: torch.Tensor | None = None

    @abstractmethod
    def layers(self, size: tuple[int, int], state: np.random.RandomState, mask: torch.Tensor | None) -> list[Layer]:
        """Draw the marks."""

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        label = data.get(self.label_key)
        if isinstance(label, torch.Tensor):
            self._mask = (label.as_tensor() if isinstance(label, MetaTensor) else label)[0] > 0
        try:
            return super().__call__(data)
        finally:
            self._mask = None

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        state = np.random.RandomState(int(rng.integers(2**32)))
        # painting works on normalised values
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        if image.shape[0] == 1:
            mean, std = mean.mean(), std.mean()
        painted = paint((image - mean) / std, self.layers((image.shape[-2], image.shape[-1]), state, self._mask))
        return painted * std + mean


class Haird(_Paintedd):
    """Dark hairs, half to fully opaque; ``amount``: how many.

    Colour and opacity are drawn after the hairs, and so are others for another number of them.
    """

    def layers(self, size: tuple[int, int], state: np.random.RandomState, mask: torch.Tensor | None) -> list[Layer]:
        count = round(self.amount)
        painter = RandHaird("image", 1.0, count=(count, count), light=0.0)
        painter.set_random_state(state=state)
        return painter.draw(size, mask) if count else []


class Rulerd(_Paintedd):
    """Rulers at the sides; ``amount``: how many."""

    def layers(self, size: tuple[int, int], state: np.random.RandomState, mask: torch.Tensor | None) -> list[Layer]:
        painter = RandRulerd("image", 1.0)
        painter.set_random_state(state=state)
        return [layer for _ in range(round(self.amount)) for layer in painter.draw(size, mask)]


class Inkd(_Paintedd):
    """Marks of a pen about the lesion (rings in pieces, strokes beside it); ``amount``: how many."""

    def layers(self, size: tuple[int, int], state: np.random.RandomState, mask: torch.Tensor | None) -> list[Layer]:
        painter = RandInkd("image", 1.0)
        painter.set_random_state(state=state)
        return [layer for _ in range(round(self.amount)) for layer in painter.draw(size, mask)]
