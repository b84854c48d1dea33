"""Words that people choose from, on the command line and in configurations; light, so that asking for help is quick."""

from __future__ import annotations

__all__ = ["FORMATS", "IRREGULAR", "SEG_KINDS"]

FORMATS = ("auto", "png", "nifti", "dicom-seg", "contours")  # of results
SEG_KINDS = ("binary", "fractional", "labelmap")  # of DICOM SEG, its SegmentationType
IRREGULAR = ("refuse", "slices")  # what to do with DICOM slices that form no volume
