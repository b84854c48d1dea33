"""What a segment is called: labels and SNOMED CT codes of each task, for the Segment Sequence (PS3.3 C.8.20.4).

Codes are literal, as PS3.16 prints them (CID 7150 categories, CID 7151 types, CID 2 modifiers); "SCT" is SNOMED CT.
"""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid

if TYPE_CHECKING:
    from pydicom.sr.coding import Code as PydicomCode

__all__ = [
    "ALGORITHM_FAMILY",
    "ALGORITHM_NAME",
    "SEGMENTS",
    "Code",
    "Segment",
    "described",
    "load_highdicom",
    "segments_of",
    "stated",
]

ALGORITHM_NAME = "BA-Net"

LONGEST_CODE, LONGEST_SCHEME, LONGEST_TEXT = 16, 16, 64  # characters of the VRs SH and LO (PS3.5 table 6.2-1)


def _check_text(text: str, what: str, longest: int) -> None:
    if not text.strip() or len(text) > longest or "\\" in text or not text.isprintable():
        raise ValueError(
            f"a segment's {what} must be 1 to {longest} printable characters without a backslash, got {text!r}."
        )


class Code(NamedTuple):
    """One coded concept.

    Args:
        value: CodeValue, 16 characters at most.
        scheme: CodingSchemeDesignator, such as ``"SCT"``.
        meaning: CodeMeaning, in words, 64 characters at most.
    """

    value: str
    scheme: str
    meaning: str

    def for_pydicom(self) -> PydicomCode:
        """As pydicom and highdicom take it."""
        from pydicom.sr.coding import Code as PydicomCode  # here, since it loads all concepts that DICOM knows

        return PydicomCode(self.value, self.scheme, self.meaning)


@dataclass(frozen=True)
class Segment:
    """One segment: what foreground of one label id shows.

    Args:
        label: name shown to people, 64 characters at most.
        type: segmented property type, such as lung.
        category: segmented property category, such as anatomical structure.
        modifier: narrows the type, such as anterior.
        color: recommended display colour, RGB, 0 to 255; None leaves the choice to the viewer.
        region: anatomic region the segment lies in, where the type does not say it.

    Raises:
        ValueError: a text that is empty, too long or holds a backslash (DICOM's separator), or a colour out of range.
    """

    label: str
    type: Code
    category: Code
    modifier: Code | None = None
    color: tuple[int, int, int] | None = None
    region: Code | None = None

    def __post_init__(self) -> None:
        _check_text(self.label, "label", LONGEST_TEXT)
        for name in ("type", "category", "modifier", "region"):
            code = getattr(self, name)
            if code is not None:
                _check_text(code.value, f"{name} value", LONGEST_CODE)
                _check_text(code.scheme, f"{name} scheme", LONGEST_SCHEME)
                _check_text(code.meaning, f"{name} meaning", LONGEST_TEXT)
        rgb: Sequence[int] = (0, 0, 0) if self.color is None else self.color
        if len(rgb) != 3 or not all(0 <= part <= 255 for part in rgb):
            raise ValueError(f"a segment's color must be three numbers from 0 to 255, got {rgb}.")


UNKNOWN = Code("unknown", "99UNKNOWN", "not stated")  # for reading
CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")

ALGORITHM_FAMILY = Code("123110", "DCM", "Artificial Intelligence")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
ABNORMALITY = Code("49755003", "SCT", "Morphologically Abnormal Structure")
SKIN = Code("39937001", "SCT", "Skin")
LUNG = Code("39607008", "SCT", "Lung")
HIPPOCAMPUS = Code("5366008", "SCT", "Hippocampus")
GREEN, ORANGE = (0, 255, 160), (230, 159, 0)  # the first two colours of the overlays

SEGMENTS: dict[str, tuple[Segment, ...]] = {
    "skin_lesion": (
        Segment("Skin lesion", Code("95324001", "SCT", "Skin lesion"), ABNORMALITY, color=GREEN, region=SKIN),
    ),
    "polyp": (Segment("Polyp", Code("41329004", "SCT", "Polyp"), ABNORMALITY, color=GREEN),),
    "lung": (Segment("Lung", LUNG, ANATOMY, color=GREEN),),
    "hippocampus": (
        Segment("Anterior hippocampus", HIPPOCAMPUS, ANATOMY, Code("255549009", "SCT", "Anterior"), GREEN),
        Segment("Posterior hippocampus", HIPPOCAMPUS, ANATOMY, Code("255551008", "SCT", "Posterior"), ORANGE),
    ),
}


def segments_of(task: str | Segment | Sequence[Segment | Mapping[str, Any]]) -> tuple[Segment, ...]:
    """The segments of a task; the first belongs to label id 1, the second to 2, and so on.

    Args:
        task: a name of :data:`SEGMENTS`, or segments, or mappings as a configuration holds them::

            [{"label": "Spleen", "type": ["78961009", "SCT", "Spleen"],
              "category": ["91723000", "SCT", "Anatomical Structure"], "color": [157, 108, 162]}]

            Keys are the fields of :class:`Segment`; a code is (value, scheme, meaning) or a mapping with these keys.

    Raises:
        ValueError: an unknown task or field (with the nearest right one), a missing field, or no segment at all.
    """
    if isinstance(task, str):
        if task not in SEGMENTS:
            raise ValueError(
                f"there is no task '{task}'{_nearest(task, SEGMENTS)} Known tasks: {', '.join(SEGMENTS)}; or give the "
                "segments themselves (label, type, category)."
            )
        return SEGMENTS[task]
    described = [task] if isinstance(task, (Segment, Mapping)) else list(task)
    if not described:
        raise ValueError("a segmentation needs at least one segment, got an empty list.")
    return tuple(item if isinstance(item, Segment) else _from_mapping(item, k + 1) for k, item in enumerate(described))


