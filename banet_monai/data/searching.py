"""Look through folders, zip files, DICOMDIRs and data lists: every file becomes part of a case, or is skipped."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from banet_monai.data.cases import leaves_folder
from banet_monai.data.inputlists import read_input_list
from banet_monai.dicom.archives import ArchiveError, UnpackedFiles, is_zip
from banet_monai.dicom.dicomdir import dicomdir_files
from banet_monai.dicom.finding import DicomCase, files_below, find_dicom_cases
from banet_monai.dicom.parsing import DICOM_SUFFIXES, looks_like_dicom
from banet_monai.files import is_result_folder

__all__ = ["FoundCase", "FoundFile", "Search", "common_folder", "is_dicom", "kind_by_suffix"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NIFTI_SUFFIXES = (".nii.gz", ".nii")


class FoundFile(NamedTuple):
    """A file that was found.

    Args:
        path: where it can be opened; a temporary one for what comes from a zip file.
        shown: path relative to the input's root, with forward slashes; a zip file stands in it like a folder.
        named: the same, with a zip file called by its stem, as results are named.
    """

    path: Path
    shown: str
    named: str


class FoundCase(NamedTuple):
    """A case before its name is settled.

    Args:
        kind: ``"picture"``, ``"nifti"`` or ``"dicom"``.
        name: what it wants to be called.
        full_name: what it is called when wishes collide.
        files: its files.
        label: path of its mask, "" where none is known.
        dicom: what its files say of themselves, None where that is not known.
    """

    kind: str
    name: str
    full_name: str
    files: tuple[FoundFile, ...]
    label: str = ""
    dicom: DicomCase | None = None


class Search:
    """What was found so far: cases, and files that were skipped with the reason.

    Args:
        unpacked: where zip files are unpacked to.
    """

    def __init__(self, unpacked: UnpackedFiles) -> None:
        self.unpacked = unpacked
        self.found: list[FoundCase] = []
        self.skipped: list[tuple[str, str]] = []

    def in_folder(self, folder: Path, root: Path, exclude: Path | None = None) -> None:
        """Look at every file below a folder; one that cannot be unpacked is skipped. Names count from ``root``."""
        self._look_at((_file(path, root) for path in files_below(folder, exclude)), _title(root), below=folder)

    def in_file(self, file: Path, root: Path) -> None:
        """Look at one file as if it were alone in a folder."""
        self._look_at([_file(file, root)], _title(root), below=file)

    def in_zip(self, file: Path) -> None:
        """Look into a zip file as if it were a folder.

        Raises:
            ArchiveError: when it is not unpacked.
        """
        folder = self.unpacked.add(file)
        files = (_file(path, folder) for path in files_below(folder))
        self._look_at(files, file.stem or "series", below=folder, is_in_zip=True)

    def in_dicomdir(self, file: Path) -> None:
        """Look at the files that a DICOMDIR names; those that are missing stay cases, to be counted as failed.

        Raises:
            ValueError: when it cannot be parsed, or names no file.
        """
        root = file.parent
        named = dicomdir_files(file)
        self.skipped += [(_relative(path, root), reason) for path, reason in named.skipped]
        self.found += [_missing(path, root) for path in named.missing]
        self._group([_file(path, root) for path in named.files], _title(root))

    def in_list(self, file: Path) -> None:
        """Look at what each entry of a data list names.

        Raises:
            ValueError: when it cannot be understood.
        """
        root = file.parent
        for number, entry in enumerate(read_input_list(file), start=1):
            images = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
            label = str(root / entry["label"]) if entry.get("label") else ""
            before = len(self.found)
            self._look_at_entry([root / image for image in images], root)
            new = self.found[before:]
            if label and len(new) != 1:
                raise ValueError(
                    f"entry {number} of the data list '{file.name}' has one label for {len(new)} images; give each "
                    "image an entry of its own."
                )
            name = str(entry.get("name") or "")
            if leaves_folder(name):
                raise ValueError(
                    f"entry {number} of the data list '{file.name}' has a name that leaves the output folder."
                )
            self.found[before:] = [case._replace(label=label, name=name or case.name) for case in new]

    def _look_at_entry(self, files: Sequence[Path], root: Path) -> None:
        """What one entry of a data list names: a file, a folder, or the files of one series."""
        if len(files) > 1:
            if other := [file.name for file in files if kind_by_suffix(file) or is_zip(file)]:
                raise ValueError(f"a list of files must be those of one DICOM series, it holds '{other[0]}'.")
            members = tuple(_file(file, root) for file in files)
            name = common_folder([member.named for member in members])
            name = name if name != "." else _title(root)
            known = find_dicom_cases([file for file in files if file.is_file()]).cases
            self.found.append(FoundCase("dicom", name, name, members, dicom=known[0] if len(known) == 1 else None))
        elif files[0].is_dir():
            before = len(self.found)
            self.in_folder(files[0], root)
            if len(self.found) == before:  # named on purpose: it is counted as failed, as a missing file is
                self.found.append(_missing(files[0], root))
        elif files[0].exists():
            self.in_file(files[0], root)
        else:
            self.found.append(_missing(files[0], root))

    def _look_at(self, files: Iterable[FoundFile], title: str, *, below: Path, is_in_zip: bool = False) -> None:
        """Give every file its fate.

        Args:
            files: what was found.
            title: name of a series that lies in no folder.
            below: what was named on purpose; only what lies below it can be hidden.
            is_in_zip: the files were unpacked.
        """
        dicom: list[FoundFile] = []
        for file in files:
            if any(part.startswith(".") or part == "__MACOSX" for part in file.path.relative_to(below).parts):
                self.skipped.append((file.shown, "hidden"))
            elif kind := kind_by_suffix(file.path):
                self.found.append(FoundCase(kind, _stem(file.named), file.shown, (file,)))
            elif is_zip(file.path):
                self._look_into(file, is_in_zip)
            elif looks_like_dicom(file.path):
                dicom.append(file)
            else:
                self.skipped.append((file.shown, _why_no_image(file.path)))
        self._group(dicom, title)

    def _look_into(self, file: FoundFile, is_in_zip: bool) -> None:
        """A zip file counts as a folder named by its stem; its series are its own."""
        if is_in_zip:
            self.skipped.append((file.shown, "zip file inside a zip file: unpack the outer one first"))
            return
        try:
            folder = self.unpacked.add(file.path)
        except ArchiveError as error:
            self.skipped.append((file.shown, f"zip file that {error.reason}"))
            return
        inner = [path.relative_to(folder).as_posix() for path in files_below(folder)]
        named = file.named[: -len(".zip")]
        files = [FoundFile(folder / name, f"{file.shown}/{name}", f"{named}/{name}") for name in inner]
        self._look_at(files, named, below=folder, is_in_zip=True)

    def _group(self, files: Sequence[FoundFile], title: str) -> None:
        """Group DICOM files into cases and name these.

        A case of one file is called after it, a series after the folder that holds its files, or
        ``<folder>/series-<n>`` where several series lie in one folder.
        """
        by_path = {file.path: file for file in files}
        cases, skipped = find_dicom_cases([file.path for file in files])
        self.skipped += [(by_path[path].shown, reason) for path, reason in skipped]
        folders: dict[str, list[tuple[DicomCase, tuple[FoundFile, ...]]]] = defaultdict(list)
        for case in cases:
            members = tuple(by_path[path] for path in case.paths)
            if len(members) == 1:
                name = _stem(members[0].named)
                self.found.append(FoundCase("dicom", name, members[0].shown, members, dicom=case))
            else:
                folders[common_folder([member.named for member in members])].append((case, members))
        for folder, series in folders.items():
            numbers = _series_numbers([case for case, _ in series])
            for (case, members), number in zip(series, numbers, strict=True):
                shown = common_folder([member.shown for member in members])
                if len(series) > 1:
                    names = [(Path(place) / f"series-{number}").as_posix() for place in (folder, shown)]
                else:
                    names = [title if place == "." else place for place in (folder, shown)]
                self.found.append(FoundCase("dicom", names[0], names[1], members, dicom=case))


def _why_no_image(path: Path) -> str:
    if not path.is_dir():
        return "not an image format"
    return (
        "results of an earlier run"
        if is_result_folder(path)
        else "folder that cannot be read: no permission, or it is gone"
    )


def is_dicom(file: Path) -> bool:
    """Whether a file is no picture and no NIfTI file by its suffix, and looks like DICOM."""
    return not kind_by_suffix(file) and looks_like_dicom(file)


def kind_by_suffix(file: Path) -> str:
    """``"picture"`` or ``"nifti"``, "" for any other suffix."""
    name = file.name.lower()
    if name.endswith(PICTURE_SUFFIXES):
        return "picture"
    return "nifti" if name.endswith(NIFTI_SUFFIXES) else ""


def common_folder(paths: Sequence[str]) -> str:
    """The folder that holds all of these files, ``"."`` for the root."""
    return os.path.commonpath([os.path.dirname(path) or "." for path in paths]) or "."  # noqa: PTH120 (on text)


def _series_numbers(cases: Sequence[DicomCase]) -> list[int]:
    """SeriesNumber of the series in one folder where each has its own, else their order."""
    stated = [case.series_number for case in cases if case.series_number is not None]
    return stated if len(set(stated)) == len(cases) else list(range(1, len(cases) + 1))


def _missing(path: Path, root: Path) -> FoundCase:
    file = _file(path, root)
    return FoundCase(kind_by_suffix(path) or "dicom", _stem(file.named), file.shown, (file,))


def _file(path: Path, root: Path) -> FoundFile:
    relative = _relative(path, root)
    return FoundFile(path, relative, relative)


def _title(root: Path) -> str:
    return root.resolve().name or "series"


def _stem(relative: str) -> str:
    """A relative path without the suffix of its format; other dots, as in file names that are UIDs, stay."""
    for suffix in (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES, *DICOM_SUFFIXES):
        if relative.lower().endswith(suffix) and not relative.lower().endswith(f"/{suffix}"):
            return relative[: -len(suffix)]
    return relative


def _relative(file: Path, root: Path) -> str:
    """Path relative to ``root`` with forward slashes; what lies elsewhere keeps its file name alone."""
    try:
        inside = file.relative_to(root)
    except ValueError:
        return file.name
    return inside.as_posix() if ".." not in inside.parts else file.name
