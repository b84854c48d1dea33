"""The synthetic volume as files: an oblique NIfTI image and a DICOM series, each with its true mask.

Axes: arrays are (row, column, slice); NIfTI files hold (column, row, slice) with an affine to RAS millimetres, DICOM
positions and orientations are LPS millimetres (PS3.3 C.7.6.2).
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

__all__ = ["Grid", "oblique_grid", "write_nifti", "write_series"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FULL_RANGE = 257  # 8-bit grey times this fills 16 bits: 255 -> 65535


class Grid(NamedTuple):
    """Where a volume lies in the patient, LPS millimetres.

    Args:
        origin: centre of the first voxel.
        directions: unit vectors as columns: towards higher column index, row index, slice index.
        spacing: millimetres between columns, rows and slices.
    """

    origin: NDArray[np.float64]
    directions: NDArray[np.float64]
    spacing: tuple[float, float, float]

    def affine_ras(self) -> NDArray[np.float64]:
        """Affine from (column, row, slice) indices to RAS millimetres."""
        affine = np.eye(4)
        affine[:3, :3] = self.directions * self.spacing
        affine[:3, 3] = self.origin
        return LPS_TO_RAS @ affine


def oblique_grid(rng: np.random.Generator, spacing: tuple[float, float, float]) -> Grid:
    """Draw a right-handed grid turned by 10 to 25 degrees about each axis, its origin rounded to micrometres."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(10, 25, 3) * rng.choice([-1, 1], 3))):
        plane = np.delete(np.arange(3), axis)
        step = np.eye(3)
        step[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        turn = step @ turn
    return Grid(rng.uniform(-120, 40, 3).round(3), turn, spacing)


def write_nifti(path: Path, volume: NDArray[np.uint8], grid: Grid) -> None:
    """Write an 8-bit volume (row, column, slice) as ``.nii.gz`` in millimetres."""
    affine = grid.affine_ras()
    image = nib.Nifti1Image(np.ascontiguousarray(volume.swapaxes(0, 1)), affine)  # type: ignore[no-untyped-call]
    image.set_qform(affine, code=1)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code=1)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    nib.save(image, path)


def write_series(folder: Path, volume: NDArray[np.uint8], grid: Grid, *, seed: int) -> None:
    """Write one MR file per slice, with file names and instance numbers that follow two other orders than the position.

    Args:
        folder: where to write, is made.
        volume: 8-bit grey (row, column, slice), stored in 16 bits as ``257 * grey``.
        grid: the slices' geometry.
        seed: decides UIDs and both orders.
    """
    folder.mkdir(parents=True)
    slices = volume.shape[2]
    rng = np.random.default_rng([seed, 77])
    file_order, instance_order = rng.permutation(slices), rng.permutation(slices)
    for position in range(slices):
        dataset = _slice_dataset(grid, position, seed=seed)
        dataset.InstanceNumber = int(instance_order[position]) + 1
        pixels = volume[..., position].astype("<u2") * FULL_RANGE
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / f"slice_{file_order[position] + 1:02d}.dcm")


def _uid(*parts: object) -> UID:
    """The same parts give the same UID, from a name-based UUID (PS3.5 B.2: such UIDs need no registration)."""
    name = "/".join(map(str, ("banet-monai phantom", *parts)))
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}")


def _slice_dataset(grid: Grid, position: int, *, seed: int) -> FileDataset:
    """One slice without pixels: the modules of MR Image Storage (PS3.3 A.4), values of no patient and no date."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # computed when the file is written
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(seed, "instance", position)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")

    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True)
    for keyword, value in {
        # SOP common, patient, study, series
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientName": "SYNTHETIC^PHANTOM",
        "PatientID": "SYNTHETIC-PHANTOM",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": _uid(seed, "study"),
        "StudyDate": "",
        "StudyTime": "",
        "ReferringPhysicianName": "",
        "StudyID": "",
        "AccessionNumber": "",
        "Modality": "MR",
        "SeriesInstanceUID": _uid(seed, "series"),
        "SeriesNumber": 1,
        "SeriesDescription": "Synthetic phantom, made by code, no patient",
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": _uid(seed, "frame of reference"),
        "PositionReferenceIndicator": "",
        "Manufacturer": "banet-monai phantom",
        # Image
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "AcquisitionNumber": None,
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        # Plane (PS3.3 C.7.6.2): orientation is the direction along a row, then along a column
        "PixelSpacing": [_ds(grid.spacing[1]), _ds(grid.spacing[0])],
        "ImageOrientationPatient": [_ds(v) for v in (*grid.directions[:, 0], *grid.directions[:, 1])],
        "ImagePositionPatient": [_ds(v) for v in grid.origin + position * grid.spacing[2] * grid.directions[:, 2]],
        "SliceThickness": _ds(grid.spacing[2]),
        "SpacingBetweenSlices": _ds(grid.spacing[2]),
        # MR image: attributes that must be present
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "",
        "RepetitionTime": None,
        "EchoTime": None,
        "EchoTrainLength": None,
    }.items():
        setattr(dataset, keyword, value)
    return dataset


def _ds(value: float) -> str:
    """Decimal string of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.10f}"[:16].rstrip("0").rstrip(".") or "0"
