"""What to segment: cases in a file, a folder tree, a zip file, a DICOMDIR or a data list, and what was left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from banet_monai.data.cases import case_number
from banet_monai.data.inputlists import LIST_SUFFIXES
from banet_monai.data.searching import FoundCase, Search, common_folder, is_dicom
from banet_monai.dicom.archives import UnpackedFiles, is_zip
from banet_monai.dicom.dicomdir import is_dicomdir
from banet_monai.dicom.finding import DicomCase
from banet_monai.dicom.selection import NOT_CHOSEN, SeriesRule, is_chosen, parse_rules
from banet_monai.flags import as_flag

__all__ = ["InputCase", "Inputs", "NoImageError", "case_records", "find_cases", "find_inputs"]

ACCEPTED = (
    "pictures (png, jpg, jpeg, tif, tiff, bmp), NIfTI (nii, nii.gz) and DICOM (files, series, folders, DICOMDIR), zip "
    "files of these, or a data list (csv, json) with a column 'image'"
)
MISSING = "missing, so that no series rule can choose it"
NAMED_AT_MOST = 10  # series in an error

SeriesRules = str | Mapping[str, Any] | SeriesRule | Sequence[str | Mapping[str, Any] | SeriesRule] | None


class NoImageError(FileNotFoundError, ValueError):
    """There is nothing to segment: the path exists, but holds no image, or none that the series rules choose."""


@dataclasses.dataclass(frozen=True)
class InputCase:
    """One image or volume to segment.

    Args:
        kind: ``"picture"``, ``"nifti"`` or ``"dicom"``.
        name: path of its result relative to the output folder, without ``_mask`` and suffix; unique.
        files: its files; several for a DICOM series.
        paths: the same relative to the input's root with forward slashes, for reports; a file that a data list takes
            from elsewhere has its file name alone, one from a zip file has the zip file's path in front.
        label: path of its mask where a data list names one, else "".
        dicom: what DICOM files say of themselves that names no patient, for listings; None where that is not known.
        unpacked: what keeps the files of a zip file where they are, None for others.
    """

    kind: str
    name: str
    files: tuple[Path, ...]
    paths: tuple[str, ...]
    label: str = ""
    dicom: DicomCase | None = dataclasses.field(default=None, repr=False, compare=False)
    unpacked: UnpackedFiles | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def image(self) -> str | list[str]:
        """What stands under ``image`` in a data dictionary: a path, or the list of files of a DICOM series."""
        return [str(file) for file in self.files] if len(self.files) > 1 else str(self.files[0])

    @property
    def source(self) -> str:
        """Where it lies, relative to the root: its file, or the folder that holds all files of a series."""
        return self.paths[0] if len(self.paths) == 1 else common_folder(self.paths)

    def record(self) -> dict[str, Any]:
        """The case as a data dictionary: ``image``, ``name``, ``source`` and, where known, ``label``."""
        label = {"label": self.label} if self.label else {}
        return {"image": self.image, **label, "name": self.name, "source": self.source}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Cases in the order of their names, and what was skipped.

    The files of a zip file lie in a temporary folder. It goes away at :meth:`close`, or ``with find_inputs(...) as
    inputs:`` at its end; else with the last of this object and its cases, or at the end of the process where
    :meth:`records` handed out paths.

    Args:
        cases: what to segment.
        skipped: (path relative to the root, reason).
        unpacked: the temporary folder, None where there is no zip file.
        root: what was searched; "" where nobody shall know.
    """

    cases: list[InputCase]
    skipped: list[tuple[str, str]]
    unpacked: UnpackedFiles | None = dataclasses.field(default=None, repr=False, compare=False)
    root: str = dataclasses.field(default="", repr=False, compare=False)

    def records(self) -> list[dict[str, Any]]:
        """Data dictionaries for a dataset."""
        if self.unpacked is not None:
            self.unpacked.hold()
        return [case.record() for case in self.cases]

    def close(self) -> None:
        """Remove what was unpacked; the cases of zip files cannot be read any more."""
        if self.unpacked is not None:
            self.unpacked.close()

    def __enter__(self) -> Inputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """So that ``cases, skipped = find_inputs(path)`` works."""
        return iter((self.cases, self.skipped))


def find_cases(path: str | Path, *, exclude: str | Path | None = None) -> list[InputCase]:
    """The cases of :func:`find_inputs`."""
    return find_inputs(path, exclude=exclude).cases


def case_records(path: str | Path, *, exclude: str | Path | None = None) -> list[dict[str, Any]]:
    """The cases of :func:`find_inputs` as data dictionaries with ``image``, ``name``, ``source`` (and ``label``)."""
    return find_inputs(path, exclude=exclude).records()


