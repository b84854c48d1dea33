"""What the official archives of the picture data sets hold: names, parts, pairs and numbers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from banet_monai.data.cases import named
from banet_monai.data.official_files import SourceFile

__all__ = [
    "HIDDEN",
    "ISIC_2017",
    "KVASIR_SEG",
    "OTHER",
    "SHENZHEN",
    "OfficialCases",
    "OfficialSet",
    "find_pairs",
    "keep",
]

HIDDEN = "hidden files"
OTHER = "other files"
UNLISTED = "cases that are not listed"


class Place(NamedTuple):
    """Where an official file belongs: ``part`` train or val, ``kind`` images or masks, and the name of its case."""

    part: str
    kind: str
    case: str


@dataclasses.dataclass(frozen=True)
class OfficialSet:
    """A data set of pictures with masks.

    Args:
        title: its name.
        archives: archive that holds the ``(part, kind)``.
        archive_names: matches the file names of these archives.
        counts: official number of cases of each part.
        place: tells from the name of a file where it belongs, or why it does not.
        mode: ``"RGB"`` or ``"L"``, of pictures that are scaled.
        quality: JPEG quality of pictures that are scaled, that of the pictures behind this project's tables.
    """

    title: str
    archives: Mapping[tuple[str, str], str]
    archive_names: re.Pattern[str]
    counts: Mapping[str, int]
    place: Callable[[str], Place | str]
    mode: str
    quality: int

    @property
    def expected(self) -> str:
        """The archives in words."""
        return ", ".join(dict.fromkeys(self.archives.values()))


@dataclasses.dataclass(frozen=True)
class OfficialCases:
    """Pairs that were found, and files that were left out.

    Args:
        pairs: ``(part, case)`` to its picture (or volume) and its mask.
        left_out: reason to the names of files or cases.
    """

    pairs: Mapping[tuple[str, str], tuple[SourceFile, SourceFile]]
    left_out: dict[str, list[str]]


# ---- the data sets ---------------------------------------------------------------------------------------------------

_ISIC_FOLDER = re.compile(
    r"ISIC-2017_(?P<part>Training|Validation|Test)(?:_v2)?_(?P<content>Data|Part1_GroundTruth)", re.I
)
_ISIC_PARTS = {"training": "train", "validation": "val"}
_ISIC_FILES = {
    "data": ("images", re.compile(r"(ISIC_\d{7})\.jpe?g", re.I)),
    "part1_groundtruth": ("masks", re.compile(r"(ISIC_\d{7})_segmentation\.png", re.I)),
}
_KVASIR_FILE = re.compile(r"(?:.*/)?(?P<kind>images|masks)/(?P<case>c[0-9a-z]{24})\.(?:jpe?g|png)", re.I)
_SHENZHEN_FILE = re.compile(r"(?:.*/)?(?P<case>CHNCXR_\d{4}_[01])(?P<mask>_mask)?\.png", re.I)


def _place_isic(name: str) -> Place | str:
    """The innermost folder that is called as an archive decides; ISIC_1234567 alone stands in every year's set."""
    *folders, file = name.split("/")
    match = next((found for folder in reversed(folders) if (found := _ISIC_FOLDER.match(folder))), None)
    if match is None:
        return OTHER
    part = _ISIC_PARTS.get(match["part"].lower())
    if part is None:
        return "files of the test part"
    kind, pattern = _ISIC_FILES[match["content"].lower()]
    found = pattern.fullmatch(file)
    if found is not None:
        return Place(part, kind, found[1].upper())
    return "superpixel maps" if file.lower().endswith("_superpixels.png") else OTHER


def _place_kvasir(name: str) -> Place | str:
    found = _KVASIR_FILE.fullmatch(name)
    return OTHER if found is None else Place("train", found["kind"].lower(), found["case"])


def _place_shenzhen(name: str) -> Place | str:
    found = _SHENZHEN_FILE.fullmatch(name)
    if found is not None:
        return Place("train", "masks" if found["mask"] else "images", found["case"].upper())
    return "clinical readings" if re.fullmatch(r"CHNCXR_\d{4}_[01]\.txt", name.rpartition("/")[2]) else OTHER


