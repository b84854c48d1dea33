"""The attributes of a dataset as plain numbers and strings: tolerant of what is absent, empty or malformed."""

from __future__ import annotations

import functools
import math
import struct
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian

__all__ = [
    "DicomReadError",
    "attribute",
    "integer",
    "is_big_endian",
    "little_endian_words",
    "macro_items",
    "numbers",
    "states",
    "text",
    "uid",
]

PADDING = " \0"  # of text values to an even length


class DicomReadError(ValueError):
    """A DICOM file cannot be read as an image; the message names the file and what would work, never its contents."""


@functools.lru_cache(maxsize=1024)
def _tag(keyword: str) -> BaseTag:
    number = tag_for_keyword(keyword)
    if number is None:
        raise KeyError(f"'{keyword}' is no DICOM keyword.")
    return Tag(number)


def states(dataset: Dataset, keyword: str) -> bool:
    """Whether an attribute is there, be it empty."""
    return _tag(keyword) in dataset


def attribute(dataset: Dataset, keyword: str) -> Any:
    """The value of an attribute, None where it is absent or empty; several times faster than ``dataset.get``."""
    tag = _tag(keyword)
    return dataset[tag].value if tag in dataset else None


def text(dataset: Dataset, keyword: str) -> str:
    """An attribute as a string, "" where it is absent, empty or malformed."""
    try:
        raw = _unconverted(dataset, keyword)
        stored = raw.value or b"" if raw is not None else b""
        if raw is not None and raw.VR in ("CS", "UI") and b"\\" not in stored:
            return stored.decode("ascii").strip(PADDING)
        value = attribute(dataset, keyword)
    except Exception:  # malformed values raise many things, and none of these attributes is essential
        return ""
    return "" if value is None else str(value).strip()


def _unconverted(dataset: Dataset, keyword: str) -> RawDataElement | None:
    """An element as it stands in the file, None where it is absent or pydicom has turned it into a value.

    pydicom's values cost ten times what it takes to read a number or a code, and a series has thousands of them.
    """
    element: object = dataset.get_item(_tag(keyword))
    return element if isinstance(element, RawDataElement) and element.value is not None else None


def _unconverted_numbers(raw: RawDataElement) -> tuple[float, ...] | None:
    """The numbers of an element of the usual types; None for other types, which pydicom has to convert."""
    value = raw.value or b""
    if raw.VR in ("DS", "IS"):
        words = value.decode("ascii").strip(PADDING)
        return tuple(float(word) for word in words.split("\\")) if words else ()
    if raw.VR in ("US", "SS"):
        kind = "H" if raw.VR == "US" else "h"
        order = "<" if raw.is_little_endian else ">"
        return tuple(map(float, struct.unpack(f"{order}{len(value) // 2}{kind}", value)))
    return None


def uid(dataset: Dataset, keyword: str) -> str:
    """A UID, from the file's own meta group where the dataset leaves it empty."""
    in_file_meta = {"SOPClassUID": "MediaStorageSOPClassUID", "SOPInstanceUID": "MediaStorageSOPInstanceUID"}
    return text(dataset, keyword) or text(dataset.file_meta, in_file_meta.get(keyword, keyword))


def numbers(dataset: Dataset, keyword: str, name: str, count: int | None = None) -> tuple[float, ...]:
    """The numbers of an attribute, ``()`` where it is absent or empty.

    Raises:
        DicomReadError: when they are no numbers, or not ``count`` of them.
    """
    if not states(dataset, keyword):
        return ()
    try:
        raw = _unconverted(dataset, keyword)
        found = _unconverted_numbers(raw) if raw is not None else None
        if found is None:
            value = attribute(dataset, keyword)
            values = (value,) if isinstance(value, (int, float)) else tuple(value or ())
            found = tuple(float(item) for item in values)
    except Exception:  # pydicom's message would quote the value
        raise DicomReadError(f"'{name}': {keyword} does not hold numbers; correct or remove the attribute.") from None
    if found and count is not None and len(found) != count:
        raise DicomReadError(f"'{name}': {keyword} must hold {count} numbers, it holds {len(found)}.")
    return found


def integer(dataset: Dataset, keyword: str, name: str, default: int) -> int:
    """The first number of an attribute as an integer, ``default`` where it is absent or empty."""
    if not states(dataset, keyword):
        return default
    found = numbers(dataset, keyword, name)
    if found and not math.isfinite(found[0]):
        raise DicomReadError(f"'{name}': {keyword} must be a finite number; correct or remove the attribute.")
    return int(found[0]) if found else default


def is_big_endian(dataset: Dataset) -> bool:
    """Whether an object is stored as Explicit VR Big Endian."""
    return text(dataset.file_meta, "TransferSyntaxUID") == ExplicitVRBigEndian


def little_endian_words(data: bytes) -> bytes:
    """A value of VR OW of a big endian file, as a little endian file has it, bytes in its words too (PS3.5 7.3)."""
    return np.frombuffer(data[: len(data) // 2 * 2], "<u2").byteswap().tobytes()


def macro_items(dataset: Dataset, frame: int, sequence: str) -> list[Dataset]:
    """Items of a functional group macro that hold for a frame, its own before the shared one (PS3.3 C.7.6.16).

    Args:
        dataset: an object; one without functional groups has no such items.
        frame: index of the frame, from 0.
        sequence: keyword of the macro's sequence, such as ``PlanePositionSequence``.
    """
    own = attribute(dataset, "PerFrameFunctionalGroupsSequence") or []
    shared = attribute(dataset, "SharedFunctionalGroupsSequence") or []
    groups = [*([own[frame]] if frame < len(own) else []), *shared[:1]]
    found = (attribute(group, sequence) for group in groups)
    return [items[0] for items in found if items]
