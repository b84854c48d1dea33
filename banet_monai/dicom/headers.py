"""What a DICOM file says of itself: where it belongs, and facts that name no patient."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from banet_monai.dicom.parsing import DicomReadError, integer, numbers, text, uid

__all__ = ["DICOMDIR_CLASS", "DicomHeader", "header_of"]

DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
CODE = re.compile(r"[A-Z0-9]{1,16}")
NUMBER = re.compile(r"[+-]?\d{1,12}")
LONGEST_DESCRIPTION = 64  # characters: what the type of SeriesDescription allows (PS3.5 section 6.2, LO)

# SOP classes that are no images to segment (PS3.4 annex B.5); a prefix ends in a dot.
NOT_AN_IMAGE = {
    DICOMDIR_CLASS: "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.": "raw data, registration or measurement",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
    "1.2.840.10008.5.1.4.1.1.4.2": "spectroscopy",
    "1.2.840.10008.5.1.4.1.1.88.": "SR",
    "1.2.840.10008.5.1.4.1.1.9.": "waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.481.5": "RTPLAN",
}
# The same by modality, for archives that leave the SOP class empty.
NOT_AN_IMAGE_MODALITIES = ("SEG", "SR", "PR", "KO", "REG", "DOC", "RTDOSE", "RTSTRUCT", "RTPLAN")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PIXEL_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclasses.dataclass(frozen=True)
class DicomHeader:
    """What decides where a file belongs, and what a listing may show of it.

    Args:
        path: the file.
        study: StudyInstanceUID, for grouping and rules only, "" where empty.
        series: SeriesInstanceUID, for grouping and rules only, "" where empty.
        modality: code such as ``CT``, "" where absent or no code.
        series_number: SeriesNumber, None where absent.
        description: SeriesDescription in one line of at most 64 printable characters; for rules and for listings that
            someone asked for, never for messages.
        size: columns and rows.
        frames: number of frames, at least 1.
        spacing: distance between rows, then between columns, mm; () where not stated.
        places: ImagePositionPatient (3) and ImageOrientationPatient (6) of each frame, LPS mm; () where a frame has
            none.
        has_position: whether a place in the patient is stated, be it one that cannot be read.
        is_localizer: whether ImageType calls it a localizer (scout).
        is_capture: whether it is a secondary capture, such as a screen shot.
        not_an_image: why it is no image to segment, "" for images.
    """

    path: Path
    study: str = dataclasses.field(default="", repr=False)
    series: str = dataclasses.field(default="", repr=False)
    modality: str = ""
    series_number: int | None = None
    description: str = dataclasses.field(default="", repr=False)
    size: tuple[int, int] = (0, 0)
    frames: int = 1
    spacing: tuple[float, ...] = ()
    places: tuple[tuple[float, ...], ...] = dataclasses.field(default=(), repr=False)
    has_position: bool = False
    is_localizer: bool = False
    is_capture: bool = False
    not_an_image: str = ""


def header_of(dataset: Dataset, path: Path) -> DicomHeader:
    """The header of a parsed file.

    Raises:
        DicomReadError: when the number of frames, rows or columns is no number.
    """
    modality = text(dataset, "Modality")
    number = text(dataset, "SeriesNumber")
    sop_class = uid(dataset, "SOPClassUID")
    frames = max(1, integer(dataset, "NumberOfFrames", path.name, 1))
    places = _places(dataset, frames)
    return DicomHeader(
        path=path,
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        modality=modality if CODE.fullmatch(modality) else "",
        series_number=int(number) if NUMBER.fullmatch(number) else None,
        description=_description(dataset),
        size=(integer(dataset, "Columns", path.name, 0), integer(dataset, "Rows", path.name, 0)),
        frames=frames,
        spacing=_spacing(dataset),
        places=places,
        has_position=bool(places)
        or (_states(dataset, "ImagePositionPatient") and _states(dataset, "ImageOrientationPatient")),
        is_localizer="LOCALIZER" in _strings(dataset, "ImageType"),
        is_capture=sop_class == SECONDARY_CAPTURE or sop_class.startswith(f"{SECONDARY_CAPTURE}."),
        not_an_image=_not_an_image(dataset, sop_class, modality),
    )


def _not_an_image(dataset: Dataset, sop_class: str, modality: str) -> str:
    for known, kind in NOT_AN_IMAGE.items():
        if sop_class == known or (known.endswith(".") and sop_class.startswith(known)):
            return kind if kind == "DICOMDIR" else f"non-image DICOM object ({kind})"
    is_image = "Rows" in dataset or _is_cut_short(sop_class, modality)
    if not is_image or modality in NOT_AN_IMAGE_MODALITIES:
        return f"non-image DICOM object ({modality if CODE.fullmatch(modality) else 'unknown'})"
    return ""


def _is_cut_short(sop_class: str, modality: str) -> bool:
    """Whether a file without rows is an image that ends in its header, which reading it will say.

    It is of an image class, or ends before it says what it is.
    """
    name = UID(sop_class).name
    return "Image Storage" in name or (name == sop_class and not modality)


def _description(dataset: Dataset) -> str:
    """SeriesDescription without control, format and unassigned characters, which could rewrite a terminal's line."""
    words = " ".join(_strings(dataset, "SeriesDescription"))
    printable = "".join(" " if unicodedata.category(letter).startswith(("C", "Z")) else letter for letter in words)
    return " ".join(printable.split())[:LONGEST_DESCRIPTION].rstrip()


