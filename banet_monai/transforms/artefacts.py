"""What lies on the skin or in the dermatoscope and is no lesion: hair, rulers, ink, gel, a dark tube.

Each transform paints over the normalised picture alone and leaves its mask as it is. Lengths are shares of the
picture's short side, so that one setting serves every working size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import NDArray

from banet_monai.transforms.painting import Layer, Stroke, disc_cover, keep_meta, paint, stroke_cover

__all__ = ["RandGeld", "RandHaird", "RandInkd", "RandRulerd", "RandVignetted"]

Floats = NDArray[np.float64]
Range = Sequence[float]

# RGB in [0, 1], as photographs of skin show them
DARK_HAIR = ((0.08, 0.06, 0.06), (0.20, 0.13, 0.09), (0.36, 0.24, 0.16))
LIGHT_HAIR = ((0.90, 0.88, 0.86), (0.84, 0.74, 0.58), (0.72, 0.68, 0.66))
RULER_INK = ((0.10, 0.10, 0.11), (0.25, 0.22, 0.24), (0.92, 0.92, 0.90))
PENS = ((0.38, 0.22, 0.52), (0.24, 0.16, 0.40), (0.16, 0.25, 0.56), (0.12, 0.12, 0.15), (0.14, 0.36, 0.36))
WHITE, DARK_RIM, TUBE = (0.98, 0.98, 0.98), (0.25, 0.18, 0.16), (0.02, 0.02, 0.02)


class _RandLayersd(RandomizableTransform, MapTransform):
    """Draws layers with the random state and paints them over the picture of each key.

    Args:
        keys: keys of normalised pictures ``(1 or 3, x, y)`` of one size.
        prob: chance that a case is painted over.
        label_key: key of the mask ``(1, x, y)``, read by those artefacts that lie about the lesion. None: they lie
            anywhere.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self, keys: KeysCollection, prob: float, *, label_key: str | None = None, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.label_key = label_key

    @abstractmethod
    def draw(self, size: tuple[int, int], mask: torch.Tensor | None) -> list[Layer]:
        """Draw the layers of one case.

        Args:
            size: of the picture, ``(x, y)`` in pixels.
            mask: ``(x, y)`` bool, where the lesion is; None where it is not known.
        """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        layers: list[Layer] | None = None
        for key in self.key_iterator(result):
            picture = result[key].as_tensor() if isinstance(result[key], MetaTensor) else result[key]
            if layers is None:
                layers = self.draw((picture.shape[-2], picture.shape[-1]), self._mask(result))
            result[key] = keep_meta(paint(picture, layers), result[key])
        return result

    def _mask(self, data: Mapping[Hashable, Any]) -> torch.Tensor | None:
        label = None if self.label_key is None else data.get(self.label_key)
        if label is None:
            return None
        return (label.as_tensor() if isinstance(label, MetaTensor) else label)[0] > 0

    def _uniform(self, limits: Range) -> float:
        return float(self.R.uniform(limits[0], limits[1]))

    def _one_of(self, choices: Sequence[Sequence[float]]) -> Sequence[float]:
        return choices[int(self.R.randint(len(choices)))]

    def _place(self, size: Sequence[int]) -> Floats:
        return self.R.uniform(0.0, 1.0, 2) * np.array(size)


