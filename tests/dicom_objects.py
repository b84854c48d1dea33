"""DICOM objects made by code, with a real attribute set, for pydicom 2.4 to 3."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

PYDICOM_2 = pydicom.__version__.startswith("2.")
SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.3.1",
    "XC": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "SR": "1.2.840.10008.5.1.4.1.1.88.33",
}
STUDY, SERIES, REFERENCE = "1.2.826.0.1.3680043.10.1", "1.2.826.0.1.3680043.10.2", "1.2.826.0.1.3680043.10.3"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def turned(*degrees):
    """Row and column direction (6 numbers) of an axial plane turned about x, then y, then z."""
    a, b, c = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix = about_z @ about_y @ about_x
    return (*matrix[:, 0], *matrix[:, 1])


def decimal(values):
    """Numbers as DICOM decimal strings of at most 16 characters."""
    return [f"{value:.10f}"[:16] for value in np.atleast_1d(values)]


def image(pixels, *, modality="CT", number=1, photometric=None, frames=1, **attributes):
    """An image object without geometry: ``pixels`` is (rows, columns[, 3]), or with frames in front of it.

    ``attributes`` are set last, by keyword; None deletes.
    """
    pixels = np.ascontiguousarray(pixels)
    colour = pixels.shape[-1] == 3 and pixels.ndim == 3 + (frames > 1)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID = SOP_CLASSES[modality]
    ds.SOPInstanceUID = f"1.2.826.0.1.3680043.10.4.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, "4", str(number)
    ds.PatientName, ds.PatientID, ds.StudyDate = "Doe^Secret", "ID-SECRET", "19700102"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Rows, ds.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    if frames > 1:
        ds.NumberOfFrames = str(frames)
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in attributes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def series(volume, *, orientation=AXIAL, origin=(0.0, 0.0, 0.0), spacing=(0.8, 0.5), step=2.0, modality="CT"):
    """Objects of a regular series; ``volume`` is (slice, row, column), ``spacing`` between rows, then columns, mm."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        image(
            pixels,
            modality=modality,
            number=k + 1,
            ImagePositionPatient=decimal(np.array(origin) + k * step * normal),
            ImageOrientationPatient=decimal(orientation),
            PixelSpacing=decimal(spacing),
            SliceThickness=decimal(step),
            FrameOfReferenceUID=REFERENCE,
        )
        for k, pixels in enumerate(volume)
    ]


def lps_of(index, *, orientation, origin, spacing, step):
    """Patient point of voxel (column, row, slice), written out from PS3.3 equation C.7.6.2.1-1."""
    column, row, k = index
    x, y = np.array(orientation[:3]), np.array(orientation[3:])
    return np.array(origin) + x * spacing[1] * column + y * spacing[0] * row + np.cross(x, y) * step * k


def write(ds, path, syntax=ExplicitVRLittleEndian):
    """Write one object and return its path."""
    ds.file_meta.TransferSyntaxUID = syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    if PYDICOM_2:
        ds.is_little_endian, ds.is_implicit_VR = syntax != ExplicitVRBigEndian, False
        pydicom.dcmwrite(path, ds, write_like_original=False)
    else:
        pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def run_length_packed(ds):
    """The object with its pixel data compressed by RLE."""
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if PYDICOM_2:
        ds.is_little_endian, ds.is_implicit_VR = True, False
    ds.compress(RLELossless)
    return ds


def write_all(objects, folder, order=None):
    """Write objects under names that follow ``order`` (a permutation), by default their own order."""
    names = range(len(objects)) if order is None else order
    return [write(ds, folder / f"{name:04d}.dcm") for ds, name in zip(objects, names, strict=True)]


def item(**attributes):
    """One item of a sequence."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def enhanced(volume, *, orientation, origin, spacing, step, order):
    """An enhanced multi-frame object; frame ``f`` shows slice ``order[f]`` of ``volume`` (slice, row, column)."""
    normal = np.cross(orientation[:3], orientation[3:])
    ds = image(volume[list(order)], modality="MR", frames=len(volume), FrameOfReferenceUID=REFERENCE)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    measures = item(PixelSpacing=decimal(spacing), SliceThickness=decimal(step))
    plane = item(ImageOrientationPatient=decimal(orientation))
    values = item(RescaleSlope="2", RescaleIntercept="-10", RescaleType="US")
    ds.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence([measures]),
                PlaneOrientationSequence=Sequence([plane]),
                PixelValueTransformationSequence=Sequence([values]),
                FrameVOILUTSequence=Sequence([item(WindowCenter="50", WindowWidth="100")]),
            )
        ]
    )
    places = [decimal(np.array(origin) + k * step * normal) for k in order]
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [item(PlanePositionSequence=Sequence([item(ImagePositionPatient=place)])) for place in places]
    )
    return ds
