"""What there is to segment in a file, a folder tree or a data list: pictures, NIfTI, DICOM, and what was left out."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from banet_monai.dicom.finding import DicomCase, files_below, find_dicom_cases
from banet_monai.dicom.parsing import DICOM_SUFFIXES, looks_like_dicom

__all__ = ["InputCase", "Inputs", "case_records", "find_cases", "find_inputs"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
LIST_SUFFIXES = (".csv", ".json")
ACCEPTED = (
    "pictures (png, jpg, jpeg, tif, tiff, bmp), NIfTI (nii, nii.gz) and DICOM (files, series, folders), or a data "
    "list (csv, json) with a column 'image'"
)


@dataclasses.dataclass(frozen=True)
class InputCase:
    """One image or volume to segment.

    Args:
        kind: ``"picture"``, ``"nifti"`` or ``"dicom"``.
        name: path of its result relative to the output folder, without ``_mask`` and suffix; unique.
        files: its files; several for a DICOM series.
        paths: the same relative to the input's root with forward slashes, for reports; a file that a data list takes
            from elsewhere has its file name alone.
        label: path of its mask where a data list names one, else "".
    """

    kind: str
    name: str
    files: tuple[Path, ...]
    paths: tuple[str, ...]
    label: str = ""

    @property
    def image(self) -> str | list[str]:
        """What stands under ``image`` in a data dictionary: a path, or the list of files of a DICOM series."""
        return [str(file) for file in self.files] if len(self.files) > 1 else str(self.files[0])

    @property
    def source(self) -> str:
        """Where it lies, relative to the root: its file, or the folder that holds all files of a series."""
        return self.paths[0] if len(self.paths) == 1 else _common_folder(self.paths)

    def record(self) -> dict[str, Any]:
        """The case as a data dictionary: ``image``, ``name``, ``source`` and, where known, ``label``."""
        label = {"label": self.label} if self.label else {}
        return {"image": self.image, **label, "name": self.name, "source": self.source}


class Inputs(NamedTuple):
    """Cases in the order of their names, and what was skipped: (path relative to the root, reason)."""

    cases: list[InputCase]
    skipped: list[tuple[str, str]]

    def records(self) -> list[dict[str, Any]]:
        """Data dictionaries for a dataset."""
        return [case.record() for case in self.cases]


class _Found(NamedTuple):
    """A case before its name is settled: ``name`` is the wish, ``full_name`` what it is called when wishes collide."""

    kind: str
    name: str
    full_name: str
    paths: tuple[Path, ...]
    label: str = ""


def find_cases(path: str | Path, *, exclude: str | Path | None = None) -> list[InputCase]:
    """The cases of :func:`find_inputs`."""
    return find_inputs(path, exclude=exclude).cases


def case_records(path: str | Path, *, exclude: str | Path | None = None) -> list[dict[str, Any]]:
    """The cases of :func:`find_inputs` as data dictionaries with ``image``, ``name``, ``source`` (and ``label``)."""
    return find_inputs(path, exclude=exclude).records()


def find_inputs(path: str | Path, *, exclude: str | Path | None = None) -> Inputs:
    """Find every image in a file, a folder tree or a data list.

    Names: ``<relative path without suffix>``; two inputs that would share one keep their suffix in it. A DICOM series
    is called after the folder that holds its files (the root by its own name), or ``<folder>/series-<n>`` where
    several series lie in one folder. Names come from paths alone, never from what stands inside a file.

    Args:
        path: picture, NIfTI file, DICOM file, folder, or ``.csv``/``.json`` data list. A CSV has a header with a
            column ``image`` and, where wanted, ``label`` and ``name``; a JSON file holds a list of paths or of
            ``{"image": path or list of the files of a series}``, or such a list under ``testing`` or ``test``. Paths
            in a list are relative to its folder. A file that a list names and that is not there stays a case, so
            that it is counted as failed.
        exclude: output folder; where it lies inside ``path`` its contents are not looked at.

    Raises:
        FileNotFoundError: when the path does not exist, or holds no image.
        ValueError: when a data list cannot be understood, or the output folder is the input folder.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"'{root}' does not exist. Accepted are {ACCEPTED}, or a folder that holds some.")
    left_out = Path(exclude) if exclude is not None else None
    if root.is_dir():
        if left_out is not None and left_out.resolve() == root.resolve():
            raise ValueError(
                f"the output folder is the input folder '{root}': a second run would segment the results of the first. "
                "Give another folder; one inside the input folder is fine."
            )
        base, (found, skipped) = root, _scan(files_below(root, left_out), root)
    elif root.suffix.lower() in LIST_SUFFIXES:
        base, (found, skipped) = root.parent, _scan_list(root)
    else:
        base, (found, skipped) = root.parent, _scan([root], root.parent)
    if not found:
        raise FileNotFoundError(
            f"there is no image in '{root}'{_tally(skipped)}. Accepted are {ACCEPTED}, or a folder that holds some."
        )
    return Inputs(_settle_names(found, base), sorted(skipped))