class RandHaird(_RandLayersd):
    """Thin curved hairs, dark or light, combed in one direction.

    Args:
        keys: keys of normalised pictures.
        prob: chance that a case is painted over.
        count: fewest and most hairs.
        width: thinnest and thickest hair, shares of the short side.
        length: shortest and longest hair, shares of the short side.
        light: chance that the hairs are blond, grey or white.
        opacity: range that the opacity of all hairs is drawn from.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.3,
        *,
        count: Sequence[int] = (1, 20),
        width: Range = (0.003, 0.009),
        length: Range = (0.3, 1.2),
        light: float = 0.25,
        opacity: Range = (0.5, 0.95),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys=allow_missing_keys)
        self.count, self.width, self.length = tuple(count), tuple(width), tuple(length)
        self.light, self.opacity = light, tuple(opacity)

    def draw(self, size: tuple[int, int], mask: torch.Tensor | None) -> list[Layer]:
        unit, combed = min(size), float(self.R.uniform(0, 2 * np.pi))
        t = np.linspace(0.0, 1.0, 16)[:, None]
        hairs = []
        for _ in range(int(self.R.randint(self.count[0], self.count[1] + 1))):
            angle = combed + 0.5 * float(self.R.randn())
            step = unit * self._uniform(self.length) * np.array([np.cos(angle), np.sin(angle)])
            across = np.array([-step[1], step[0]])
            bend, curl = 0.25 * float(self.R.randn()), 0.05 * float(self.R.randn())
            curve = self._place(size) + step * (t - 0.5)
            curve = curve + across * (bend * 4 * t * (1 - t) + curl * np.sin(2 * np.pi * t))
            hairs.append(Stroke(curve, unit * self._uniform(self.width)))
        colours = LIGHT_HAIR if self.R.rand() < self.light else DARK_HAIR
        return [Layer(stroke_cover(size, hairs) * self._uniform(self.opacity), self._one_of(colours))]


class RandRulerd(_RandLayersd):
    """The ticks of a ruler along one side, with or without a base line, every fifth or tenth tick longer.

    Args:
        keys: keys of normalised pictures.
        prob: chance that a case is painted over.
        pitch: distance between ticks, shares of the short side.
        tilt: standard deviation of the ruler's angle to the side, in radians.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.15,
        *,
        pitch: Range = (0.02, 0.06),
        tilt: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys=allow_missing_keys)
        self.pitch, self.tilt = tuple(pitch), tilt

    def draw(self, size: tuple[int, int], mask: torch.Tensor | None) -> list[Layer]:
        unit, axis = min(size), int(self.R.randint(2))
        angle = axis * np.pi / 2 + self.tilt * float(self.R.randn())
        along = np.array([np.cos(angle), np.sin(angle)])
        inwards = np.array([-along[1], along[0]]) * (1.0 if self.R.rand() < 0.5 else -1.0)
        # The base line passes this far before the centre; ticks point to the centre.
        centre = np.array(size) / 2 - inwards * self._uniform((0.28, 0.47)) * size[1 - axis]
        pitch, tick, width = (unit * self._uniform(limits) for limits in (self.pitch, (0.02, 0.06), (0.003, 0.007)))
        half = min(int(self._uniform((0.2, 0.7)) * size[axis] / pitch), 40)
        major = 5 if self.R.rand() < 0.5 else 10
        strokes = []
        for number in range(-half, half + 1):
            foot = centre + along * pitch * number
            reach = tick * (1.0 if number % major == 0 else 0.75 if number % 5 == 0 else 0.5)
            strokes.append(Stroke(np.stack([foot, foot + inwards * reach]), width))
        if self.R.rand() < 0.5:
            strokes.append(Stroke(np.stack([centre - along * pitch * half, centre + along * pitch * half]), width))
        return [Layer(stroke_cover(size, strokes) * self._uniform((0.5, 0.95)), self._one_of(RULER_INK))]


