"""Which DICOM files belong together: one case per series, per multi-frame object, or per single picture.

Headers alone are read here, without pixel data. Nothing that names a patient is kept.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from banet_monai.dicom.parsing import DicomReadError, in_threads, integer, open_dataset, quiet_pydicom, text, uid

__all__ = ["DicomCase", "DicomFindings", "DicomHeader", "files_below", "find_dicom_cases", "group_headers", "header_of"]

HEADER_TAGS = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "ImageType",
    "NumberOfFrames",
    "Rows",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)
# Modalities whose series are volumes even when a file lacks its position: then reading names what is missing.
VOLUME_MODALITIES = ("CT", "MR", "PT")
CODE = re.compile(r"[A-Z0-9]{1,16}")

# SOP classes that are no images to segment (PS3.4 annex B.5); a prefix ends in a dot.
NOT_AN_IMAGE = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.": "raw data, registration or measurement",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
    "1.2.840.10008.5.1.4.1.1.88.": "SR",
    "1.2.840.10008.5.1.4.1.1.9.": "waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.481.5": "RTPLAN",
}


@dataclasses.dataclass(frozen=True)
class DicomHeader:
    """What decides where a file belongs.

    Args:
        path: the file.
        study: StudyInstanceUID, for grouping only, "" where empty.
        series: SeriesInstanceUID, for grouping only, "" where empty.
        modality: code such as ``CT``, "" where absent or no code.
        series_number: SeriesNumber, None where absent.
        frames: number of frames, at least 1.
        has_position: whether the file states a position and an orientation.
        is_localizer: whether ImageType calls it a localizer (scout).
        not_an_image: why it is no image to segment, "" for images.
    """

    path: Path
    study: str = ""
    series: str = ""
    modality: str = ""
    series_number: int | None = None
    frames: int = 1
    has_position: bool = False
    is_localizer: bool = False
    not_an_image: str = ""


@dataclasses.dataclass(frozen=True)
class DicomCase:
    """The files of one image or volume; ``modality`` and ``series_number`` as in :class:`DicomHeader`."""

    paths: tuple[Path, ...]
    modality: str = ""
    series_number: int | None = None

    def __str__(self) -> str:
        number = "" if self.series_number is None else f" number {self.series_number}"
        files = "1 file" if len(self.paths) == 1 else f"{len(self.paths)} files"
        return f"{self.modality or 'unknown modality'}{number} ({files})"


class DicomFindings(NamedTuple):
    """Cases, and the files that were set aside with the reason."""

    cases: list[DicomCase]
    skipped: list[tuple[Path, str]]


def files_below(folder: Path, exclude: Path | None = None) -> Iterator[Path]:
    """Every file under a folder in path order; links are followed once; ``exclude`` and what is in it is left out."""
    left_out = exclude.resolve() if exclude is not None else None
    seen: set[Path] = set()

    def walk(place: Path) -> Iterator[Path]:
        real = place.resolve()
        if real in seen or real == left_out:
            return
        seen.add(real)
        with os.scandir(place) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            if entry.is_dir():
                yield from walk(Path(entry.path))
            elif entry.is_file():
                yield Path(entry.path)

    return walk(folder)


def header_of(dataset: Dataset, path: Path) -> DicomHeader:
    """The header of a parsed file."""
    modality = text(dataset, "Modality")
    number = text(dataset, "SeriesNumber")
    image_type = dataset.get("ImageType")
    return DicomHeader(
        path=path,
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        modality=modality if CODE.fullmatch(modality) else "",
        series_number=int(number) if re.fullmatch(r"-?\d{1,12}", number) else None,
        frames=max(1, integer(dataset, "NumberOfFrames", path.name, 1)),
        has_position=bool(dataset.get("ImagePositionPatient") and dataset.get("ImageOrientationPatient")),
        is_localizer=not isinstance(image_type, str) and "LOCALIZER" in (image_type or ()),
        not_an_image=_not_an_image(dataset, modality),
    )


def _not_an_image(dataset: Dataset, modality: str) -> str:
    sop_class = uid(dataset, "SOPClassUID")
    for known, kind in NOT_AN_IMAGE.items():
        if sop_class == known or (known.endswith(".") and sop_class.startswith(known)):
            return kind if kind == "DICOMDIR" else f"non-image DICOM object ({kind})"
    if "Rows" not in dataset:
        return f"non-image DICOM object ({modality if CODE.fullmatch(modality) else 'unknown'})"
    return ""


def find_dicom_cases(paths: Sequence[Path], *, workers: int | None = None) -> DicomFindings:
    """Group DICOM files into cases.

    One case per series (by study and series UID) of single-frame images that state where they lie, and per
    multi-frame object or single picture. A file that cannot be parsed is a case of its own: reading it names what
    is wrong.

    Args:
        paths: DICOM files.
        workers: threads that read headers, by default one per core, eight at most.
    """
    with quiet_pydicom():
        return group_headers(in_threads(_read_header, paths, workers))


def _read_header(path: Path) -> DicomHeader | Path:
    try:
        dataset, _ = open_dataset(path, HEADER_TAGS)
        return header_of(dataset, path)
    except (DicomReadError, OSError):
        return path


def group_headers(headers: Iterable[DicomHeader | Path]) -> DicomFindings:
    """Group headers into cases; a path stands for a file that cannot be parsed."""
    cases: list[DicomCase] = []
    skipped: list[tuple[Path, str]] = []
    series: dict[tuple[str, str, str], list[DicomHeader]] = {}
    for header in headers:
        if isinstance(header, Path):
            cases.append(DicomCase((header,)))
        elif header.not_an_image:
            skipped.append((header.path, header.not_an_image))
        elif header.is_localizer:
            skipped.append((header.path, "localizer"))
        else:
            folder = "" if header.series else str(header.path.parent)  # an empty UID does not join folders
            series.setdefault((header.study, header.series, folder), []).append(header)
    for members in series.values():
        cases.extend(_cases_of_series(members))
    return DicomFindings(sorted(cases, key=lambda case: case.paths), sorted(skipped))


def _cases_of_series(members: Sequence[DicomHeader]) -> list[DicomCase]:
    slices: list[DicomHeader] = []
    singles: list[list[DicomHeader]] = []
    for member in members:
        is_slice = member.frames == 1 and (member.has_position or member.modality in VOLUME_MODALITIES)
        if is_slice:
            slices.append(member)
        else:
            singles.append([member])
    groups = [slices, *singles] if slices else singles
    return [
        DicomCase(tuple(sorted(m.path for m in group)), group[0].modality, group[0].series_number) for group in groups
    ]
