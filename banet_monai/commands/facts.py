"""What may be shown of an image without opening it whole: sizes and kinds, nothing of the patient."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from banet_monai.data.inputs import InputCase
    from banet_monai.dicom.finding import DicomCase

__all__ = ["HEADINGS", "CaseFacts", "facts_of"]

HEADINGS = ("name", "kind", "modality", "number", "size", "frames", "spacing (mm)", "files", "description")
UNREADABLE = "unreadable"
IN_MM = {"meter": 1000.0, "micron": 0.001}  # NIfTI's units; others are taken as mm, as MONAI does


@dataclasses.dataclass(frozen=True)
class CaseFacts:
    """One line of a listing.

    Attributes:
        name: name of the case, and of its results.
        kind: ``"picture"``, ``"nifti"``, ``"series"``, ``"multi-frame"``, or ``"unreadable"``.
        modality: DICOM modality, "" where there is none.
        description: DICOM series description, "" where there is none.
        series_number: DICOM series number.
        size: columns and rows in pixels.
        frames: slices or frames.
        spacing: between columns, rows and slices in mm, in the order of ``size``; empty where unknown.
        files: number of files.
        dicom: whether it is DICOM.
    """

    name: str
    kind: str
    modality: str = ""
    description: str = ""
    series_number: int | None = None
    size: tuple[int, ...] = ()
    frames: int = 1
    spacing: tuple[float, ...] = ()
    files: int = 1
    dicom: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def row(self) -> list[str]:
        """Cells below :data:`HEADINGS`."""
        return [
            self.name,
            f"DICOM {self.kind}" if self.dicom else self.kind,
            self.modality or "-",
            "-" if self.series_number is None else str(self.series_number),
            " x ".join(map(str, self.size)) or "-",
            str(self.frames),
            " x ".join(f"{value:.4g}" for value in self.spacing) or "-",
            str(self.files),
            self.description or "-",
        ]


def facts_of(case: InputCase) -> CaseFacts:
    """The facts of a case; one that cannot be read is called so and raises nothing."""
    if case.dicom is not None:
        return CaseFacts(name=case.name, files=len(case.files), **_of_dicom(case.dicom))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            facts = (_of_nifti if case.kind == "nifti" else _of_picture)(Path(case.files[0]))
    except Exception:  # header readers raise what they like; 'banet segment' says what is wrong
        facts = {"kind": UNREADABLE}
    return CaseFacts(name=case.name, files=len(case.files), **facts)


def _of_picture(file: Path) -> dict[str, Any]:
    from banet_monai.data.stored import open_picture, stored_size

    with open_picture(file) as picture:
        return {"kind": "picture", "size": stored_size(picture), "frames": getattr(picture, "n_frames", 1)}


def _of_nifti(file: Path) -> dict[str, Any]:
    import nibabel

    header: Any = nibabel.load(file).header
    columns, rows, *others = (*header.get_data_shape(), 1)[:4]
    x, y, *z = (float(step) * IN_MM.get(header.get_xyzt_units()[0], 1.0) for step in header.get_zooms()[:3])
    frames = 1
    for count in others:
        frames *= int(count)
    return {"kind": "nifti", "size": (int(columns), int(rows)), "frames": frames, "spacing": (x, y, *z)}


def _of_dicom(case: DicomCase) -> dict[str, Any]:
    return {
        "kind": case.kind or UNREADABLE,
        "modality": case.modality,
        "description": case.description,
        "series_number": case.series_number,
        "size": case.size if all(case.size) else (),
        "frames": case.frames,
        "spacing": (*case.spacing[1::-1], *case.spacing[2:]),  # DICOM states rows first
        "dicom": True,
    }