ISIC_2017 = OfficialSet(
    title="ISIC 2017",
    archives={
        ("train", "images"): "ISIC-2017_Training_Data.zip",
        ("train", "masks"): "ISIC-2017_Training_Part1_GroundTruth.zip",
        ("val", "images"): "ISIC-2017_Validation_Data.zip",
        ("val", "masks"): "ISIC-2017_Validation_Part1_GroundTruth.zip",
    },
    archive_names=re.compile(r"ISIC-2017_(Training|Validation)_(Data|Part1_GroundTruth)", re.I),
    counts={"train": 2000, "val": 150},
    place=_place_isic,
    mode="RGB",
    quality=75,
)

KVASIR_SEG = OfficialSet(
    title="Kvasir-SEG",
    archives={("train", "images"): "kvasir-seg.zip", ("train", "masks"): "kvasir-seg.zip"},
    archive_names=re.compile(r"kvasir-seg", re.I),
    counts={"train": 1000},
    place=_place_kvasir,
    mode="RGB",
    quality=75,
)

SHENZHEN = OfficialSet(
    title="the Shenzhen chest X-rays",
    archives={
        ("train", "images"): "ChinaSet_AllFiles.zip",
        ("train", "masks"): "mask.zip (the lung masks CHNCXR_*_mask.png)",
    },
    archive_names=re.compile(r"ChinaSet_AllFiles|masks?\b", re.I),
    counts={"train": 566},
    place=_place_shenzhen,
    mode="L",
    quality=92,
)

# ---- pairs -----------------------------------------------------------------------------------------------------------


def find_pairs(official: OfficialSet, files: Sequence[SourceFile], sources: Sequence[Path]) -> OfficialCases:
    """Pair the pictures of a data set with their masks.

    Args:
        official: the data set.
        files: all files of the sources.
        sources: folders and archives that were asked for.

    Raises:
        ValueError: when a source holds nothing of the data set, pictures or masks of a part are missing altogether, or
            a file stands there twice.
    """
    placed: dict[Place, SourceFile] = {}
    left_out: dict[str, list[str]] = {}
    for file in files:
        place = HIDDEN if file.is_hidden else official.place(file.name)
        if isinstance(place, str):
            left_out.setdefault(place, []).append(file.name)
            continue
        first = placed.setdefault(place, file)
        if first is not file:
            raise ValueError(f"'{first.name}' and '{file.name}' are the same; give each archive or folder once.")
    useful = {file.source for file in placed.values()}
    for source in sources:
        if source not in useful:
            raise ValueError(
                f"'{source.name or source}' holds nothing of {official.title}. Expected are {official.expected}, or "
                "the folders in them."
            )
    _check_parts(official, placed)

    pairs = {}
    for place, file in placed.items():
        other = placed.get(place._replace(kind="masks" if place.kind == "images" else "images"))
        if other is None:
            reason = "pictures without a mask" if place.kind == "images" else "masks without a picture"
            left_out.setdefault(reason, []).append(place.case)
        elif place.kind == "images":
            pairs[place.part, place.case] = (file, other)
    if not pairs:
        raise ValueError(f"no picture of {official.title} has its mask; expected are {official.expected}.")
    return OfficialCases(pairs, left_out)


def _check_parts(official: OfficialSet, placed: Collection[Place]) -> None:
    present = {(place.part, place.kind) for place in placed}
    for part in sorted({part for part, _ in present}):
        for kind in ("images", "masks"):
            if (part, kind) not in present:
                raise ValueError(
                    f"{official.title}: the {kind} of '{part}' are missing; give {official.archives[part, kind]} too."
                )


def keep(found: OfficialCases, only: Collection[str] | None) -> OfficialCases:
    """The cases whose names are listed; all where there is no list.

    Raises:
        ValueError: when a name is listed that was not found.
    """
    if only is None:
        return found
    only = set(only)
    names = {case for _, case in found.pairs}
    if unknown := sorted(only - names):
        raise ValueError(f"{len(unknown)} listed cases are not in the sources, or without a mask: {named(unknown)}.")
    pairs = {place: pair for place, pair in found.pairs.items() if place[1] in only}
    unlisted = sorted(names - only)
    return OfficialCases(pairs, {**found.left_out, **({UNLISTED: unlisted} if unlisted else {})})
