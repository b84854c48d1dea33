"""Which corruptions there are, and what their strengths 1 to 5 are in physical terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from banet_monai.bundles import with_hint
from banet_monai.robustness.corruptions import (
    AddNoised,
    Blurd,
    Brightnessd,
    Contrastd,
    Corruptiond,
    Jpegd,
    Resolutiond,
)
from banet_monai.robustness.geometry import SliceThicknessd, Turnd
from banet_monai.robustness.painted import Haird, Inkd, Rulerd

__all__ = ["CLEAN", "CORRUPTIONS", "STRENGTHS", "Condition", "Corruption", "conditions"]

CLEAN = "clean"  # name of the condition without corruption
STRENGTHS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption.

    Attributes:
        title: in words.
        unit: what the amounts are.
        amounts: of the strengths 1 to 5.
        transform: that applies it.
        of: ``"pictures"``, ``"volumes"`` or ``"both"``.
    """

    title: str
    unit: str
    amounts: tuple[float, float, float, float, float]
    transform: type[Corruptiond]
    of: str = "both"


CORRUPTIONS = {
    "noise": Corruption("Noise", "sigma, share of white", (0.01, 0.02, 0.04, 0.08, 0.12), AddNoised),
    "blur": Corruption("Blur", "sigma in pixels", (0.5, 1.0, 2.0, 3.0, 5.0), Blurd),
    "contrast": Corruption("Less contrast", "factor", (0.8, 0.6, 0.45, 0.3, 0.2), Contrastd),
    "dark": Corruption("Darker", "factor", (0.8, 0.6, 0.45, 0.3, 0.2), Brightnessd),
    "bright": Corruption("Brighter", "factor", (1.15, 1.3, 1.5, 1.75, 2.0), Brightnessd),
    "jpeg": Corruption("JPEG", "quality", (60, 40, 20, 10, 5), Jpegd, "pictures"),
    "resolution": Corruption("Resolution", "times fewer pixels a side", (1.5, 2, 4, 6, 8), Resolutiond),
    "rotation": Corruption("Rotation", "degrees", (10, 20, 45, 90, 135), Turnd),
    "hair": Corruption("Hair", "hairs", (10, 20, 40, 70, 100), Haird, "pictures"),
    "ruler": Corruption("Rulers", "rulers", (1, 2, 3, 4, 6), Rulerd, "pictures"),
    "ink": Corruption("Ink", "marks of a pen", (1, 2, 3, 4, 6), Inkd, "pictures"),
    "thickness": Corruption("Thick slices", "times the slice", (1.5, 2, 3, 4, 6), SliceThicknessd, "volumes"),
}


@dataclass(frozen=True)
class Condition:
    """One corruption at one strength.

    Attributes:
        corruption: key of :data:`CORRUPTIONS`, or :data:`CLEAN`.
        strength: 1 to 5; 0 for :data:`CLEAN`.
    """

    corruption: str
    strength: int

    @property
    def amount(self) -> float:
        """The strength in physical terms."""
        return CORRUPTIONS[self.corruption].amounts[self.strength - 1] if self.strength else 0.0

    def transform(self, *, seed: int = 0) -> Corruptiond | None:
        """What corrupts ``"image"``; None where nothing does."""
        if not self.strength:
            return None
        return CORRUPTIONS[self.corruption].transform("image", self.amount, seed=seed)


def conditions(
    corruptions: Sequence[str] | None = None, strengths: Sequence[int] = STRENGTHS, *, volumes: bool = False
) -> list[Condition]:
    """The clean condition, then each corruption at each strength.

    Args:
        corruptions: keys of :data:`CORRUPTIONS`. None: all that fit.
        strengths: out of 1 to 5.
        volumes: whether the images are volumes; else pictures.

    Raises:
        ValueError: for an unknown corruption or strength, or a corruption that these images cannot have.
    """
    kind, other = ("volumes", "pictures") if volumes else ("pictures", "volumes")
    fitting = [name for name, corruption in CORRUPTIONS.items() if corruption.of in ("both", kind)]
    chosen = list(dict.fromkeys(fitting if corruptions is None else corruptions))
    for name in chosen:
        if name not in CORRUPTIONS:
            problem = f"there is no corruption '{name}'"
            raise ValueError(with_hint(problem, name, CORRUPTIONS, end=f"; there are {', '.join(CORRUPTIONS)}."))
        if name not in fitting:
            raise ValueError(f"'{name}' is a corruption of {other}, these are {kind}; they can have {fitting}.")
    steps = sorted(set(strengths))
    if not steps or not set(steps) <= set(STRENGTHS):
        raise ValueError(f"strengths are out of 1 to {STRENGTHS[-1]}, at least one, got {list(strengths)}.")
    return [Condition(CLEAN, 0), *(Condition(name, strength) for name in chosen for strength in steps)]
