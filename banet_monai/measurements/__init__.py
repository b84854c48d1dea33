"""Measurements of outlines, in millimetres where these are known: size, diameters, shape, place, intensities."""

from __future__ import annotations

from banet_monai.measurements.comparing import compare_outlines
from banet_monai.measurements.measuring import measure
from banet_monai.measurements.records import Comparison, Intensity, Line, Measurement
from banet_monai.measurements.saving import SaveMeasurementsd
from banet_monai.measurements.writing import MeasurementTable, write_comparisons, write_measurements

__all__ = [
    "Comparison",
    "Intensity",
    "Line",
    "Measurement",
    "MeasurementTable",
    "SaveMeasurementsd",
    "compare_outlines",
    "measure",
    "write_comparisons",
    "write_measurements",
]