def _tally(skipped: Sequence[tuple[str, str]]) -> str:
    reasons = Counter(reason for _, reason in skipped)
    return f" ({'; '.join(f'{count} x {reason}' for reason, count in reasons.most_common())})" if reasons else ""


def _scan(files: Iterable[Path], root: Path) -> tuple[list[_Found], list[tuple[str, str]]]:
    """Give every file its fate: part of a case, or skipped with a reason."""
    found: list[_Found] = []
    skipped: list[tuple[str, str]] = []
    dicom: list[Path] = []
    for file in files:
        relative = _relative(file, root)
        if any(part.startswith(".") or part == "__MACOSX" for part in Path(relative).parts):
            skipped.append((relative, "hidden"))
        elif kind := _kind_by_suffix(file):
            found.append(_Found(kind, _stem(relative), relative, (file,)))
        elif looks_like_dicom(file):
            dicom.append(file)
        else:
            skipped.append((relative, "not an image format"))
    findings = find_dicom_cases(dicom)
    skipped += [(_relative(file, root), reason) for file, reason in findings.skipped]
    return found + _dicom_found(findings.cases, root), skipped


def _dicom_found(cases: Sequence[DicomCase], root: Path) -> list[_Found]:
    folders = [Path(_common_folder([_relative(path, root) for path in case.paths])) for case in cases]
    series_in = Counter(folder for case, folder in zip(cases, folders, strict=True) if len(case.paths) > 1)
    order: Counter[Path] = Counter()
    found = []
    for case, folder in zip(cases, folders, strict=True):
        if len(case.paths) == 1:
            relative = _relative(case.paths[0], root)
            found.append(_Found("dicom", _stem(relative), relative, case.paths))
            continue
        order[folder] += 1
        name = folder.as_posix() if folder != Path() else root.resolve().name or "series"
        if series_in[folder] > 1:
            number = _series_numbers(cases, folders, folder)[order[folder] - 1]
            name = (folder / f"series-{number}").as_posix()
        found.append(_Found("dicom", name, name, case.paths))
    return found


def _series_numbers(cases: Sequence[DicomCase], folders: Sequence[Path], folder: Path) -> list[int]:
    """SeriesNumber of the series in one folder where each has its own, else their order."""
    numbers = [c.series_number for c, f in zip(cases, folders, strict=True) if f == folder and len(c.paths) > 1]
    stated = [number for number in numbers if number is not None]
    return stated if len(set(stated)) == len(numbers) else list(range(1, len(numbers) + 1))


def _settle_names(found: Sequence[_Found], root: Path) -> list[InputCase]:
    # Names that differ in case alone are one file on many disks.
    wishes = Counter(item.name.casefold() for item in found)
    taken: set[str] = set()
    cases = []
    for item in sorted(found, key=lambda item: (item.full_name, item.paths)):
        name = wanted = item.name if wishes[item.name.casefold()] == 1 else item.full_name
        number = 2
        while name.casefold() in taken:
            name, number = f"{wanted}-{number}", number + 1
        taken.add(name.casefold())
        paths = tuple(_relative(path, root) for path in item.paths)
        cases.append(InputCase(item.kind, name, item.paths, paths, item.label))
    return sorted(cases, key=lambda case: case.name)


