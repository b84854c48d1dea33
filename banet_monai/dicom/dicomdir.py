"""The files that a DICOMDIR names: the directory of a CD, or of a file set on any other medium (PS3.10 section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from banet_monai.dicom.archives import safe_parts
from banet_monai.dicom.headers import DICOMDIR_CLASS
from banet_monai.dicom.parsing import open_dataset, quiet_pydicom, uid

__all__ = ["DicomdirFiles", "dicomdir_files", "is_dicomdir"]


class DicomdirFiles(NamedTuple):
    """What a DICOMDIR names: files that are there, files that are not, and what is set aside, itself too, with why."""

    files: list[Path]
    missing: list[Path]
    skipped: list[tuple[Path, str]]


def is_dicomdir(path: Path) -> bool:
    """Whether a DICOM file is a directory of others, by its name or its SOP class (PS3.10 section 8.6)."""
    if path.stem.casefold() == "dicomdir":
        return True
    try:
        with quiet_pydicom():
            return uid(open_dataset(path)[0], "SOPClassUID") == DICOMDIR_CLASS
    except (OSError, ValueError):
        return False


def dicomdir_files(path: Path) -> DicomdirFiles:
    """The files that a DICOMDIR names, each once, in its order.

    Names are compared without regard to case, and version numbers (``;1``) are ignored, as copies of ISO 9660 discs
    need it. No file outside the DICOMDIR's folder is named, be it by ``..`` or through a link.

    Raises:
        ValueError: when it cannot be parsed, or names no file.
    """
    with quiet_pydicom():
        dataset, _ = open_dataset(path)
        names = [_referenced(record) for record in _records(dataset, path)]
    names = list(dict.fromkeys(parts for parts in names if parts))
    if not names:
        raise ValueError(f"'{path.name}' names no file: it is no DICOMDIR, or empty; give the folder instead.")

    root = path.parent.resolve()
    found = DicomdirFiles([], [], [])
    listings: dict[Path, dict[str, Path]] = {}
    inside = [parts for parts in names if all(safe_parts(part) == (part,) for part in parts)]
    outside = len(names) - len(inside)
    found.skipped.append((path, f"DICOMDIR{f' (names {outside} files outside its folder)' if outside else ''}"))
    for parts in inside:
        file = _located(path.parent, parts, listings)
        if file is None:
            found.missing.append(path.parent.joinpath(*parts))
        elif not file.resolve().is_relative_to(root):
            found.skipped.append((file, "named by the DICOMDIR, a link to outside its folder"))
        else:
            found.files.append(file)
    files = list(dict.fromkeys(found.files))
    return found._replace(files=files)


def _records(dataset: Dataset, path: Path) -> list[Dataset]:
    try:
        return list(dataset.get("DirectoryRecordSequence") or ())
    except Exception as error:  # pydicom raises whatever a damaged sequence provokes; its message may quote it
        raise ValueError(
            f"the records of '{path.name}' cannot be parsed ({type(error).__name__}); give the folder instead."
        ) from None


def _referenced(record: Dataset) -> tuple[str, ...]:
    """The parts of the file name of a record (ReferencedFileID), () where it has none."""
    try:
        value = record.get("ReferencedFileID")
        parts = [value] if isinstance(value, str) else list(value or ())
    except Exception:  # malformed: there is no file to be found by it
        return ()
    return tuple(part for part in (str(part).strip() for part in parts) if part)


def _located(folder: Path, parts: Sequence[str], listings: dict[Path, dict[str, Path]]) -> Path | None:
    """The file of that name, in upper or lower case; None where there is none. ``listings`` are kept between calls."""
    place = folder
    for part in parts:
        if place not in listings:
            listings[place] = _listing(place)
        exact, plain = listings[place].get(part), listings[place].get(_plain(part))
        match = exact or plain
        if match is None:
            return None
        place = match
    return place if place.is_file() else None


def _listing(folder: Path) -> dict[str, Path]:
    """Entries of a folder by their exact names and by their plain ones."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return {}
    return {_plain(entry.name): entry for entry in entries} | {entry.name: entry for entry in entries}


def _plain(name: str) -> str:
    return name.casefold().partition(";")[0].rstrip(".")