def load_highdicom() -> Any:
    """The package highdicom, imported on first use: nothing on the way from configuration to prediction needs it.

    Raises:
        ImportError: when it is not installed or too old for the installed pydicom; says what to install.
    """
    remedy = 'DICOM SEG needs highdicom 0.26 or later with pydicom 3: pip install "banet-monai[dicom]"'
    if int(pydicom.__version__.split(".")[0]) < 3:
        raise ImportError(f"pydicom {pydicom.__version__} is too old here. {remedy}.")
    logging.getLogger("highdicom").setLevel(logging.ERROR)  # its lines of level INFO quote UIDs of the source
    try:
        return importlib.import_module("highdicom")
    except ImportError as error:
        raise ImportError(f"highdicom cannot be imported ({error}). {remedy}.") from error


def described(segments: Sequence[Segment], *, version: str, tracking: bool = False) -> list[Dataset]:
    """Items of the Segment Sequence, numbered from 1, made by the algorithm BA-Net.

    Args:
        segments: in the order of the label ids.
        version: AlgorithmVersion.
        tracking: whether each gets a tracking identifier and a new tracking UID.
    """
    hd = load_highdicom()
    algorithm = hd.AlgorithmIdentificationSequence(
        name=ALGORITHM_NAME, family=ALGORITHM_FAMILY.for_pydicom(), version=version
    )
    items: list[Dataset] = []
    for number, segment in enumerate(segments, start=1):
        item = hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=segment.category.for_pydicom(),
            segmented_property_type=segment.type.for_pydicom(),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_id=f"{segment.label} {number}" if tracking else None,
            tracking_uid=generate_uid() if tracking else None,
            anatomic_regions=[segment.region.for_pydicom()] if segment.region else None,
            display_color=hd.color.CIELabColor.from_rgb(*segment.color) if segment.color else None,
        )
        if segment.modifier:  # highdicom takes none
            modifier = hd.sr.CodedConcept.from_code(segment.modifier.for_pydicom())
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = Items([modifier])
        items.append(item)
    return items


def stated(item: Dataset) -> Segment:
    """The segment that an item of the Segment Sequence states; what it leaves out is said to be unknown."""
    types = item.get("SegmentedPropertyTypeCodeSequence") or []
    kind = _first_code(types) or UNKNOWN
    lab = item.get("RecommendedDisplayCIELabValue")
    color = load_highdicom().color.CIELabColor.from_dicom_value(lab).to_rgb() if lab else None
    return Segment(
        label=_readable(item.get("SegmentLabel"), LONGEST_TEXT, kind.meaning),
        type=kind,
        category=_first_code(item.get("SegmentedPropertyCategoryCodeSequence")) or UNKNOWN,
        modifier=_first_code(types[0].get("SegmentedPropertyTypeModifierCodeSequence")) if types else None,
        color=None if color is None else (int(color[0]), int(color[1]), int(color[2])),
        region=_first_code(item.get("AnatomicRegionSequence")),
    )


def _first_code(items: Sequence[Dataset] | None) -> Code | None:
    if not items:
        return None
    value = next((items[0].get(name) for name in CODE_VALUES if items[0].get(name)), None)
    return Code(
        _readable(value, LONGEST_CODE, UNKNOWN.value),
        _readable(items[0].get("CodingSchemeDesignator"), LONGEST_SCHEME, UNKNOWN.scheme),
        _readable(items[0].get("CodeMeaning"), LONGEST_TEXT, UNKNOWN.meaning),
    )


def _readable(value: Any, longest: int, otherwise: str) -> str:
    printable = "".join(letter for letter in str(value or "") if letter.isprintable()).replace("\\", "/")
    return printable[:longest].strip() or otherwise


def _from_mapping(described: Mapping[str, Any], number: int) -> Segment:
    if not isinstance(described, Mapping):
        raise ValueError(
            f"segment {number} must be a mapping with label, type and category, got {type(described).__name__}."
        )
    names = [field.name for field in fields(Segment)]
    for name in described:
        if name not in names:
            raise ValueError(
                f"segment {number} has an unknown field '{name}'{_nearest(str(name), names)} Fields: "
                f"{', '.join(names)}."
            )
    lacking = [name for name in ("label", "type", "category") if not described.get(name)]
    if lacking:
        raise ValueError(f"segment {number} lacks {', '.join(lacking)}; label, type and category are needed.")
    codes = {
        name: _code(described[name], name, number)
        for name in ("type", "category", "modifier", "region")
        if described.get(name)
    }
    color = described.get("color")
    rgb = None if color is None else (int(color[0]), int(color[1]), int(color[2]))
    return Segment(str(described["label"]), color=rgb, **codes)


def _code(given: Any, name: str, number: int) -> Code:
    parts = [given.get(key) for key in Code._fields] if isinstance(given, Mapping) else given
    if isinstance(parts, str) or not isinstance(parts, Sequence) or len(parts) != 3 or not all(parts):
        raise ValueError(
            f"the {name} of segment {number} must be a code of three parts (value, scheme, meaning), got {given!r}; "
            'what would work: ["39607008", "SCT", "Lung"].'
        )
    return Code(*(str(part) for part in parts))


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else "."
