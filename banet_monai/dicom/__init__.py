"""DICOM in: finding the files that belong together, and reading them with their geometry."""

from __future__ import annotations

from banet_monai.dicom.finding import find_dicom_cases
from banet_monai.dicom.geometry import DicomGeometryError
from banet_monai.dicom.parsing import DicomReadError
from banet_monai.dicom.reading import SeriesReader, meta_list

__all__ = ["DicomGeometryError", "DicomReadError", "SeriesReader", "find_dicom_cases", "meta_list"]
