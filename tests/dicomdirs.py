"""DICOMDIR files made by code, with names that the standard allows and with others."""

import warnings

import numpy as np
from pydicom.sequence import Sequence

from tests.dicom_objects import image, item, write

DICOMDIR_CLASS = "1.2.840.10008.1.3.10"


def write_dicomdir(path, names):
    """A DICOMDIR with one record per name; a name is the list of its parts, None for a record without a file."""
    ds = image(np.zeros((4, 4), np.uint8), modality="DX")
    for keyword in ("PixelData", "Rows", "Columns", "Modality"):
        del ds[keyword]
    ds.SOPClassUID = DICOMDIR_CLASS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of names that the standard does not allow
        ds.DirectoryRecordSequence = Sequence(
            [
                item(DirectoryRecordType="IMAGE", ReferencedFileID=name)
                if name
                else item(DirectoryRecordType="PATIENT")
                for name in names
            ]
        )
        return write(ds, path)