def find_inputs(
    path: str | Path,
    *,
    exclude: str | Path | None = None,
    series: SeriesRules = None,
    no_paths: bool | str = False,
) -> Inputs:
    """Find every image in a file, a folder tree, a zip file, a DICOMDIR or a data list.

    Names: ``<relative path without suffix>``; two inputs that would share one keep their suffix in it. A DICOM series
    is called after the folder that holds its files (the root by its own name), or ``<folder>/series-<n>`` where
    several series lie in one folder. A zip file counts as a folder called by its stem, and its series are its own.
    Names come from paths and series numbers alone, never from other things inside a file, and do not depend on
    ``series``.

    Args:
        path: picture, NIfTI file, DICOM file, folder, ``.zip`` file, DICOMDIR (the files it names; in a folder it is
            a file like any other), or ``.csv``/``.json`` data list. A CSV has a header with a column ``image`` and,
            where wanted, ``label`` and ``name``; a JSON file holds a list of paths or of ``{"image": path or list of
            the files of a series}``, or such a list under ``testing`` or ``test``. Paths in a list are relative to its
            folder. A file that a list or a DICOMDIR names and that is not there stays a case, so that it is counted
            as failed.
        exclude: output folder; where it lies inside ``path`` its contents are not looked at.
        series: which DICOM series are wanted, as :func:`banet_monai.dicom.selection.parse_rules` takes it, such as
            ``"modality=CT,number=3"``. Where given, everything else is skipped, pictures and NIfTI files too.
        no_paths: name cases by number (``case-0001``; file k of it ``case-0001/0001``) and skipped files
            (``skipped-0001``), for paths that tell who the patient is. Numbers are those without ``series``. "true" and
            "false" work as well.

    Raises:
        FileNotFoundError: when the path does not exist.
        NoImageError: when it holds no image, or none that ``series`` chooses; a FileNotFoundError and a ValueError.
        ValueError: when a data list, a zip file, a DICOMDIR or ``series`` cannot be understood, or the output folder
            is the input folder. A zip file inside a folder is skipped instead.
    """
    rules = parse_rules(series)
    hidden = as_flag(no_paths, "no_paths")
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"'{root}' does not exist. Accepted are {ACCEPTED}, or a folder that holds some.")
    unpacked = UnpackedFiles()
    try:
        search = _look(root, Path(exclude) if exclude is not None else None, unpacked)
        inputs = _inputs(search, rules, hidden)
        if not inputs.cases:
            raise NoImageError(_why_nothing("the input" if hidden else f"'{root}'", search, rules))
    except BaseException:
        unpacked.close()
        raise
    return inputs if hidden else dataclasses.replace(inputs, root=str(root.absolute()))


def _look(root: Path, exclude: Path | None, unpacked: UnpackedFiles) -> Search:
    search = Search(unpacked)
    if root.is_dir():
        if exclude is not None and exclude.resolve() == root.resolve():
            raise ValueError(
                f"the output folder is the input folder '{root}': a second run would segment the results of the first. "
                "Give another folder; one inside the input folder is fine."
            )
        search.in_folder(root, root, exclude)
    elif root.suffix.lower() in LIST_SUFFIXES:
        search.in_list(root)
    elif is_zip(root):
        search.in_zip(root)
    elif root.name.casefold() == "dicomdir" or (is_dicom(root) and is_dicomdir(root)):
        search.in_dicomdir(root)
    else:
        search.in_file(root, root.parent)
    return search


def _inputs(search: Search, rules: Sequence[SeriesRule], hidden: bool) -> Inputs:
    unpacked = search.unpacked if search.unpacked.folder is not None else None
    cases: list[InputCase] = []
    skipped = list(search.skipped)
    for number, (name, item) in enumerate(_named(search.found), start=1):
        paths = tuple(file.shown for file in item.files)
        if rules and not (item.dicom is not None and is_chosen(item.dicom, rules)):
            is_there = all(file.path.exists() for file in item.files)
            skipped += [(path, NOT_CHOSEN if is_there else MISSING) for path in paths]
            continue
        if hidden:
            name = case_number(number)
            paths = (name,) if len(paths) == 1 else tuple(f"{name}/{k:04d}" for k in range(1, len(paths) + 1))
        files = tuple(file.path for file in item.files)
        cases.append(InputCase(item.kind, name, files, paths, item.label, item.dicom, unpacked))
    skipped.sort()
    if hidden:
        skipped = [(f"skipped-{number:04d}", reason) for number, (_, reason) in enumerate(skipped, start=1)]
    return Inputs(cases, skipped, unpacked)


def _named(found: Sequence[FoundCase]) -> list[tuple[str, FoundCase]]:
    """Each case with a name of its own, in the order of names."""
    # Names that differ in case alone are one file on many disks.
    wishes = Counter(item.name.casefold() for item in found)
    taken: set[str] = set()
    named = []
    for item in sorted(found, key=lambda item: (item.full_name, [file.path for file in item.files])):
        name = wanted = item.name if wishes[item.name.casefold()] == 1 else item.full_name
        number = 2
        while name.casefold() in taken:
            name, number = f"{wanted}-{number}", number + 1
        taken.add(name.casefold())
        named.append((name, item))
    return sorted(named, key=lambda pair: pair[0])


def _why_nothing(place: str, search: Search, rules: Sequence[SeriesRule]) -> str:
    if rules and search.found:
        return (
            f"the series rules choose nothing in {place}; there is: {_listed(search.found)}. Change the rules or leave "
            "them out."
        )
    reasons = Counter(reason for _, reason in search.skipped)
    tally = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
    hint = " A SEG is the result of a segmentation: give the images it was made from." if "(SEG)" in tally else ""
    return (
        f"there is no image in {place}{f' ({tally})' if tally else ''}.{hint} Accepted are {ACCEPTED}, or a folder "
        "that holds some."
    )


def _listed(found: Sequence[FoundCase]) -> str:
    """Modality, number and files of each series, free of what people wrote into it."""
    series = [str(item.dicom) for item in found if item.dicom is not None]
    others = len(found) - len(series)
    rest = len(series) - NAMED_AT_MOST
    return ", ".join(
        [
            *series[:NAMED_AT_MOST],
            *([f"{rest} more"] if rest > 0 else []),
            *([f"{others} of another format or missing"] if others else []),
        ]
    )