def _scan_list(path: Path) -> tuple[list[_Found], list[tuple[str, str]]]:
    found: list[_Found] = []
    skipped: list[tuple[str, str]] = []
    for number, entry in enumerate(_read_list(path), start=1):
        images = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
        files = [path.parent / image for image in images]
        label = str(path.parent / entry["label"]) if entry.get("label") else ""
        new, left = _scan_entry(files, path.parent)
        if label and len(new) != 1:
            raise ValueError(
                f"entry {number} of the data list '{path.name}' has one label for {len(new)} images; give each image "
                "an entry of its own."
            )
        named = str(entry.get("name") or "")
        if Path(named).is_absolute() or ".." in Path(named).parts:
            raise ValueError(f"entry {number} of the data list '{path.name}' has a name that leaves the output folder.")
        found += [item._replace(label=label, name=named or item.name) for item in new]
        skipped += left
    return found, skipped


def _scan_entry(files: Sequence[Path], root: Path) -> tuple[list[_Found], list[tuple[str, str]]]:
    """What one entry of a data list names: a file, a folder, or the files of one series."""
    if len(files) > 1:
        if other := [file.name for file in files if _kind_by_suffix(file)]:
            raise ValueError(f"a list of files must be those of one DICOM series, it holds '{other[0]}'.")
        name = _common_folder([_relative(file, root) for file in files])
        name = name if name != "." else root.resolve().name or "series"
        return [_Found("dicom", name, name, tuple(files))], []
    if files[0].is_dir():
        return _scan(files_below(files[0]), root)
    if files[0].exists():
        return _scan(files, root)
    relative = _relative(files[0], root)
    return [_Found(_kind_by_suffix(files[0]) or "dicom", _stem(relative), relative, (files[0],))], []


def _read_list(path: Path) -> list[dict[str, Any]]:
    """Entries of a data list, each with ``image``."""
    try:
        content = path.read_text(encoding="utf-8-sig")
        rows: Any = json.loads(content) if path.suffix.lower() == ".json" else _csv_rows(content)
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"the data list '{path.name}' cannot be read ({type(error).__name__}: {error}).") from error
    if isinstance(rows, dict):
        rows = next((rows[key] for key in ("testing", "test") if isinstance(rows.get(key), list)), None)
    entries = [row if isinstance(row, dict) else {"image": row} for row in rows] if isinstance(rows, list) else []
    if not entries or not all(_names_an_image(entry) for entry in entries):
        raise ValueError(
            f"the data list '{path.name}' does not name an image in each entry; what works: a CSV with a column "
            "'image', a JSON list of paths or of {\"image\": path}, or such a list under 'testing'."
        )
    return entries


def _names_an_image(entry: dict[str, Any]) -> bool:
    image = entry.get("image")
    files = image if isinstance(image, list) else [image]
    return bool(files) and all(isinstance(file, str) and file for file in files)


def _csv_rows(content: str) -> list[dict[str, str]]:
    table = csv.DictReader(content.splitlines(), skipinitialspace=True)
    table.fieldnames = [(column or "").strip().lower() for column in table.fieldnames or ()]
    rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(value, str)} for row in table]
    return [row for row in rows if any(row.values())]


def _kind_by_suffix(file: Path) -> str:
    name = file.name.lower()
    if name.endswith(PICTURE_SUFFIXES):
        return "picture"
    return "nifti" if name.endswith(NIFTI_SUFFIXES) else ""


def _stem(relative: str) -> str:
    """A relative path without the suffix of its format; other dots, as in file names that are UIDs, stay."""
    for suffix in (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES, *DICOM_SUFFIXES):
        if relative.lower().endswith(suffix) and not relative.lower().endswith(f"/{suffix}"):
            return relative[: -len(suffix)]
    return relative


def _relative(file: Path, root: Path) -> str:
    """Path relative to ``root`` with forward slashes; what lies elsewhere keeps its file name alone."""
    inside = file.is_relative_to(root) and ".." not in file.relative_to(root).parts
    return file.relative_to(root).as_posix() if inside else file.name


def _common_folder(paths: Sequence[str]) -> str:
    return os.path.commonpath([Path(path).parent.as_posix() for path in paths]) or "."
