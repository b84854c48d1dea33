"""DICOM in and out: finding what belongs together, reading it with its geometry, segmentation objects, DICOMweb."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from banet_monai.dicom.finding import find_dicom_cases
    from banet_monai.dicom.geometry import DicomGeometryError
    from banet_monai.dicom.parsing import DicomReadError
    from banet_monai.dicom.reading import SeriesReader, meta_list
    from banet_monai.dicom.seg import write_seg
    from banet_monai.dicom.seg_reading import read_seg

__all__ = [
    "DicomGeometryError",
    "DicomReadError",
    "SeriesReader",
    "find_dicom_cases",
    "meta_list",
    "read_seg",
    "write_seg",
]

# Modules are loaded when a name of theirs is asked for: finding files needs no torch.
_HOMES = {
    "DicomGeometryError": "geometry",
    "DicomReadError": "parsing",
    "SeriesReader": "reading",
    "find_dicom_cases": "finding",
    "meta_list": "reading",
    "read_seg": "seg_reading",
    "write_seg": "seg",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
