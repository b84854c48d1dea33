"""Lookup tables and windows: the modality table and the VOI transforms of PS3.3 sections C.11.1 and C.11.2."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from banet_monai.dicom.attributes import is_big_endian, little_endian_words
from banet_monai.dicom.parsing import DicomReadError, attribute, integer, macro_items, numbers, states, text

__all__ = [
    "LookupTable",
    "Window",
    "lookup_table",
    "modality_table",
    "palette_table",
    "stated_window",
    "voi_transform",
]

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
TABLE_SIZE = 2**16  # entries where the descriptor says 0

Values = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Window:
    """A VOI window; ``centre`` and ``width`` in values after the modality transform.

    Args:
        centre: WindowCenter.
        width: WindowWidth; at least 1 for ``LINEAR``, above 0 for the others.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID`` (PS3.3 section C.11.2.1.2 and C.11.2.1.3).
    """

    centre: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"the VOI LUT function must be one of {FUNCTIONS}, got '{self.function[:16]}'.")
        least = 1.0 if self.function == "LINEAR" else 0.0
        is_wide_enough = self.width >= least if least else self.width > least
        if not (np.isfinite(self.centre) and np.isfinite(self.width) and is_wide_enough):
            raise ValueError(
                f"a window needs a finite centre and, as {self.function}, a width {'of at least 1' if least else '> 0'}"
                f"; got ({self.centre:g}, {self.width:g})."
            )

    def apply(self, values: Values) -> None:
        """Change values to [0, 1] in place."""
        if self.function == "SIGMOID":
            # 1 / (1 + exp(-4 u)) = (1 + tanh(2 u)) / 2, which cannot overflow
            values -= self.centre
            values *= 2.0 / self.width
            np.tanh(values, out=values)
            values += 1.0
            values *= 0.5
            return
        low = self.centre - self.width / 2
        span = self.width - 1 if self.function == "LINEAR" else self.width
        if span == 0:
            values[...] = values > low
            return
        values -= low
        values *= 1.0 / span
        np.clip(values, 0.0, 1.0, out=values)


@dataclasses.dataclass(frozen=True, eq=False)
class LookupTable:
    """A table: value ``first`` becomes ``entries[0]``; values before and after the table take its ends.

    Args:
        first: value of the first entry.
        entries: one number each, or (entry, RGB) of a palette.
    """

    first: int
    entries: NDArray[Any]

    def look_up(self, values: NDArray[Any]) -> NDArray[Any]:
        """Entries at integer values; others are rounded."""
        index = values if values.dtype.kind in "iu" else np.rint(values)
        return self.entries[np.clip(index.astype(np.int64) - self.first, 0, len(self.entries) - 1)]

    def apply(self, values: Values) -> None:
        """Change values to the table's entries, scaled so that they span [0, 1], in place."""
        low, high = float(self.entries.min()), float(self.entries.max())
        values[...] = (self.look_up(values) - low) / ((high - low) or 1.0)


def lookup_table(
    item: Dataset, name: str, *, is_signed: bool, big_endian: bool = False, prefix: str = "LUT"
) -> LookupTable:
    """Read LUTDescriptor and LUTData of a sequence item, or descriptor and data of one colour of a palette.

    Args:
        item: of a Modality or VOI LUT Sequence, or the object with the palette.
        name: base name of the file, for messages.
        is_signed: whether the first mapped value is signed: the descriptor's own type is ambiguous.
        big_endian: whether the file is stored as big endian.
        prefix: of the keywords of both attributes.

    Raises:
        DicomReadError: when either is absent or they contradict each other.
    """
    descriptor = numbers(item, f"{prefix}Descriptor", name, 3)
    data = attribute(item, f"{prefix}Data")
    if not descriptor or not data:
        raise DicomReadError(
            f"'{name}' has a lookup table without {prefix}Descriptor or {prefix}Data; export it again."
        )
    size, first = int(descriptor[0]) or TABLE_SIZE, int(descriptor[1])
    if is_signed and first >= TABLE_SIZE // 2:
        first -= TABLE_SIZE
    if isinstance(data, bytes):  # VR OW: entries of one byte are packed two by two
        data = little_endian_words(data) if big_endian else data
        entries = np.frombuffer(data, "u1" if len(data) <= size + 1 else "<u2")[:size]
    else:
        entries = np.array(numbers(item, f"{prefix}Data", name))[:size]
    if len(entries) != size:
        raise DicomReadError(
            f"'{name}' has a lookup table of {len(entries)} entries where {size} are announced; export it again."
        )
    return LookupTable(first, entries)


def modality_table(dataset: Dataset, name: str) -> LookupTable | None:
    """The Modality LUT, which takes the place of the rescale; None where there is none."""
    sequence = attribute(dataset, "ModalityLUTSequence")
    is_signed = integer(dataset, "PixelRepresentation", name, 0) == 1
    if not sequence:
        return None
    return lookup_table(sequence[0], name, is_signed=is_signed, big_endian=is_big_endian(dataset))


def palette_table(dataset: Dataset, name: str) -> LookupTable | None:
    """The palette of an object as a table of RGB (PS3.3 section C.7.6.3.1.5); None where it is not stored plainly.

    Raises:
        DicomReadError: when a colour is absent, cut short, or has another number of entries.
    """
    if not states(dataset, "RedPaletteColorLookupTableData"):
        return None
    is_signed = integer(dataset, "PixelRepresentation", name, 0) == 1
    red, green, blue = (
        lookup_table(
            dataset,
            name,
            is_signed=is_signed,
            big_endian=is_big_endian(dataset),
            prefix=f"{colour}PaletteColorLookupTable",
        )
        for colour in ("Red", "Green", "Blue")
    )
    if len({(table.first, len(table.entries)) for table in (red, green, blue)}) > 1:
        raise DicomReadError(
            f"'{name}' has a palette whose colours differ in their number of entries; export it again."
        )
    return LookupTable(red.first, np.stack([red.entries, green.entries, blue.entries], axis=-1))


def stated_window(dataset: Dataset, frame: int, name: str) -> Window | None:
    """The first window of a frame, None where there is none that can be used.

    Args:
        dataset: the object.
        frame: index of the frame, from 0.
        name: base name of the file, for messages.
    """
    for place in [*macro_items(dataset, frame, "FrameVOILUTSequence"), dataset]:
        centre, width = (numbers(place, keyword, name) for keyword in ("WindowCenter", "WindowWidth"))
        function = text(place, "VOILUTFunction").upper() or "LINEAR"
        if centre and width:
            try:
                return Window(centre[0], width[0], function)
            except ValueError:
                return None
    return None


def voi_transform(dataset: Dataset, frame: int, name: str, *, is_signed: bool) -> Window | LookupTable:
    """The first VOI LUT of a frame, else its first window.

    Args:
        dataset: the object.
        frame: index of the frame, from 0.
        name: base name of the file, for messages.
        is_signed: whether values after the modality transform can be negative.

    Raises:
        DicomReadError: when the file states neither.
    """
    places: Sequence[Dataset] = [*macro_items(dataset, frame, "FrameVOILUTSequence"), dataset]
    for place in places:
        tables = attribute(place, "VOILUTSequence")
        if tables:
            return lookup_table(tables[0], name, is_signed=is_signed, big_endian=is_big_endian(dataset))
    window = stated_window(dataset, frame, name)
    if window is None:
        raise DicomReadError(
            f"'{name}' states neither a usable window nor a VOI LUT; choose one, as in window=(40, 400), or none."
        )
    return window
