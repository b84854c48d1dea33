"""Which DICOM files belong together: one case per series, per multi-frame object, or per single picture.

Each file is parsed once, without its pixel data, and what was parsed is kept for the reader. Nothing that names a
patient is shown.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from banet_monai.dicom.headers import DicomHeader, header_of
from banet_monai.dicom.parsing import in_threads, open_dataset, quiet_pydicom
from banet_monai.dicom.selection import NOT_CHOSEN, SeriesRule, is_chosen
from banet_monai.files import MANIFEST, is_result_folder

__all__ = ["DicomCase", "DicomFindings", "DicomHeader", "files_below", "find_dicom_cases", "group_headers", "header_of"]

# Modalities whose series are volumes even when a file lacks its position: then reading names what is missing.
VOLUME_MODALITIES = ("CT", "MR", "PT")
SAME_DIRECTION = 1e-3  # direction cosines that differ by more are two directions
DIGITS = 6  # of spacings in mm that are shown


@dataclasses.dataclass(frozen=True)
class DicomCase:
    """The files of one image or volume, and what a listing may show of it.

    Args:
        paths: its files, in path order.
        modality: code such as ``CT``, "" where absent.
        series_number: SeriesNumber, None where absent.
        description: SeriesDescription as :class:`~banet_monai.dicom.headers.DicomHeader` cleans it. It is free text
            that people write: show it only where someone asked for a listing, never in messages or manifests.
        size: columns and rows; those of most files where they differ.
        frames: number of slices or frames.
        spacing: distance between rows, then columns, then slices, mm. Two numbers where slices have no usual
            distance, () where none is stated.
        kind: ``"series"`` of slices, ``"multi-frame"`` object, ``"picture"``, or "" for a file that cannot be parsed.
        study: StudyInstanceUID, for rules only.
        series: SeriesInstanceUID, for rules only.
    """

    paths: tuple[Path, ...]
    modality: str = ""
    series_number: int | None = None
    description: str = dataclasses.field(default="", repr=False)
    size: tuple[int, int] = (0, 0)
    frames: int = 1
    spacing: tuple[float, ...] = ()
    kind: str = ""
    study: str = dataclasses.field(default="", repr=False)
    series: str = dataclasses.field(default="", repr=False)

    def __str__(self) -> str:
        number = "" if self.series_number is None else f" number {self.series_number}"
        files = "1 file" if len(self.paths) == 1 else f"{len(self.paths)} files"
        return f"{self.modality or 'unknown modality'}{number} ({files})"


class DicomFindings(NamedTuple):
    """Cases, and the files that were set aside with the reason."""

    cases: list[DicomCase]
    skipped: list[tuple[Path, str]]


def files_below(folder: Path, exclude: Path | None = None) -> Iterator[Path]:
    """Every file under a folder in path order; links are followed once; ``exclude`` and what is in it is left out.

    A folder inside it that may not be read, or that holds the results of an earlier run, is given itself, so that
    whoever asks can say so.
    """
    left_out = exclude.resolve() if exclude is not None else None
    seen: set[Path] = set()

    def walk(place: Path) -> Iterator[Path]:
        real = place.resolve()
        if real in seen or real == left_out:
            return
        seen.add(real)
        try:
            with os.scandir(place) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError:  # no permission, or a folder of a network that is gone
            if place == folder:
                raise
            yield place
            return
        if place != folder and any(entry.name == MANIFEST for entry in ordered) and is_result_folder(place):
            yield place
            return
        for entry in ordered:
            if _is(entry.is_dir):
                yield from walk(Path(entry.path))
            elif _is(entry.is_file):
                yield Path(entry.path)

    return walk(folder)


def _is(kind: Callable[[], bool]) -> bool:
    """What an entry of a folder is; nothing, where a link leads in a circle or its place cannot be reached."""
    try:
        return kind()
    except OSError:
        return False


def find_dicom_cases(
    paths: Sequence[Path], *, rules: Sequence[SeriesRule] = (), workers: int | None = None
) -> DicomFindings:
    """Group DICOM files into cases.

    One case per series (by study and series UID) of single-frame images that state where they lie, and per
    multi-frame object or single picture. A file that cannot be parsed is a case of its own: reading it names what
    is wrong.

    Args:
        paths: DICOM files.
        rules: which series are wanted, from :func:`~banet_monai.dicom.selection.parse_rules`; the files of all others
            are skipped, and so are files that cannot be parsed. All are wanted by default.
        workers: threads that parse, by default one per core, eight at most.
    """
    with quiet_pydicom():
        cases, skipped = group_headers(in_threads(_read_header, paths, workers))
    left = [(path, NOT_CHOSEN) for case in cases if not is_chosen(case, rules) for path in case.paths]
    return DicomFindings([case for case in cases if is_chosen(case, rules)], sorted([*skipped, *left]))


def _read_header(path: Path) -> DicomHeader | Path:
    try:
        dataset, _ = open_dataset(path)
        return header_of(dataset, path)
    except Exception:  # whatever a damaged file provokes: it becomes a case, and reading it names what is wrong
        return path


def group_headers(headers: Iterable[DicomHeader | Path]) -> DicomFindings:
    """Group headers into cases; a path stands for a file that cannot be parsed."""
    cases: list[DicomCase] = []
    skipped: list[tuple[Path, str]] = []
    series: dict[tuple[object, ...], list[DicomHeader]] = {}
    for header in headers:
        if isinstance(header, Path):
            cases.append(DicomCase((header,)))
        elif header.not_an_image:
            skipped.append((header.path, header.not_an_image))
        elif header.is_localizer:
            skipped.append((header.path, "localizer"))
        else:
            series.setdefault(_series_key(header), []).append(header)
    for members in series.values():
        cases.extend(_cases_of_series(members))
    return DicomFindings(sorted(cases, key=lambda case: case.paths), sorted(skipped))


def _series_key(header: DicomHeader) -> tuple[object, ...]:
    """What the files of one series have in common; an empty UID joins neither folders nor numbers."""
    if header.series:
        return header.study, header.series
    return header.study, "", header.path.parent, header.modality, header.series_number


def _cases_of_series(members: Sequence[DicomHeader]) -> list[DicomCase]:
    slices = [member for member in members if _is_slice(member)]
    others = [member for member in members if not _is_slice(member)]
    stacks = [_case(slices, "series")] if slices else []
    return stacks + [_case([member], "multi-frame" if member.frames > 1 else "picture") for member in others]


def _is_slice(header: DicomHeader) -> bool:
    in_volume = header.has_position or (header.modality in VOLUME_MODALITIES and not header.is_capture)
    return header.frames == 1 and in_volume


def _case(members: Sequence[DicomHeader], kind: str) -> DicomCase:
    first = members[0]
    spacing = next((member.spacing for member in members if member.spacing), ())
    step = _slice_distance([place for member in members for place in member.places])
    return DicomCase(
        paths=tuple(sorted(member.path for member in members)),
        modality=first.modality,
        series_number=first.series_number,
        description=next((member.description for member in members if member.description), ""),
        size=Counter(member.size for member in members).most_common(1)[0][0],
        frames=sum(member.frames for member in members),
        spacing=tuple(round(value, DIGITS) for value in (*spacing, *step)) if spacing else (),
        kind=kind,
        study=first.study,
        series=first.series,
    )


def _slice_distance(places: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The usual distance in mm between neighbours along the normal; () for one slice or for several directions."""
    if len(places) < 2:
        return ()
    position, orientation = np.split(np.array(places), [3], axis=1)
    if not np.isfinite(position).all() or not np.abs(orientation - orientation[0]).max() <= SAME_DIRECTION:
        return ()
    along = np.sort(position @ np.cross(orientation[0, :3], orientation[0, 3:]))
    step = float(np.median(np.diff(along)))
    return (step,) if step > 0 else ()