class RandInkd(_RandLayersd):
    """Marks of a surgeon's pen: a ring or its parts about the lesion, or a few strokes beside it.

    Args:
        keys: keys of normalised pictures.
        prob: chance that a case is painted over.
        width: thinnest and thickest line, shares of the short side.
        opacity: range that the opacity is drawn from; ink lets the skin through.
        label_key: key of the mask; a ring is drawn about its centre and outside it. None, or an empty mask: anywhere.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.15,
        *,
        width: Range = (0.008, 0.035),
        opacity: Range = (0.35, 0.85),
        label_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, label_key=label_key, allow_missing_keys=allow_missing_keys)
        self.width, self.opacity = tuple(width), tuple(opacity)

    def draw(self, size: tuple[int, int], mask: torch.Tensor | None) -> list[Layer]:
        unit = min(size)
        centre, radii = self._around(size, mask)
        width = unit * self._uniform(self.width)
        strokes = []
        if self.R.rand() < 0.5:  # a ring in pieces
            pieces = int(self.R.randint(1, 7))
            filled = self._uniform((0.3, 1.0)) * 2 * np.pi / pieces
            for number in range(pieces):
                start = self.R.uniform(0, 0.5) + 2 * np.pi * number / pieces
                arc = start + np.linspace(0.0, filled, 24)
                wobble = 1 + 0.04 * np.sin(3 * arc + self.R.uniform(0, 6)) + 0.02 * self.R.randn()
                circle = np.stack([np.cos(arc), np.sin(arc)], axis=1)
                strokes.append(Stroke(centre + circle * radii * wobble[:, None], width))
        else:
            for _ in range(int(self.R.randint(1, 5))):
                place, turn = (float(self.R.uniform(0, 2 * np.pi)) for _ in range(2))
                middle = centre + np.array([np.cos(place), np.sin(place)]) * radii * self._uniform((1.0, 1.5))
                t = np.linspace(-0.5, 0.5, 8)[:, None] * unit * self._uniform((0.05, 0.35))
                strokes.append(Stroke(middle + t * [np.cos(turn), np.sin(turn)] + t**2 / unit * self.R.randn(2), width))
        cover = stroke_cover(size, strokes) * self._uniform(self.opacity)
        return [Layer(cover * self._blotches(size), self._one_of(PENS))]

    def _around(self, size: Sequence[int], mask: torch.Tensor | None) -> tuple[Floats, Floats]:
        """Centre and radii, in pixels, of a ring that encloses the lesion where one is known."""
        unit = min(size)
        if mask is not None and bool(mask.any()):
            spans = [np.flatnonzero(mask.any(dim=1 - axis).numpy()) for axis in range(2)]
            centre = np.array([(span[0] + span[-1]) / 2 for span in spans])
            radii = np.array([(span[-1] - span[0] + 1) / 2 for span in spans])
            return centre, radii * self._uniform((1.15, 1.5)) + 0.03 * unit
        return self._place(size), unit * self.R.uniform(0.15, 0.5, 2)

    def _blotches(self, size: Sequence[int]) -> torch.Tensor:
        """Smooth unevenness of the ink, in [0.5, 1]."""
        coarse = torch.from_numpy(self.R.uniform(0.5, 1.0, (1, 1, 7, 7)).astype(np.float32))
        return torch.nn.functional.interpolate(coarse, size=tuple(size), mode="bilinear", align_corners=True)[0, 0]


class RandGeld(_RandLayersd):
    """Rims of gel or of a glass plate: some bubbles, or one large rim that crosses the picture.

    A rim is dark with a bright reflection along a part of it; what it encloses is slightly lighter or darker.

    Args:
        keys: keys of normalised pictures.
        prob: chance that a case is painted over.
        bubbles: fewest and most bubbles.
        large: chance of one large rim instead of bubbles.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.15,
        *,
        bubbles: Sequence[int] = (1, 8),
        large: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys=allow_missing_keys)
        self.bubbles, self.large = tuple(bubbles), large

    def draw(self, size: tuple[int, int], mask: torch.Tensor | None) -> list[Layer]:
        unit = min(size)
        insides, rims, lights = [], [], []
        is_large = bool(self.R.rand() < self.large)
        for _ in range(1 if is_large else int(self.R.randint(self.bubbles[0], self.bubbles[1] + 1))):
            radius = unit * self._uniform((0.4, 1.3) if is_large else (0.015, 0.12))
            width = unit * self._uniform((0.006, 0.02) if is_large else (0.004, 0.009))
            centre = self._place(size)
            if is_large:  # moved outwards, so that the rim and not the inside crosses the picture
                centre += (centre - np.array(size) / 2) * self._uniform((0.5, 1.5))
            outline = self._outline(centre, radius, squareness=self._uniform((2.0, 4.0)) if is_large else 2.0)
            insides.append(Stroke(outline, filled=True))
            rims.append(Stroke(outline, width))
            first, part = int(self.R.randint(len(outline))), int(self._uniform((0.2, 0.7)) * len(outline))
            inner = centre + (outline - centre) * max(0.0, 1 - width / radius)
            lights.append(Stroke(np.roll(inner, -first, axis=0)[: max(part, 2)], 0.7 * width))
        inside = WHITE if self.R.rand() < 0.5 else DARK_RIM
        return [
            Layer(stroke_cover(size, insides) * self._uniform((0.0, 0.15)), inside),
            Layer(stroke_cover(size, rims) * self._uniform((0.15, 0.55)), DARK_RIM),
            Layer(stroke_cover(size, lights) * self._uniform((0.3, 0.9)), WHITE),
        ]

    def _outline(self, centre: Floats, radius: float, *, squareness: float) -> Floats:
        """A closed superellipse: ``squareness`` 2 is an ellipse, more comes closer to a rectangle."""
        angle = np.linspace(0.0, 2 * np.pi, 64)
        shape = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        shape = np.sign(shape) * np.abs(shape) ** (2 / squareness) * [1.0, self._uniform((0.7, 1.0))]
        turn = self.R.uniform(0, np.pi)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return np.asarray(centre + radius * shape @ rotation.T)


class RandVignetted(_RandLayersd):
    """The dark tube of a dermatoscope: everything outside a disc is black, or at least darker.

    Args:
        keys: keys of normalised pictures.
        prob: chance that a case is painted over.
        radius: of the disc, shares of the short side; the corners of a square lie at 0.71.
        offset: largest distance of the disc's centre from the picture's along each axis, share of the short side.
        opacity: range that the darkness is drawn from; 1 is black.
        label_key: key of the mask; the disc is made so large that the whole lesion stays inside. None: the tube may
            hide parts of a lesion that its mask still holds.
        allow_missing_keys: pass over keys that a record lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.15,
        *,
        radius: Range = (0.5, 0.7),
        offset: float = 0.08,
        opacity: Range = (0.4, 1.0),
        label_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, label_key=label_key, allow_missing_keys=allow_missing_keys)
        self.radius, self.offset, self.opacity = tuple(radius), offset, tuple(opacity)

    def draw(self, size: tuple[int, int], mask: torch.Tensor | None) -> list[Layer]:
        unit = min(size)
        centre = (np.array(size) - 1) / 2 + unit * self.R.uniform(-self.offset, self.offset, 2)
        radius, softness = unit * self._uniform(self.radius), unit * self._uniform((0.005, 0.06))
        if mask is not None and bool(mask.any()):
            places = mask.nonzero().numpy()
            radius = max(radius, float(np.sqrt(((places - centre) ** 2).sum(axis=1).max())) + softness)
        return [Layer(disc_cover(size, centre.tolist(), radius, softness) * self._uniform(self.opacity), TUBE)]
