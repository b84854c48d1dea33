"""What the data modules hand to each other: a case, and what was found in a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Case", "Inventory", "case_number", "leaves_folder", "named"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One image with its mask.

    Args:
        image: path of the picture or volume, or of the folder of a DICOM series.
        label: path of the mask.
        name: name of the case, by default the image's file name without suffix.
        group: patient or sequence, "" where none is known.
        split: "train", "val", "test", or "" where the data bring no split.
        fold: cross-validation fold, "" where none is known.
    """

    image: str
    label: str
    name: str
    group: str = ""
    split: str = ""
    fold: str = ""

    def as_item(self) -> dict[str, str]:
        """The case as a MONAI data dictionary: ``image``, ``label`` and ``name``."""
        return {"image": self.image, "label": self.label, "name": self.name}

    def on_side(self, split: str) -> Case:
        """The same case with its split stated."""
        return dataclasses.replace(self, split=split)


class Inventory(NamedTuple):
    """Cases that were found, and problems in words: files without a partner, names that stand twice."""

    cases: list[Case]
    problems: list[str]


def case_number(number: int) -> str:
    """What stands for the name of a case where names shall not be told: ``case-0001`` is the first."""
    return f"case-{number:04d}"


def leaves_folder(name: str) -> bool:
    """Whether a result of this name would lie outside the folder of results, or beside it (``"."``)."""
    path = Path(name)
    return path.is_absolute() or ".." in path.parts or (name != "" and not path.parts)


def named(things: Sequence[str], most: int = 10) -> str:
    """The first ``most`` of ``things`` in one line, and how many more there are."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return "; ".join(things[:most]) + more