def _strings(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as strings, [] where it is absent, empty or malformed."""
    try:
        value = dataset.get(keyword)
        values = [value] if isinstance(value, str) else list(value or ())
        return [str(item).strip() for item in values]
    except Exception:  # malformed values raise many things, and none of these attributes is essential
        return []


def _states(dataset: Dataset, keyword: str) -> bool:
    """Whether an attribute holds something, be it malformed: reading then names what is wrong with it."""
    try:
        return bool(dataset.get(keyword))
    except Exception:  # pydicom raises whatever the value provokes
        return True


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    try:
        return numbers(dataset, keyword, "", count)
    except DicomReadError:
        return ()


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        sequence: Any = dataset.get(keyword)
        return list(sequence or ())
    except Exception:  # pydicom raises whatever a damaged sequence provokes
        return []


def _spacing(dataset: Dataset) -> tuple[float, ...]:
    """Distance between rows and between columns, mm: in the patient, else at the detector or the scanned film."""
    groups = [
        *_items(dataset, "PerFrameFunctionalGroupsSequence")[:1],
        *_items(dataset, "SharedFunctionalGroupsSequence")[:1],
    ]
    measures = [item for group in groups for item in _items(group, "PixelMeasuresSequence")[:1]]
    stated = [
        *(_numbers(item, "PixelSpacing", 2) for item in measures),
        *(_numbers(dataset, keyword, 2) for keyword in PIXEL_SPACINGS),
    ]
    return next((pair for pair in stated if pair and min(pair) > 0), ())


def _places(dataset: Dataset, frames: int) -> tuple[tuple[float, ...], ...]:
    """Position and orientation of each frame, from its functional groups (PS3.3 section C.7.6.16) or the object."""
    own = _items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = _items(dataset, "SharedFunctionalGroupsSequence")[:1]
    if len(own) >= frames:
        places = [_place([group, *shared]) for group in own[:frames]]
        return tuple(places) if all(places) else ()
    position = _numbers(dataset, "ImagePositionPatient", 3)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    return ((*position, *orientation),) if frames == 1 and position and orientation else ()


def _place(groups: list[Dataset]) -> tuple[float, ...]:
    def stated(sequence: str, keyword: str, count: int) -> tuple[float, ...]:
        items = [item for group in groups for item in _items(group, sequence)[:1]]
        return _numbers(items[0], keyword, count) if items else ()

    position = stated("PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = stated("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    return (*position, *orientation) if position and orientation else ()
